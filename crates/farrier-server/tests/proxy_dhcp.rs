//! ProxyDHCP and the boot server, packet by packet: ways of offering, their change, what is remembered.

mod site;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use farrier_engine::Reason;
use farrier_engine::model::FirmwareKind;
use farrier_engine::policy::{MenuMode, Settings, UnknownMachine};
use farrier_engine::rom_menu::kind;
use farrier_engine::strategy::{Strategy, StrategyChoice};
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType};
use farrier_proto::wire::option;
use farrier_proto::wire::pxe::{BootItem, BootServerType, PxeVendorOptions};
use farrier_server::boot::{BootPort, Outcome};
use farrier_server::config::Mode;
use tokio::time::sleep;

use site::dhcp::{BIOS, UEFI, question};
use site::{Site, add_ipxe};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x71]);
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 1);
const DIAGNOSTICS: &str = "what the server decides for this machine";

async fn opened(data: &std::path::Path, more: &str) -> Site {
    let site = Site::configured(data, more).await;
    add_ipxe(&site.core);
    site
}

async fn said(port: &BootPort, message: &Message, source: Ipv4Addr) -> Outcome {
    let client = if port.port == 67 { 68 } else { 4011 };
    let source = SocketAddrV4::new(source, client);
    port.handle(&message.encode(), source).await
}

async fn reply(port: &BootPort, message: &Message) -> Message {
    match said(port, message, Ipv4Addr::UNSPECIFIED).await {
        Outcome::Reply { reply, .. } => reply,
        Outcome::Ignore(reason) => panic!("no reply: {}", reason.sentence()),
    }
}

/// By its options alone, as a client tells them apart.
fn way(offer: &Message) -> Strategy {
    match offer.options.get(option::VENDOR_SPECIFIC_INFORMATION) {
        Some(_) if offer.yiaddr.is_unspecified() => Strategy::C,
        None if offer.yiaddr.is_unspecified() => Strategy::B,
        _ => Strategy::D,
    }
}

fn stranger_story(site: &Site) -> Vec<String> {
    let story = site.core.sightings.take(MAC);
    story
        .into_iter()
        .map(|entry| entry.text.into_owned())
        .collect()
}

#[tokio::test]
async fn z4_firmware_that_does_not_act_on_an_offer_gets_another_one_and_it_is_remembered() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "").await;
    let dhcp = site.boot_port(67, Mode::Proxy).await;
    let discover = question(MessageType::Discover, MAC, UEFI);
    for pause in [5, 5, 2] {
        assert_eq!(way(&reply(&dhcp, &discover).await), Strategy::B);
        sleep(Duration::from_secs(pause)).await;
    }
    assert_eq!(way(&reply(&dhcp, &discover).await), Strategy::C);
    let told = stranger_story(&site).join("\n");
    assert!(
        told.contains("3 offers within 12 s") && told.contains("changed from B to C"),
        "{told}"
    );

    // It loads iPXE now, which asks for its script.
    let mut ipxe = question(MessageType::Discover, MAC, UEFI);
    ipxe.options.set(option::USER_CLASS, "iPXE");
    reply(&dhcp, &ipxe).await;
    site.script(&MAC.to_string()).await;
    let machine = site.core.fleet.candidates(&[MAC], None).remove(0);
    assert_eq!(machine.learned.unwrap().strategy, Strategy::C);
    let id = machine.id;
    drop((dhcp, machine));

    // Also by a server that was killed, and not for another kind of firmware.
    site.kill().await;
    let site = opened(data.path(), "").await;
    let dhcp = site.boot_port(67, Mode::Proxy).await;
    assert_eq!(way(&reply(&dhcp, &discover).await), Strategy::C);
    let machine = site.core.fleet.machine(id).unwrap();
    assert_eq!(machine.learned_strategy(Some(FirmwareKind::Bios)), None);
}

