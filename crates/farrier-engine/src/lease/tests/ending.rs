//! How an address comes free again: released, declined, or given back by an operator.

use super::*;

#[test]
fn a_hold_after_a_release_is_still_only_a_minute() {
    let mut book = book(10, 10);
    lend(&mut book, at(0), &client(1));
    book.release(at(10), mac(1), ip(10)).unwrap();
    offered(&mut book, at(11), &client(2)).unwrap();
    assert_eq!(offered(&mut book, at(72), &client(3)), Ok(ip(10)));
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
