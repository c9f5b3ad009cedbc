//! ProxyDHCP beside a foreign DHCP server: each way of offering, with real firmware.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use farrier_e2e::{
    Firmware, Host, Lab, Lan, Machine, Mode, Program, Site,
    clients::{self, PATIENTLY},
    lab::until,
    relay::Relay,
    server::{Dnsmasq, Kea},
};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(150);

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
    _foreign: Option<Program>,
}

/// Farrier in this mode, and dnsmasq with more options on another host.
fn beside(name: &str, mode: Mode, options: &[&str]) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let (host, elsewhere) = (lan.server().unwrap(), lan.other().unwrap());
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
    let mut dnsmasq = Dnsmasq::addresses(first, last);
    for option in options {
        dnsmasq = dnsmasq.with(option);
    }
    let foreign = dnsmasq.start(&elsewhere, &folder).unwrap();
    let site = Site::start(&lab, host, &folder, mode).unwrap();
    Run {
        folder,
        lan,
        site,
        _foreign: Some(foreign),
    }
}

/// Z4: OVMF gets on with every way of offering, and the one that worked is kept and shown.
#[test]
fn z4_every_way_of_offering_boots_real_firmware() {
    let run = beside("proxy-ways", Mode::ProxyWithPool, &[]);
    for (number, strategy) in [(81, "b"), (82, "c"), (83, "d")] {
        let settings = json!({ "enrolment": "automatic", "strategy": strategy });
        run.site.put("policy", &settings).unwrap();
        let machine = Machine::new(strategy, Firmware::UefiPxe4, number);
        let vm = machine.start(&run.lan, &run.folder).unwrap();
        run.site
            .hands_over_the_agent(machine.mac())
            .unwrap_or_else(|e| panic!("{strategy}: {e:#}\n{}", vm.tail()));
        let shown = run
            .site
            .farrier(&["machine", "show", machine.mac()])
            .unwrap();
        let found = shown.lines().find(|line| line.contains("strategy found"));
        let found = found.unwrap_or_else(|| panic!("{shown}"));
        assert!(found.contains(&strategy.to_uppercase()), "{found}");
        vm.power_off().unwrap();
    }
}

/// Z4: Kea on another host lends the addresses and says nothing of booting, as it does out of the box. What boots a
/// BIOS and a UEFI machine to the agent's inventory comes from us, and no address does.
#[test]
fn z4_kea_lends_and_we_boot_bios_and_uefi() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("proxy-kea").unwrap();
    let lan = Lan::new().unwrap();
    let (host, elsewhere) = (lan.server().unwrap(), lan.other().unwrap());
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
    let kea = Kea::addresses(first, last);
    let kea = kea.start(&lab, &elsewhere, &folder).unwrap();
    let site = Site::start(&lab, host, &folder, Mode::Proxy).unwrap();
    for (number, name, firmware, loader) in [
        (90, "bios", Firmware::Bios, "fetched the agent by HTTP"),
        (91, "uefi", Firmware::UefiPxe4, "fetched snponly.efi"),
    ] {
        let machine = Machine::new(name, firmware, number);
        let mut vm = machine.start(&lan, &folder).unwrap();
        vm.wait_for("farrier-agent: inventory sent", BOOT)
            .unwrap_or_else(|e| panic!("{name}: {e:#}\n{}\n{}", kea.log(), site.log()));
        let known = site.machine(machine.mac()).unwrap();
        assert_eq!(known["registration"], "approved", "{known:#}");
        site.told(machine.mac(), &[loader]).unwrap();
        let log = kea.log();
        let mut lent = log
            .lines()
            .filter(|line| line.contains("DHCP4_LEASE_ALLOC"));
        let by_kea = |line: &str| line.contains(machine.mac()) && line.contains("lease 10.77.0.1");
        assert!(lent.any(by_kea), "{name}: {log}");
        vm.power_off().unwrap();
    }
    let leases = site.get("leases").unwrap();
    assert_eq!(leases, json!([]), "none is ours");
}

/// L11, Z14: iPXE as a plain ROM shows the menu of option 43; what is picked there comes back to port 4011, and the
/// script does it. From our DHCP, and beside another server.
#[test]
fn l11_a_rom_shows_our_menu_and_a_key_picks() {
    let policy = json!({
        "enrolment": "automatic", "menu": "always", "rom_menu": true, "unknown_machine": "menu",
    });
    for (number, mode, name) in [(84, Mode::Dhcp, "rom-dhcp"), (85, Mode::Proxy, "rom-proxy")] {
        let run = match mode {
            Mode::Proxy => beside(name, mode, &[]),
            _ => alone(name, mode),
        };
        run.site.put("policy", &policy).unwrap();
        let machine = Machine::new("menu", Firmware::Bios, number);
        let mut vm = machine.start(&run.lan, &run.folder).unwrap();
        // Drawn from the last line to the first.
        for shown in ["D. Show what", "B. Register this", "A. Start from"] {
            vm.wait_for(shown, BOOT)
                .unwrap_or_else(|e| panic!("{name}: {e:#}"));
        }
        vm.press("b").unwrap();
        run.site
            .hands_over_the_agent(machine.mac())
            .unwrap_or_else(|e| panic!("{name}: {e:#}\n{}", vm.tail()));
        vm.power_off().unwrap();
    }
}

