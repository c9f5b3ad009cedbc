use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, Xid};
use farrier_proto::wire::option;

use super::*;
use crate::policy::{MenuMode, Settings, UnknownMachine};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const NOW: WallTime = WallTime(1_000_000);

fn facts(mac: [u8; 6], class: &str, code: u16) -> BootFacts {
    let mut message = Message::request(Xid(1), MacAddr(mac));
    let options = &mut message.options;
    options.set(option::DHCP_MESSAGE_TYPE, [1]);
    options.set(option::VENDOR_CLASS_IDENTIFIER, class.as_bytes());
    options.set(option::CLIENT_SYSTEM_ARCHITECTURE, code.to_be_bytes());
    BootFacts::from_dhcp(&message).unwrap()
}

fn rom() -> BootFacts {
    facts([2, 0, 0, 0, 0, 1], "PXEClient:Arch:00000:UNDI:002001", 0)
}

fn shown(facts: &BootFacts, mode: MenuMode, default: MenuEntry) -> Option<RomMenu> {
    let snapshot = Snapshot {
        site: Settings {
            menu: Some(mode),
            default_entry: Some(default),
            unknown_machine: Some(UnknownMachine::Menu),
            rom_menu: Some(true),
            ..Settings::default()
        },
        ..Snapshot::default()
    };
    rom_menu(facts, &Known::default(), &snapshot, NOW)
}

#[test]
fn l11_a_rom_shows_what_its_loader_would_show() {
    assert_eq!(shown(&rom(), MenuMode::Never, MenuEntry::LocalDisk), None);
    let on_key = shown(&rom(), MenuMode::OnKey, MenuEntry::MemoryTest).unwrap();
    assert_eq!(on_key.prompt, Prompt::OnKey(3));
    assert_eq!(
        on_key.entries[0],
        MenuEntry::MemoryTest,
        "the default first"
    );
    assert_eq!(on_key.entries.len(), ITEMS.len());
    let always = shown(&rom(), MenuMode::Always, MenuEntry::LocalDisk).unwrap();
    assert_eq!(always.prompt, Prompt::Menu);
    let uefi = facts([2, 0, 0, 0, 0, 1], "PXEClient:Arch:00007:UNDI:003016", 7);
    assert_eq!(shown(&uefi, MenuMode::Always, MenuEntry::LocalDisk), None);
}

#[test]
fn pxe_2_1_2_2_2_the_menu_as_option_43() {
    let menu = shown(&rom(), MenuMode::OnKey, MenuEntry::LocalDisk).unwrap();
    let bytes = menu.options(SERVER).encode();
    assert!(bytes.len() <= 255, "{}", bytes.len());
    // Discovery control: unicast to the listed servers.
    assert_eq!(bytes[..3], [6, 1, 7]);
    let read = PxeVendorOptions::decode(&bytes).unwrap();
    let kinds: Vec<_> = read.boot_menu.iter().map(|item| item.kind.0).collect();
    assert_eq!(kinds, [0, 0xfa01, 0xfa02, 0xfa03]);
    assert_eq!(read.boot_menu[0].text, b"Start from the local disk");
    assert!(read.boot_servers.iter().all(|s| s.addresses == [SERVER]));
    assert_eq!(read.boot_servers.len(), 3, "nobody serves the local disk");
    let prompt = read.menu_prompt.unwrap();
    assert_eq!((prompt.timeout, &prompt.text[..7]), (3, &b"Farrier"[..]));
}

#[test]
fn pxe_2_1_a_menu_too_long_for_one_option_loses_its_last_entries() {
    let entries = [MenuEntry::Register].repeat(40);
    let menu = RomMenu {
        entries,
        prompt: Prompt::Menu,
    };
    let options = menu.options(SERVER);
    let bytes = options.encode();
    assert!(bytes.len() <= 255, "{}", bytes.len());
    assert_eq!(options.boot_menu.len(), options.boot_servers.len());
    assert!((5..10).contains(&options.boot_menu.len()));
    // One sub-option of each kind, since ROMs read no second one.
    let menus = PxeVendorOptions::decode(&bytes).unwrap().boot_menu.len();
    assert_eq!(menus, options.boot_menu.len());
}

#[test]
fn pxe_2_1_3_3_items_and_layers() {
    let item = |kind: u16, layer| BootItem {
        kind: BootServerType(kind),
        layer,
    };
    assert_eq!(picked(item(0xfa00, 0)), Ok(None));
    assert_eq!(picked(item(0xfa02, 0)), Ok(Some(MenuEntry::MemoryTest)));
    assert_eq!(picked(item(0xfa02, 1)), Err(Reason::NoBootLayer));
    assert_eq!(picked(item(0xfa02, 0x8000)), Err(Reason::NoBootCredentials));
    for other in [0, 1, 0x8000, 0xfa04, 0xffff] {
        let told = picked(item(other, 0));
        assert_eq!(told, Err(Reason::OtherBootServer), "{other:x}");
    }
    for entry in ITEMS.iter().map(|item| item.entry) {
        let kind = kind_of(entry);
        if kind != kind::LOCAL_DISK {
            assert_eq!(picked(item(kind.0, 0)), Ok(Some(entry)));
        }
    }
}

#[test]
fn a_raspberry_pi_gets_the_menu_its_rom_looks_for() {
    let rom = facts(
        [0xb8, 0x27, 0xeb, 1, 2, 3],
        "PXEClient:Arch:00000:UNDI:002001",
        0,
    );
    let bytes = device_menu(&rom).unwrap().encode();
    assert_eq!(bytes[..8], [6, 1, 8, 9, 23, 0, 0, 20]);
    assert_eq!(bytes[28..], [10, 4, 0, b'P', b'X', b'E', 255]);
    assert_eq!(device_menu(&facts([2; 6], "PXEClient", 0)), None);
}
