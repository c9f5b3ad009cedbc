//! TFTP of a site.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use farrier_server::boot_tree::BootTree;
use farrier_server::transfer::{Habits, TftpServer, Transfers};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::Site;

/// The boot plane's TFTP server on a port of its own.
pub struct Tftp {
    pub at: SocketAddr,
    pub transfers: Arc<Transfers>,
    _stop: watch::Sender<bool>,
}

pub async fn tftp(site: &Site, networks: Vec<(Ipv4Addr, u8)>) -> Tftp {
    tftp_at(site, Ipv4Addr::LOCALHOST.into(), networks).await
}

/// The same at this address of ours.
pub async fn tftp_at(site: &Site, address: IpAddr, networks: Vec<(Ipv4Addr, u8)>) -> Tftp {
    let socket = UdpSocket::bind((address, 0)).await.unwrap();
    let at = socket.local_addr().unwrap();
    let tree = Arc::new(BootTree::new(Arc::clone(&site.core), networks));
    let transfers = Arc::new(Transfers::default());
    let (stop, stopped) = watch::channel(false);
    let server = TftpServer {
        socket,
        interface: "lo".to_owned(),
        address,
        tree,
        transfers: Arc::clone(&transfers),
        streams: None,
        habits: Habits::default(),
    };
    tokio::spawn(server.run(stopped));
    Tftp {
        at,
        transfers,
        _stop: stop,
    }
}
