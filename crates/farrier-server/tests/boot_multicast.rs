//! Streams to a group under forged requests: T8 of the threat model, over loopback.
#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]

mod site;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use farrier_engine::lease::AddressRange;
use farrier_net::datagram;
use farrier_proto::MacAddr;
use farrier_proto::wire::tftp::{Multicast, Packet};
use farrier_server::boot_tree::BootTree;
use farrier_server::config::Groups;
use farrier_server::core::now;
use farrier_server::exchanges::Exchange;
use farrier_server::transfer::{Habits, MtftpServer, StreamGroups, Streams, TftpServer, Transfers};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use site::Site;

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

struct Plane {
    tftp: SocketAddr,
    mtftp: SocketAddr,
    transfers: Arc<Transfers>,
    _stop: watch::Sender<bool>,
}

/// TFTP with streams, and MTFTP, each on a port of its own.
async fn plane(site: &Site, first: Ipv4Addr) -> Plane {
    let tree = Arc::new(BootTree::new(Arc::clone(&site.core), vec![LOOPBACK]));
    let transfers = Arc::new(Transfers::default());
    let (stop, stopped) = watch::channel(false);
    let groups = StreamGroups::new(&Groups {
        range: AddressRange { first, last: first },
        port: 1758,
    });
    let streams = Streams::new(
        ("lo".to_owned(), Ipv4Addr::LOCALHOST),
        Arc::clone(&tree),
        Arc::clone(&transfers),
        &groups,
    );
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tftp = socket.local_addr().unwrap();
    let server = TftpServer {
        socket,
        interface: "lo".to_owned(),
        address: Ipv4Addr::LOCALHOST.into(),
        tree: Arc::clone(&tree),
        transfers: Arc::clone(&transfers),
        streams: Some(Arc::new(streams)),
        habits: Habits::default(),
    };
    tokio::spawn(server.run(stopped.clone()));
    let socket = datagram::cast("lo", Ipv4Addr::LOCALHOST, 0).unwrap();
    let mtftp = socket.local_addr().unwrap();
    let server = MtftpServer {
        core: Arc::clone(&site.core),
        socket,
        address: Ipv4Addr::LOCALHOST,
        tree,
        transfers: Arc::clone(&transfers),
        delay: Duration::from_secs(1),
    };
    tokio::spawn(server.run(stopped));
    Plane {
        tftp,
        mtftp,
        transfers,
        _stop: stop,
    }
}

fn kernel(site: &Site) -> String {
    format!(
        "boot/agent/{}/vmlinuz",
        site.core.loaders.agent().as_ref().as_ref().unwrap().tag
    )
}

fn request(name: &str, options: &str) -> Vec<u8> {
    format!("\0\x01{name}\0octet\0{options}").into_bytes()
}

/// As after a DHCP exchange.
fn prove(site: &Site, ip: Ipv4Addr) {
    let mac = MacAddr([0x52, 0x54, 0, 0, 9, 9]);
    let exchange = Exchange {
        mac,
        address: Some(ip),
        known: false,
        heard: 300,
        answered: 548,
    };
    site.core.exchanges.saw(&exchange, now());
}

async fn client(n: u8) -> UdpSocket {
    let at = SocketAddrV4::new(Ipv4Addr::new(127, 3, 0, n), 0);
    UdpSocket::bind(at).await.unwrap()
}

fn address(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 3, 0, n)
}

/// What goes to a group.
fn listener(group: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = std::net::UdpSocket::bind((group, port)).unwrap();
    socket
        .join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    UdpSocket::from_std(socket).unwrap()
}

async fn hear(client: &UdpSocket, patience: Duration) -> Vec<Vec<u8>> {
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    let end = tokio::time::Instant::now() + patience;
    while let Ok(Ok((len, _))) = tokio::time::timeout_at(end, client.recv_from(&mut buffer)).await {
        heard.push(buffer[..len].to_vec());
    }
    heard
}

