//! Menus, their default entries, and entries that want a code.

use super::*;

#[test]
fn menu_modes_and_default_entries() {
    let approved = machine(Registration::Approved);
    let known = Known {
        machine: Some(&approved),
        ..Known::default()
    };
    let decide = |menu, entry| {
        let site = Settings {
            menu: Some(menu),
            default_entry: Some(entry),
            ..Settings::default()
        };
        decide_script(
            &script("efi", "x86_64", "1"),
            None,
            &known,
            &Snapshot { site, ..snapshot() },
            NOW,
        )
        .action
    };
    assert_eq!(
        decide(MenuMode::Never, MenuEntry::LocalDisk),
        ScriptAction::LocalDisk(local())
    );
    assert_eq!(
        decide(MenuMode::Never, MenuEntry::MemoryTest),
        ScriptAction::MemoryTest(file("memtest"))
    );
    for (mode, expected) in [(MenuMode::Always, false), (MenuMode::OnKey, true)] {
        let ScriptAction::Menu {
            on_key, default, ..
        } = decide(mode, MenuEntry::MemoryTest)
        else {
            panic!()
        };
        assert_eq!((on_key, default), (expected, MenuEntry::MemoryTest));
    }
}

#[test]
fn locked_entries_want_a_code() {
    let approved = machine(Registration::Approved);
    let facts = script("pcbios", "i386", "1.21.1");
    let decide = |site: &Settings, choice, code| {
        let known = Known {
            machine: Some(&approved),
            code,
            ..Known::default()
        };
        let snapshot = Snapshot {
            site: site.clone(),
            ..snapshot()
        };
        decide_script(&facts, Some(choice), &known, &snapshot, NOW).action
    };
    let locked = Settings {
        menu_code: Some(true),
        ..Settings::default()
    };
    let default_is_free = Settings {
        default_entry: Some(MenuEntry::Register),
        ..locked.clone()
    };
    let asks = |site, choice, code| match decide(site, choice, code) {
        ScriptAction::AskCode { entry, again, .. } => {
            assert_eq!(entry, choice);
            Some(again)
        }
        _ => None,
    };
    for (site, choice, code, expected) in [
        (
            &locked,
            MenuEntry::Register,
            MenuCode::NotGiven,
            Some(false),
        ),
        (&locked, MenuEntry::Diagnostics, MenuCode::Wrong, Some(true)),
        (&locked, MenuEntry::Register, MenuCode::Right, None),
        (&locked, MenuEntry::LocalDisk, MenuCode::NotGiven, None),
        (
            &default_is_free,
            MenuEntry::Register,
            MenuCode::NotGiven,
            None,
        ),
        (
            &Settings::default(),
            MenuEntry::Register,
            MenuCode::NotGiven,
            None,
        ),
    ] {
        assert_eq!(asks(site, choice, code), expected, "{choice:?} {code:?}");
    }
}
