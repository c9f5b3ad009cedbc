//! What did not come, on the machine's timeline. What is awaited is put there by real exchanges; the time that a
//! machine may take is waited for in one test, and moved in the others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::model::MachineId;
use farrier_engine::silence::Awaited;
use farrier_engine::timeline::Kind;
use farrier_proto::wire::dhcpv4::{Message, MessageType};
use farrier_proto::wire::{dhcpv6 as v6, dhcpv6_option, option};
use farrier_server::boot::{BootPort, Outcome};
use farrier_server::boot6::Boot6Port;
use farrier_server::config::Mode;
use farrier_server::core::now;
use farrier_server::{silences, tasks};
use tokio::sync::watch;
use tokio::time::sleep;

use super::dhcp6::{self, MAC, pxe, with_addresses};
use super::http::{LIMITS, files, get, listen_at};
use super::tftp::fetch_from;
use super::{LOOPBACK, kernel};
use crate::site::dhcp::{BIOS, Firmware, UEFI, question};
use crate::site::tftp::{tftp, tftp_at};
use crate::site::{Site, add_ipxe, new_key};

const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
const SUBNET: &str =
    "[[subnet]]\nnetwork = \"127.0.0.0/8\"\npools = [\"127.9.0.10-127.9.0.250\"]\n";

/// The one address that client and server both have without a network between them.
const SUBNET6: &str = "[[subnet6]]\nnetwork = \"::/64\"\n[[subnet6.reservation]]\naddress = \"::1\"\n\
                       mac = \"52:54:00:77:00:61\"\n";

/// A site that has boot programs and knows the machine.
async fn known(data: &std::path::Path) -> (Site, MachineId) {
    known_in(data, SUBNET).await
}

async fn known_in(data: &std::path::Path, networks: &str) -> (Site, MachineId) {
    let site = Site::configured(data, networks).await;
    add_ipxe(&site.core);
    site.script(&MAC.to_string()).await;
    site.core.silences.came(MAC);
    let machine = site.machine_of(&MAC.to_string());
    (site, machine)
}

async fn reply(port: &BootPort, message: &Message) -> Message {
    match port.handle(&message.encode(), NOWHERE).await {
        Outcome::Reply { reply, .. } => reply,
        Outcome::Ignore(reason) => panic!("no reply: {}", reason.sentence()),
    }
}

/// The acknowledgement of a lease, which names the boot file.
async fn acknowledged(port: &BootPort, firmware: Firmware) -> Message {
    let offer = reply(port, &question(MessageType::Discover, MAC, firmware)).await;
    let mut request = question(MessageType::Request, MAC, firmware);
    let options = &mut request.options;
    options.set(option::REQUESTED_IP_ADDRESS, offer.yiaddr.octets());
    options.set(option::SERVER_IDENTIFIER, Ipv4Addr::LOCALHOST.octets());
    let ack = reply(port, &request).await;
    assert_eq!(ack.message_type(), Some(MessageType::Ack));
    ack
}

/// Nothing comes for as long as a machine may take, and the server looks at what is overdue, as it does every few
/// seconds. Its clock cannot be moved, so what is awaited is entered again as of so long ago.
fn nothing_comes(site: &Site, awaited: Awaited) {
    let silences = &site.core.silences;
    let patience = awaited.patience();
    assert_eq!(silences.overdue(now() + patience / 2), [], "not yet");
    assert_eq!(silences.overdue(now() + patience), [(MAC, awaited)]);
    let patience = i64::try_from(patience.as_millis()).unwrap();
    silences.came(MAC);
    silences.expect(MAC, awaited, WallTime(now().0 - patience));
    silences::tell(&site.core);
}

/// The story ends with the sentence for this silence.
async fn ends_with(site: &Site, machine: MachineId, awaited: Awaited) {
    site.told(machine, Kind::Warning, awaited.sentence()).await;
    let story = site.core.db.timeline(machine, None, 1).await.unwrap();
    assert_eq!(story[0].value.text, awaited.sentence());
    silences::tell(&site.core);
    let later = now() + awaited.patience();
    assert_eq!(site.core.silences.overdue(later), [], "it is told once");
}

