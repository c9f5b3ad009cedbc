//! DHCPv6 of a server, message by message: beside another server, and for clients that have their addresses already.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::sync::Arc;

use farrier_engine::Reason;
use farrier_engine::policy::{Settings, UnknownMachine};
use farrier_engine::silence::Awaited;
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv6::{Message, MessageType, Packet, Relay};
use farrier_proto::wire::dhcpv6_option::{self as option, IaNa, Options, encode_counted_texts};
use farrier_server::boot6::{Boot6Port, Declined, Outcome};
use farrier_server::config::Mode;
use farrier_server::core::now;
use tokio::net::UdpSocket;

use super::LOOPBACK;
use super::amplification::prove;
use super::tftp::fetch_from;
use crate::site::tftp::tftp;
use crate::site::{Site, add_ipxe};

const SUBNET: &str = "[[subnet6]]\nnetwork = \"fd77::/64\"\ndns = [\"fd77::53\"]\n";
const SERVER: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The link-local address of the card below, on the second interface.
const CLIENT: SocketAddrV6 = SocketAddrV6::new(
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe77, 0x0061),
    546,
    0,
    2,
);
pub(super) const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x61]);

/// Beside another server, whichever way that is found.
const BESIDE: [Mode; 2] = [Mode::Proxy, Mode::Port4011];

async fn opened(data: &std::path::Path) -> Site {
    let site = Site::configured(data, SUBNET).await;
    add_ipxe(&site.core);
    site
}

/// Port 547, as if it had come to it.
pub(super) async fn port(site: &Site, mode: Mode) -> Boot6Port {
    Boot6Port {
        core: Arc::clone(&site.core),
        socket: UdpSocket::bind("[::1]:0").await.unwrap(),
        mode,
        address: SERVER,
        declined: Declined::default(),
    }
}

/// What the firmware or a loader of a PC with UEFI says.
pub(super) fn asks(kind: MessageType, class: &[u8], arch: u16) -> Message {
    let mut message = system(kind, &[option::BOOT_FILE_URL, option::DNS_SERVERS]);
    let mut vendor = option::ENTERPRISE_INTEL.to_be_bytes().to_vec();
    vendor.extend(encode_counted_texts(&[class]));
    message.options.push(option::VENDOR_CLASS, vendor);
    let arch = arch.to_be_bytes();
    message.options.push(option::CLIENT_ARCHITECTURE, arch);
    message
}

pub(super) fn pxe(kind: MessageType) -> Message {
    asks(kind, b"PXEClient:Arch:00007:UNDI:003016", 7)
}

/// What an operating system says that wants to know so much.
fn system(kind: MessageType, wanted: &[u16]) -> Message {
    let mut options = Options::default();
    options.push(option::CLIENT_ID, [&[0, 3, 0, 1][..], &MAC.0].concat());
    let wanted: Vec<u8> = wanted.iter().flat_map(|code| code.to_be_bytes()).collect();
    options.push(option::OPTION_REQUEST, wanted);
    Message {
        kind,
        xid: [7, 8, 9],
        options,
        cut_off: false,
    }
}

pub(super) fn with_addresses(mut message: Message) -> Message {
    let ia = IaNa {
        iaid: 1,
        t1: 0,
        t2: 0,
        options: Options::default(),
    };
    message.options.push(option::IA_NA, ia.encode());
    message
}

fn said(port: &Boot6Port, message: &Message) -> Outcome {
    let relays = Vec::new();
    let message = message.clone();
    let packet = Packet { relays, message };
    port.handle(&packet.encode_forward(), CLIENT)
}

pub(super) fn reply(port: &Boot6Port, message: &Message) -> Message {
    let Outcome::Reply { bytes, to } = said(port, message) else {
        panic!("no reply to {message:?}");
    };
    assert_eq!(to, CLIENT, "back to where it came from, on its interface");
    let reply = Packet::decode(&bytes).unwrap().message;
    assert_eq!(reply.xid, message.xid);
    assert!(reply.server_id().is_some());
    reply
}

fn ignored(port: &Boot6Port, message: &Message) -> Reason {
    match said(port, message) {
        Outcome::Ignore(reason) => reason,
        reply @ Outcome::Reply { .. } => panic!("{:?} got {reply:?}", message.kind),
    }
}

pub(super) fn url(reply: &Message) -> String {
    let url = reply.options.get(option::BOOT_FILE_URL).unwrap_or_default();
    String::from_utf8(url.to_vec()).unwrap()
}

