//! The lease book against RFC 2131 4.3, against floods, and against crashes.

mod ending;
mod requests;
mod storing;
mod world;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_proto::MacAddr;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::Reason;

pub(super) const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

pub(super) fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, last])
}

pub(super) fn client(last: u8) -> Client {
    Client::new(mac(last))
}

pub(super) fn known(last: u8) -> Client {
    Client {
        known: true,
        ..client(last)
    }
}

pub(super) fn at(seconds: i64) -> WallTime {
    WallTime(seconds * 1000)
}

pub(super) fn subnet(first: u8, last: u8) -> Subnet {
    Subnet {
        ranges: vec![AddressRange {
            first: ip(first),
            last: ip(last),
        }],
        known_share_percent: 0,
        lease_time: HOUR,
        ..Subnet::new(ip(0), 24)
    }
}

fn book(first: u8, last: u8) -> LeaseBook {
    LeaseBook::new(vec![subnet(first, last)]).unwrap()
}

pub(super) fn offered(
    book: &mut LeaseBook,
    now: WallTime,
    client: &Client,
) -> Result<Ipv4Addr, Reason> {
    match book.offer(now, client, OURS, None) {
        Offered::Address { ip, .. } => Ok(ip),
        Offered::Silent(reason) => Err(reason),
    }
}

/// Discover, request, store, commit.
pub(super) fn lend(book: &mut LeaseBook, now: WallTime, client: &Client) -> Lease {
    let requested = offered(book, now, client).unwrap();
    let case = RequestCase::Selecting {
        server: OURS,
        requested,
    };
    let Answer::Grant(lease) = book.request(now, client, OURS, case, OURS) else {
        panic!("not granted")
    };
    book.commit(now, lease.clone()).unwrap();
    lease
}

#[test]
fn f10_every_stage_of_one_machine_gets_the_same_address() {
    let mut book = book(10, 20);
    let firmware = Client {
        uuid: Some(Uuid::from_u128(7)),
        never_nak: true,
        ..client(1)
    };
    let loader = Client {
        client_id: Some(vec![1, 2, 3]),
        ..firmware.clone()
    };
    let system = Client {
        client_id: Some(vec![255, 0, 1]),
        hostname: Some("pc1".into()),
        ..client(1)
    };
    let first = lend(&mut book, at(0), &firmware).ip;
    assert_eq!(lend(&mut book, at(5), &loader).ip, first);
    assert_eq!(lend(&mut book, at(30), &system).ip, first);
    assert_eq!(book.leases().count(), 1);
}

#[test]
fn a_client_comes_back_to_its_address_after_the_lease_ran_out() {
    let mut book = book(10, 20);
    let first = lend(&mut book, at(0), &client(1));
    lend(&mut book, at(10), &client(2));
    assert_eq!(book.address_of(at(5000), mac(1)), None);
    assert_eq!(lend(&mut book, at(5000), &client(1)).ip, first.ip);
}

#[test]
fn the_longest_unused_address_is_reused_first() {
    let mut book = book(10, 12);
    for n in 1..=3 {
        lend(&mut book, at(i64::from(n)), &client(n));
    }
    book.release(at(100), mac(2), ip(11)).unwrap();
    book.release(at(101), mac(1), ip(10)).unwrap();
    assert_eq!(offered(&mut book, at(102), &client(4)), Ok(ip(11)));
    assert_eq!(offered(&mut book, at(102), &client(5)), Ok(ip(10)));
    assert_eq!(
        offered(&mut book, at(102), &client(6)),
        Err(Reason::PoolExhausted)
    );
    // Client 2 has lost its address to client 4, and there is no other.
    assert_eq!(
        offered(&mut book, at(103), &client(2)),
        Err(Reason::PoolExhausted)
    );
}

#[test]
fn t13_many_discovers_of_one_client_hold_one_address() {
    let mut book = book(10, 11);
    for second in 0..50 {
        assert_eq!(offered(&mut book, at(second), &client(1)), Ok(ip(10)));
    }
    assert_eq!(offered(&mut book, at(50), &client(2)), Ok(ip(11)));
}

#[test]
fn an_offer_is_held_for_a_minute() {
    let mut book = book(10, 10);
    offered(&mut book, at(0), &client(1)).unwrap();
    assert_eq!(
        offered(&mut book, at(59), &client(2)),
        Err(Reason::PoolExhausted)
    );
    assert_eq!(offered(&mut book, at(60), &client(2)), Ok(ip(10)));
}