/// In real time, by the task that looks at the clock.
#[tokio::test]
async fn an_offer_that_nobody_asks_for_is_told_after_ten_seconds() {
    let data = tempfile::tempdir().unwrap();
    let (site, machine) = known(data.path()).await;
    let dhcp = site.boot_port(67, Mode::Dhcp).await;
    let discover = question(MessageType::Discover, MAC, UEFI);
    let offer = reply(&dhcp, &discover).await;
    assert!(!offer.yiaddr.is_unspecified());
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(tasks::keep_time(Arc::clone(&site.core), stopped));
    sleep(Awaited::Request.patience() - Duration::from_secs(1)).await;
    let story = site.core.db.timeline(machine, None, 200).await.unwrap();
    let early = story.iter().any(|e| e.value.kind == Kind::Warning);
    assert!(!early, "{story:?}");
    ends_with(&site, machine, Awaited::Request).await;
}

#[tokio::test]
async fn a_proxy_offer_that_nobody_acts_on_is_told() {
    let data = tempfile::tempdir().unwrap();
    let (site, machine) = known(data.path()).await;
    let dhcp = site.boot_port(67, Mode::Proxy).await;
    let discover = question(MessageType::Discover, MAC, UEFI);
    let offer = reply(&dhcp, &discover).await;
    assert!(offer.yiaddr.is_unspecified());
    nothing_comes(&site, Awaited::Choice);
    ends_with(&site, machine, Awaited::Choice).await;
}

/// Who is no machine of ours yet has its story, too, until it becomes one.
#[tokio::test]
async fn a_strangers_silence_is_told_of_it() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    add_ipxe(&site.core);
    let dhcp = site.boot_port(67, Mode::Dhcp).await;
    let discover = question(MessageType::Discover, MAC, BIOS);
    reply(&dhcp, &discover).await;
    nothing_comes(&site, Awaited::Request);
    let story = site.core.sightings.take(MAC);
    let last = story.last().map(|entry| entry.text.as_ref());
    assert_eq!(last, Some(Awaited::Request.sentence()));
}

#[tokio::test]
async fn an_acknowledged_boot_file_that_nobody_fetches_is_told() {
    let data = tempfile::tempdir().unwrap();
    let (site, machine) = known(data.path()).await;
    let dhcp = site.boot_port(67, Mode::Dhcp).await;
    let ack = acknowledged(&dhcp, UEFI).await;
    assert!(ack.file.ends_with(b"snponly.efi"), "{ack:?}");
    nothing_comes(&site, Awaited::File);
    ends_with(&site, machine, Awaited::File).await;
}