/// What was told of it since the last time, with the details.
fn stranger_story(site: &Site) -> String {
    let story = site.core.sightings.take(MAC);
    let lines = story
        .iter()
        .map(|entry| format!("{} {:?}", entry.text, entry.details));
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn rfc8415_18_3_6_a_client_with_addresses_gets_what_to_boot_in_each_mode() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    for mode in [Mode::Dhcp, Mode::Proxy, Mode::Port4011] {
        let port = port(&site, mode).await;
        let reply = reply(&port, &pxe(MessageType::InformationRequest));
        assert_eq!(reply.kind, MessageType::Reply);
        assert_eq!(reply.ia_nas().count(), 0, "nothing is lent");
        assert!(!reply.options.contains(option::VENDOR_CLASS), "edk2#10114");
        let dns = reply.options.get(option::DNS_SERVERS);
        assert!(dns.is_some_and(|dns| dns.ends_with(&[0x53])), "{reply:?}");
        let url = url(&reply);
        let name = url.strip_prefix("tftp://[fd77::1]/").unwrap();
        prove(&site, Ipv4Addr::LOCALHOST);
        let content = fetch_from(Ipv4Addr::LOCALHOST, server.at, name).await;
        assert_eq!(content, b"the bytes of snponly", "{url}");
        let told = stranger_story(&site);
        assert!(
            told.contains("INFORMATION-REQUEST") && told.contains("a loader by TFTP"),
            "{mode:?}: {told}"
        );
    }
}

#[tokio::test]
async fn rfc5970_http_firmware_and_ipxe_get_the_url_of_their_kind_beside_another_server() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path()).await;
    for mode in BESIDE {
        let port = port(&site, mode).await;
        let kind = MessageType::InformationRequest;
        let firmware = asks(kind, b"HTTPClient:Arch:00016:UNDI:003016", 16);
        let answer = reply(&port, &firmware);
        let found = url(&answer);
        assert!(
            found.starts_with("http://[fd77::1]:8067/boot/snponly/"),
            "{found}"
        );
        assert_eq!(answer.pxe_vendor_class(), Some(&b"HTTPClient"[..]));

        let mut ipxe = pxe(kind);
        let class = encode_counted_texts(&[b"iPXE"]);
        ipxe.options.push(option::USER_CLASS, class);
        let found = url(&reply(&port, &ipxe));
        assert_eq!(found, "http://[fd77::1]:8067/boot/first.ipxe");
    }
}

/// Addresses are the other server's to lend; whoever asks us for one is told on its timeline why it got none.
#[tokio::test]
async fn no_address_is_lent_beside_another_server_and_each_silence_is_told() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path()).await;
    let alone = port(&site, Mode::Dhcp).await;
    let advertise = reply(&alone, &with_addresses(pxe(MessageType::Solicit)));
    assert_eq!(advertise.kind, MessageType::Advertise);
    let lent = advertise.ia_nas().next().unwrap();
    assert_eq!(lent.addresses().count(), 1);
    assert!(url(&advertise).starts_with("tftp://[fd77::1]/"));
    let ours = advertise.server_id().unwrap();
    stranger_story(&site);

    for mode in BESIDE {
        let port = port(&site, mode).await;
        for kind in [
            MessageType::Solicit,
            MessageType::Request,
            MessageType::Renew,
            MessageType::Rebind,
            MessageType::Confirm,
            MessageType::Release,
            MessageType::Decline,
        ] {
            let mut message = with_addresses(pxe(kind));
            let to_one = [
                MessageType::Request,
                MessageType::Renew,
                MessageType::Release,
                MessageType::Decline,
            ];
            if to_one.contains(&kind) {
                message.options.push(option::SERVER_ID, ours);
            }
            assert_eq!(ignored(&port, &message), Reason::AddressesElsewhere);
            let told = stranger_story(&site);
            assert!(told.contains(kind.name()), "{mode:?}: {told}");
            let sentence = Reason::AddressesElsewhere.sentence();
            assert!(told.contains(sentence), "{told}");
            assert!(!told.contains("accepted"), "it has chosen nobody: {told}");
        }
    }
}

