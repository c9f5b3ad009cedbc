use super::*;
use crate::WallTime;
use crate::model::{Registration, SystemInfo};

const UUID_A: u128 = 0x4c4c_4544_0035_3910_8051_b4c0_4f4b_4e32;
const UUID_B: u128 = 0x4c4c_4544_0035_3910_8051_b4c0_4f4b_4e33;

fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, last])
}

fn machine(id: u128, uuid: Option<u128>, serial: &str, macs: &[u8]) -> Machine {
    Machine {
        id: MachineId(Uuid::from_u128(id)),
        name: None,
        registration: Registration::Approved,
        macs: macs.iter().copied().map(mac).collect(),
        uuid: uuid.map(Uuid::from_u128),
        firmware: None,
        arch: None,
        group: None,
        intent: None,
        learned: None,
        settings: Default::default(),
        inventory: Some(Inventory {
            system: SystemInfo {
                serial: serial.into(),
                ..SystemInfo::default()
            },
            ..Inventory::default()
        }),
        first_seen: WallTime(0),
        last_seen: WallTime(0),
        revision: 1,
    }
}

fn shown(uuid: Option<u128>, serial: &str, macs: &[u8]) -> Evidence {
    Evidence {
        uuid: uuid.map(Uuid::from_u128),
        serial: Some(serial.into()),
        board_serial: None,
        macs: macs.iter().copied().map(mac).collect(),
    }
}

#[derive(Debug)]
enum Expect {
    Match(u128),
    New,
    Conflict,
}

#[test]
fn whose_it_is() {
    use Expect::{Conflict, Match, New};
    let twin = u128::from_be_bytes(swap_smbios_order(UUID_A.to_be_bytes()));
    let zero = Some(0);
    let rows: Vec<(&str, Evidence, Vec<Machine>, Expect)> = vec![
        (
            "nobody known",
            shown(Some(UUID_A), "ABC123", &[1]),
            vec![],
            New,
        ),
        (
            "address only",
            shown(None, "", &[1]),
            vec![machine(1, None, "", &[1])],
            Match(1),
        ),
        (
            "all fits",
            shown(Some(UUID_A), "ABC123", &[1]),
            vec![machine(1, Some(UUID_A), "ABC123", &[1])],
            Match(1),
        ),
        (
            "new network card",
            shown(Some(UUID_A), "ABC123", &[9]),
            vec![machine(1, Some(UUID_A), "ABC123", &[1])],
            Match(1),
        ),
        (
            "UUID in the other order (T7)",
            shown(Some(twin), "", &[9]),
            vec![machine(1, Some(UUID_A), "", &[1])],
            Match(1),
        ),
        (
            "new board, same serial and card",
            shown(Some(UUID_B), "ABC123", &[1]),
            vec![machine(1, Some(UUID_A), "ABC123", &[1])],
            Match(1),
        ),
        (
            "two machines, one address (R9)",
            shown(Some(UUID_B), "", &[1]),
            vec![machine(1, Some(UUID_A), "", &[1])],
            Conflict,
        ),
        (
            "constant UUID, other address (R9)",
            shown(zero, "", &[2]),
            vec![machine(1, zero, "", &[1])],
            New,
        ),
        (
            "cloned UUID, other serial",
            shown(Some(UUID_A), "XYZ789", &[2]),
            vec![machine(1, Some(UUID_A), "ABC123", &[1])],
            Conflict,
        ),
        (
            "a dock that two laptops have used",
            shown(Some(UUID_B), "", &[7]),
            vec![
                machine(1, Some(UUID_A), "", &[1, 7]),
                machine(2, Some(UUID_B), "", &[2, 7]),
            ],
            Match(2),
        ),
        (
            "the dock says nothing by itself",
            shown(None, "", &[7]),
            vec![
                machine(1, Some(UUID_A), "", &[1, 7]),
                machine(2, Some(UUID_B), "", &[2, 7]),
            ],
            New,
        ),
        (
            "two machines of one UUID, told by their cards",
            shown(Some(UUID_A), "", &[2]),
            vec![
                machine(1, Some(UUID_A), "", &[1]),
                machine(2, Some(UUID_A), "", &[2]),
            ],
            Match(2),
        ),
        (
            "two machines of one UUID, a third card",
            shown(Some(UUID_A), "", &[3]),
            vec![
                machine(1, Some(UUID_A), "", &[1]),
                machine(2, Some(UUID_A), "", &[2]),
            ],
            Conflict,
        ),
        (
            "placeholder serials say nothing",
            shown(None, "To be filled by O.E.M.", &[2]),
            vec![machine(1, None, "To be filled by O.E.M.", &[1])],
            New,
        ),
        (
            "the card of one machine with the UUID of another",
            shown(Some(UUID_A), "", &[2]),
            vec![
                machine(1, Some(UUID_A), "", &[1]),
                machine(2, Some(UUID_B), "", &[2]),
            ],
            Match(1),
        ),
    ];
    for (name, evidence, machines, expected) in rows {
        let identity = identify(&evidence, &machines);
        let fits = match (&identity, &expected) {
            (Identity::Match { machine, .. }, Match(id)) => machine.0.as_u128() == *id,
            (Identity::New, New) | (Identity::Conflict { .. }, Conflict) => true,
            _ => false,
        };
        assert!(fits, "{name}: {identity:?}, expected {expected:?}");
    }
}

#[test]
fn t9_the_address_all_u_boots_share_is_no_evidence() {
    let shared = MacAddr([0x52; 6]);
    let known = Machine {
        macs: vec![shared],
        ..machine(1, None, "", &[])
    };
    let evidence = Evidence {
        macs: vec![shared],
        ..Evidence::default()
    };
    assert_eq!(identify(&evidence, [&known]), Identity::New);
}

#[test]
fn a_conflict_says_why() {
    let known = machine(1, Some(UUID_A), "", &[1]);
    let Identity::Conflict { machines, why } = identify(&shown(Some(UUID_B), "", &[1]), [&known])
    else {
        panic!()
    };
    assert_eq!(machines, [known.id]);
    assert_eq!(why, "the UUID differs, a hardware address fits");
}

#[test]
fn the_order_of_machines_does_not_matter() {
    let a = machine(1, Some(UUID_A), "ABC123", &[1]);
    let b = machine(2, Some(UUID_A), "", &[2]);
    let evidence = shown(Some(UUID_A), "ABC123", &[1]);
    assert_eq!(identify(&evidence, [&a, &b]), identify(&evidence, [&b, &a]));
}