#[tokio::test]
async fn z4_a_pinned_way_is_used_and_an_address_of_ours_is_one() {
    let data = tempfile::tempdir().unwrap();
    let pool = "[[subnet]]\nnetwork = \"127.0.0.0/24\"\npools = [\"127.0.0.50-127.0.0.60\"]\n";
    let site = opened(data.path(), pool).await;
    let dhcp = site.boot_port(67, Mode::Proxy).await;
    for (choice, firmware, expected) in [
        (StrategyChoice::Auto, UEFI, Strategy::B),
        (StrategyChoice::C, UEFI, Strategy::C),
        (StrategyChoice::D, UEFI, Strategy::D),
        (StrategyChoice::Auto, BIOS, Strategy::C),
        (StrategyChoice::B, BIOS, Strategy::B),
    ] {
        let settings = Settings {
            strategy: Some(choice),
            ..Settings::default()
        };
        site.core.set_site(settings).await.unwrap();
        site.core.strategies.forget(&[MAC]);
        let offer = reply(&dhcp, &question(MessageType::Discover, MAC, firmware)).await;
        assert_eq!(way(&offer), expected, "{choice:?}");
        if expected != Strategy::D {
            continue;
        }
        // The lease is taken from us, and the file comes with the acknowledgement.
        let mut request = question(MessageType::Request, MAC, firmware);
        let options = &mut request.options;
        options.set(option::REQUESTED_IP_ADDRESS, offer.yiaddr.octets());
        options.set(option::SERVER_IDENTIFIER, Ipv4Addr::LOCALHOST.octets());
        let ack = reply(&dhcp, &request).await;
        assert_eq!((ack.yiaddr, &ack.file), (offer.yiaddr, &offer.file));
        assert!(ack.file.ends_with(b"snponly.efi"), "{ack:?}");
    }
}

#[tokio::test]
async fn z5_who_comes_to_port_4011_acted_on_the_offer() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "").await;
    let dhcp = site.boot_port(67, Mode::Proxy).await;
    let boot_server = site.boot_port(4011, Mode::Proxy).await;
    let discover = question(MessageType::Discover, MAC, UEFI);
    let mut asks = question(MessageType::Request, MAC, UEFI);
    asks.ciaddr = CLIENT;
    // Firmware that starts over each time, but understands us.
    for _ in 0..4 {
        assert_eq!(way(&reply(&dhcp, &discover).await), Strategy::B);
        sleep(Duration::from_secs(3)).await;
        let ack = said(&boot_server, &asks, CLIENT).await;
        assert!(matches!(ack, Outcome::Reply { .. }), "{ack:?}");
    }
    assert_eq!(way(&reply(&dhcp, &discover).await), Strategy::B);
    assert!(!stranger_story(&site).join("\n").contains("changed from"));
}

fn with_item(mut request: Message, kind: BootServerType, layer: u16) -> Message {
    let vendor = PxeVendorOptions {
        boot_item: Some(BootItem { kind, layer }),
        ..PxeVendorOptions::default()
    };
    let options = &mut request.options;
    options.set(option::VENDOR_SPECIFIC_INFORMATION, vendor.encode());
    request.ciaddr = CLIENT;
    request
}

fn vendor(message: &Message) -> PxeVendorOptions {
    let option = message.options.get(option::VENDOR_SPECIFIC_INFORMATION);
    PxeVendorOptions::decode(option.unwrap_or_default()).unwrap()
}

/// Shows the menu in the ROM; machines are let in by it.
async fn show_menu(site: &Site, mode: MenuMode) {
    let settings = Settings {
        menu: Some(mode),
        rom_menu: Some(true),
        unknown_machine: Some(UnknownMachine::Menu),
        ..Settings::default()
    };
    site.core.set_site(settings).await.unwrap();
}

#[tokio::test]
async fn l11_a_plain_rom_gets_the_menu_and_its_loader_does_what_was_picked() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "").await;
    show_menu(&site, MenuMode::OnKey).await;
    let dhcp = site.boot_port(67, Mode::Proxy).await;
    let boot_server = site.boot_port(4011, Mode::Proxy).await;
    let discover = question(MessageType::Discover, MAC, BIOS);
    let menu = vendor(&reply(&dhcp, &discover).await);
    let kinds: Vec<u16> = menu.boot_menu.iter().map(|item| item.kind.0).collect();
    assert_eq!(kinds, [0, 0xfa01, 0xfa02, 0xfa03]);
    assert_eq!(menu.boot_servers[0].addresses, [Ipv4Addr::LOCALHOST]);
    assert_eq!(menu.menu_prompt.unwrap().timeout, 3);

    let asks = question(MessageType::Request, MAC, BIOS);
    let asks = with_item(asks, kind::DIAGNOSTICS, 0);
    let ack = reply(&boot_server, &asks).await;
    assert!(ack.file.ends_with(b"undionly.kpxe"), "{ack:?}");
    let item = vendor(&ack).boot_item;
    assert_eq!(item, vendor(&asks).boot_item, "the very same item");

    // The loader asks by DHCP too, and is not shown the menu again.
    let mut ipxe = question(MessageType::Discover, MAC, BIOS);
    ipxe.options.set(option::USER_CLASS, "iPXE");
    assert_eq!(vendor(&reply(&dhcp, &ipxe).await).boot_menu, []);
    let script = site.script(&MAC.to_string()).await;
    assert!(script.contains(DIAGNOSTICS), "{script}");
    let again = site.script(&MAC.to_string()).await;
    assert!(!again.contains(DIAGNOSTICS), "used once: {again}");
    let told = site.core.fleet.candidates(&[MAC], None).remove(0);
    assert_eq!(told.macs, [MAC]);

    show_menu(&site, MenuMode::Never).await;
    assert_eq!(vendor(&reply(&dhcp, &discover).await).boot_menu, []);
}

