//! Opening every socket before anything starts, and telling every fault at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};

use farrier_net::datagram;
use farrier_net::interface::{self, Interface};
use farrier_net::link::{LinkListener, LinkSender};
use farrier_net::router::RouterSocket;
use farrier_proto::wire::{onc_rpc, rarp};
use tokio::net::{TcpListener, UdpSocket};

use crate::bind_tls;
use crate::bind6::{self, Link6};
use crate::ca::BootTls;
use crate::config::{self, Config, Fault, Mode, Subnet6Config};
use crate::rarp::RarpSockets;

/// Everything the server listens on.
#[derive(Debug)]
pub struct Bound {
    pub links: Vec<Link>,
    pub admin: TcpListener,
    /// The certificate for HTTPS of the boot plane, where somebody brought one.
    pub boot_tls: Option<BootTls>,
}

/// One served interface and its sockets.
#[derive(Debug)]
pub struct Link {
    pub interface: Interface,
    /// Our address there: server identifier, TFTP and HTTP server.
    pub address: Ipv4Addr,
    pub mode: Mode,
    /// Port 67; none when a DHCP server on this host has it.
    pub dhcp: Option<UdpSocket>,
    /// Port 4011.
    pub boot_server: UdpSocket,
    pub tftp: UdpSocket,
    /// The MTFTP server port, if it is on.
    pub mtftp: Option<UdpSocket>,
    pub http: TcpListener,
    /// HTTPS for firmware, if it is on.
    pub https: Option<TcpListener>,
    pub agent: TcpListener,
    /// For answers to clients that have no address yet.
    pub sender: LinkSender,
    /// For machines that wait for an IPv6 router; none where we advertise, or may not.
    pub no_router: Option<RouterSocket>,
    /// RARP, if it is on.
    pub rarp: Option<RarpSockets>,
    /// IPv6, if the interface has an address in a `[[subnet6]]`.
    pub six: Option<Link6>,
}

pub const DHCP_PORT: u16 = 67;
pub const BOOT_SERVER_PORT: u16 = 4011;
/// Where PXE clients look for boot servers (PXE 2.1 section 2.2.4).
const BOOT_SERVER_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 2);
pub const TFTP_PORT: u16 = 69;

/// Opens everything, or opens nothing and says all that is in the way.
pub async fn bind(config: &Config) -> Result<Bound, Vec<Fault>> {
    let mut faults = Vec::new();
    let (mut links, mut servers) = (Vec::new(), Vec::new());
    for (i, wanted) in config.interfaces.iter().enumerate() {
        let key = format!("interface[{i}]");
        let Some((interface, address)) = look_up(config, i, &key, &mut faults) else {
            continue;
        };
        if wanted.mode == Mode::Dhcp {
            servers.push(Server {
                index: i,
                interface: interface.clone(),
                address,
            });
        }
        links.extend(bind_link(config, &key, interface, address, wanted, &mut faults).await);
    }
    two_servers_on_one_network(&servers, &mut faults);
    let admin = TcpListener::bind(config.admin).await;
    let admin = note(
        admin,
        "admin.listen",
        &port_remedy(&config.admin),
        &mut faults,
    );
    let boot_tls = bind_tls::own_certificate(config, &addresses(&links), &mut faults);
    match admin {
        Some(admin) if faults.is_empty() => Ok(Bound {
            links,
            admin,
            boot_tls,
        }),
        _ => Err(faults),
    }
}

/// Every address of ours that URLs may hold.
#[must_use]
pub fn addresses(links: &[Link]) -> Vec<IpAddr> {
    let all = links.iter().flat_map(|link| {
        let six = link.six.as_ref().map(|six| IpAddr::V6(six.address));
        std::iter::once(IpAddr::V4(link.address)).chain(six)
    });
    all.collect()
}

/// Finds the interface and our address on it.
fn look_up(
    config: &Config,
    i: usize,
    key: &str,
    faults: &mut Vec<Fault>,
) -> Option<(Interface, Ipv4Addr)> {
    let wanted = &config.interfaces[i];
    let all = match interface::list() {
        Ok(all) => all,
        Err(e) => {
            faults.push(fault(
                key,
                format!("the interfaces cannot be listed: {e}"),
                "Run as root or with the unit's capabilities.",
            ));
            return None;
        }
    };
    let Some(found) = all.iter().find(|interface| interface.name == wanted.name) else {
        let names: Vec<_> = all
            .iter()
            .map(|i| i.name.as_str())
            .filter(|n| *n != "lo")
            .collect();
        let remedy = match names.as_slice() {
            [] => "This host has no network interface but lo: plug one in, or run the server where there is one.".to_owned(),
            names => format!("Write one of: {}.", names.join(", ")),
        };
        faults.push(fault(
            &format!("{key}.name"),
            format!("there is no interface {}", wanted.name),
            &remedy,
        ));
        return None;
    };
    let own = |address: &Ipv4Addr| found.addresses.iter().any(|(a, _)| a == address);
    let address = match wanted.address {
        Some(address) if own(&address) => address,
        Some(address) => {
            let what = format!("{address} is not an address of {}", found.name);
            faults.push(fault(
                &format!("{key}.address"),
                what,
                "Correct it, or take the key out to use the first address.",
            ));
            return None;
        }
        None => match found.addresses.first() {
            Some((address, _)) => *address,
            None => {
                let what = format!("{} has no IPv4 address", found.name);
                faults.push(fault(
                    &format!("{key}.name"),
                    what,
                    "Give it one first: clients must be told where to load from.",
                ));
                return None;
            }
        },
    };
    if wanted.mode == Mode::Dhcp && !config.subnets.iter().any(|s| s.subnet.contains(address)) {
        let what = format!("is \"dhcp\", but no subnet holds {address}");
        faults.push(fault(
            &format!("{key}.mode"),
            what,
            "Add a [[subnet]] for this network, or use mode \"proxy\".",
        ));
    }
    Some((found.clone(), address))
}

