//! Opening the IPv6 sockets of an interface.

use std::net::{Ipv6Addr, SocketAddr};

use farrier_net::datagram;
use farrier_net::interface::Interface;
use farrier_net::router::RouterSocket;
use tokio::net::{TcpListener, UdpSocket};

use crate::bind::{TFTP_PORT, note, port_remedy};
use crate::boot6::{ALL_SERVERS, SERVER_PORT};
use crate::config::{Config, Fault, Mode, Subnet6Config};

/// What an interface listens on over IPv6.
#[derive(Debug)]
pub struct Link6 {
    /// Our address there, which is in every URL.
    pub address: Ipv6Addr,
    pub subnet: Subnet6Config,
    /// Port 547; none in mode `port4011`, beside a DHCP server of this host.
    pub dhcp: Option<UdpSocket>,
    pub tftp: UdpSocket,
    pub http: TcpListener,
    /// HTTPS for firmware, if it is on.
    pub https: Option<TcpListener>,
    pub agent: TcpListener,
    /// For router advertisements, where asked for.
    pub router: Option<RouterSocket>,
}

/// Opens them, or says what is in the way.
pub(crate) async fn bind(
    config: &Config,
    key: &str,
    interface: &Interface,
    (address, subnet): (Ipv6Addr, &Subnet6Config),
    mode: Mode,
    faults: &mut Vec<Fault>,
) -> Option<Link6> {
    let at = (interface.name.as_str(), interface.index);
    let mut udp = |address, port, group, remedy| {
        let key = format!("{key} (UDP port {port} over IPv6)");
        let opened = datagram::listen6(at, address, port, group);
        note(opened, &key, remedy, faults)
    };
    let dhcp = (mode != Mode::Port4011).then(|| {
        let remedy = "Stop the DHCPv6 server on this host, or use mode \"port4011\" beside it.";
        let all = Ipv6Addr::UNSPECIFIED;
        udp(all, SERVER_PORT, Some(ALL_SERVERS), remedy)
    });
    let tftp = udp(
        address,
        TFTP_PORT,
        None,
        "Stop the other TFTP server on this host.",
    );
    let router = subnet.router_advertisement.then(|| {
        let opened = RouterSocket::open(&interface.name, interface.index);
        note(opened, key, "Run as root or with CAP_NET_RAW.", faults)
    });
    let http = tcp(address, config.boot_http_port, "boot.http_port", faults).await;
    let https = match &config.boot_tls {
        Some(tls) => Some(tcp(address, tls.port, "boot.tls.port", faults).await?),
        None => None,
    };
    let agent = tcp(address, config.agent_port, "agent.port", faults).await;
    Some(Link6 {
        address,
        subnet: subnet.clone(),
        dhcp: match dhcp {
            Some(opened) => Some(opened?),
            None => None,
        },
        tftp: tftp?,
        http: http?,
        https,
        agent: agent?,
        router: match router {
            Some(opened) => Some(opened?),
            None => None,
        },
    })
}

async fn tcp(
    address: Ipv6Addr,
    port: u16,
    key: &str,
    faults: &mut Vec<Fault>,
) -> Option<TcpListener> {
    let at = SocketAddr::from((address, port));
    note(TcpListener::bind(at).await, key, &port_remedy(&at), faults)
}
