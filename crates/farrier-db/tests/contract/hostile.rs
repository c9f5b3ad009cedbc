use std::cell::Cell;

use farrier_db::{Db, MachineQuery, Secret, User};
use farrier_engine::lease::Lease;
use farrier_engine::model::{Inventory, Machine, Role, SystemInfo, UserId};
use farrier_engine::timeline::{Entry, Kind};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::leases::lease;
use super::{NOW, machine};

/// Any text at all, and texts made of what quoting has to get right.
fn hostile_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "'",
        "\"",
        "\0",
        ";",
        "--",
        "/*",
        "\\",
        "%",
        "_",
        "?1",
        "\u{202e}",
        "\n",
        "DROP TABLE machine",
    ]);
    prop_oneof![
        any::<String>(),
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
    ]
}

pub(crate) fn text_comes_back_equal(runtime: &Runtime, db: &Db) {
    let case = Cell::new(0);
    let mut runner = TestRunner::new(Config {
        cases: 96,
        ..Config::default()
    });
    runner
        .run(&hostile_text(), |text| {
            case.set(case.get() + 1);
            runtime.block_on(store_and_compare(db, case.get(), &text));
            Ok(())
        })
        .unwrap();
    let count = runtime
        .block_on(db.count_machines(&MachineQuery::default()))
        .unwrap();
    assert_eq!(count, u64::from(case.get()));
}

async fn store_and_compare(db: &Db, case: u32, text: &str) {
    let system = SystemInfo {
        serial: text.into(),
        product: text.into(),
        ..SystemInfo::default()
    };
    let inventory = Inventory {
        system,
        ..Inventory::default()
    };
    let new = Machine {
        inventory: Some(inventory),
        ..machine(case.into())
    };
    let stored = db.create_machine(&new).await.unwrap();
    assert_eq!(db.machine(stored.id).await.unwrap(), Some(stored.clone()));
    let query = MachineQuery {
        search: Some(text.into()),
        registration: None,
    };
    let found = db.machines(&query, None, u32::MAX).await.unwrap();
    assert!(
        found.iter().any(|m| m.id == stored.id),
        "{text:?} finds not its own machine"
    );
    assert_eq!(db.count_machines(&query).await.unwrap(), found.len() as u64);
    assert_eq!(db.machine_by_name(text).await.unwrap(), None);

    let details = vec![(text.to_owned().into(), text.to_owned().into())];
    let entry = Entry {
        machine: stored.id,
        at: NOW,
        kind: Kind::Seen,
        text: text.to_owned().into(),
        details,
    };
    db.append_timeline(std::slice::from_ref(&entry))
        .await
        .unwrap();
    assert_eq!(
        db.timeline(stored.id, None, 1).await.unwrap()[0].value,
        entry
    );

    let lent = Lease {
        hostname: Some(text.into()),
        client_id: Some(text.into()),
        ..lease(case)
    };
    db.save_lease(&lent).await.unwrap();
    let before = std::net::Ipv4Addr::from(case - 1);
    assert_eq!(db.leases(Some(before), 1).await.unwrap(), [lent]);

    db.set_value(text, text).await.unwrap();
    assert_eq!(db.value(text).await.unwrap().as_deref(), Some(text));

    let id = UserId(Uuid::from_u128(case.into()));
    let user = User {
        id,
        name: format!("{case} {text}"),
        password: Secret(text.into()),
        role: Role::Admin,
        disabled: false,
        created: NOW,
    };
    db.create_user(&user).await.unwrap();
    assert_eq!(db.user_by_name(&user.name).await.unwrap(), Some(user));
}
