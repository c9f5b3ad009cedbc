use std::io;
use std::net::Ipv4Addr;

use farrier_api::admin::Verdict;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Op};
use farrier_proto::wire::option;

use super::{ForeignServer, MAX_SERVERS, Ours, checks, note, question};
use crate::config::Mode;

const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
const OURS: Ours<'static> = Ours {
    addresses: &[Ipv4Addr::new(192, 0, 2, 1)],
    has: &|file| file == "boot/x/snponly.efi",
};

fn server() -> ForeignServer {
    ForeignServer {
        address: OTHER,
        lends: None,
        is_pxe: false,
        next_server: None,
        boot_file: None,
        has_vendor_options: false,
    }
}

fn dhcp() -> ForeignServer {
    ForeignServer {
        lends: Some(Ipv4Addr::new(192, 0, 2, 100)),
        ..server()
    }
}

fn offer(question: &Message) -> Message {
    let mut offer = question.clone();
    offer.op = Op::Reply;
    offer.options = Default::default();
    offer
        .options
        .set(option::DHCP_MESSAGE_TYPE, [MessageType::Offer as u8]);
    offer
}

fn heard(question: &Message, answers: &[Message]) -> Vec<ForeignServer> {
    let mut found = Vec::new();
    for answer in answers {
        note(&mut found, &answer.encode(), OTHER, question);
    }
    found
}

#[test]
fn the_question_is_one_that_pxe_servers_answer() {
    let question = Message::decode(&question().unwrap().encode()).unwrap();
    assert_eq!(question.message_type(), Some(MessageType::Discover));
    assert_eq!(question.client_system_architecture(), [7]);
    assert!(question.wants_broadcast() && question.oddities.is_empty());
    assert_eq!(
        question
            .options
            .get(option::CLIENT_MACHINE_IDENTIFIER)
            .map(<[u8]>::len),
        Some(17)
    );
    assert_eq!(
        question.chaddr[0] & 0x03,
        0x02,
        "locally administered, not multicast"
    );
}

#[test]
fn two_answers_of_one_server_become_one_finding() {
    let question = question().unwrap();
    let mut lease = offer(&question);
    lease.yiaddr = Ipv4Addr::new(192, 0, 2, 100);
    let mut boot = offer(&question);
    boot.options
        .set(option::VENDOR_CLASS_IDENTIFIER, *b"PXEClient");
    boot.options
        .set(option::VENDOR_SPECIFIC_INFORMATION, [6, 1, 8, 255]);
    boot.options.set(option::BOOTFILE_NAME, *b"wdsnbp.com\0");
    boot.siaddr = Ipv4Addr::new(192, 0, 2, 10);
    let expected = ForeignServer {
        is_pxe: true,
        next_server: Some("192.0.2.10".to_owned()),
        boot_file: Some("wdsnbp.com".to_owned()),
        has_vendor_options: true,
        ..dhcp()
    };
    assert_eq!(heard(&question, &[lease, boot]), [expected]);
}

#[test]
fn what_does_not_answer_the_question_is_not_heard() {
    let asked = question().unwrap();
    let good = offer(&asked);
    let mut request = good.clone();
    request.op = Op::Request;
    let mut other_xid = good.clone();
    other_xid.xid.0 ^= 1;
    let mut other_mac = good.clone();
    other_mac.chaddr[5] ^= 1;
    let mut ack = good.clone();
    ack.options
        .set(option::DHCP_MESSAGE_TYPE, [MessageType::Ack as u8]);
    assert_eq!(heard(&asked, &[request, other_xid, other_mac, ack]), []);
    let mut found = Vec::new();
    note(&mut found, b"not DHCP", OTHER, &asked);
    assert_eq!(found, []);
    assert_eq!(heard(&asked, &[good]).len(), 1);
}

#[test]
fn t7_a_flood_of_servers_stays_bounded() {
    let asked = question().unwrap();
    let flood: Vec<_> = (0..200)
        .map(|i| {
            let mut answer = offer(&asked);
            answer
                .options
                .set(option::SERVER_IDENTIFIER, [198, 51, 100, i]);
            answer
        })
        .collect();
    assert_eq!(heard(&asked, &flood).len(), MAX_SERVERS);
}

