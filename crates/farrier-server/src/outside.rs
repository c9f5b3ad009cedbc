//! Asking the boot plane as a machine would, from wherever `farrier doctor` runs: what the server thinks of its
//! ports says nothing about a firewall before them.

mod https;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use farrier_api::admin::{Check, Served, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::probe;

/// What became of one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Answer,
    /// The host says that nobody listens there.
    Refused,
    Nothing,
    /// The question could not even leave.
    NoWay,
}

/// Asks every port of every served address.
pub async fn check(served: &[Served]) -> Vec<Check> {
    let asked = served.iter().map(async |served| {
        let Ok(address) = served.address.parse::<Ipv4Addr>() else {
            return Vec::new();
        };
        let at = |port| SocketAddr::from((address, port));
        let near = is_here(address).await;
        // What is sent to our own address comes in by the loopback interface, which DHCP is not served on.
        let dhcp_port = served.dhcp_port.filter(|_| !near);
        let dhcp = async {
            match dhcp_port {
                Some(port) => Some((port, dhcp(at(port)).await)),
                None => None,
            }
        };
        let https = async {
            match &served.https {
                Some(https) => Some(https::check(served, https, address.into(), near).await),
                None => None,
            }
        };
        let agents = async {
            match served.agent_port {
                Some(port) => Some(https::agents(served, at(port), near).await),
                None => None,
            }
        };
        let (dhcp, tftp, http, https, agents, boot) = tokio::join!(
            dhcp,
            tftp(at(served.tftp_port)),
            http(at(served.http_port)),
            https,
            agents,
            boot_server(at(served.boot_server_port))
        );
        let dhcp = dhcp.map(|(port, heard)| judged(DHCP, "UDP", served, port, heard, near));
        let others = [
            judged("TFTP", "UDP", served, served.tftp_port, tftp, near),
            judged("HTTP", "TCP", served, served.http_port, http, near),
            judged(
                BOOT_SERVER,
                "UDP",
                served,
                served.boot_server_port,
                boot,
                near,
            ),
        ];
        let tls = https.into_iter().chain(agents);
        dhcp.into_iter().chain(others).chain(tls).collect()
    });
    futures::future::join_all(asked).await.concat()
}

fn judged(
    what: &str,
    transport: &str,
    served: &Served,
    port: u16,
    heard: Heard,
    near: bool,
) -> Check {
    let address = &served.address;
    let (verdict, found, remedy) = match heard {
        Heard::Answer if near => (
            Verdict::Good,
            "answers on this host; a firewall before it is not seen from here",
            None,
        ),
        Heard::Answer => (Verdict::Good, "answers from outside", None),
        Heard::Refused => (
            Verdict::Bad,
            "nobody listens there",
            Some(format!(
                "See that the server runs and serves {}: farrier config check.",
                served.interface
            )),
        ),
        // A machine that the policy ignores gets no answer either.
        Heard::Nothing if matches!(what, BOOT_SERVER | DHCP) => (
            Verdict::Warning,
            "no answer to a machine that nobody knows",
            Some(format!(
                "If unknown machines are not ignored by policy, let {transport} port {port} to {address} through the firewalls on the way."
            )),
        ),
        Heard::Nothing => (
            Verdict::Bad,
            "no answer: a firewall drops what is sent there",
            Some(format!(
                "Let {transport} port {port} to {address} through the firewall of the server and those on the way."
            )),
        ),
        Heard::NoWay if what == DHCP => (
            Verdict::Warning,
            "cannot be asked from here: answers come to UDP port 68, which this user or a DHCP client keeps",
            Some(
                "Run this as root on a host of the served network without a DHCP client."
                    .to_owned(),
            ),
        ),
        Heard::NoWay => (
            Verdict::Warning,
            "cannot be asked from here: there is no way to that address",
            Some("Run this on a host of the served network.".to_owned()),
        ),
    };
    Check {
        name: format!("{what} {address}:{port}"),
        verdict,
        found: found.to_owned(),
        remedy,
    }
}

async fn tftp(at: SocketAddr) -> Heard {
    // RFC 1350: the answer comes from a port of its own, so a connected socket would miss it.
    let question = b"\0\x01farrier-doctor\0octet\0tsize\x000\0";
    datagram(at, question).await
}

/// As a machine that has an address already, so that the answer may be sent to it or broadcast.
async fn dhcp(at: SocketAddr) -> Heard {
    let (Ok(question), Ok(socket)) = (
        probe::question(),
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, probe::CLIENT_PORT)).await,
    ) else {
        return Heard::NoWay;
    };
    let packet = question.encode();
    let mut buffer = [0; 2048];
    for _ in 0..TRIES {
        if let Err(error) = socket.send_to(&packet, at).await {
            return no_answer(&error);
        }
        let heard = async {
            loop {
                match socket.recv_from(&mut buffer).await {
                    Ok((len, _)) if probe::answers(&buffer[..len], &question) => return,
                    Ok(_) => {}
                    Err(_) => std::future::pending().await,
                }
            }
        };
        if timeout(PATIENCE, heard).await.is_ok() {
            return Heard::Answer;
        }
    }
    Heard::Nothing
}