#[tokio::test]
async fn t8_a_forged_request_starts_no_stream() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let group = Ipv4Addr::new(239, 255, 66, 1);
    let plane = plane(&site, group).await;
    let all = listener(group, 1758);
    let asked = request(&kernel(&site), "blksize\x001468\0multicast\0\0");
    // A stranger is answered by itself, by the rules for strangers.
    let stranger = client(1).await;
    stranger.send_to(&asked, plane.tftp).await.unwrap();
    // Somebody forges the address of a host that has just spoken DHCP, and never answers.
    prove(&site, address(2));
    let forged = client(2).await;
    forged.send_to(&asked, plane.tftp).await.unwrap();
    let (to_stranger, to_forged, to_group) = tokio::join!(
        hear(&stranger, Duration::from_secs(12)),
        hear(&forged, Duration::from_secs(12)),
        hear(&all, Duration::from_secs(12)),
    );
    let multicast = |packets: &[Vec<u8>]| {
        let granted = packets.iter().map(|packet| match Packet::decode(packet) {
            Ok(Packet::OptionAck(options)) => options.multicast,
            other => panic!("{other:?}"),
        });
        granted.collect::<Vec<_>>()
    };
    assert_eq!(multicast(&to_stranger), [None; 4]);
    let joined = Some(Multicast::Joined {
        group: Some(SocketAddrV4::new(group, 1758)),
        master: true,
    });
    assert_eq!(multicast(&to_forged), [joined; 4]);
    assert_eq!(to_group.len(), 0, "nobody has acknowledged anything");
    let out: usize = to_forged.iter().map(|packet| packet.len() + 28).sum();
    #[allow(clippy::cast_precision_loss, reason = "some hundred bytes")]
    let factor = out as f64 / (asked.len() + 28) as f64;
    println!("T8: a forged request for a stream: factor {factor:.1}");
    assert!(factor <= 5.0);
    assert_eq!(plane.transfers.running(), 0, "and it is forgotten");
}

#[tokio::test]
async fn rfc2090_a_stream_ends_and_its_group_serves_the_next_file() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let group = Ipv4Addr::new(239, 255, 66, 2);
    let plane = plane(&site, group).await;
    let kernel_name = kernel(&site);
    let other_name = kernel_name.replace("vmlinuz", "agent.img");
    prove(&site, address(3));
    for name in [&kernel_name, &other_name] {
        let all = listener(group, 1758);
        let client = client(3).await;
        let asked = request(name, "multicast\0\0");
        client.send_to(&asked, plane.tftp).await.unwrap();
        let mut buffer = [0; 1024];
        let (len, from) = client.recv_from(&mut buffer).await.unwrap();
        let oack = buffer[..len].escape_ascii().to_string();
        assert!(oack.contains("239.255.66.2,1758,1"), "{oack}");
        client.send_to(&[0, 4, 0, 0], from).await.unwrap();
        loop {
            let (len, _) = all.recv_from(&mut buffer).await.unwrap();
            client
                .send_to(&[0, 4, buffer[2], buffer[3]], from)
                .await
                .unwrap();
            if len < 516 {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(plane.transfers.running(), 0);
    }
}

#[tokio::test]
async fn t8_mtftp_opens_for_who_was_told_of_it_only() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), "[tftp.mtftp]\ngroups = \"239.255.66.3\"\n").await;
    let plane = plane(&site, Ipv4Addr::new(239, 255, 66, 4)).await;
    let all = listener(Ipv4Addr::new(239, 255, 66, 3), 1758);
    let name = kernel(&site);
    let says = |heard: Vec<Vec<u8>>| heard[0][4..].escape_ascii().to_string();
    let patience = Duration::from_millis(400);
    let one = client(5).await;
    one.send_to(&request(&name, ""), plane.mtftp).await.unwrap();
    let refused = says(hear(&one, patience).await);
    assert!(refused.contains("No stream of this file"), "{refused}");
    // A DHCP answer names it to somebody; others have not become anybody by that.
    site.core.mtftp.as_ref().unwrap().assign(&name).unwrap();
    one.send_to(&request(&name, ""), plane.mtftp).await.unwrap();
    let refused = says(hear(&one, patience).await);
    assert!(refused.contains("get a lease or boot answer"), "{refused}");
    assert_eq!(hear(&all, patience).await.len(), 0);
    // The same address, proven: block 1, for itself and for all; twice more when nothing comes back.
    prove(&site, address(5));
    one.send_to(&request(&name, ""), plane.mtftp).await.unwrap();
    let (own, group) = tokio::join!(
        hear(&one, Duration::from_secs(8)),
        hear(&all, Duration::from_secs(8))
    );
    assert!((1..=4).contains(&own.len()), "{}", own.len());
    assert!(own.iter().chain(&group).all(|p| p[..4] == [0, 3, 0, 1]));
    assert_eq!(plane.transfers.running(), 0);
}
