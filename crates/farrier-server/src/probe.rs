//! Who else answers boot clients on our networks: `farrier doctor` asks as a client would and listens.
//!
//! The question leaves in a hand-addressed frame, which reaches the wire but no socket of this host. So
//! our own server does not see it, and no machine appears that does not exist; a DHCP server on this very
//! host is not seen either, which mode `port4011` expects to be there.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use farrier_api::admin::{Check, Verdict};
use farrier_net::{datagram, interface, link::LinkSender};
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{BROADCAST, Message, MessageType, Op, Xid};
use farrier_proto::wire::option;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::bind::DHCP_PORT;
use crate::config::{Interface, Mode};

/// A server that answered and is not ours, with all that it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignServer {
    /// Its server identifier (option 54), or where its answer came from.
    pub address: Ipv4Addr,
    /// An address that it would lend; a ProxyDHCP server lends none.
    pub lends: Option<Ipv4Addr>,
    /// Whether it calls itself a PXE server (option 60).
    pub is_pxe: bool,
    /// Where to load from (option 66, `siaddr`).
    pub next_server: Option<String>,
    /// What to load (option 67, `file`).
    pub boot_file: Option<String>,
    /// Whether it sends PXE's own options (option 43).
    pub has_vendor_options: bool,
}

/// What a foreign server that names us should say.
#[derive(Clone, Copy)]
pub struct Ours<'a> {
    /// Every address of this host.
    pub addresses: &'a [Ipv4Addr],
    /// Whether we have a boot file of this name.
    pub has: &'a (dyn Fn(&str) -> bool + Sync),
}

impl std::fmt::Debug for Ours<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ours")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Ours<'_> {
    fn is_named(&self, server: &ForeignServer) -> bool {
        let next = server.next_server.as_ref();
        let next: Option<Ipv4Addr> = next.and_then(|next| next.parse().ok());
        next.is_some_and(|next| self.addresses.contains(&next))
    }
}

/// Asks on every served interface who else answers there, and judges it. `has` says whether we have a boot file.
pub async fn check(served: &[Interface], has: &(dyn Fn(&str) -> bool + Sync)) -> Vec<Check> {
    // The port of clients can be had once; a second check waits for the first.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;
    let ours =
        |found: interface::Interface| found.addresses.into_iter().map(|(address, _)| address);
    let own: Vec<Ipv4Addr> = interface::list()
        .unwrap_or_default()
        .into_iter()
        .flat_map(ours)
        .collect();
    let asked = served.iter().map(async |served| {
        checks(
            &served.name,
            served.mode,
            &foreign_servers(&served.name, &own).await,
            Ours {
                addresses: &own,
                has,
            },
        )
    });
    futures::future::join_all(asked).await.concat()
}

/// Asks on `interface` and waits for all who answer within [`PATIENCE`]. Answers that come from one of our
/// `own` addresses do not count.
pub async fn foreign_servers(interface: &str, own: &[Ipv4Addr]) -> io::Result<Vec<ForeignServer>> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the interface is gone");
    let index = interface::by_name(interface)?.ok_or_else(gone)?.index;
    let socket = datagram::listen(interface, CLIENT_PORT)?;
    let sender = LinkSender::open(index)?;
    let question = question()?;
    let packet = question.encode();
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT);
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, DHCP_PORT);
    let mut found = Vec::new();
    let mut buffer = [0; 1500];
    let begin = Instant::now();
    // A frame may be lost, and some servers miss the first one after a link came up.
    for until in [begin + PATIENCE / 2, begin + PATIENCE] {
        sender.send(from, to, MacAddr([0xff; 6]), &packet)?;
        while let Ok(received) = timeout_at(until, socket.recv_from(&mut buffer)).await {
            // What the network says about an earlier packet is no reason to stop listening.
            let Ok((len, SocketAddr::V4(source))) = received else {
                continue;
            };
            if !own.contains(source.ip()) {
                note(&mut found, &buffer[..len], *source.ip(), &question);
            }
        }
    }
    found.sort_by_key(|server| server.address);
    Ok(found)
}

