use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_db::Db;
use farrier_engine::lease::{Lease, LeaseState};

use super::{NOW, mac};

pub(crate) fn lease(ip: u32) -> Lease {
    Lease {
        ip: Ipv4Addr::from(ip),
        mac: mac(1),
        client_id: None,
        hostname: None,
        state: LeaseState::Active,
        starts: NOW,
        ends: NOW + Duration::from_secs(60),
    }
}

pub(crate) async fn a_lease_comes_back_equal(db: &Db) {
    let states = [LeaseState::Active, LeaseState::Declined, LeaseState::Free];
    let leases: Vec<Lease> = (0..)
        .zip(states)
        .map(|(n, state)| Lease {
            state,
            client_id: Some(vec![0, 255, n]),
            hostname: Some("\0'; DROP TABLE lease; --".into()),
            ..lease(u32::MAX - 2 + u32::from(n))
        })
        .chain([lease(0)])
        .collect();
    for lease in &leases {
        db.save_lease(lease).await.unwrap();
    }
    let mut expected = leases;
    expected.sort_by_key(|lease| lease.ip);
    assert_eq!(db.all_leases().await.unwrap(), expected);
}

pub(crate) async fn the_last_lease_of_an_address_counts(db: &Db) {
    db.save_lease(&lease(7)).await.unwrap();
    let newer = Lease {
        mac: mac(2),
        hostname: Some("pc".into()),
        state: LeaseState::Free,
        ..lease(7)
    };
    db.save_lease(&newer).await.unwrap();
    assert_eq!(db.all_leases().await.unwrap(), [newer]);
    assert!(db.delete_lease(Ipv4Addr::from(7)).await.unwrap());
    assert!(!db.delete_lease(Ipv4Addr::from(7)).await.unwrap());
    assert_eq!(db.all_leases().await.unwrap(), []);
}

pub(crate) async fn pages_go_by_address(db: &Db) {
    for ip in [30, 10, 0xc0a8_0001, 20] {
        db.save_lease(&lease(ip)).await.unwrap();
    }
    let first = db.leases(None, 2).await.unwrap();
    assert_eq!(first, [lease(10), lease(20)]);
    assert_eq!(
        db.leases(Some(first[1].ip), 2).await.unwrap(),
        [lease(30), lease(0xc0a8_0001)]
    );
    assert_eq!(db.leases(Some(Ipv4Addr::BROADCAST), 2).await.unwrap(), []);
}
