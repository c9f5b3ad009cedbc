//! ProxyDHCP and the boot server on port 4011 (PXE 2.1 section 2.2).

use std::net::Ipv4Addr;
use std::path::Path;

use farrier_proto::MacAddr;
use farrier_proto::reply::{BootFile, BootStyle, boot_server, proxy_dhcp};
use farrier_proto::wire::dhcpv4::{Message, MessageType, Op, Xid};
use farrier_proto::wire::pxe::{
    BootItem, BootServerType, DiscoveryControl, Mtftp, PxeVendorOptions,
};
use farrier_testkit::capture::{self, Payload};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 149);

fn boot(name: &str, style: BootStyle) -> BootFile {
    BootFile {
        mtftp: None,
        next_server: SERVER,
        name: name.to_owned(),
        style,
        menu: None,
    }
}

fn request(options: &[(u8, &[u8])]) -> Message {
    let mut request = Message::request(Xid(7), MacAddr([2, 0, 0, 0, 0, 1]));
    for (code, value) in options {
        request.options.set(*code, *value);
    }
    request
}

const DISCOVER: (u8, &[u8]) = (53, &[1]);
const PXE: (u8, &[u8]) = (60, b"PXEClient:Arch:00000:UNDI:002001");

fn codes(message: &Message) -> Vec<u8> {
    message.options.iter().map(|(code, _)| code).collect()
}

#[test]
fn z6_mtftp_is_told_beside_the_boot_file_and_by_the_boot_server() {
    let mtftp = Mtftp {
        address: Ipv4Addr::new(239, 255, 67, 65),
        client_port: 1758,
        server_port: 1759,
        timeout: 2,
        delay: 3,
    };
    let told = BootFile {
        mtftp: Some(mtftp),
        ..boot("undionly.kpxe", BootStyle::PxeFinal)
    };
    let vendor = |reply: &Message| {
        let value = reply.options.get(43)?;
        Some(PxeVendorOptions::decode(value).unwrap())
    };
    let offer = vendor(&proxy_dhcp::offer(
        &request(&[DISCOVER, PXE]),
        SERVER,
        &told,
    ))
    .unwrap();
    assert_eq!(offer.mtftp, Some(mtftp));
    assert_eq!(
        offer.discovery_control,
        Some(DiscoveryControl::BOOT_FILE_IS_FINAL)
    );
    let asking = request(&[(53, &[3]), PXE]);
    let ack = vendor(&boot_server::ack(&asking, SERVER, &told)).unwrap();
    assert_eq!((ack.mtftp, ack.boot_item), (Some(mtftp), None));
    // edk2 throws away what has all five; the style that UEFI gets has none.
    let uefi = BootFile {
        style: BootStyle::AskPort4011,
        ..told
    };
    let offer = proxy_dhcp::offer(&request(&[DISCOVER, PXE]), SERVER, &uefi);
    assert_eq!(vendor(&offer), None);
}

#[test]
fn proxy_offers_by_strategy() {
    let final_file: &[u8] = &[6, 1, 8, 255];
    let rows = [
        ("A and C", BootStyle::PxeFinal, Some(final_file)),
        ("B", BootStyle::AskPort4011, None),
        (
            "iPXE",
            BootStyle::Ipxe {
                no_proxy_wait: true,
            },
            Some(final_file),
        ),
        ("plain", BootStyle::Plain, Some(final_file)),
    ];
    for (name, style, option_43) in rows {
        let mut discover = request(&[DISCOVER, PXE, (97, &[0; 17]), (61, b"\x01id")]);
        discover.ciaddr = CLIENT;
        let offer = proxy_dhcp::offer(&discover, SERVER, &boot("undionly.kpxe", style));
        assert_eq!(offer.message_type(), Some(MessageType::Offer));
        assert!(
            offer.yiaddr.is_unspecified() && offer.ciaddr.is_unspecified(),
            "{name}"
        );
        assert_eq!(
            (offer.siaddr, &offer.file[..]),
            (SERVER, &b"undionly.kpxe"[..]),
            "{name}"
        );
        assert_eq!(
            offer.options.get(60),
            Some(&b"PXEClient"[..]),
            "nine bytes, no suffix; {name}"
        );
        assert_eq!(offer.options.get(43), option_43, "{name}");
        assert!(
            offer.options.contains(97) && offer.options.contains(61),
            "{name}"
        );
        for code in [1, 3, 51, 58, 59, 175] {
            assert!(
                !offer.options.contains(code),
                "a proxy lends nothing; {name} {code}"
            );
        }
    }
}

