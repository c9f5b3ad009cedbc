use std::fs;

use farrier_proto::MacAddr;
use tempfile::TempDir;
use uuid::Uuid;

use super::{BootOption, BootVariables, EfiError, GLOBAL};
use crate::leave::EfiSystemPartition;

fn partition(guid: u128) -> EfiSystemPartition {
    EfiSystemPartition {
        number: 1,
        first_sector: 2048,
        sectors: 1000,
        guid: Uuid::from_u128(guid),
    }
}

fn put(folder: &TempDir, variable: &str, value: &[u8]) {
    let content = [&[7, 0, 0, 0], value].concat();
    fs::write(folder.path().join(format!("{variable}-{GLOBAL}")), content).unwrap();
}

fn value(folder: &TempDir, variable: &str) -> Option<Vec<u8>> {
    fs::read(folder.path().join(format!("{variable}-{GLOBAL}")))
        .ok()
        .map(|content| content[4..].to_vec())
}

const CARD: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 1]);

fn network() -> Vec<u8> {
    by_card(CARD, b'P', &[])
}

/// As edk2 writes it: the card's address, then what is spoken.
fn by_card(card: MacAddr, name: u8, protocols: &[(u8, u16)]) -> Vec<u8> {
    let mut path = vec![3, 11, 37, 0];
    path.extend_from_slice(&card.0);
    path.extend_from_slice(&[0; 27]);
    for (subkind, len) in protocols {
        path.extend_from_slice(&[3, *subkind]);
        path.extend_from_slice(&len.to_le_bytes());
        path.resize(path.len() + usize::from(*len) - 4, 0);
    }
    path.extend_from_slice(&[0x7f, 0xff, 4, 0]);
    let mut bytes = vec![1, 0, 0, 0];
    bytes.extend_from_slice(&u16::try_from(path.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&[name, 0, 0, 0]);
    bytes.extend_from_slice(&path);
    bytes
}

#[test]
fn t5_the_next_boot_is_from_the_network() {
    const IPV4: (u8, u16) = (12, 27);
    const IPV6: (u8, u16) = (13, 60);
    const URI: (u8, u16) = (24, 4);
    let other = MacAddr([2, 0, 0, 0, 0, 9]);
    let disk = BootOption::fallback_loader(&partition(5)).encode();
    // Entries, order, the one that started this boot; which one is next.
    let entries = [
        ("Boot0000", disk),
        ("Boot0001", by_card(other, b'o', &[IPV4])),
        ("Boot0002", by_card(CARD, b'6', &[IPV6])),
        ("Boot0003", by_card(CARD, b'h', &[IPV4, URI])),
        ("Boot0004", by_card(CARD, b'4', &[IPV4])),
    ];
    for (order, current, expected) in [
        (&[0, 0, 1, 0, 3, 0, 4, 0][..], None, Some((3, "h"))),
        (&[0, 0, 1, 0, 3, 0, 4, 0], Some(&[2, 0]), Some((2, "6"))),
        (&[0, 0], Some(&[0, 0]), Some((4, "4"))),
        (&[], None, Some((4, "4"))),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in &entries {
            put(&folder, name, value);
        }
        put(&folder, "BootOrder", order);
        if let Some(current) = current {
            put(&folder, "BootCurrent", current);
        }
        let said = BootVariables::open(folder.path())
            .start_next_from_network(CARD)
            .ok();
        assert_eq!(
            said.as_deref(),
            expected.map(|(_, name)| name),
            "{order:?} {current:?}"
        );
        assert_eq!(
            value(&folder, "BootNext"),
            expected.map(|(number, _)| vec![number, 0])
        );
        assert_eq!(value(&folder, "BootOrder").as_deref(), Some(order));
    }
}

#[test]
fn t5_a_card_without_an_entry_is_told() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "Boot0000", &network());
    let other = MacAddr([2, 0, 0, 0, 0, 9]);
    let error = BootVariables::open(folder.path())
        .start_next_from_network(other)
        .unwrap_err();
    assert!(error.to_string().contains("02:00:00:00:00:09"), "{error}");
    assert_eq!(value(&folder, "BootNext"), None);
}

#[test]
fn t11_an_existing_entry_of_the_disk_is_next() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "Boot0001", &network());
    put(
        &folder,
        "Boot000A",
        &BootOption::fallback_loader(&partition(5)).encode(),
    );
    put(&folder, "BootOrder", &[1, 0, 10, 0]);
    let said = BootVariables::open(folder.path())
        .start_next_from_disk(Some(partition(5)))
        .unwrap();
    assert_eq!(said, "Local disk (Farrier)");
    assert_eq!(value(&folder, "BootNext"), Some(vec![10, 0]));
    assert_eq!(value(&folder, "BootOrder"), Some(vec![1, 0, 10, 0]));
}

#[test]
fn t11_a_new_disk_gets_an_entry_behind_the_network() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "Boot0000", &network());
    put(&folder, "BootOrder", &[0, 0]);
    BootVariables::open(folder.path())
        .start_next_from_disk(Some(partition(9)))
        .unwrap();
    let made = BootOption::decode(&value(&folder, "Boot0001").unwrap()).unwrap();
    assert_eq!(made.partition(), Some(Uuid::from_u128(9)));
    assert_eq!(value(&folder, "BootOrder"), Some(vec![0, 0, 1, 0]));
    assert_eq!(value(&folder, "BootNext"), Some(vec![1, 0]));
}

#[test]
fn without_a_disk_of_ours_the_firmwares_order_decides() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "Boot0000", &network());
    put(
        &folder,
        "Boot0002",
        &BootOption::fallback_loader(&partition(2)).encode(),
    );
    put(
        &folder,
        "Boot0003",
        &BootOption::fallback_loader(&partition(3)).encode(),
    );
    put(&folder, "BootOrder", &[0, 0, 3, 0, 2, 0]);
    BootVariables::open(folder.path())
        .start_next_from_disk(None)
        .unwrap();
    assert_eq!(value(&folder, "BootNext"), Some(vec![3, 0]));
}

#[test]
fn a_machine_without_disk_entries_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "Boot0000", &network());
    put(&folder, "BootOrder", &[0, 0]);
    let error = BootVariables::open(folder.path())
        .start_next_from_disk(None)
        .unwrap_err();
    assert!(matches!(error, EfiError::NoDisk));
    assert_eq!(value(&folder, "BootNext"), None);
}
