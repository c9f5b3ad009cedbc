use farrier_db::{BootToken, Db, DbError, MachineQuery, TokenHash};
use farrier_engine::model::{
    Arch, Disk, FirmwareKind, HostName, Inventory, MacText, Machine, Nic, Registration, SystemInfo,
};
use farrier_engine::policy::{MenuMode, Settings};
use farrier_engine::timeline::{Entry, Kind};
use uuid::Uuid;

use super::{NOW, mac, machine, machine_id, stored_machine, task};

fn name(text: &str) -> Option<HostName> {
    Some(HostName::try_from(text.to_owned()).unwrap())
}

fn full_machine() -> Machine {
    Machine {
        name: name("Lab-07.example"),
        registration: Registration::Approved,
        macs: vec![mac(2), mac(1)],
        uuid: Some(Uuid::from_u128(77)),
        firmware: Some(FirmwareKind::Uefi),
        arch: Some(Arch::X86_64),
        group: Some("lab".to_owned().try_into().unwrap()),
        intent: Some(farrier_engine::policy::BootIntent {
            entry: farrier_engine::policy::MenuEntry::MemoryTest,
            boots_left: 3,
            expires: farrier_engine::WallTime(99),
            until: farrier_engine::policy::Until::Inventoried,
            set_at: farrier_engine::WallTime(7),
            set_by: "ada".to_owned(),
            counted: None,
        }),
        settings: Settings {
            menu: Some(MenuMode::OnKey),
            menu_timeout_s: Some(7),
            ..Settings::default()
        },
        inventory: Some(Inventory {
            system: SystemInfo {
                manufacturer: "Ächt & Söhne".into(),
                serial: "SN-4711".into(),
                ..SystemInfo::default()
            },
            memory_bytes: 1 << 34,
            nics: vec![Nic {
                name: "eth0".into(),
                mac: MacText(mac(2)),
                pci_id: "8086:100e".into(),
                driver: "e1000".into(),
                link_up: true,
                boot: true,
            }],
            disks: vec![Disk {
                name: "nvme0n1".into(),
                size_bytes: u64::MAX,
                logical_sector: 512,
                physical_sector: 4096,
                model: "M".into(),
                serial: "S".into(),
                wwn: String::new(),
                bus: "nvme".into(),
                rotational: false,
                removable: false,
                table: Some("gpt".into()),
            }],
            secure_boot: Some(false),
            ..Inventory::default()
        }),
        ..machine(1)
    }
}

pub(crate) async fn a_machine_comes_back_equal(db: &Db) {
    let stored = db.create_machine(&full_machine()).await.unwrap();
    assert_eq!(
        stored,
        Machine {
            revision: 1,
            ..full_machine()
        }
    );
    assert_eq!(db.machine(stored.id).await.unwrap(), Some(stored.clone()));

    let changed = Machine {
        registration: Registration::Disabled,
        macs: vec![mac(9)],
        inventory: None,
        ..stored
    };
    let stored = db.update_machine(&changed).await.unwrap();
    assert_eq!(
        stored,
        Machine {
            revision: 2,
            ..changed
        }
    );
    assert_eq!(db.machine(stored.id).await.unwrap(), Some(stored));
    assert_eq!(db.machine(machine_id(2)).await.unwrap(), None);
}

pub(crate) async fn a_machine_is_found_by_address_uuid_and_name(db: &Db) {
    let stored = db.create_machine(&full_machine()).await.unwrap();
    stored_machine(db, 2).await;
    let only = vec![stored.clone()];
    assert_eq!(db.machines_by_mac(mac(1)).await.unwrap(), only);
    assert_eq!(db.machines_by_mac(mac(2)).await.unwrap(), only);
    assert_eq!(db.machines_by_mac(mac(3)).await.unwrap(), []);
    assert_eq!(
        db.machines_by_macs(&[mac(1), mac(2), mac(3)])
            .await
            .unwrap(),
        only
    );
    assert_eq!(
        db.machines_by_uuid(Uuid::from_u128(77)).await.unwrap(),
        only
    );
    assert_eq!(db.machines_by_uuid(Uuid::from_u128(78)).await.unwrap(), []);
    assert_eq!(
        db.machine_by_name("lab-07.EXAMPLE").await.unwrap(),
        Some(stored.clone())
    );
    assert_eq!(db.machine_by_name("lab-07").await.unwrap(), None);

    db.update_machine(&Machine {
        macs: vec![mac(3)],
        uuid: None,
        name: None,
        ..stored
    })
    .await
    .unwrap();
    assert_eq!(db.machines_by_mac(mac(1)).await.unwrap(), []);
    assert_eq!(db.machines_by_mac(mac(3)).await.unwrap().len(), 1);
    assert_eq!(db.machines_by_uuid(Uuid::from_u128(77)).await.unwrap(), []);
    assert_eq!(db.machine_by_name("lab-07.example").await.unwrap(), None);
}

pub(crate) async fn an_address_may_be_shared(db: &Db) {
    for n in [2, 1] {
        db.create_machine(&Machine {
            macs: vec![mac(5), mac(5)],
            uuid: Some(Uuid::nil()),
            ..machine(n)
        })
        .await
        .unwrap();
    }
    let by_mac: Vec<_> = db
        .machines_by_mac(mac(5))
        .await
        .unwrap()
        .iter()
        .map(|m| m.id)
        .collect();
    assert_eq!(by_mac, [machine_id(1), machine_id(2)]);
    assert_eq!(db.machines_by_uuid(Uuid::nil()).await.unwrap().len(), 2);
}

