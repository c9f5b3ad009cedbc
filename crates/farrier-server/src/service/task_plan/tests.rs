use farrier_engine::model::Disk;
use farrier_engine::task::DiskSelector;

use super::matching;

fn disk(serial: &str, size_bytes: u64, removable: bool) -> Disk {
    Disk {
        name: "sda".to_owned(),
        size_bytes,
        logical_sector: 512,
        physical_sector: 512,
        model: "ACME 9000".to_owned(),
        serial: serial.to_owned(),
        wwn: String::new(),
        bus: "sata".to_owned(),
        rotational: false,
        removable,
        table: None,
    }
}

#[test]
fn r18_a_disk_is_chosen_by_what_is_said_and_never_by_order() {
    let disks = [
        disk("A", 100, false),
        disk("B", 200, false),
        disk("C", 200, true),
    ];
    let count = |s: DiskSelector| matching(&disks, &s).len();
    assert_eq!(
        count(DiskSelector::default()),
        2,
        "removable disks do not count"
    );
    assert_eq!(
        count(DiskSelector {
            serial: Some("B".to_owned()),
            ..Default::default()
        }),
        1
    );
    assert_eq!(
        count(DiskSelector {
            min_bytes: Some(150),
            ..Default::default()
        }),
        1
    );
    assert_eq!(
        count(DiskSelector {
            min_bytes: Some(150),
            allow_removable: true,
            ..Default::default()
        }),
        2
    );
    assert_eq!(
        count(DiskSelector {
            model: Some("9000".to_owned()),
            bus: Some("nvme".to_owned()),
            ..Default::default()
        }),
        0
    );
}