#[test]
fn proxy_offer_for_http_boot_has_its_class_and_url() {
    let discover = request(&[DISCOVER, (60, b"HTTPClient:Arch:00016:UNDI:003001")]);
    let offer = proxy_dhcp::offer(
        &discover,
        SERVER,
        &boot("http://10.77.0.1/x.efi", BootStyle::HttpUrl),
    );
    assert_eq!(offer.options.get(60), Some(&b"HTTPClient"[..]));
    assert_eq!(offer.options.get(67), Some(&b"http://10.77.0.1/x.efi"[..]));
    assert!(!offer.options.contains(43));
}

#[test]
fn pxe_2_1_boot_server_ack() {
    let mut asks = request(&[(53, &[3]), (97, &[0; 17]), PXE, (55, &[66, 67])]);
    asks.ciaddr = CLIENT;
    let ack = boot_server::ack(&asks, SERVER, &boot("x.efi", BootStyle::AskPort4011));
    assert_eq!(ack.message_type(), Some(MessageType::Ack));
    assert_eq!(
        (ack.ciaddr, ack.yiaddr, ack.siaddr),
        (CLIENT, Ipv4Addr::UNSPECIFIED, SERVER)
    );
    assert_eq!(
        (&ack.file[..], &ack.sname[..]),
        (&b"x.efi"[..], &b"10.77.0.1"[..])
    );
    assert_eq!(codes(&ack), [53, 54, 66, 60, 97, 67]);
}

#[test]
fn pxe_2_1_boot_item_is_repeated() {
    let item = BootItem {
        kind: BootServerType(0x8049),
        layer: 0,
    };
    let vendor = PxeVendorOptions {
        boot_item: Some(item),
        ..PxeVendorOptions::default()
    }
    .encode();
    let asks = request(&[(53, &[3]), PXE, (43, &vendor)]);
    assert_eq!(boot_server::requested_boot_item(&asks), Some(item));
    let ack = boot_server::ack(&asks, SERVER, &boot("x.efi", BootStyle::AskPort4011));
    assert_eq!(
        ack.options.get(43),
        Some(&[71, 4, 0x80, 0x49, 0, 0, 255][..])
    );

    let garbage = request(&[(53, &[3]), PXE, (43, &[71, 9, 0])]);
    assert_eq!(boot_server::requested_boot_item(&garbage), None);
}

/// What firmware accepted in the recordings, our builder must give to the same question: the 4011 answers
/// of the other server have these fields.
#[test]
fn answers_on_4011_have_what_recorded_firmware_accepted() {
    let mut compared = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures");
    for path in capture::list(&folder) {
        let mut question: Option<Message> = None;
        for frame in capture::read(&path).unwrap() {
            let Payload::Udp {
                source,
                destination,
                data,
            } = frame.payload
            else {
                continue;
            };
            if source.port() != 4011 && destination.port() != 4011 {
                continue;
            }
            let message = Message::decode(&data).unwrap();
            if message.op == Op::Request {
                question = Some(message);
                continue;
            }
            let asked = question.take().unwrap();
            let name = String::from_utf8(message.file.clone()).unwrap();
            let ours = boot_server::ack(&asked, SERVER, &boot(&name, BootStyle::AskPort4011));
            let shown = path.display();
            assert_eq!(ours.message_type(), message.message_type(), "{shown}");
            // The other server moves the address from ciaddr to yiaddr when a boot item is asked for;
            // the specification echoes it in both cases.
            assert_eq!(ours.ciaddr, asked.ciaddr, "{shown}");
            assert_eq!(
                (ours.xid, ours.siaddr, &ours.file),
                (message.xid, message.siaddr, &message.file)
            );
            for code in [54, 60, 97] {
                assert_eq!(
                    ours.options.get(code),
                    message.options.get(code),
                    "{shown} {code}"
                );
            }
            if let Some(item) = boot_server::requested_boot_item(&asked) {
                assert_eq!(
                    boot_server::requested_boot_item(&ours),
                    Some(item),
                    "{shown}"
                );
            }
            compared += 1;
        }
    }
    assert!(compared >= 20, "{compared} answers");
}

/// A relay sends what has no broadcast bit to `yiaddr`, and these replies lend no address (RFC 1542 4.1.2).
#[test]
fn rfc1542_4_1_2_answers_without_an_address_are_broadcast_behind_a_relay() {
    let named = boot("undionly.kpxe", BootStyle::PxeFinal);
    for (giaddr, broadcast) in [
        (Ipv4Addr::UNSPECIFIED, false),
        (Ipv4Addr::new(10, 78, 0, 1), true),
    ] {
        let mut asked = request(&[DISCOVER, PXE]);
        asked.giaddr = giaddr;
        let offer = proxy_dhcp::offer(&asked, SERVER, &named);
        let ack = boot_server::ack(&asked, SERVER, &named);
        assert_eq!(offer.wants_broadcast(), broadcast);
        assert_eq!(ack.wants_broadcast(), broadcast);
    }
}