/// Z6: a menu in another server's option 43 names us by our type; iPXE finds us by multicast, and by the list.
#[test]
fn z6_firmware_finds_the_boot_server_by_multicast_and_by_list() {
    // The type 0xfa00 with the text `Farrier`, and a prompt of no time at all.
    let menu = "--dhcp-option-force=vendor:PXEClient,9,fa:00:07:46:61:72:72:69:65:72";
    let prompt = "--dhcp-option-force=vendor:PXEClient,10,00:46:61:72:72:69:65:72";
    let class = "--dhcp-option-force=60,PXEClient";
    let ways = [
        ("multicast", "01", "7,224.0.1.2"),
        ("list", "07", "8,fa:00:01:0a:4d:00:01"),
    ];
    for (number, (name, control, server)) in (86..).zip(ways) {
        let control = format!("--dhcp-option-force=vendor:PXEClient,6,{control}");
        let server = format!("--dhcp-option-force=vendor:PXEClient,{server}");
        let options = [class, menu, prompt, &control, &server];
        // Nothing but port 4011, so that no offer of ours says it in another way.
        let run = beside(&format!("boot-server-{name}"), Mode::Port4011, &options);
        let machine = Machine::new(name, Firmware::Bios, number);
        let vm = machine.start(&run.lan, &run.folder).unwrap();
        run.site
            .hands_over_the_agent(machine.mac())
            .unwrap_or_else(|e| panic!("{name}: {e:#}\n{}", run.site.log()));
        vm.power_off().unwrap();
    }
}

/// Z6: a scripted client of PXE 2.1 section 3.3 asks for boot items in each way there is.
#[test]
fn z6_boot_items_are_answered_by_type_layer_and_place() {
    // Alone: dnsmasq answers such a broadcast from an address it did not lend with a DHCPNAK.
    let run = alone("boot-items", Mode::Proxy);
    let own = Ipv4Addr::new(10, 77, 0, 50);
    let client = run.lan.host("client", Some(own)).unwrap();
    client
        .ip(["route", "add", "255.255.255.255/32", "dev", "eth0"])
        .unwrap();
    client
        .ip(["route", "add", "224.0.0.0/4", "dev", "eth0"])
        .unwrap();
    let places = [
        ("broadcast", Ipv4Addr::BROADCAST, 67),
        ("multicast", Ipv4Addr::new(224, 0, 1, 2), 4011),
        ("unicast", Ipv4Addr::new(10, 77, 0, 1), 4011),
    ];
    for (name, address, port) in places {
        let to = SocketAddrV4::new(address, port);
        let answer = ask(&client, own, to, [0xfa, 0, 0, 0], PATIENTLY);
        let answer = answer.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer[12..16], own.octets(), "{name}: ciaddr");
        assert!(answer[108..].starts_with(b"boot/"), "{name}: a file");
        let has = |bytes: &[u8]| answer[240..].windows(bytes.len()).any(|w| w == bytes);
        assert!(has(&[53, 1, 5]), "{name}: DHCPACK");
        assert!(has(&[71, 4, 0xfa, 0, 0, 0]), "{name}: the item again");
        for (refused, item) in [
            ("other_boot_server", [0x80, 1, 0, 0]),
            ("no_boot_layer", [0xfa, 0, 0, 1]),
            ("no_boot_credentials", [0xfa, 0, 0x80, 0]),
        ] {
            let before = run.count(refused);
            assert_eq!(ask(&client, own, to, item, 1), None, "{name} {refused}");
            run.counts(refused, before + 1);
        }
    }
}

