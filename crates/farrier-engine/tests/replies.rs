//! Every captured request replayed: decoded, decided, answered, and the answer laid beside the one that the
//! recorded server gave and the firmware accepted.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use farrier_engine::facts::BootFacts;
use farrier_proto::reply::{self, BootFile, BootStyle, Lend};
use farrier_proto::wire::dhcpv4::{Message, MessageType, Op};
use farrier_proto::wire::option;
use farrier_testkit::capture::{self, Payload};

struct Datagram {
    source: SocketAddrV4,
    destination: SocketAddrV4,
    message: Message,
}

/// A request and what the recorded server answered.
struct Exchange {
    capture: PathBuf,
    request: Datagram,
    recorded: Datagram,
}

fn datagrams(path: &Path) -> Vec<Datagram> {
    let frames = capture::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let messages = frames.into_iter().filter_map(|frame| match frame.payload {
        Payload::Udp {
            source: SocketAddr::V4(source),
            destination: SocketAddr::V4(destination),
            data,
        } => Some(Datagram {
            source,
            destination,
            message: Message::decode(&data).ok()?,
        }),
        _ => None,
    });
    messages.collect()
}

/// Each answer with the latest request that it fits.
fn exchanges() -> Vec<Exchange> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures");
    let mut exchanges = Vec::new();
    for path in capture::list(&folder) {
        let mut requests: Vec<Datagram> = Vec::new();
        for datagram in datagrams(&path) {
            if datagram.message.op == Op::Request {
                requests.push(datagram);
                continue;
            }
            let fits = |request: &&Datagram| {
                request.message.xid == datagram.message.xid
                    && request.message.chaddr == datagram.message.chaddr
                    && request.destination.port() == datagram.source.port()
            };
            if let Some(request) = requests.iter().rev().find(fits) {
                exchanges.push(Exchange {
                    capture: path.clone(),
                    request: Datagram {
                        message: request.message.clone(),
                        ..*request
                    },
                    recorded: datagram,
                });
            }
        }
    }
    exchanges
}

impl Exchange {
    /// The recorded server's address.
    fn server(&self) -> Ipv4Addr {
        self.recorded
            .message
            .server_identifier()
            .unwrap_or_else(|| *self.recorded.source.ip())
    }

    fn lend(&self) -> Lend<'_> {
        Lend {
            server_id: self.server(),
            yiaddr: self.recorded.message.yiaddr,
            subnet_mask: Ipv4Addr::new(255, 255, 0, 0),
            lease_s: 3600,
            t1_s: 1800,
            t2_s: 3150,
            options: vec![(3, &[10, 77, 0, 1])],
        }
    }

    fn boot(&self, style: BootStyle) -> BootFile {
        let name = if style == BootStyle::HttpUrl {
            "http://10.77.0.1/boot/x.efi"
        } else {
            "boot/x"
        };
        BootFile {
            mtftp: None,
            next_server: self.server(),
            name: name.to_owned(),
            style,
            menu: None,
        }
    }

    /// What we answer in the recorded server's place.
    fn ours(&self) -> Option<Message> {
        let (request, recorded) = (&self.request.message, &self.recorded.message);
        let facts = BootFacts::from_dhcp(request).expect("captured clients have addresses");
        let lends = !recorded.yiaddr.is_unspecified();
        let from_dhcp = facts
            .wants_boot()
            .then(|| self.boot(facts.style_from_dhcp()));
        let from_proxy = self.boot(facts.style_from_proxy());
        match recorded.message_type()? {
            _ if self.request.destination.port() == 4011 => {
                let boot = self.boot(BootStyle::AskPort4011);
                Some(reply::boot_server::ack(request, self.server(), &boot))
            }
            MessageType::Offer if !lends => Some(reply::proxy_dhcp::offer(
                request,
                self.server(),
                &from_proxy,
            )),
            MessageType::Offer => Some(reply::dhcp::offer(
                request,
                &self.lend(),
                from_dhcp.as_ref(),
            )),
            MessageType::Ack if lends => {
                Some(reply::dhcp::ack(request, &self.lend(), from_dhcp.as_ref()))
            }
            _ => None,
        }
    }
}

#[test]
fn every_captured_request_is_answered_as_its_firmware_accepts() {
    let mut compared = 0;
    for exchange in exchanges() {
        let Some(ours) = exchange.ours() else {
            continue;
        };
        compared += 1;
        let (request, recorded) = (&exchange.request.message, &exchange.recorded.message);
        let at = format!("{} xid {}", exchange.capture.display(), request.xid);
        assert_eq!(ours.message_type(), recorded.message_type(), "{at}");
        assert_eq!(
            (ours.op, ours.xid, ours.chaddr),
            (Op::Reply, recorded.xid, recorded.chaddr),
            "{at}"
        );
        // On port 4011 the client has its address already; dnsmasq repeats it, PXE 2.1 does not.
        let lent = match exchange.request.destination.port() {
            4011 => Ipv4Addr::UNSPECIFIED,
            _ => recorded.yiaddr,
        };
        assert_eq!((ours.yiaddr, ours.giaddr), (lent, request.giaddr), "{at}");
        assert_eq!(ours.flags, request.flags, "{at}: RFC 2131 table 3");
        assert_eq!(ours.server_identifier(), Some(exchange.server()), "{at}");
        let uuid = option::CLIENT_MACHINE_IDENTIFIER;
        assert_eq!(
            ours.options.get(uuid),
            request.options.get(uuid),
            "{at}: option 97 comes back"
        );
        assert!(
            ours.encode().len() >= 300 && ours.encode().len() <= request.reply_limit(),
            "{at}"
        );
        let names_file =
            |m: &Message| !m.file.is_empty() || m.options.contains(option::BOOTFILE_NAME);
        let boots = BootFacts::from_dhcp(request).is_ok_and(|facts| facts.wants_boot());
        if boots && names_file(recorded) {
            assert!(names_file(&ours) && !ours.siaddr.is_unspecified(), "{at}");
        }
    }
    assert!(compared > 250, "only {compared} answers were compared");
}

/// RFC 2131 4.1: our answer takes the way that the recorded one took.
#[test]
fn rfc2131_4_1_answers_travel_as_the_recorded_ones_did() {
    for exchange in exchanges() {
        let Some(ours) = exchange.ours() else {
            continue;
        };
        let (request, port) = (&exchange.request, exchange.request.destination.port());
        let to = reply::destination(&request.message, &ours, request.source, port);
        assert_eq!(
            to.addr(),
            exchange.recorded.destination,
            "{} xid {}",
            exchange.capture.display(),
            request.message.xid
        );
    }
}