async fn bind_link(
    config: &Config,
    key: &str,
    interface: Interface,
    address: Ipv4Addr,
    wanted: &config::Interface,
    faults: &mut Vec<Fault>,
) -> Option<Link> {
    let mode = wanted.mode;
    let rarp = match wanted.rarp {
        true => Some(bind_rarp(key, &interface, faults)?),
        false => None,
    };
    let name = interface.name.clone();
    let mut udp = |port: u16| {
        let remedy = match port {
            DHCP_PORT => "Stop the DHCP server on this host, or use mode \"port4011\" beside it.",
            BOOT_SERVER_PORT => "Stop the other PXE server on this host.",
            _ => "Stop the other TFTP server on this host.",
        };
        note(
            datagram::listen(&name, port),
            &format!("{key} (UDP port {port} on {name})"),
            remedy,
            faults,
        )
    };
    let dhcp = (mode != Mode::Port4011).then(|| udp(DHCP_PORT));
    let boot_server = udp(BOOT_SERVER_PORT);
    if let Some(socket) = &boot_server
        && let Err(error) = datagram::join(socket, BOOT_SERVER_GROUP, interface.index)
    {
        tracing::warn!(%error, interface = %interface.name, "boot servers are not found by multicast here");
    }
    let tftp = if config.tftp.habits.single_port {
        // What leaves from there has to come from the address that was asked.
        note(
            datagram::cast(&name, address, TFTP_PORT),
            &format!("{key} (UDP port {TFTP_PORT} on {name})"),
            "Stop the other TFTP server on this host.",
            faults,
        )
    } else {
        udp(TFTP_PORT)
    };
    let mtftp = config.tftp.mtftp.as_ref().map(|on| {
        note(
            datagram::cast(&name, address, on.server_port),
            &format!("tftp.mtftp.server_port ({} on {name})", on.server_port),
            "Choose another port.",
            faults,
        )
    });
    let mut tcp = Vec::new();
    let https = config.boot_tls.as_ref();
    let https = https.map(|tls| ("boot.tls.port", tls.port));
    for (key, port) in [
        ("boot.http_port", config.boot_http_port),
        ("agent.port", config.agent_port),
    ]
    .into_iter()
    .chain(https)
    {
        let at = SocketAddr::V4(SocketAddrV4::new(address, port));
        tcp.push(note(
            TcpListener::bind(at).await,
            key,
            &port_remedy(&at),
            faults,
        ));
    }
    let sender = note(
        LinkSender::open(interface.index),
        key,
        "Run as root or with CAP_NET_RAW.",
        faults,
    );
    let six = match address6(config, &interface) {
        Some((address, subnet)) => {
            Some(bind6::bind(config, key, &interface, (address, subnet), mode, faults).await?)
        }
        None => None,
    };
    let advertised = six.as_ref().is_some_and(|six| six.router.is_some());
    let no_router = (config.end_ipv6_wait && !advertised)
        .then(|| RouterSocket::open(&interface.name, interface.index))
        .and_then(|opened| {
            let name = &interface.name;
            // A host without IPv6 can live without.
            opened
                .inspect_err(|error| tracing::info!(%error, interface = %name, "no ICMPv6 here"))
                .ok()
        });
    let https = match https {
        Some(_) => Some(tcp.pop()??),
        None => None,
    };
    let agent = tcp.pop()?;
    let http = tcp.pop()?;
    let dhcp = match dhcp {
        Some(opened) => Some(opened?),
        None => None,
    };
    let mtftp = match mtftp {
        Some(opened) => Some(opened?),
        None => None,
    };
    Some(Link {
        interface,
        address,
        mode,
        dhcp,
        boot_server: boot_server?,
        tftp: tftp?,
        mtftp,
        http: http?,
        https,
        agent: agent?,
        sender: sender?,
        no_router,
        rarp,
        six,
    })
}