#[test]
fn what_is_found_is_judged_by_what_we_are_there() {
    let pxe = ForeignServer {
        is_pxe: true,
        ..server()
    };
    let booting = ForeignServer {
        boot_file: Some("pxelinux.0".to_owned()),
        ..dhcp()
    };
    let next = ForeignServer {
        next_server: Some("192.0.2.9".to_owned()),
        ..dhcp()
    };
    for (name, mode, found, expected, words) in [
        (
            "alone",
            Mode::Dhcp,
            vec![],
            Verdict::Good,
            "no other server",
        ),
        (
            "two DHCP servers",
            Mode::Dhcp,
            vec![dhcp()],
            Verdict::Bad,
            "second DHCP server",
        ),
        (
            "foreign PXE beside DHCP",
            Mode::Dhcp,
            vec![pxe.clone()],
            Verdict::Bad,
            "another PXE server",
        ),
        (
            "nobody lends",
            Mode::Proxy,
            vec![],
            Verdict::Bad,
            "nobody gives addresses",
        ),
        (
            "as it should be",
            Mode::Proxy,
            vec![dhcp()],
            Verdict::Good,
            "192.0.2.9 gives addresses",
        ),
        (
            "a next server alone harms nobody",
            Mode::Proxy,
            vec![next],
            Verdict::Good,
            "gives addresses",
        ),
        (
            "DHCP names a file",
            Mode::Proxy,
            vec![booting],
            Verdict::Warning,
            "pxelinux.0",
        ),
        (
            "foreign PXE beside proxy",
            Mode::Proxy,
            vec![dhcp(), pxe],
            Verdict::Bad,
            "another PXE server",
        ),
        (
            "the host's own is not seen",
            Mode::Port4011,
            vec![],
            Verdict::Good,
            "no other server",
        ),
        (
            "one more",
            Mode::Port4011,
            vec![dhcp()],
            Verdict::Warning,
            "beside the DHCP server of this host",
        ),
    ] {
        let checks = checks("eth1", mode, &Ok(found), OURS);
        let worst = checks.iter().max_by_key(|check| check.verdict).unwrap();
        assert_eq!(worst.verdict, expected, "{name}: {worst:?}");
        assert!(worst.found.contains(words), "{name}: {}", worst.found);
        assert_eq!(worst.remedy.is_none(), expected == Verdict::Good, "{name}");
    }
}

#[test]
fn that_nobody_could_be_asked_is_said_with_a_remedy() {
    let taken = Err(io::Error::from(io::ErrorKind::AddrInUse));
    let checks = checks("eth1", Mode::Dhcp, &taken, OURS);
    assert_eq!(checks[0].verdict, Verdict::Warning);
    assert!(checks[0].remedy.as_deref().unwrap().contains("port 68"));
}

#[test]
fn a_server_that_names_us_is_right_or_nearly() {
    let naming = |next: &str, file: &str| ForeignServer {
        next_server: Some(next.to_owned()),
        boot_file: Some(file.to_owned()),
        ..dhcp()
    };
    let (us, ours) = ("192.0.2.1", "boot/x/snponly.efi");
    for (name, found, verdict, words) in [
        (
            "right",
            naming(us, ours),
            Verdict::Good,
            "names our boot file",
        ),
        (
            "a file of others",
            naming(us, "pxelinux.0"),
            Verdict::Bad,
            "which we do not have",
        ),
        (
            "another server",
            naming("192.0.2.7", ours),
            Verdict::Bad,
            "to \"192.0.2.7\" for our",
        ),
        (
            "others",
            naming("192.0.2.7", "pxelinux.0"),
            Verdict::Warning,
            "names a boot file, too",
        ),
    ] {
        let checks = checks("eth1", Mode::Proxy, &Ok(vec![found]), OURS);
        assert_eq!(checks.len(), 1, "{name}: {checks:?}");
        assert_eq!(checks[0].verdict, verdict, "{name}: {checks:?}");
        assert!(checks[0].found.contains(words), "{name}: {checks:?}");
        assert_eq!(
            checks[0].remedy.is_none(),
            verdict == Verdict::Good,
            "{name}"
        );
    }
}
