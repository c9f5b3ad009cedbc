use farrier_engine::model::{
    Inventory, MacText, Machine, MachineId, Nic, Registration, SystemInfo,
};
use farrier_engine::policy::Settings;
use farrier_engine::{MacAddr, WallTime};
use uuid::Uuid;

use super::StoredMachine;
use crate::{Db, Options};

async fn opened(folder: &tempfile::TempDir) -> Db {
    let file = folder.path().join("farrier.db");
    Db::open(&file, Options::default()).await.unwrap()
}

fn machine(n: u8, product: &str) -> Machine {
    let mac = MacAddr([2, 0, 0, 0, 0, n]);
    Machine {
        id: MachineId(Uuid::from_u128(n.into())),
        name: None,
        registration: Registration::Approved,
        macs: vec![mac],
        uuid: None,
        firmware: None,
        arch: None,
        group: None,
        settings: Settings::default(),
        intent: None,
        learned: None,
        inventory: Some(Inventory {
            system: SystemInfo {
                product: product.to_owned(),
                serial: format!("PF{n:06}"),
                ..SystemInfo::default()
            },
            memory_bytes: (16 << 30) - u64::from(n) * 4096,
            nics: vec![Nic {
                name: "eth0".to_owned(),
                mac: MacText(mac),
                pci_id: "8086:15fb".to_owned(),
                driver: "e1000e".to_owned(),
                link_up: true,
                boot: true,
            }],
            ..Inventory::default()
        }),
        first_seen: WallTime(0),
        last_seen: WallTime(0),
        revision: 1,
    }
}

async fn models(db: &Db) -> Vec<String> {
    let found: Vec<(String,)> =
        sqlx::query_as("SELECT json_extract(doc, '$.system.product') FROM model ORDER BY 1")
            .fetch_all(&db.readers)
            .await
            .unwrap();
    found.into_iter().map(|(product,)| product).collect()
}

#[tokio::test]
async fn a_model_is_kept_once_and_goes_with_its_last_machine() {
    let folder = tempfile::tempdir().unwrap();
    let db = opened(&folder).await;
    for n in 1..=3 {
        db.create_machine(&machine(n, "20XW")).await.unwrap();
    }
    assert_eq!(models(&db).await, ["20XW"]);
    let changed = machine(3, "11DB");
    let changed = db.update_machine(&changed).await.unwrap();
    assert_eq!(models(&db).await, ["11DB", "20XW"]);

    let refused = db.update_machine(&machine(3, "lost")).await;
    assert!(refused.is_err(), "somebody else changed it");
    assert_eq!(models(&db).await, ["11DB", "20XW"]);

    let without = Machine {
        inventory: None,
        ..changed
    };
    db.update_machine(&without).await.unwrap();
    assert_eq!(models(&db).await, ["20XW"]);
    for n in 1..=2 {
        let id = machine(n, "20XW").id;
        assert_eq!(db.machine(id).await.unwrap(), Some(machine(n, "20XW")));
        db.delete_machine(id).await.unwrap();
    }
    assert_eq!(models(&db).await, [""; 0]);
}

/// As versions without models wrote it.
#[tokio::test]
async fn an_inventory_in_the_document_is_read_and_moves_with_the_next_change() {
    let folder = tempfile::tempdir().unwrap();
    let db = opened(&folder).await;
    let old = db.create_machine(&machine(1, "20XW")).await.unwrap();
    let doc = serde_json::to_string(&old).unwrap();
    let rewritten = db.write(move |conn| {
        Box::pin(async move {
            let update = sqlx::query("UPDATE machine SET doc = ?1, model = NULL, marks = NULL");
            update.bind(doc).execute(conn).await.unwrap();
            Ok(())
        })
    });
    rewritten.await.unwrap();
    assert_eq!(models(&db).await, [""; 0]);

    assert_eq!(db.machine(old.id).await.unwrap(), Some(old.clone()));
    let mut all = Vec::new();
    db.all_machines(|stored| all.push(stored)).await.unwrap();
    assert_eq!(all, [StoredMachine::from(old.clone())]);
    assert_eq!(all.remove(0).whole(), old);

    db.update_machine(&old).await.unwrap();
    assert_eq!(models(&db).await, ["20XW"]);
}
