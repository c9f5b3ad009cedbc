use super::*;

#[test]
fn rfc1123_2_1_host_names() {
    let label = "x".repeat(63);
    let longest = [label.as_str(); 3].join(".") + "." + &"y".repeat(61);
    for good in ["pc17", "PC-17.lab.example", "3com", "a", &label, &longest] {
        assert_eq!(HostName::try_from(good.to_owned()).unwrap().as_str(), good);
    }
    let long_label = "x".repeat(64);
    let too_long = longest.clone() + "z";
    for bad in [
        "",
        ".",
        "a..b",
        "a.",
        "-a",
        "a-",
        "a b",
        "a\nb",
        "a||b",
        "${a}",
        "ü",
        "a_b",
        &long_label,
        &too_long,
    ] {
        assert_eq!(
            HostName::try_from(bad.to_owned()),
            Err(HostNameError),
            "{bad:?}"
        );
    }
    assert!(
        serde_json::from_str::<HostName>("\"a b\"").is_err(),
        "stored ones are checked too"
    );
}

#[test]
fn a_machine_survives_storage() {
    let machine = Machine {
        id: MachineId(Uuid::from_u128(1)),
        name: Some(HostName::try_from("pc-17".to_owned()).unwrap()),
        registration: Registration::Approved,
        macs: vec![MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])],
        uuid: Some(Uuid::from_u128(7)),
        firmware: Some(FirmwareKind::Uefi),
        arch: Some(Arch::X86_64),
        group: Some(ShortName::try_from("lab".to_owned()).unwrap()),
        settings: Settings::default(),
        intent: None,
        learned: None,
        inventory: Some(Inventory {
            nics: vec![Nic {
                name: "eth0".into(),
                mac: MacText(MacAddr([2, 0, 0, 0, 0, 1])),
                pci_id: "8086:100e".into(),
                driver: "e1000".into(),
                link_up: true,
                boot: true,
            }],
            ..Inventory::default()
        }),
        first_seen: WallTime(1),
        last_seen: WallTime(2),
        revision: 3,
    };
    let json = serde_json::to_value(&machine).unwrap();
    assert_eq!(json["macs"][1], "02:00:00:00:00:02");
    assert_eq!(json["arch"], "x86_64");
    assert_eq!(serde_json::from_value::<Machine>(json).unwrap(), machine);
}

#[test]
fn an_inventory_of_an_older_agent_is_read() {
    let inventory: Inventory = serde_json::from_str(r#"{"uefi":true,"later_field":1}"#).unwrap();
    assert!(inventory.uefi && inventory.disks.is_empty());
}

#[test]
fn ids_are_plain_uuids() {
    let text = "0190a5b0-7c1e-7000-8000-000000000001";
    let id: MachineId = text.parse().unwrap();
    assert_eq!(
        (id.to_string(), format!("{id:?}")),
        (text.to_owned(), text.to_owned())
    );
    assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
    assert!("17".parse::<TaskId>().is_err());
}

#[test]
fn architectures_are_shown_as_they_are_stored() {
    use Arch::{Arm32, Arm64, Ia32, Ppc64, RiscV64, S390x, X86_64};
    for arch in [
        Arm32,
        Arm64,
        Ia32,
        Arch::LoongArch64,
        Ppc64,
        RiscV64,
        S390x,
        X86_64,
    ] {
        let stored = serde_json::to_string(&arch).unwrap();
        assert_eq!(stored, format!("\"{arch}\""));
    }
}

#[test]
fn roles_are_ordered_by_power() {
    assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
}