async fn boot_server(at: SocketAddr) -> Heard {
    match probe::boot_server_question() {
        Ok(question) => datagram(at, &question).await,
        Err(_) => Heard::NoWay,
    }
}

async fn datagram(at: SocketAddr, question: &[u8]) -> Heard {
    match exchange(at, question).await {
        Ok(heard) => heard,
        Err(error) => no_answer(&error),
    }
}

/// Two sockets: one that hears from any port of the host, and one that is told when nobody listens.
async fn exchange(at: SocketAddr, question: &[u8]) -> io::Result<Heard> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let (open, bound) = (UdpSocket::bind(any).await?, UdpSocket::bind(any).await?);
    bound.connect(at).await?;
    let (mut first, mut second) = ([0; 2048], [0; 2048]);
    for _ in 0..TRIES {
        open.send_to(question, at).await?;
        bound.send(question).await?;
        let heard = async {
            tokio::select! {
                heard = from(&open, at.ip(), &mut first) => heard,
                heard = bound.recv(&mut second) => heard.map(drop),
            }
        };
        match timeout(PATIENCE, heard).await {
            Ok(Ok(())) => return Ok(Heard::Answer),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(Heard::Nothing)
}

async fn from(socket: &UdpSocket, host: IpAddr, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let (_, source) = socket.recv_from(buffer).await?;
        if source.ip() == host {
            return Ok(());
        }
    }
}

async fn http(at: SocketAddr) -> Heard {
    let ask = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut begin = [0; 5];
        stream.read_exact(&mut begin).await?;
        Ok(&begin == b"HTTP/")
    };
    match timeout(PATIENCE * TRIES, ask).await {
        Ok(Ok(true)) => Heard::Answer,
        Ok(Ok(false)) => Heard::Refused,
        Ok(Err(error)) => no_answer(&error),
        Err(_) => Heard::Nothing,
    }
}

fn no_answer(error: &io::Error) -> Heard {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Heard::Refused,
        // A firewall that rejects says so by ICMP, or ends the connection.
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::TimedOut => {
            Heard::Nothing
        }
        io::ErrorKind::PermissionDenied => Heard::Nothing,
        _ => Heard::NoWay,
    }
}

/// Whether `address` is one of this host.
async fn is_here(address: Ipv4Addr) -> bool {
    UdpSocket::bind((address, 0)).await.is_ok()
}

const BOOT_SERVER: &str = "PXE boot server";
const DHCP: &str = "DHCP";
const PATIENCE: Duration = Duration::from_millis(1000);
const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use farrier_api::admin::{Served, Verdict};
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, UdpSocket};

    use super::{Heard, check, datagram, http, judged};

    fn served() -> Served {
        Served {
            interface: "eth1".to_owned(),
            address: "127.0.0.1".to_owned(),
            dhcp_port: None,
            tftp_port: 69,
            http_port: 8067,
            https: None,
            boot_server_port: 4011,
            agent_port: None,
        }
    }

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// A port that nobody has: bound once and let go.
    async fn free() -> SocketAddr {
        UdpSocket::bind(local(0))
            .await
            .unwrap()
            .local_addr()
            .unwrap()
    }

    #[tokio::test]
    async fn an_answer_from_another_port_silence_and_refusal_are_told_apart() {
        let server = UdpSocket::bind(local(0)).await.unwrap();
        let at = server.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 100];
            let other = UdpSocket::bind(local(0)).await.unwrap();
            loop {
                let (_, from) = server.recv_from(&mut buffer).await.unwrap();
                other.send_to(b"answer", from).await.unwrap();
            }
        });
        assert_eq!(datagram(at, b"question").await, Heard::Answer);
        answering.abort();

        let silent = UdpSocket::bind(local(0)).await.unwrap();
        let at = silent.local_addr().unwrap();
        assert_eq!(datagram(at, b"question").await, Heard::Nothing);
        assert_eq!(datagram(free().await, b"question").await, Heard::Refused);
    }

    #[tokio::test]
    async fn what_answers_tcp_must_speak_http() {
        for (says, expected) in [
            ("HTTP/1.0 404 No", Heard::Answer),
            ("SSH-2.0-x", Heard::Refused),
        ] {
            let listener = TcpListener::bind(local(0)).await.unwrap();
            let at = listener.local_addr().unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(says.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            });
            assert_eq!(http(at).await, expected, "{says}");
        }
        assert_eq!(http(free().await).await, Heard::Refused);
    }

    #[test]
    fn silence_is_called_a_firewall_with_the_port_to_open() {
        let check = judged("TFTP", "UDP", &served(), 69, Heard::Nothing, false);
        assert_eq!(check.verdict, Verdict::Bad);
        assert!(check.found.contains("firewall"));
        assert!(check.remedy.unwrap().contains("UDP port 69 to 127.0.0.1"));
        let near = judged("TFTP", "UDP", &served(), 69, Heard::Answer, true);
        assert!(near.found.contains("not seen from here"));
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_passed_over() {
        let odd = Served {
            address: "nowhere".to_owned(),
            ..served()
        };
        assert!(check(&[odd]).await.is_empty());
    }
}
