//! What a DHCPREQUEST comes to: the four cases of RFC 2131 section 4.3.2.

use super::*;

#[test]
fn rfc2131_4_3_2_cases_told_apart() {
    use farrier_proto::wire::dhcpv4::{Message, Xid};
    let message = |server: Option<u8>, requested: Option<u8>, ciaddr: Option<u8>| {
        let mut message = Message::request(Xid(1), mac(1));
        message.ciaddr = ciaddr.map_or(Ipv4Addr::UNSPECIFIED, ip);
        for (code, value) in [(54, server), (50, requested)] {
            if let Some(last) = value {
                message.options.set(code, ip(last).octets());
            }
        }
        message
    };
    let (server, requested, ciaddr) = (ip(1), ip(9), ip(9));
    for (message, unicast, expected) in [
        (
            message(Some(1), Some(9), None),
            false,
            RequestCase::Selecting { server, requested },
        ),
        (
            message(Some(1), None, Some(9)),
            false,
            RequestCase::Selecting { server, requested },
        ),
        (
            message(None, Some(9), None),
            false,
            RequestCase::InitReboot { requested },
        ),
        (
            message(None, None, Some(9)),
            true,
            RequestCase::Renewing { ciaddr },
        ),
        (
            message(None, None, Some(9)),
            false,
            RequestCase::Rebinding { ciaddr },
        ),
        (message(None, None, None), false, RequestCase::Malformed),
        (message(Some(1), None, None), false, RequestCase::Malformed),
    ] {
        assert_eq!(RequestCase::of(&message, unicast), expected);
    }
    let mut short = message(None, None, None);
    short.options.set(50, vec![10, 0]);
    assert_eq!(RequestCase::of(&short, false), RequestCase::Malformed);
}

#[test]
fn rfc2131_4_3_2_answers() {
    enum Expect {
        Grant(u8),
        Nak(Reason),
        Silent(Reason),
    }
    use Expect::{Grant, Nak, Silent};
    let selecting = |server, last| RequestCase::Selecting {
        server,
        requested: ip(last),
    };
    let reboot = |requested| RequestCase::InitReboot { requested };
    let far = Ipv4Addr::new(192, 168, 7, 7);
    // Client 1 has 10.0.0.10 lent, client 2 has 10.0.0.11 offered, client 3 is new.
    let rows = [
        ("selecting, ours", 2, selecting(OURS, 11), Grant(11)),
        (
            "selecting, other server",
            2,
            selecting(OTHER, 11),
            Silent(Reason::ChoseOtherServer),
        ),
        (
            "selecting, not what was offered",
            2,
            selecting(OURS, 12),
            Nak(Reason::WrongAddress),
        ),
        (
            "selecting, offer forgotten but free",
            3,
            selecting(OURS, 13),
            Grant(13),
        ),
        (
            "selecting, another's address",
            3,
            selecting(OURS, 10),
            Nak(Reason::WrongAddress),
        ),
        ("init-reboot, its own", 1, reboot(ip(10)), Grant(10)),
        (
            "init-reboot, another's",
            1,
            reboot(ip(11)),
            Nak(Reason::WrongAddress),
        ),
        (
            "init-reboot, wrong network",
            3,
            reboot(far),
            Nak(Reason::WrongNetwork),
        ),
        (
            "init-reboot, no record",
            3,
            reboot(ip(13)),
            Silent(Reason::NoLeaseOnRecord),
        ),
        (
            "renewing, its own",
            1,
            RequestCase::Renewing { ciaddr: ip(10) },
            Grant(10),
        ),
        (
            "renewing, another's",
            1,
            RequestCase::Renewing { ciaddr: ip(11) },
            Nak(Reason::WrongAddress),
        ),
        (
            "renewing, record lost, free",
            3,
            RequestCase::Renewing { ciaddr: ip(13) },
            Grant(13),
        ),
        (
            "renewing, record lost, taken",
            3,
            RequestCase::Renewing { ciaddr: ip(10) },
            Nak(Reason::LeaseNotOurs),
        ),
        (
            "renewing, outside",
            3,
            RequestCase::Renewing { ciaddr: far },
            Nak(Reason::WrongNetwork),
        ),
        (
            "rebinding, its own",
            1,
            RequestCase::Rebinding { ciaddr: ip(10) },
            Grant(10),
        ),
        (
            "rebinding, another's",
            1,
            RequestCase::Rebinding { ciaddr: ip(12) },
            Nak(Reason::WrongAddress),
        ),
        (
            "rebinding, no record",
            3,
            RequestCase::Rebinding { ciaddr: ip(13) },
            Silent(Reason::NoLeaseOnRecord),
        ),
        (
            "malformed",
            1,
            RequestCase::Malformed,
            Silent(Reason::Malformed),
        ),
    ];
    for (name, who, case, expected) in rows {
        for never_nak in [false, true] {
            let mut book = book(10, 20);
            lend(&mut book, at(0), &client(1));
            offered(&mut book, at(1), &client(2)).unwrap();
            let asking = Client {
                never_nak,
                ..client(who)
            };
            let answer = book.request(at(2), &asking, OURS, case, OURS);
            match expected {
                Grant(last) => {
                    assert!(
                        matches!(&answer, Answer::Grant(l) if l.ip == ip(last)),
                        "{name}: {answer:?}"
                    );
                }
                Nak(reason) if !never_nak => assert_eq!(answer, Answer::Nak(reason), "{name}"),
                // Never NAK firmware (`protocols.md` 2).
                Nak(reason) | Silent(reason) => {
                    assert_eq!(answer, Answer::Silent(reason), "{name}")
                }
            }
        }
    }
}

