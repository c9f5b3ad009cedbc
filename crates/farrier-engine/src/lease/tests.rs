//! The lease book against RFC 2131 4.3, against floods, and against crashes.

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
fn a_hold_after_a_release_is_still_only_a_minute() {
    let mut book = book(10, 10);
    lend(&mut book, at(0), &client(1));
    book.release(at(10), mac(1), ip(10)).unwrap();
    offered(&mut book, at(11), &client(2)).unwrap();
    assert_eq!(offered(&mut book, at(72), &client(3)), Ok(ip(10)));
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
fn an_operator_gives_back_what_is_lent_or_set_aside() {
    let mut book = book(10, 10);
    assert_eq!(book.give_back(at(0), ip(10)), Err(Reason::NoLeaseOnRecord));
    lend(&mut book, at(0), &client(1));
    let freed = book.give_back(at(1), ip(10)).unwrap();
    assert_eq!((freed.state, freed.ends), (LeaseState::Free, at(1)));
    lend(&mut book, at(2), &client(2));
    book.decline(at(3), mac(2), ip(10)).unwrap();
    assert_eq!(
        offered(&mut book, at(4), &client(3)),
        Err(Reason::PoolExhausted)
    );
    book.give_back(at(5), ip(10)).unwrap();
    assert_eq!(lend(&mut book, at(6), &client(3)).ip, ip(10));
}

#[test]
fn declined_addresses_are_set_aside() {
    let mut book = book(10, 11);
    let lease = lend(&mut book, at(0), &client(1));
    let declined = book.decline(at(1), mac(1), lease.ip).unwrap();
    assert_eq!(declined.state, LeaseState::Declined);
    assert_eq!(offered(&mut book, at(2), &client(1)), Ok(ip(11)));
    assert_eq!(
        offered(&mut book, at(2), &client(2)),
        Err(Reason::PoolExhausted)
    );
    let later: Vec<_> = [2, 3]
        .map(|n| offered(&mut book, at(3601), &client(n)))
        .into();
    assert!(later.contains(&Ok(ip(10))), "{later:?}");
}

#[test]
fn nobody_gives_back_or_declines_for_another() {
    let mut book = book(10, 11);
    lend(&mut book, at(0), &client(1));
    assert_eq!(
        book.release(at(1), mac(2), ip(10)),
        Err(Reason::LeaseNotOurs)
    );
    assert_eq!(
        book.decline(at(1), mac(2), ip(10)),
        Err(Reason::LeaseNotOurs)
    );
    assert_eq!(
        book.decline(at(1), mac(2), Ipv4Addr::LOCALHOST),
        Err(Reason::NoSubnet)
    );
    assert_eq!(book.address_of(at(1), mac(1)), Some(ip(10)));
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
fn overlapping_subnets_are_refused() {
    let both = vec![subnet(10, 20), Subnet::new(Ipv4Addr::new(10, 0, 0, 0), 16)];
    assert!(matches!(
        LeaseBook::new(both),
        Err(SubnetError::Overlap { .. })
    ));
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
fn an_address_lent_stays_lent_when_its_client_moves() {
    let mut book = book(10, 20);
    let first = lend(&mut book, at(0), &client(1));
    // The row of a second lease, stored just before a crash: the client knows of the first only.
    let second = Lease {
        ip: ip(15),
        ends: first.ends + HOUR,
        ..first.clone()
    };
    book.commit(at(1), second).unwrap();
    let others: Vec<_> = (2..12)
        .filter_map(|n| offered(&mut book, at(2), &client(n)).ok())
        .collect();
    assert!(
        !others.contains(&first.ip) && !others.contains(&ip(15)),
        "{others:?}"
    );
}

#[test]
fn a_lease_stored_too_late_is_not_entered() {
    let mut book = book(10, 10);
    let requested = offered(&mut book, at(0), &client(1)).unwrap();
    let case = RequestCase::Selecting {
        server: OURS,
        requested,
    };
    let Answer::Grant(lease) = book.request(at(0), &client(1), OURS, case, OURS) else {
        panic!()
    };
    lend(&mut book, at(70), &client(2));
    assert_eq!(
        book.commit(at(71), lease),
        Err(CommitError::TakenMeanwhile(ip(10)))
    );
    assert_eq!(book.address_of(at(71), mac(2)), Some(ip(10)));
}

#[test]
fn at_start_rows_come_in_any_order() {
    let row = |last, state, ends| Lease {
        ip: ip(last),
        mac: mac(1),
        client_id: None,
        hostname: None,
        state,
        starts: at(0),
        ends: at(ends),
    };
    let rows = [
        row(10, LeaseState::Free, 10),
        row(11, LeaseState::Active, 5000),
        row(12, LeaseState::Declined, 5000),
        row(13, LeaseState::Active, 50),
        row(14, LeaseState::Active, 4000),
    ];
    for turn in 0..rows.len() {
        let mut book = book(10, 20);
        for i in 0..rows.len() {
            book.commit(at(100), rows[(turn + i) % rows.len()].clone())
                .unwrap();
        }
        assert_eq!(
            book.address_of(at(100), mac(1)),
            Some(ip(11)),
            "turn {turn}"
        );
        assert_eq!(
            offered(&mut book, at(100), &client(1)),
            Ok(ip(11)),
            "turn {turn}"
        );
        let others: Vec<_> = (2..=12)
            .filter_map(|n| offered(&mut book, at(100), &client(n)).ok())
            .collect();
        assert!(
            !others.contains(&ip(12)) && !others.contains(&ip(14)) && others.contains(&ip(10)),
            "turn {turn}: {others:?}"
        );
    }
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
fn r10_a_clock_put_back_gives_no_address_twice() {
    let mut book = book(10, 11);
    let first = lend(&mut book, at(100_000), &client(1));
    let second = lend(&mut book, at(10_000), &client(2));
    assert_ne!(first.ip, second.ip);
    assert_eq!(
        offered(&mut book, at(10_000), &client(3)),
        Err(Reason::PoolExhausted)
    );
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

#[test]
fn a_granted_lease_that_is_never_stored_is_free_after_a_minute() {
    let mut book = book(10, 10);
    let requested = offered(&mut book, at(0), &client(1)).unwrap();
    let case = RequestCase::Selecting {
        server: OURS,
        requested,
    };
    assert!(matches!(
        book.request(at(5), &client(1), OURS, case, OURS),
        Answer::Grant(_)
    ));
    assert_eq!(
        offered(&mut book, at(64), &client(2)),
        Err(Reason::PoolExhausted)
    );
    assert_eq!(offered(&mut book, at(65), &client(2)), Ok(requested));
}

#[derive(Clone, Debug)]
enum Op {
    Discover(u8),
    /// Takes up the last offer; the crash comes before the store, before the commit, or not.
    Request(u8, Crash),
    Renew(u8, Crash),
    Release(u8),
    Decline(u8),
    Wait(u16),
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Crash {
    BeforeStore,
    BeforeCommit,
    BeforeAck,
    No,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0u8..6;
    let crash = || {
        prop_oneof![
            1 => Just(Crash::BeforeStore),
            1 => Just(Crash::BeforeCommit),
            1 => Just(Crash::BeforeAck),
            6 => Just(Crash::No),
        ]
    };
    prop_oneof![
        4 => who.clone().prop_map(Op::Discover),
        6 => (who.clone(), crash()).prop_map(|(w, c)| Op::Request(w, c)),
        3 => (who.clone(), crash()).prop_map(|(w, c)| Op::Renew(w, c)),
        1 => who.clone().prop_map(Op::Release),
        1 => who.prop_map(Op::Decline),
        3 => (0u16..4000).prop_map(Op::Wait),
        1 => Just(Op::Restart),
    ]
}

/// What the clients believe, what the disk holds, and the book under test.
struct World {
    book: LeaseBook,
    stored: HashMap<Ipv4Addr, Lease>,
    offers: HashMap<u8, Ipv4Addr>,
    believed: HashMap<u8, (Ipv4Addr, WallTime)>,
    now: WallTime,
}

impl World {
    fn fresh() -> LeaseBook {
        LeaseBook::new(vec![Subnet {
            reservations: vec![Reservation {
                ip: ip(12),
                holder: Holder::Mac(mac(5)),
            }],
            ..subnet(10, 13)
        }])
        .unwrap()
    }

    fn new() -> Self {
        Self {
            book: Self::fresh(),
            stored: HashMap::new(),
            offers: HashMap::new(),
            believed: HashMap::new(),
            now: at(0),
        }
    }

    /// Rows come back in the order of addresses or against it, so that no order is relied on.
    fn restart(&mut self) {
        self.book = Self::fresh();
        let mut rows: Vec<_> = self.stored.values().cloned().collect();
        rows.sort_by_key(|lease| lease.ip);
        if self.now.0 % 2000 != 0 {
            rows.reverse();
        }
        for lease in rows {
            self.book
                .commit(self.now, lease)
                .expect("stored leases do not clash");
        }
    }

    fn ask(&mut self, who: u8, case: RequestCase, crash: Crash) {
        let Answer::Grant(lease) = self.book.request(self.now, &client(who), OURS, case, OURS)
        else {
            return;
        };
        if crash == Crash::BeforeStore {
            return self.restart();
        }
        self.stored.insert(lease.ip, lease.clone());
        if crash == Crash::BeforeCommit {
            return self.restart();
        }
        self.book
            .commit(self.now, lease.clone())
            .expect("nobody came between");
        if crash == Crash::BeforeAck {
            return self.restart();
        }
        self.believed.insert(who, (lease.ip, lease.ends));
    }

    fn play(&mut self, op: &Op) {
        match *op {
            Op::Discover(who) => {
                if let Offered::Address { ip, .. } =
                    self.book.offer(self.now, &client(who), OURS, None)
                {
                    self.offers.insert(who, ip);
                }
            }
            Op::Request(who, crash) => {
                if let Some(requested) = self.offers.remove(&who) {
                    self.ask(
                        who,
                        RequestCase::Selecting {
                            server: OURS,
                            requested,
                        },
                        crash,
                    );
                }
            }
            Op::Renew(who, crash) => {
                if let Some(&(ciaddr, ends)) = self.believed.get(&who)
                    && ends > self.now
                {
                    self.ask(who, RequestCase::Renewing { ciaddr }, crash);
                }
            }
            Op::Release(who) | Op::Decline(who) => {
                if let Some((ip, ends)) = self.believed.remove(&who)
                    && ends > self.now
                {
                    let done = match op {
                        Op::Release(_) => self.book.release(self.now, mac(who), ip),
                        _ => self.book.decline(self.now, mac(who), ip),
                    };
                    if let Ok(lease) = done {
                        self.stored.insert(ip, lease);
                    }
                }
            }
            Op::Wait(seconds) => self.now = self.now + Duration::from_secs(seconds.into()),
            Op::Restart => self.restart(),
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut holders: HashMap<Ipv4Addr, u8> = HashMap::new();
        for (&who, &(ip, ends)) in &self.believed {
            if ends > self.now {
                prop_assert_eq!(holders.insert(ip, who), None, "{} is held twice", ip);
            }
        }
        for (ip, who) in holders {
            let stored = self.stored.get(&ip).map(|lease| lease.mac);
            prop_assert_eq!(stored, Some(mac(who)), "an acknowledged lease is on disk");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_two_clients_ever_hold_one_address(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.play(op);
            world.check()?;
        }
    }
}