/// What the answers mean for an interface that is served in `mode`.
#[must_use]
pub fn checks(
    interface: &str,
    mode: Mode,
    asked: &io::Result<Vec<ForeignServer>>,
    ours: Ours<'_>,
) -> Vec<Check> {
    let name = format!("network {interface}");
    let check = |verdict, found: String, remedy: Option<String>| Check {
        name: name.clone(),
        verdict,
        found,
        remedy,
    };
    let servers = match asked {
        Ok(servers) => servers,
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "A DHCP client of this host has UDP port 68: stop it for the check, or give the interface a fixed address."
                }
                io::ErrorKind::PermissionDenied => {
                    "Run the server as root or with CAP_NET_RAW and CAP_NET_BIND_SERVICE."
                }
                _ => "See that the interface is there and up: ip link.",
            };
            let found = format!("other servers cannot be looked for: {error}");
            return vec![check(Verdict::Warning, found, Some(remedy.to_owned()))];
        }
    };
    let mut checks: Vec<Check> = servers
        .iter()
        .filter_map(|server| judge(interface, mode, server, ours))
        .map(|(verdict, found, remedy)| check(verdict, found, remedy))
        .collect();
    if mode == Mode::Proxy && servers.iter().all(|server| server.lends.is_none()) {
        let remedy = format!(
            "Start the DHCP server of this network; or let Farrier be it: mode = \"dhcp\" for {interface}, and a [[subnet]]."
        );
        checks.push(check(
            Verdict::Bad,
            "nobody gives addresses here, so no machine can boot".to_owned(),
            Some(remedy),
        ));
    }
    if checks.is_empty() {
        let found = match servers.first() {
            Some(server) => format!(
                "{} gives addresses, nobody else names boot files",
                server.address
            ),
            None => "no other server answers".to_owned(),
        };
        checks.push(check(Verdict::Good, found, None));
    }
    checks
}

/// What is wrong with `server` being there, and what to do about it.
fn judge(
    interface: &str,
    mode: Mode,
    server: &ForeignServer,
    ours: Ours<'_>,
) -> Option<(Verdict, String, Option<String>)> {
    if mode != Mode::Dhcp
        && let Some(judged) = judge_of_us(server, ours)
    {
        return Some(judged);
    }
    let (verdict, found, remedy) = judge_beside(interface, mode, server)?;
    Some((verdict, found, Some(remedy)))
}

/// A DHCP server that names us as where to boot from: right, or nearly.
fn judge_of_us(
    server: &ForeignServer,
    ours: Ours<'_>,
) -> Option<(Verdict, String, Option<String>)> {
    let file = server.boot_file.as_ref()?;
    if server.lends.is_none() || server.is_pxe {
        return None;
    }
    let address = server.address;
    let lines = "Write what `farrier doctor --lines` prints for it, and nothing else of booting.";
    match (ours.is_named(server), (ours.has)(file)) {
        (true, true) => Some((
            Verdict::Good,
            format!("{address} gives addresses and names our boot file {file:?}"),
            None,
        )),
        (true, false) => Some((
            Verdict::Bad,
            format!(
                "{address} sends machines to us for the boot file {file:?}, which we do not have"
            ),
            Some(lines.to_owned()),
        )),
        (false, true) if file.starts_with("boot/") => {
            let next = server.next_server.as_deref().unwrap_or("nowhere");
            Some((
                Verdict::Bad,
                format!("{address} sends machines to {next:?} for our boot file {file:?}"),
                Some(lines.to_owned()),
            ))
        }
        (false, _) => None,
    }
}

fn judge_beside(
    interface: &str,
    mode: Mode,
    server: &ForeignServer,
) -> Option<(Verdict, String, String)> {
    let address = server.address;
    let says = boot_words(server);
    match (server.lends, mode) {
        (Some(_), Mode::Dhcp) => Some((
            Verdict::Bad,
            format!("{address} is a second DHCP server{says}"),
            format!(
                "Switch one of the two off; to leave addresses to {address}, write mode = \"proxy\" for {interface}."
            ),
        )),
        (Some(_), Mode::Port4011) if !server.is_pxe => Some((
            Verdict::Warning,
            format!("{address} gives addresses beside the DHCP server of this host{says}"),
            "Switch one of the two off, unless they share their pools on purpose.".to_owned(),
        )),
        (Some(_), _) if says.is_empty() => None,
        (Some(_), _) => Some((
            Verdict::Warning,
            format!("{address} gives addresses and names a boot file, too{says}"),
            format!(
                "Take boot options (next-server, filename, 43, 60, 66, 67) out of the DHCP server {address}: machines may follow it."
            ),
        )),
        (None, _) => Some((
            Verdict::Bad,
            format!("{address} is another PXE server{says}"),
            format!(
                "Switch the PXE service at {address} off (FOG, WDS, SCCM, dnsmasq, a NAS?): machines follow whoever is faster."
            ),
        )),
    }
}

fn boot_words(server: &ForeignServer) -> String {
    let mut words = Vec::new();
    if let Some(file) = &server.boot_file {
        words.push(format!("boot file {file:?}"));
    }
    // A next server alone is what many DHCP servers send of themselves, and no client loads from it.
    if let Some(next) = server.next_server.as_ref().filter(|_| !words.is_empty()) {
        words.push(format!("from {next:?}"));
    }
    if server.is_pxe {
        words.push("option 60 PXEClient".to_owned());
    }
    if server.has_vendor_options && server.is_pxe {
        words.push("option 43".to_owned());
    }
    if words.is_empty() {
        String::new()
    } else {
        format!(" ({})", words.join(", "))
    }
}