/// RFC 8415 section 16: who has chosen another server says so by its DUID.
#[tokio::test]
async fn a_message_to_another_server_is_told_in_each_mode_and_ends_the_wait_for_a_request() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path()).await;
    let other = [&[0, 3, 0, 1][..], &[2, 0, 0, 0, 0, 9]].concat();
    for mode in [Mode::Dhcp, Mode::Proxy, Mode::Port4011] {
        let port = port(&site, mode).await;
        if mode == Mode::Dhcp {
            let advertise = reply(&port, &with_addresses(pxe(MessageType::Solicit)));
            assert_eq!(advertise.kind, MessageType::Advertise);
        }
        for kind in [
            MessageType::Request,
            MessageType::Renew,
            MessageType::Release,
            MessageType::Decline,
            MessageType::InformationRequest,
        ] {
            let mut message = pxe(kind);
            if kind != MessageType::InformationRequest {
                message = with_addresses(message);
            }
            message.options.push(option::SERVER_ID, other.clone());
            stranger_story(&site);
            assert_eq!(ignored(&port, &message), Reason::NamesOtherServer);
            let told = stranger_story(&site);
            assert!(told.contains(kind.name()), "{mode:?}: {told}");
            let sentence = Reason::NamesOtherServer.sentence();
            assert!(told.contains(sentence), "{told}");
        }
        let later = now() + Awaited::Request6.patience();
        assert_eq!(site.core.silences.overdue(later), [], "we know where it is");
    }
}

/// Such messages are for every server.
#[tokio::test]
async fn rfc8415_16_who_names_a_server_where_none_is_to_be_named_is_not_answered() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path()).await;
    let port = port(&site, Mode::Dhcp).await;
    for kind in [
        MessageType::Solicit,
        MessageType::Confirm,
        MessageType::Rebind,
    ] {
        let mut message = with_addresses(pxe(kind));
        message.options.push(option::SERVER_ID, [0, 3, 0, 1, 9]);
        assert_eq!(ignored(&port, &message), Reason::Malformed);
    }
    assert_eq!(stranger_story(&site), "");
}

#[tokio::test]
async fn who_boots_nothing_gets_name_servers_from_us_alone_and_nothing_beside_another_server() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path()).await;
    let asked = system(MessageType::InformationRequest, &[option::DNS_SERVERS]);
    let answer = reply(&port(&site, Mode::Dhcp).await, &asked);
    assert!(answer.options.contains(option::DNS_SERVERS));
    assert!(!answer.options.contains(option::BOOT_FILE_URL));
    for mode in BESIDE {
        let port = port(&site, mode).await;
        assert_eq!(ignored(&port, &asked), Reason::NotABootClient);
    }
}

#[tokio::test]
async fn machines_nobody_registered_are_not_answered_over_ipv6_where_that_is_wished() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path()).await;
    let settings = Settings {
        unknown_machine: Some(UnknownMachine::Ignore),
        ..Settings::default()
    };
    site.core.set_site(settings).await.unwrap();
    for mode in [Mode::Dhcp, Mode::Proxy] {
        let port = port(&site, mode).await;
        let asked = pxe(MessageType::InformationRequest);
        assert_eq!(ignored(&port, &asked), Reason::UnknownMachine, "{mode:?}");
    }
}

/// RFC 8415 section 19.3: through the relay, which is told who it is for, and by the network that the relay names.
#[tokio::test]
async fn what_to_boot_goes_back_through_a_relay_of_a_served_network() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path()).await;
    let port = port(&site, Mode::Proxy).await;
    let source = SocketAddrV6::new("fd01::9".parse().unwrap(), 547, 0, 0);
    let through = |link: &str| {
        let relay = Relay {
            hop_count: 0,
            link: link.parse().unwrap(),
            peer: *CLIENT.ip(),
            options: Options::default(),
        };
        let packet = Packet {
            relays: vec![relay],
            message: pxe(MessageType::InformationRequest),
        };
        port.handle(&packet.encode_forward(), source)
    };
    let Outcome::Reply { bytes, to } = through("fd77::2") else {
        panic!("no reply");
    };
    assert_eq!(to, source);
    let packet = Packet::decode(&bytes).unwrap();
    assert_eq!(packet.relays[0].peer, *CLIENT.ip());
    assert!(url(&packet.message).starts_with("tftp://[fd77::1]/"));
    let elsewhere = through("fd78::2");
    assert!(
        matches!(elsewhere, Outcome::Ignore(Reason::NoSubnet)),
        "{elsewhere:?}"
    );
}
