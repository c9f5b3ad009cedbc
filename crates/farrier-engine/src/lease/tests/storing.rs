//! The book and what is stored of it: late rows, rows of a start, clocks put back.

use super::*;

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
