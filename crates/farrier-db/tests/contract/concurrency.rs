use farrier_db::{Db, DbError, MachineQuery};
use farrier_engine::model::{HostName, Machine};

use super::leases::lease;
use super::{machine, stored_machine};

const WRITERS: u32 = 64;

pub(crate) async fn sixty_four_writers_lose_nothing(db: &Db) {
    const EACH: u32 = 20;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let db = db.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    let lease = lease(writer * EACH + n);
                    db.save_lease(&lease).await.unwrap();
                    let before = std::net::Ipv4Addr::from(u32::from(lease.ip).saturating_sub(1));
                    let after = if lease.ip.is_unspecified() {
                        None
                    } else {
                        Some(before)
                    };
                    // What was acknowledged is there for every reader at once.
                    assert_eq!(db.leases(after, 1).await.unwrap(), [lease]);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let expected: Vec<_> = (0..WRITERS * EACH).map(lease).collect();
    assert_eq!(db.all_leases().await.unwrap(), expected);
}

pub(crate) async fn a_failing_write_fails_no_other(db: &Db) {
    stored_machine(db, 1).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let db = db.clone();
            // Half of them want a name that the other half has.
            let name = HostName::try_from(format!("pc-{}", n / 2)).unwrap();
            let new = Machine {
                name: Some(name),
                ..machine(u128::from(n) + 100)
            };
            tokio::spawn(async move { db.create_machine(&new).await })
        })
        .collect();
    let mut stored = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(machine) => {
                assert_eq!(db.machine(machine.id).await.unwrap(), Some(machine));
                stored += 1;
            }
            Err(e) => assert!(matches!(e, DbError::Taken { .. }), "{e}"),
        }
    }
    assert_eq!(stored, WRITERS / 2);
    let all = db.count_machines(&MachineQuery::default()).await.unwrap();
    assert_eq!(all, u64::from(WRITERS / 2 + 1));
}
