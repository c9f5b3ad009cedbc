//! Several subnets on one wire, and ranges that not everybody may have.

use std::net::Ipv4Addr;

use super::tests::{OURS, at, client, ip, known, lend, offered, subnet};
use super::*;
use crate::Reason;

fn second(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, last)
}

/// Two addresses in each of two subnets.
fn hall(reservations: Vec<Reservation>) -> LeaseBook {
    let shared = Some("hall".into());
    let other = Subnet {
        shared: Option::clone(&shared),
        reservations,
        ranges: vec![AddressRange {
            first: second(10),
            last: second(11),
        }],
        known_share_percent: 0,
        ..Subnet::new(second(0), 24)
    };
    let own = Subnet {
        shared,
        ..subnet(10, 11)
    };
    LeaseBook::new(vec![other, own]).unwrap()
}

#[test]
fn shared_network_lends_from_the_next_subnet_when_the_first_is_used_up() {
    let mut book = hall(Vec::new());
    let got: Vec<_> = (1..=4)
        .map(|n| lend(&mut book, at(0), &client(n)).ip)
        .collect();
    assert_eq!(got, [ip(10), ip(11), second(10), second(11)]);
    assert_eq!(
        offered(&mut book, at(1), &client(5)),
        Err(Reason::PoolExhausted)
    );
    // Each keeps its own at every stage, wherever it is.
    for (n, ip) in (1..=4).zip(got) {
        let client = client(n);
        assert_eq!(offered(&mut book, at(60), &client), Ok(ip));
        for case in [
            RequestCase::InitReboot { requested: ip },
            RequestCase::Renewing { ciaddr: ip },
            RequestCase::Rebinding { ciaddr: ip },
        ] {
            let answer = book.request(at(60), &client, OURS, case, OURS);
            assert!(
                matches!(&answer, Answer::Grant(lease) if lease.ip == ip),
                "{case:?}: {answer:?}"
            );
        }
    }
}

#[test]
fn shared_network_finds_what_is_reserved_in_any_of_its_subnets() {
    let mut book = hall(vec![Reservation {
        ip: second(200),
        holder: Holder::Mac(tests::mac(9)),
    }]);
    assert_eq!(lend(&mut book, at(0), &client(9)).ip, second(200));
    let twice = Reservation {
        ip: ip(200),
        holder: Holder::Mac(tests::mac(9)),
    };
    let subnets = [ip(0), second(0)].map(|network| Subnet {
        shared: Some("hall".into()),
        reservations: vec![Reservation {
            ip: Ipv4Addr::from(u32::from(network) | 200),
            ..twice.clone()
        }],
        ..Subnet::new(network, 24)
    });
    assert!(matches!(
        LeaseBook::new(subnets.to_vec()),
        Err(SubnetError::HolderTwice { .. })
    ));
}

#[test]
fn shared_network_frees_an_offer_in_the_other_subnet_when_another_server_is_chosen() {
    let mut book = hall(Vec::new());
    for n in 1..=2 {
        lend(&mut book, at(0), &client(n));
    }
    assert_eq!(offered(&mut book, at(1), &client(3)), Ok(second(10)));
    let elsewhere = RequestCase::Selecting {
        server: Ipv4Addr::new(10, 0, 0, 2),
        requested: ip(77),
    };
    let answer = book.request(at(1), &client(3), OURS, elsewhere, OURS);
    assert_eq!(answer, Answer::Silent(Reason::ChoseOtherServer));
    assert_eq!(book.address_of(at(1), tests::mac(3)), None);
}

#[test]
fn subnets_that_share_nothing_do_not_help_each_other() {
    let mut book = LeaseBook::new(vec![
        subnet(10, 10),
        Subnet {
            ranges: vec![AddressRange {
                first: second(10),
                last: second(10),
            }],
            ..Subnet::new(second(0), 24)
        },
    ])
    .unwrap();
    lend(&mut book, at(0), &client(1));
    assert_eq!(
        offered(&mut book, at(0), &known(2)),
        Err(Reason::PoolExhausted)
    );
}

#[test]
fn ranges_for_classes() {
    let only = |number| Admits {
        allow: Classes::default().with(number),
        ..Admits::default()
    };
    let not = |number| Admits {
        deny: Classes::default().with(number),
        ..Admits::default()
    };
    let range = |first, last, admits| ClassRange {
        range: AddressRange {
            first: ip(first),
            last: ip(last),
        },
        admits,
    };
    let with = |class_ranges| {
        LeaseBook::new(vec![Subnet {
            class_ranges,
            ..subnet(10, 12)
        }])
    };
    // 10 to 12 for all, but 11 for telephones (0) only; 20 for all but guests (1).
    let mut book = with(vec![range(11, 11, only(0)), range(20, 20, not(1))]).unwrap();
    let of = |last, class| Client {
        classes: Classes::default().with(class),
        ..client(last)
    };
    assert_eq!(
        lend(&mut book, at(0), &of(1, 0)).ip,
        ip(11),
        "its own first"
    );
    assert_eq!(lend(&mut book, at(0), &of(2, 1)).ip, ip(10));
    assert_eq!(lend(&mut book, at(0), &of(3, 1)).ip, ip(12));
    assert_eq!(
        offered(&mut book, at(0), &of(4, 1)),
        Err(Reason::PoolExhausted),
        "guests get neither"
    );
    assert_eq!(offered(&mut book, at(0), &client(5)), Ok(ip(20)));
    // Who is no telephone any more loses the telephones' address.
    let renews = RequestCase::Renewing { ciaddr: ip(11) };
    assert_eq!(
        book.request(at(5), &client(1), OURS, renews, OURS),
        Answer::Nak(Reason::WrongAddress)
    );
    assert!(matches!(
        with(vec![range(11, 13, only(0)), range(13, 15, only(1))]),
        Err(SubnetError::ClassRanges { .. })
    ));
    assert!(!Classes::default().with(Classes::MAX).contains(Classes::MAX));
}