#[test]
fn the_requested_address_is_given_when_it_is_free() {
    let mut book = book(10, 20);
    let ask = |book: &mut LeaseBook, who, wish| book.offer(at(0), &client(who), OURS, Some(wish));
    assert!(matches!(ask(&mut book, 1, ip(15)), Offered::Address { ip: got, .. } if got == ip(15)));
    assert!(matches!(ask(&mut book, 2, ip(15)), Offered::Address { ip: got, .. } if got == ip(10)));
    assert!(matches!(ask(&mut book, 3, ip(99)), Offered::Address { ip: got, .. } if got == ip(11)));
    // The cursor passes over what was taken out of turn.
    let rest: Vec<_> = (4..12)
        .map(|n| offered(&mut book, at(0), &client(n)).unwrap())
        .collect();
    assert!(!rest.contains(&ip(15)), "{rest:?}");
}

#[test]
fn reservations() {
    let uuid = Uuid::from_u128(42);
    let mut book = LeaseBook::new(vec![Subnet {
        reservations: vec![
            Reservation {
                ip: ip(200),
                holder: Holder::Mac(mac(1)),
            },
            Reservation {
                ip: ip(11),
                holder: Holder::Uuid(uuid),
            },
        ],
        ..subnet(10, 12)
    }])
    .unwrap();
    assert_eq!(offered(&mut book, at(0), &client(1)), Ok(ip(200)));
    let by_uuid = Client {
        uuid: Some(uuid),
        ..client(2)
    };
    assert_eq!(lend(&mut book, at(0), &by_uuid).ip, ip(11));
    // Its second card has the same UUID: the address is in use, so it gets one of the range.
    let second_card = Client {
        uuid: Some(uuid),
        ..client(3)
    };
    assert_eq!(offered(&mut book, at(1), &second_card), Ok(ip(10)));
    assert_eq!(offered(&mut book, at(1), &client(4)), Ok(ip(12)));
    assert_eq!(
        offered(&mut book, at(1), &client(5)),
        Err(Reason::PoolExhausted)
    );
    let steal = RequestCase::Selecting {
        server: OURS,
        requested: ip(200),
    };
    assert_eq!(
        book.request(at(2), &client(5), OURS, steal, OURS),
        Answer::Nak(Reason::WrongAddress)
    );
}

#[test]
fn t10_a_flood_of_invented_addresses_leaves_room_for_known_machines() {
    let mut book = LeaseBook::new(vec![Subnet {
        known_share_percent: 25,
        max_open_offers: 50,
        ..subnet(1, 100)
    }])
    .unwrap();
    let invented = |n: u32| {
        let [a, b, c, d] = n.to_be_bytes();
        Client::new(MacAddr([2, 0, a, b, c, d]))
    };
    let mut refused = HashMap::new();
    for n in 0..100_000 {
        if let Err(reason) = offered(&mut book, at(0), &invented(n)) {
            *refused.entry(reason).or_insert(0) += 1;
        }
    }
    assert_eq!(refused, HashMap::from([(Reason::OfferLimit, 99_950)]));
    // Patient ones that take the lease run into the share.
    for n in 0..200 {
        let who = invented(n);
        if let Ok(requested) = offered(&mut book, at(61 + i64::from(n)), &who) {
            let case = RequestCase::Selecting {
                server: OURS,
                requested,
            };
            let Answer::Grant(lease) = book.request(at(61), &who, OURS, case, OURS) else {
                panic!()
            };
            book.commit(at(61), lease).unwrap();
        }
    }
    assert_eq!(
        offered(&mut book, at(300), &invented(999)),
        Err(Reason::PoolReserved)
    );
    for n in 0..25 {
        assert!(
            offered(&mut book, at(300), &known(n)).is_ok(),
            "known machine {n}"
        );
    }
    assert_eq!(
        offered(&mut book, at(300), &known(99)),
        Err(Reason::PoolExhausted)
    );
}

#[test]
fn rfc951_bootp_leases_never_end_and_are_not_for_strangers() {
    let mut book = LeaseBook::new(vec![Subnet {
        reservations: vec![Reservation {
            ip: ip(200),
            holder: Holder::Mac(mac(1)),
        }],
        ..subnet(10, 20)
    }])
    .unwrap();
    let stranger = book.bootp(at(0), &client(2), OURS);
    assert_eq!(stranger, Answer::Silent(Reason::BootpNeedsReservation));
    for (who, expected) in [(client(1), ip(200)), (known(3), ip(10))] {
        let Answer::Grant(lease) = book.bootp(at(0), &who, OURS) else {
            panic!("{who:?}")
        };
        assert_eq!((lease.ip, lease.ends), (expected, WallTime(i64::MAX)));
        book.commit(at(0), lease).unwrap();
    }
    assert_eq!(book.address_of(at(1_000_000_000), mac(3)), Some(ip(10)));
}

#[test]
fn overlapping_subnets_are_refused() {
    let both = vec![subnet(10, 20), Subnet::new(Ipv4Addr::new(10, 0, 0, 0), 16)];
    assert!(matches!(
        LeaseBook::new(both),
        Err(SubnetError::Overlap { .. })
    ));
}