#[test]
fn relayed_clients_get_an_address_of_their_own_subnet() {
    let far = Subnet {
        ranges: vec![AddressRange {
            first: Ipv4Addr::new(10, 1, 0, 5),
            last: Ipv4Addr::new(10, 1, 0, 9),
        }],
        ..Subnet::new(Ipv4Addr::new(10, 1, 0, 0), 24)
    };
    let mut book = LeaseBook::new(vec![subnet(10, 20), far]).unwrap();
    let giaddr = Ipv4Addr::new(10, 1, 0, 254);
    let Offered::Address { ip: got, .. } = book.offer(at(0), &client(1), giaddr, None) else {
        panic!()
    };
    assert_eq!(got, Ipv4Addr::new(10, 1, 0, 5));
    let case = RequestCase::Selecting {
        server: OURS,
        requested: got,
    };
    let Answer::Grant(lease) = book.request(at(0), &client(1), giaddr, case, OURS) else {
        panic!()
    };
    book.commit(at(0), lease).unwrap();
    // It renews past the relay, over an interface in our own subnet.
    let renewing = RequestCase::Renewing { ciaddr: got };
    assert!(
        matches!(book.request(at(9), &client(1), OURS, renewing, OURS), Answer::Grant(l) if l.ip == got)
    );
    let nowhere = Ipv4Addr::new(172, 16, 0, 1);
    assert_eq!(
        book.offer(at(0), &client(1), nowhere, None),
        Offered::Silent(Reason::NoSubnet)
    );
}

#[test]
fn inform_is_for_our_subnets() {
    let book = book(10, 20);
    assert_eq!(book.inform(ip(77)).unwrap().network, ip(0));
    assert_eq!(
        book.inform(Ipv4Addr::UNSPECIFIED).unwrap_err(),
        Reason::Malformed
    );
    assert_eq!(
        book.inform(Ipv4Addr::LOCALHOST).unwrap_err(),
        Reason::NoSubnet
    );
}

#[test]
fn renewing_prolongs_and_keeps_the_start() {
    let mut book = book(10, 20);
    let first = lend(&mut book, at(0), &client(1));
    let case = RequestCase::Renewing { ciaddr: first.ip };
    let Answer::Grant(second) = book.request(at(1800), &client(1), OURS, case, OURS) else {
        panic!()
    };
    assert_eq!((second.starts, second.ends), (at(0), at(1800) + HOUR));
    // Not committed (the store failed): the old end holds.
    assert_eq!(book.address_of(at(3599), mac(1)), Some(first.ip));
    assert_eq!(book.address_of(at(3600), mac(1)), None);
}

#[test]
fn another_servers_client_frees_its_offer_at_once() {
    let mut book = book(10, 10);
    let requested = offered(&mut book, at(0), &client(1)).unwrap();
    let case = RequestCase::Selecting {
        server: OTHER,
        requested,
    };
    book.request(at(1), &client(1), OURS, case, OURS);
    assert_eq!(offered(&mut book, at(1), &client(2)), Ok(requested));
}