#[tokio::test]
async fn l11_from_our_own_dhcp_the_menu_comes_with_offer_and_acknowledgement() {
    let data = tempfile::tempdir().unwrap();
    let pool = "[[subnet]]\nnetwork = \"127.0.0.0/24\"\npools = [\"127.0.0.50-127.0.0.60\"]\n";
    let site = opened(data.path(), pool).await;
    show_menu(&site, MenuMode::Always).await;
    let dhcp = site.boot_port(67, Mode::Dhcp).await;
    let offer = reply(&dhcp, &question(MessageType::Discover, MAC, BIOS)).await;
    let mut request = question(MessageType::Request, MAC, BIOS);
    let options = &mut request.options;
    options.set(option::REQUESTED_IP_ADDRESS, offer.yiaddr.octets());
    options.set(option::SERVER_IDENTIFIER, Ipv4Addr::LOCALHOST.octets());
    for message in [offer, reply(&dhcp, &request).await] {
        assert_eq!(vendor(&message).menu_prompt.unwrap().timeout, 255);
        let class = message.options.get(option::VENDOR_CLASS_IDENTIFIER);
        assert_eq!(class, Some(&b"PXEClient"[..]), "ROMs want it by name");
    }
    let uefi = reply(&dhcp, &question(MessageType::Discover, MAC, UEFI)).await;
    let has_43 = uefi.options.contains(option::VENDOR_SPECIFIC_INFORMATION);
    assert!(!has_43, "UEFI shows its menu in the loader");
}

#[tokio::test]
async fn z6_boot_items_are_answered_on_every_port_and_through_relays() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "").await;
    let relay = Ipv4Addr::new(127, 9, 0, 1);
    for (number, mode) in [
        (67, Mode::Proxy),
        (67, Mode::Dhcp),
        (4011, Mode::Proxy),
        (4011, Mode::Port4011),
    ] {
        let port = site.boot_port(number, mode).await;
        let asks = with_item(question(MessageType::Request, MAC, BIOS), kind::POLICY, 0);
        let Outcome::Reply { reply, to } = said(&port, &asks, CLIENT).await else {
            panic!("{number} {mode:?}");
        };
        assert_eq!(reply.message_type(), Some(MessageType::Ack));
        assert_eq!((reply.ciaddr, *to.addr().ip()), (CLIENT, CLIENT));
        let mut relayed = asks.clone();
        relayed.giaddr = relay;
        if number == 67 {
            let Outcome::Reply { to, .. } = said(&port, &relayed, relay).await else {
                panic!("{mode:?} through a relay");
            };
            assert_eq!(to.addr(), SocketAddrV4::new(relay, 67));
        }
        for (layer, kind, expected) in [
            (0x8000, kind::POLICY, Reason::NoBootCredentials),
            (1, kind::POLICY, Reason::NoBootLayer),
            (0, BootServerType(0x8001), Reason::OtherBootServer),
        ] {
            let asks = with_item(question(MessageType::Request, MAC, BIOS), kind, layer);
            let told = said(&port, &asks, CLIENT).await;
            let Outcome::Ignore(reason) = told else {
                panic!("{told:?}");
            };
            assert_eq!(reason, expected, "{number} {mode:?}");
        }
    }
    let leases = site.core.leases.with_book(|book| book.leases().count());
    assert_eq!(leases, 0, "no lease is touched");
    let story = stranger_story(&site).join("\n");
    assert!(story.contains("Boot Integrity Services"), "{story}");
}

/// Its ROM takes the files of its own names from whoever offers the menu of its maker, and asks for no address file.
#[tokio::test]
async fn a_raspberry_pi_is_offered_the_menu_its_rom_looks_for() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "").await;
    let dhcp = site.boot_port(67, Mode::Proxy).await;
    let mut discover = question(MessageType::Discover, MAC, BIOS);
    discover.chaddr = [&[0xdc, 0xa6, 0x32, 1, 2, 3][..], &[0; 10]]
        .concat()
        .try_into()
        .unwrap();
    let offer = reply(&dhcp, &discover).await;
    assert_eq!(offer.siaddr, Ipv4Addr::LOCALHOST);
    let text = &vendor(&offer).boot_menu[0].text;
    assert_eq!(text, b"Raspberry Pi Boot   ");
}
