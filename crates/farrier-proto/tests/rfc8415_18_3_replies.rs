//! DHCPv6 messages of recorded firmware, and what the replies to them hold.

use std::net::Ipv6Addr;
use std::path::Path;

use farrier_proto::reply::dhcpv6::{Answer, BootUrl, IaAnswer, Status, reply};
use farrier_proto::wire::dhcpv6::{Message, MessageType, Packet};
use farrier_proto::wire::dhcpv6_option::{self as option, IaAddress, IaNa, Options};
use farrier_testkit::capture::{self, Payload};

const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

fn recorded() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures");
    let mut found = Vec::new();
    for path in capture::list(&folder) {
        for frame in capture::read(&path).unwrap() {
            if let Payload::Udp {
                source,
                destination,
                data,
            } = frame.payload
                && (destination.port() == 547 || source.port() == 547)
                && destination.is_ipv6()
            {
                found.push((
                    path.file_stem().unwrap().to_string_lossy().into_owned(),
                    data,
                ));
            }
        }
    }
    found
}

#[test]
fn every_recorded_message_is_read_and_written_back_byte_for_byte() {
    let recorded = recorded();
    assert!(recorded.len() > 50, "{} messages", recorded.len());
    for (name, bytes) in recorded {
        let packet = Packet::decode(&bytes).unwrap();
        assert!(!packet.message.cut_off, "{name}");
        assert_eq!(packet.encode_forward(), bytes, "{name}");
    }
}

#[test]
fn rfc5970_recorded_firmware_asks_for_a_boot_file() {
    let asks = |of: &str| {
        recorded()
            .into_iter()
            .filter(|(name, _)| name.starts_with(of))
            .map(|(_, bytes)| Packet::decode(&bytes).unwrap().message)
            .find(Message::wants_boot_file)
    };
    let ovmf = asks("ovmf-pxe6").unwrap();
    assert_eq!(ovmf.architectures(), [7]);
    let class = ovmf.pxe_vendor_class().unwrap();
    assert!(class.starts_with(b"PXEClient:Arch:00007"), "{class:?}");
    assert!(ovmf.client_id().unwrap().uuid().is_some());
    assert_eq!(asks("aavmf-pxe6").unwrap().architectures(), [11]);
    assert_eq!(
        asks("s390x"),
        None,
        "T10: it wants one but tells no architecture"
    );
}

fn request(kind: MessageType, extra: &[(u16, Vec<u8>)]) -> Message {
    let mut options = Options::default();
    options.push(option::CLIENT_ID, [0, 4, 1, 2, 3]);
    for (code, value) in extra {
        options.push(*code, value.as_slice());
    }
    Message {
        kind,
        xid: [9, 8, 7],
        options,
        cut_off: false,
    }
}

fn answer(kind: MessageType) -> Answer<'static> {
    Answer {
        kind,
        server_id: SERVER,
        ias: Vec::new(),
        dns: &[],
        boot: None,
        status: None,
    }
}

#[test]
fn rfc8415_18_3_addresses_lifetimes_and_refusals() {
    let address = IaAddress {
        address: "fd77::5".parse().unwrap(),
        preferred: 1000,
        valid: 2000,
    };
    let prefix = [[0, 0, 0, 9], [0; 4], [0; 4]].concat();
    let asked = request(
        MessageType::Solicit,
        &[
            (option::IA_PD, prefix),
            (option::IA_TA, vec![0, 0, 0, 8]),
            (option::IA_PD, vec![1]),
        ],
    );
    let reply = reply(
        &asked,
        &Answer {
            ias: vec![
                (5, IaAnswer::Addresses(vec![address])),
                (6, IaAnswer::Refused(Status::NoAddrsAvail)),
            ],
            ..answer(MessageType::Advertise)
        },
    );
    assert_eq!((reply.kind, reply.xid), (MessageType::Advertise, asked.xid));
    assert_eq!(reply.client_id(), asked.client_id());
    assert_eq!(reply.server_id(), Some(SERVER));
    assert_eq!(reply.options.get(option::PREFERENCE), Some(&[255][..]));
    let ias: Vec<IaNa> = reply.ia_nas().collect();
    assert_eq!((ias[0].iaid, ias[0].t1, ias[0].t2), (5, 500, 800));
    assert_eq!(ias[0].addresses().collect::<Vec<_>>(), [address]);
    assert_eq!(
        ias[1].options.get(option::STATUS_CODE).unwrap()[..2],
        [0, 2]
    );
    let refused: Vec<_> = reply.options.all(option::IA_PD).collect();
    assert_eq!(refused.len(), 1, "a set without a number has no answer");
    assert_eq!(
        IaNa::decode(refused[0]).unwrap().options.get(13).unwrap()[..2],
        [0, 6]
    );
    assert_eq!(reply.options.get(option::IA_TA).unwrap()[..4], [0, 0, 0, 8]);
}

#[test]
fn rfc5970_boot_file_and_class_by_client() {
    let class = |text: &[u8]| {
        let mut value = 343_u32.to_be_bytes().to_vec();
        value.extend(option::encode_counted_texts(&[text]));
        value
    };
    let boot = BootUrl {
        url: "http://[fd77::1]/x.efi".to_owned(),
        parameters: vec!["a".to_owned(), String::new()],
    };
    for (text, repeated) in [
        (&b"PXEClient:Arch:00007"[..], false),
        (b"HTTPClient:Arch:00016", true),
    ] {
        let asked = request(MessageType::Request, &[(option::VENDOR_CLASS, class(text))]);
        let reply = reply(
            &asked,
            &Answer {
                boot: Some(boot.clone()),
                ..answer(MessageType::Reply)
            },
        );
        assert_eq!(reply.options.get(59), Some(boot.url.as_bytes()));
        assert_eq!(reply.options.get(60), Some(&[0, 1, b'a', 0, 0][..]));
        let class = reply.pxe_vendor_class();
        assert_eq!(class, repeated.then_some(&b"HTTPClient"[..]), "{text:?}");
    }
}

#[test]
fn rfc3646_dns_servers_where_asked() {
    let dns: [Ipv6Addr; 1] = ["fd77::1".parse().unwrap()];
    for (wanted, expected) in [(vec![0, 23], true), (vec![0, 24], false)] {
        let asked = request(
            MessageType::InformationRequest,
            &[(option::OPTION_REQUEST, wanted)],
        );
        let reply = reply(
            &asked,
            &Answer {
                dns: &dns,
                ..answer(MessageType::Reply)
            },
        );
        assert_eq!(reply.options.contains(option::DNS_SERVERS), expected);
    }
}