/// A DHCPDISCOVER as UEFI firmware sends it, from an address that no machine has.
pub(crate) fn question() -> io::Result<Message> {
    let mut random = [0; 26];
    getrandom::fill(&mut random)
        .map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let mut mac = [0; 6];
    mac.copy_from_slice(&random[..6]);
    // Locally administered, not multicast.
    mac[0] = mac[0] & 0xfc | 0x02;
    let xid = Xid(u32::from_be_bytes([
        random[6], random[7], random[8], random[9],
    ]));
    let mut message = Message::request(xid, MacAddr(mac));
    message.flags = BROADCAST;
    let mut machine = vec![0];
    machine.extend_from_slice(&random[10..]);
    let options: [(u8, &[u8]); 7] = [
        (option::DHCP_MESSAGE_TYPE, &[MessageType::Discover as u8]),
        (
            option::PARAMETER_REQUEST_LIST,
            &[1, 3, 6, 43, 54, 60, 66, 67, 128, 135],
        ),
        (option::MAXIMUM_DHCP_MESSAGE_SIZE, &1464_u16.to_be_bytes()),
        (
            option::VENDOR_CLASS_IDENTIFIER,
            b"PXEClient:Arch:00007:UNDI:003016",
        ),
        (option::CLIENT_SYSTEM_ARCHITECTURE, &[0, 7]),
        (option::CLIENT_NETWORK_INTERFACE, &[1, 3, 16]),
        (option::CLIENT_MACHINE_IDENTIFIER, &machine),
    ];
    for (code, value) in options {
        message.options.set(code, value);
    }
    Ok(message)
}

/// What a machine asks at port 4011 when it has an address (PXE 2.1, 2.2.3), from one that does not exist.
pub(crate) fn boot_server_question() -> io::Result<Vec<u8>> {
    let mut message = question()?;
    message
        .options
        .set(option::DHCP_MESSAGE_TYPE, [MessageType::Request as u8]);
    message.flags = 0;
    Ok(message.encode())
}

/// Whether a packet answers `question`.
pub(crate) fn answers(packet: &[u8], question: &Message) -> bool {
    Message::decode(packet).is_ok_and(|answer| {
        answer.op == Op::Reply && answer.xid == question.xid && answer.chaddr == question.chaddr
    })
}

/// Adds what a packet says, if it answers `question`. A server may answer twice, for addresses and for boot.
fn note(found: &mut Vec<ForeignServer>, packet: &[u8], source: Ipv4Addr, question: &Message) {
    let Ok(answer) = Message::decode(packet) else {
        return;
    };
    let is_ours =
        answer.op == Op::Reply && answer.xid == question.xid && answer.chaddr == question.chaddr;
    if !is_ours || answer.message_type() != Some(MessageType::Offer) {
        return;
    }
    let address = answer.server_identifier().unwrap_or(source);
    let place = found.iter().position(|server| server.address == address);
    let server = match place {
        Some(place) => &mut found[place],
        None if found.len() < MAX_SERVERS => {
            found.push(ForeignServer {
                address,
                lends: None,
                is_pxe: false,
                next_server: None,
                boot_file: None,
                has_vendor_options: false,
            });
            let last = found.len() - 1;
            &mut found[last]
        }
        None => return,
    };
    let text = |bytes: &[u8]| {
        Some(
            String::from_utf8_lossy(bytes)
                .trim_end_matches('\0')
                .to_owned(),
        )
        .filter(|t| !t.is_empty())
    };
    let option = |code| answer.options.get(code).and_then(text);
    let specified = |ip: Ipv4Addr| Some(ip).filter(|ip| !ip.is_unspecified());
    server.lends = server.lends.or_else(|| specified(answer.yiaddr));
    server.is_pxe |= answer
        .options
        .get(option::VENDOR_CLASS_IDENTIFIER)
        .is_some_and(|class| class.starts_with(b"PXEClient"));
    server.has_vendor_options |= answer.options.contains(option::VENDOR_SPECIFIC_INFORMATION);
    let next = || specified(answer.siaddr).map(|ip| ip.to_string());
    let said = option(option::TFTP_SERVER_NAME).or_else(next);
    server.next_server = server.next_server.take().or(said);
    let said = option(option::BOOTFILE_NAME).or_else(|| text(&answer.file));
    server.boot_file = server.boot_file.take().or(said);
}

pub(crate) const CLIENT_PORT: u16 = 68;
/// dnsmasq pings an address for three seconds before it offers it.
const PATIENCE: Duration = Duration::from_millis(4500);
/// A network with more of them has other worries.
const MAX_SERVERS: usize = 16;

#[cfg(test)]
mod tests;