/// RARP frames, and the port mapper's port where it is free: whoever has it says as well that it knows no
/// `bootparam`.
fn bind_rarp(key: &str, interface: &Interface, faults: &mut Vec<Fault>) -> Option<RarpSockets> {
    let key = format!("{key}.rarp");
    if interface.mac.is_none() {
        let what = format!("{} has no Ethernet address", interface.name);
        faults.push(fault(&key, what, "Take the key out."));
        return None;
    }
    let listener = LinkListener::open(interface.index, rarp::ETHERTYPE);
    let listener = note(listener, &key, "Run as root or with CAP_NET_RAW.", faults)?;
    let rpc = datagram::listen(&interface.name, onc_rpc::PORT_MAPPER)
        .inspect_err(|error| tracing::info!(%error, "the port mapper's port is not ours"))
        .ok();
    Some(RarpSockets { listener, rpc })
}

/// Our first address in a network that we boot over IPv6.
fn address6<'a>(
    config: &'a Config,
    interface: &Interface,
) -> Option<(Ipv6Addr, &'a Subnet6Config)> {
    let mut addresses = interface.addresses6.iter();
    addresses.find_map(|(address, _)| {
        let mut networks = config.subnets6.iter();
        let network = networks.find(|network| network.prefix.contains(*address))?;
        Some((*address, network))
    })
}

/// Two of our own interfaces in one network would both lend addresses there, each knowing nothing of the
/// other's offers. Their prefixes can differ, so that one of them alone reaches the other.
fn two_servers_on_one_network(servers: &[Server], faults: &mut Vec<Fault>) {
    for (n, one) in servers.iter().enumerate() {
        let shared = |other: &&Server| {
            other.interface.reaches(one.address) || one.interface.reaches(other.address)
        };
        if let Some(other) = servers[..n].iter().find(shared) {
            let what = format!(
                "{} and {} are DHCP servers in one network",
                other.interface.name, one.interface.name
            );
            faults.push(fault(
                &format!("interface[{}].mode", one.index),
                what,
                "Keep mode \"dhcp\" on one of them.",
            ));
        }
    }
}

/// An interface on which we lend addresses.
struct Server {
    /// Which of the configured ones it is.
    index: usize,
    interface: Interface,
    address: Ipv4Addr,
}

pub(crate) fn note<T>(
    opened: io::Result<T>,
    key: &str,
    remedy: &str,
    faults: &mut Vec<Fault>,
) -> Option<T> {
    match opened {
        Ok(opened) => Some(opened),
        Err(e) => {
            let what = match e.kind() {
                io::ErrorKind::AddrInUse => "is taken by another program".to_owned(),
                io::ErrorKind::PermissionDenied => "may not be opened by this user".to_owned(),
                _ => format!("cannot be opened: {e}"),
            };
            faults.push(fault(key, what, remedy));
            None
        }
    }
}

pub(crate) fn port_remedy(at: &SocketAddr) -> String {
    format!("Free {at} (`ss -ltnp` names the program that has it), or choose another port.")
}

pub(crate) fn fault(key: &str, what: String, remedy: &str) -> Fault {
    Fault {
        key: key.to_owned(),
        line: None,
        what,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use farrier_net::interface::Interface;

    use super::{Server, bind, two_servers_on_one_network};
    use crate::config::Config;

    #[tokio::test]
    async fn everything_in_the_way_is_told_at_once() {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = taken.local_addr().unwrap();
        let text = format!(
            "[admin]\nlisten = \"{admin}\"\n[[interface]]\nname = \"nosuch0\"\n[[interface]]\nname = \"lo\"\naddress = \"192.0.2.1\"\n"
        );
        let faults = bind(&Config::parse(&text).unwrap()).await.unwrap_err();
        let keys: Vec<_> = faults.iter().map(|f| f.key.as_str()).collect();
        assert_eq!(
            keys,
            ["interface[0].name", "interface[1].address", "admin.listen"]
        );
        assert!(faults[2].what.contains("taken"));
    }

    fn server(index: usize, address: [u8; 4], prefix: u8) -> Server {
        let address = Ipv4Addr::from(address);
        let interface = Interface {
            name: format!("eth{index}"),
            index: 1,
            mac: None,
            addresses: vec![(address, prefix)],
            addresses6: Vec::new(),
            up: true,
        };
        Server {
            index,
            interface,
            address,
        }
    }

    #[test]
    fn two_servers_in_one_network_are_told_whichever_reaches_the_other() {
        let (narrow, wide) = (([10, 0, 0, 1], 24), ([10, 0, 1, 1], 16));
        for [first, second] in [[narrow, wide], [wide, narrow]] {
            let mut faults = Vec::new();
            // Interface 2 is no DHCP server, and interface 0 has a network of its own.
            let servers = [
                server(0, [192, 0, 2, 1], 24),
                server(1, first.0, first.1),
                server(3, second.0, second.1),
            ];
            two_servers_on_one_network(&servers, &mut faults);
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert_eq!(faults[0].key, "interface[3].mode");
            assert!(faults[0].what.contains("eth1 and eth3"), "{faults:?}");
        }
        let mut faults = Vec::new();
        let apart = [server(0, narrow.0, 24), server(1, wide.0, 24)];
        two_servers_on_one_network(&apart, &mut faults);
        assert!(faults.is_empty(), "{faults:?}");
    }
}