/// Z6, Z26: the same behind Debian's relay agent, which carries what is broadcast; what goes to port 4011 is routed
/// past it.
#[test]
fn z6_boot_items_are_answered_through_a_real_relay() {
    let (lab, near) = (Lab::open().unwrap(), Lan::new().unwrap());
    let folder = lab.scratch("boot-items-relay").unwrap();
    let host = near.server().unwrap();
    let relay = Relay::new(&near, &[&host]).unwrap();
    let subnet = "[[interface]]\nname = \"eth0\"\nmode = \"proxy\"\n[[subnet]]\nnetwork = \"10.78.0.0/24\"\n";
    let site = Site::serving(&lab, host, &folder, subnet).unwrap();
    let dhcrelay = relay.start(&lab, &folder).unwrap();
    let own = Ipv4Addr::new(10, 78, 0, 50);
    let client = relay.far.host("client", Some(own)).unwrap();
    client
        .ip(["route", "add", "255.255.255.255/32", "dev", "eth0"])
        .unwrap();
    client
        .ip(["route", "add", "10.77.0.0/24", "via", "10.78.0.1"])
        .unwrap();
    let run = Run {
        folder,
        lan: near,
        site,
        _foreign: None,
    };
    for (name, address, port) in [
        ("broadcast", Ipv4Addr::BROADCAST, 67),
        ("unicast", Ipv4Addr::new(10, 77, 0, 1), 4011),
    ] {
        let to = SocketAddrV4::new(address, port);
        let answer = ask(&client, own, to, [0xfa, 0, 0, 0], PATIENTLY);
        let answer = answer.unwrap_or_else(|| panic!("{name}: no answer\n{}", dhcrelay.log()));
        assert!(answer[108..].starts_with(b"boot/"), "{name}: a file");
        assert_eq!(answer[20..24], [10, 77, 0, 1], "{name}: siaddr");
        let has = |bytes: &[u8]| answer[240..].windows(bytes.len()).any(|w| w == bytes);
        assert!(has(&[53, 1, 5]), "{name}: DHCPACK");
        assert!(has(&[71, 4, 0xfa, 0, 0, 0]), "{name}: the item again");
        let before = run.count("other_boot_server");
        assert_eq!(ask(&client, own, to, [0x80, 1, 0, 0], 1), None, "{name}");
        run.counts("other_boot_server", before + 1);
    }
    let carried = dhcrelay.log();
    assert!(carried.contains("10.77.0.1"), "{carried}");
}

/// Z6, Z26: firmware behind the relay finds us by the list in another server's option 43.
#[test]
fn z6_firmware_behind_a_real_relay_finds_the_boot_server_by_list() {
    let (lab, near) = (Lab::open().unwrap(), Lan::new().unwrap());
    let folder = lab.scratch("boot-server-relay").unwrap();
    let (host, other) = (near.server().unwrap(), near.other().unwrap());
    let relay = Relay::new(&near, &[&host, &other]).unwrap();
    let addresses = Dnsmasq::addresses(Ipv4Addr::new(10, 78, 0, 50), Ipv4Addr::new(10, 78, 0, 99));
    let foreign = [
        "--dhcp-option=3,10.78.0.1",
        "--dhcp-option-force=60,PXEClient",
        "--dhcp-option-force=vendor:PXEClient,9,fa:00:07:46:61:72:72:69:65:72",
        "--dhcp-option-force=vendor:PXEClient,10,00:46:61:72:72:69:65:72",
        "--dhcp-option-force=vendor:PXEClient,6,07",
        "--dhcp-option-force=vendor:PXEClient,8,fa:00:01:0a:4d:00:01",
    ]
    .iter()
    .fold(addresses, |dnsmasq, option| dnsmasq.with(option));
    let _foreign = foreign.start(&other, &folder).unwrap();
    let subnet = "[[interface]]\nname = \"eth0\"\nmode = \"port4011\"\n[[subnet]]\nnetwork = \"10.78.0.0/24\"\n";
    let site = Site::serving(&lab, host, &folder, subnet).unwrap();
    let _dhcrelay = relay.start_for_both(&lab, &folder).unwrap();
    let machine = Machine::new("listed", Firmware::Bios, 89);
    let _router = relay.far.router(&folder).unwrap();
    let mut vm = machine.start(&relay.far, &folder).unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT)
        .unwrap_or_else(|e| panic!("{e:#}\n{}", site.log()));
}

fn alone(name: &str, mode: Mode) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, mode).unwrap();
    Run {
        folder,
        lan,
        site,
        _foreign: None,
    }
}

impl Run {
    fn count(&self, reason: &str) -> u64 {
        let status = self.site.get("status").unwrap();
        status["boot"][reason].as_u64().unwrap_or(0)
    }

    /// Waits until so many are counted, and none more.
    fn counts(&self, reason: &str, expected: u64) {
        until(reason, || self.count(reason) >= expected).unwrap();
        assert_eq!(self.count(reason), expected, "{reason}");
    }
}

static ASKED: AtomicU32 = AtomicU32::new(1);

/// A DHCPREQUEST with 43.71 from a BIOS ROM, and what came back; asked up to so many times.
fn ask(host: &Host, own: Ipv4Addr, to: SocketAddrV4, item: [u8; 4], times: u32) -> Option<Vec<u8>> {
    let mut request = vec![0; 240];
    request[..3].copy_from_slice(&[1, 1, 6]);
    // A number for each, so that what was asked twice is answered only here.
    let number = ASKED.fetch_add(1, Ordering::Relaxed);
    request[4..8].copy_from_slice(&number.to_be_bytes());
    request[12..16].copy_from_slice(&own.octets());
    request[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x77, 2, 1]);
    request[236..].copy_from_slice(&[99, 130, 83, 99]);
    request.extend([53, 1, 3, 93, 2, 0, 0, 60, 32]);
    request.extend(b"PXEClient:Arch:00000:UNDI:002001");
    request.extend([43, 7, 71, 4]);
    request.extend(item);
    request.extend([255, 255]);
    clients::exchange(host, &request, to, times).unwrap()
}