pub(crate) async fn a_stale_change_is_refused(db: &Db) {
    let read = stored_machine(db, 1).await;
    let mine = Machine {
        name: name("mine"),
        ..read.clone()
    };
    let theirs = Machine {
        name: name("theirs"),
        ..read.clone()
    };
    let mine = db.update_machine(&mine).await.unwrap();
    let refused = db.update_machine(&theirs).await.unwrap_err();
    assert!(matches!(&refused, DbError::Conflict { .. }), "{refused}");
    assert!(!refused.retry_helps());
    assert_eq!(db.machine(read.id).await.unwrap(), Some(mine));

    let missing = db.update_machine(&machine(2)).await.unwrap_err();
    assert!(matches!(missing, DbError::Missing { .. }), "{missing}");
}

pub(crate) async fn a_name_is_given_once(db: &Db) {
    db.create_machine(&Machine {
        name: name("one"),
        ..machine(1)
    })
    .await
    .unwrap();
    let taken = db
        .create_machine(&Machine {
            name: name("ONE"),
            ..machine(2)
        })
        .await
        .unwrap_err();
    assert!(matches!(&taken, DbError::Taken { .. }), "{taken}");
    assert!(taken.to_string().contains("ONE"), "{taken}");
    let other = stored_machine(db, 3).await;
    let taken = db
        .update_machine(&Machine {
            name: name("one"),
            ..other
        })
        .await
        .unwrap_err();
    assert!(matches!(taken, DbError::Taken { .. }), "{taken}");
    assert_eq!(
        db.count_machines(&MachineQuery::default()).await.unwrap(),
        2
    );
}

pub(crate) async fn pages_and_counts_agree(db: &Db) {
    for n in 1..=25 {
        let registration = if n % 5 == 0 {
            Registration::Approved
        } else {
            Registration::Seen
        };
        let named = Machine {
            name: name(&format!("pc-{n}")),
            registration,
            ..machine(n)
        };
        db.create_machine(&named).await.unwrap();
    }
    for (search, registration, expected) in [
        (None, None, 25),
        (Some("PC-2"), None, 7),
        (Some("pc-2"), Some(Registration::Approved), 2),
        (None, Some(Registration::Approved), 5),
        (Some("%"), None, 0),
        (Some("_"), None, 0),
        (Some("' OR 1=1 --"), None, 0),
        (Some(""), None, 25),
    ] {
        let query = MachineQuery {
            search: search.map(Into::into),
            registration,
        };
        let mut seen = Vec::new();
        loop {
            let page = db.machines(&query, seen.last().copied(), 4).await.unwrap();
            assert!(page.len() <= 4);
            if page.is_empty() {
                break;
            }
            seen.extend(page.iter().map(|m| m.id));
        }
        assert!(seen.is_sorted(), "{query:?}");
        assert_eq!(seen.len(), expected, "{query:?}");
        assert_eq!(
            db.count_machines(&query).await.unwrap(),
            expected as u64,
            "{query:?}"
        );
    }
    db.create_machine(&Machine {
        name: name("zz"),
        ..full_machine_with_id(99)
    })
    .await
    .unwrap();
    for search in [
        "sn-4711",
        "ächt",
        "52:54:00:00:00:02",
        "00000000-0000-0000-0000-00000000004d",
    ] {
        let query = MachineQuery {
            search: Some(search.into()),
            registration: None,
        };
        assert_eq!(db.count_machines(&query).await.unwrap(), 1, "{search}");
    }
}

fn full_machine_with_id(n: u128) -> Machine {
    Machine {
        id: machine_id(n),
        ..full_machine()
    }
}

pub(crate) async fn deleting_takes_along_what_hangs_on_it(db: &Db) {
    let stored = db.create_machine(&full_machine()).await.unwrap();
    let task = db.create_task(&task(1, stored.id)).await.unwrap();
    let entry = Entry {
        machine: stored.id,
        at: NOW,
        kind: Kind::Seen,
        text: "Seen.".into(),
        details: vec![],
    };
    db.append_timeline(&[entry]).await.unwrap();
    let token = BootToken {
        hash: TokenHash([1; 32]),
        machine: stored.id,
        task: Some(task.id),
        intent: "inventory".into(),
        created: NOW,
        expires: NOW + std::time::Duration::from_secs(60),
    };
    db.create_boot_token(&token).await.unwrap();

    assert!(db.delete_machine(stored.id).await.unwrap());
    assert!(!db.delete_machine(stored.id).await.unwrap());
    assert_eq!(db.machines_by_mac(mac(1)).await.unwrap(), []);
    assert_eq!(db.task(task.id).await.unwrap(), None);
    assert_eq!(db.latest_timeline(None, 10).await.unwrap(), []);
    assert_eq!(
        db.redeem_boot_token(token.hash, NOW).await.unwrap(),
        farrier_db::Redeemed::Unknown
    );
    db.create_machine(&full_machine()).await.unwrap();
}

pub(crate) async fn all_of_them_are_handed_over_at_a_start(db: &Db) {
    let mut stored = Vec::new();
    for n in 1..=600 {
        let mut new = machine(n);
        // What separates rows on their way must be harmless inside of them.
        new.inventory = (n % 7 == 0).then(|| Inventory {
            tpm: Some(format!("a\u{1e}b\n{n} \u{0}\"")),
            ..Inventory::default()
        });
        stored.push(db.create_machine(&new).await.unwrap());
    }
    stored[4] = db.update_machine(&stored[4]).await.unwrap();
    assert!(db.delete_machine(stored[9].id).await.unwrap());
    stored.remove(9);
    let mut found = Vec::new();
    db.all_machines(|stored| found.push(stored.whole()))
        .await
        .unwrap();
    assert_eq!(found, stored);
    assert_eq!(db.machine_total().await.unwrap(), 599);
}