#[tokio::test]
async fn a_loader_that_is_fetched_whole_and_gives_no_sign_is_told() {
    let data = tempfile::tempdir().unwrap();
    let (site, machine) = known(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    let dhcp = site.boot_port(67, Mode::Dhcp).await;
    let ack = acknowledged(&dhcp, BIOS).await;
    let name = String::from_utf8(ack.file).unwrap();
    let content = fetch_from(ack.yiaddr, server.at, &name).await;
    assert_eq!(content, b"the bytes of undionly");
    site.told(machine, Kind::Transfer, "undionly.kpxe").await;
    nothing_comes(&site, Awaited::Loader);
    ends_with(&site, machine, Awaited::Loader).await;
}

/// Port 547, as if it had come to it.
async fn port6(site: &Site, mode: Mode) -> Boot6Port {
    Boot6Port {
        address: Ipv6Addr::LOCALHOST,
        ..dhcp6::port(site, mode).await
    }
}

/// The reply to who asked for the address that it was offered; it names the boot file.
fn acknowledged6(port: &Boot6Port, ask: impl Fn(v6::MessageType) -> v6::Message) -> v6::Message {
    let solicit = with_addresses(ask(v6::MessageType::Solicit));
    let advertise = dhcp6::reply(port, &solicit);
    let mut request = with_addresses(ask(v6::MessageType::Request));
    let server = advertise.server_id().unwrap();
    request.options.push(dhcpv6_option::SERVER_ID, server);
    let reply = dhcp6::reply(port, &request);
    let lent = reply.ia_nas().find_map(|ia| ia.addresses().next()).unwrap();
    assert_eq!(lent.address, Ipv6Addr::LOCALHOST);
    reply
}

#[tokio::test]
async fn an_ipv6_offer_that_nobody_asks_for_is_told() {
    let data = tempfile::tempdir().unwrap();
    let (site, machine) = known_in(data.path(), SUBNET6).await;
    let port = port6(&site, Mode::Dhcp).await;
    let solicit = with_addresses(pxe(v6::MessageType::Solicit));
    let advertise = dhcp6::reply(&port, &solicit);
    assert_eq!(advertise.kind, v6::MessageType::Advertise);
    nothing_comes(&site, Awaited::Request6);
    ends_with(&site, machine, Awaited::Request6).await;
}

#[tokio::test]
async fn a_boot_file_named_by_dhcpv6_that_nobody_fetches_is_told() {
    let data = tempfile::tempdir().unwrap();
    let (site, machine) = known_in(data.path(), SUBNET6).await;
    let reply = acknowledged6(&port6(&site, Mode::Dhcp).await, pxe);
    assert!(dhcp6::url(&reply).ends_with("snponly.efi"), "{reply:?}");
    nothing_comes(&site, Awaited::File6);
    ends_with(&site, machine, Awaited::File6).await;
}

/// It has its address from a router or from another server, so we would not know who asks for the file.
#[tokio::test]
async fn a_boot_file_that_was_asked_for_without_an_address_is_not_awaited() {
    let data = tempfile::tempdir().unwrap();
    let (site, _) = known_in(data.path(), SUBNET6).await;
    let beside = port6(&site, Mode::Proxy).await;
    let reply = dhcp6::reply(&beside, &pxe(v6::MessageType::InformationRequest));
    assert!(dhcp6::url(&reply).ends_with("snponly.efi"), "{reply:?}");
    let later = now() + Awaited::File6.patience();
    assert_eq!(site.core.silences.overdue(later), []);
}

/// By whichever way it comes from its IPv6 address.
#[tokio::test]
async fn a_boot_file_that_is_asked_for_over_ipv6_is_not_missed() {
    let data = tempfile::tempdir().unwrap();
    let (site, _) = known_in(data.path(), SUBNET6).await;
    let port = port6(&site, Mode::Dhcp).await;
    let own = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let later = || now() + Awaited::File6.patience();

    let tftp = tftp_at(&site, own, Vec::new()).await;
    let found = dhcp6::url(&acknowledged6(&port, pxe));
    let name = found.strip_prefix("tftp://[::1]/").unwrap();
    let content = fetch_from(own, tftp.at, name).await;
    assert_eq!(content, b"the bytes of snponly");
    assert_eq!(site.core.silences.overdue(later()), [], "by TFTP");

    let by_http = |kind| dhcp6::asks(kind, b"HTTPClient:Arch:00016:UNDI:003016", 16);
    let (http, _stop) = listen_at(own, files(&site, Vec::new()), LIMITS).await;
    let found = dhcp6::url(&acknowledged6(&port, by_http));
    let path = found.strip_prefix("http://[::1]:8067").unwrap();
    assert_eq!(get(http, path, "").await.status, 200);
    assert_eq!(site.core.silences.overdue(later()), [], "by HTTP");

    acknowledged6(&port, by_http);
    let missed = site.core.silences.overdue(later());
    assert_eq!(missed, [(MAC, Awaited::File6)], "of who asks for none");
}

/// Nothing to boot is offered to it, so that its firmware does not go on.
#[tokio::test]
async fn who_is_offered_nothing_to_boot_is_not_awaited() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET6).await;
    let port = port6(&site, Mode::Dhcp).await;
    let advertise = dhcp6::reply(&port, &with_addresses(pxe(v6::MessageType::Solicit)));
    assert_eq!(dhcp6::url(&advertise), "", "there are no loaders");
    let later = now() + Awaited::Request6.patience();
    assert_eq!(site.core.silences.overdue(later), []);
}

/// It is awaited again, and comes, in its next boot.
#[tokio::test]
async fn an_agent_that_does_not_report_is_told_though_its_kernel_was_fetched() {
    let data = tempfile::tempdir().unwrap();
    let (site, machine) = known(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    let dhcp = site.boot_port(67, Mode::Dhcp).await;
    let ack = acknowledged(&dhcp, BIOS).await;
    site.boot(&MAC.to_string()).await;
    let kernel = fetch_from(ack.yiaddr, server.at, &kernel(&site)).await;
    assert_eq!(kernel.len(), 100_000);
    site.told(machine, Kind::Transfer, "the agent's kernel")
        .await;
    nothing_comes(&site, Awaited::Agent);
    ends_with(&site, machine, Awaited::Agent).await;

    site.let_everybody_in().await;
    site.core.silences.came(MAC);
    let boot = site.boot(&MAC.to_string()).await;
    boot.enrolled(&new_key()).await;
    let later = now() + Awaited::Agent.patience();
    assert_eq!(site.core.silences.overdue(later), [], "it came");
}
