//! The boot plane on the wire: relays, BOOTP, ranges that run out, lost packets.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    time::Duration,
};

use farrier_e2e::{
    Debs, Firmware, Host, Lab, Lan, Machine, Mode, Program, Relay, Scene, Site,
    clients::{self, PATIENTLY},
    command::run,
    lab::until,
    relay::BOTH_NETWORKS,
    report::say,
    server::Dnsmasq,
};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(150);

fn serving(name: &str, interfaces: &str) -> Scene {
    Scene::serving(name, interfaces).unwrap()
}

/// The hardware address of a host's card.
fn mac(host: &Host) -> String {
    let told = host.ip(["-o", "link", "show", "eth0"]).unwrap();
    let at = told.split("link/ether ").nth(1).unwrap();
    at.split(' ').next().unwrap().to_owned()
}

/// Z26, X4: two clients behind Debian's relay agent, which adds option 82. One gets a lease; the other, with
/// firmware, gets its boot answer and everything up to the agent's inventory through the relay.
#[test]
fn z26_clients_behind_a_relay_get_leases_and_boot() {
    let (lab, near) = (Lab::open().unwrap(), Lan::new().unwrap());
    let folder = lab.scratch("wire-relay").unwrap();
    let host = near.server().unwrap();
    let relay = Relay::new(&near, &[&host]).unwrap();
    let far = &relay.far;
    let recording = near.record(&folder.join("near.pcap")).unwrap();
    let site = Site::serving(&lab, host, &folder, BOTH_NETWORKS).unwrap();
    let _dhcrelay = relay.start(&lab, &folder).unwrap();
    let _router = far.router(&folder).unwrap();

    let client = far.host("client", None).unwrap();
    let told = clients::udhcpc(&client, &folder, &[]).unwrap();
    assert!(told["ip"].starts_with("10.78.0.1"), "{told:?}");
    assert_eq!(told["router"], "10.78.0.1", "{told:?}");

    let machine = Machine::new("behind", Firmware::Bios, 61);
    let mut vm = machine.start(far, &folder).unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    let known = site.machine(machine.mac()).unwrap();
    assert_eq!(known["registration"], "approved", "{known:#}");
    recording.finish().unwrap();

    let mut dump = relay.host.command("tcpdump");
    dump.args(["-vnr"]).arg(folder.join("near.pcap"));
    let packets = run(dump.arg("udp and src host 10.77.0.1 and src port 67")).unwrap();
    let replies = packets.matches("BOOTP/DHCP, Reply").count();
    let echoed = packets.matches("Agent-Information").count();
    say(&format!(
        "{replies} replies to the relay, {echoed} with option 82"
    ));
    assert!(replies >= 4 && replies == echoed, "{packets}");
    assert!(packets.contains("Gateway-IP 10.78.0.1"), "{packets}");
}

/// Z26: beside a foreign DHCP server, both reached through the relay.
#[test]
fn z26_a_proxy_answers_through_a_relay() {
    let (lab, near) = (Lab::open().unwrap(), Lan::new().unwrap());
    let folder = lab.scratch("wire-proxy-relay").unwrap();
    let (host, other) = (near.server().unwrap(), near.other().unwrap());
    let relay = Relay::new(&near, &[&host, &other]).unwrap();
    let addresses = Dnsmasq::addresses(Ipv4Addr::new(10, 78, 0, 50), Ipv4Addr::new(10, 78, 0, 99));
    let foreign = addresses.with("--dhcp-option=3,10.78.0.1");
    let foreign = foreign.start(&other, &folder).unwrap();
    // A subnet without addresses to lend says that clients from there may fetch files.
    let site = Site::serving(
        &lab,
        host,
        &folder,
        "[[interface]]\nname = \"eth0\"\nmode = \"proxy\"\n\n[[subnet]]\nnetwork = \"10.78.0.0/24\"\n",
    )
    .unwrap();
    let _dhcrelay = relay.start_for_both(&lab, &folder).unwrap();
    let _router = relay.far.router(&folder).unwrap();
    let machine = Machine::new("behind", Firmware::Bios, 65);
    let mut vm = machine.start(&relay.far, &folder).unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    assert!(foreign.log().contains("10.78.0."), "{}", foreign.log());
    let known = site.machine(machine.mac()).unwrap();
    assert_eq!(known["registration"], "approved", "{known:#}");
}

const ONE: &str =
    "[[interface]]\nname = \"eth0\"\nmode = \"dhcp\"\n\n[[subnet]]\nnetwork = \"10.77.0.0/24\"\n";

/// L9, R13: a scripted client of RFC 951 and Debian's. A BOOTP lease never ends, so strangers get none.
#[test]
fn r13_bootp_clients_are_answered() {
    let run = serving(
        "wire-bootp",
        &format!("{ONE}pools = [\"10.77.0.100-10.77.0.199\"]\nrouters = [\"10.77.0.1\"]\n"),
    );
    let host = run.lan.host("client", None).unwrap();
    let scripted = [0x52, 0x54, 0, 0x77, 1, 1];
    let stranger = clients::bootp(&host, scripted, 1).unwrap();
    assert_eq!(stranger, None, "a stranger");
    let refused = "bootp_needs_reservation";
    until(refused, || run.count(refused).unwrap() == 1).unwrap();

    run.know("52:54:00:77:01:01").unwrap();
    let answer = clients::bootp(&host, scripted, PATIENTLY)
        .unwrap()
        .expect("a known machine");
    assert!(answer.len() >= 300, "RFC 1542 2.1: {} bytes", answer.len());
    assert_eq!(answer[..8], [2, 1, 6, 0, b'l', b'a', b'b', b'!']);
    assert_eq!(answer[16..19], [10, 77, 0], "yiaddr");
    assert_eq!(answer[28..34], scripted);
    let options = &answer[240..];
    assert!(
        !options.starts_with(&[53]),
        "RFC 1534: no DHCP message type: {options:?}"
    );
    assert!(
        options.windows(6).any(|w| w == [1, 4, 255, 255, 255, 0]),
        "{options:?}"
    );
    assert!(
        options.windows(6).any(|w| w == [3, 4, 10, 77, 0, 1]),
        "{options:?}"
    );
    let again = clients::bootp(&host, scripted, PATIENTLY);
    let again = again.unwrap().expect("a known machine");
    assert_eq!(again[16..20], answer[16..20], "the same address again");

    run.know(&mac(&host)).unwrap();
    let bootpc = Debs::open(&run.lab)
        .unwrap()
        .program("bootpc", "sbin/bootpc");
    let told = clients::bootpc(&host, &bootpc.unwrap()).unwrap();
    assert!(told.contains("IPADDR='10.77.0.1"), "{told}");
    assert!(told.contains("NETMASK='255.255.255.0'"), "{told}");
    let leases = run.site.get("leases").unwrap().to_string();
    assert!(
        leases.contains("52:54:00:77:01:01") && leases.contains(&mac(&host)),
        "{leases}"
    );
}

/// T7: three addresses, four known machines: the fourth hears nothing, everybody can see why, and who has
/// an address keeps it.
#[test]
fn t7_a_range_that_is_used_up_is_told_and_silent() {
    let run = serving(
        "wire-exhausted",
        &format!("{ONE}pools = [\"10.77.0.100-10.77.0.102\"]\nlease_seconds = 600\n"),
    );
    let hosts = ["a", "b", "c", "d"].map(|name| run.lan.host(name, None).unwrap());
    let macs = hosts.each_ref().map(mac);
    macs.iter().for_each(|mac| run.know(mac).unwrap());
    let leased: Vec<String> = hosts[..3]
        .iter()
        .map(|host| clients::udhcpc(host, &run.folder, &[]).unwrap()["ip"].clone())
        .collect();
    let refused = clients::udhcpc_in_vain(&hosts[3], &run.folder, &[]).unwrap();
    assert!(!refused.contains("DHCPNAK"), "{refused}");
    until("one pool_exhausted for each DISCOVER", || {
        run.count("pool_exhausted").unwrap() >= 3
    })
    .unwrap();
    let words = "All addresses of its subnet are taken";
    assert!(run.site.log().contains(words), "the log says so");
    assert_eq!(
        run.site.log().matches(words).count(),
        1,
        "once, not for each packet"
    );

    for (host, ip) in hosts.iter().zip(&leased) {
        assert_eq!(clients::udhcpc(host, &run.folder, &[]).unwrap()["ip"], *ip);
    }
    // An operating system's request for an address is no news, a firmware's is.
    let firmware = ["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000"];
    clients::udhcpc_in_vain(&hosts[3], &run.folder, &firmware).unwrap();
    run.site
        .wait_for(&macs[3], words, Duration::from_secs(5))
        .unwrap();

    // A stranger is not on any timeline, but it can be seen.
    let stranger = run.lan.host("e", None).unwrap();
    clients::udhcpc_in_vain(&stranger, &run.folder, &firmware).unwrap();
    let stranger = mac(&stranger);
    until("that the stranger can be seen", || {
        let status = run.site.get("status").unwrap();
        status["strangers"].to_string().contains(&stranger)
    })
    .unwrap();
}

/// T10 of the threat model: while invented addresses ask for leases without end, a known machine boots and does
/// its work.
#[test]
fn t10_a_known_machine_boots_while_the_range_is_being_starved() {
    let run = serving(
        "wire-starved",
        &format!("{ONE}pools = [\"10.77.0.100-10.77.0.199\"]\nlease_seconds = 3600\n"),
    );
    let machine = Machine::new("known", Firmware::Bios, 64);
    run.know(machine.mac()).unwrap();
    let work = json!({ "kind": "inventory" });
    let task = run.site.order(machine.mac(), &work, "power_off").unwrap();
    let attacker = run
        .lan
        .host("attacker", Some(Ipv4Addr::new(10, 77, 0, 66)))
        .unwrap();
    let mut flood = attacker.command("perfdhcp");
    // Four messages each: whoever is offered an address takes it.
    flood.args([
        "-4", "-l", "eth0", "-R", "100000", "-r", "300", "-p", "3600", "-d", "2",
    ]);
    let flood = Program::start("perfdhcp", flood, &run.folder).unwrap();
    while run.count("pool_reserved").unwrap() + run.count("offer_limit").unwrap() < 1000 {
        assert!(flood.is_running(), "{}", flood.log());
        std::thread::sleep(Duration::from_millis(500));
    }
    let mut vm = machine.start(&run.lan, &run.folder).unwrap();
    run.site
        .wait_done(&task, BOOT)
        .unwrap_or_else(|e| panic!("{e:#}\n{}", vm.tail()));
    vm.wait_for_power_off(BOOT).unwrap();
    assert!(flood.is_running(), "it went on all the while");
    let leases = run.site.get("leases").unwrap().to_string();
    assert!(leases.contains(machine.mac()));
    let status = run.site.get("status").unwrap();
    say(&format!("refused meanwhile: {}", status["boot"]));
    assert_eq!(status["machines"]["total"], 1, "strangers cost no row");
}

/// T8 of the threat model: what opens a transfer is lost. Clients without options ask again, and get the file.
#[test]
fn t8_clients_without_options_survive_a_lost_first_packet() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("wire-lost").unwrap();
    let lan = Lan::new().unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Dhcp).unwrap();
    let client = lan
        .host("client", Some(Ipv4Addr::new(10, 77, 0, 10)))
        .unwrap();
    let server = site.host().address().unwrap();
    let entry = fs::read_to_string(site.data().join("loaders/ipxe-undionly-bios.json")).unwrap();
    let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
    let text = |key: &str| entry[key].as_str().unwrap().to_owned();
    let name = format!("boot/ipxe-undionly-bios/{}", text("file_name"));
    let bytes = fs::read(site.data().join("loaders").join(text("sha256"))).unwrap();
    let target = folder.join("fetched");

    let refused = clients::tftp_hpa(&client, server, &name, &target);
    let got = fs::read(&target).unwrap_or_default();
    assert!(
        refused.is_err() || got.is_empty(),
        "its address has not proven itself"
    );
    clients::udhcpc(&client, &folder, &[]).unwrap();

    let transfers = "udp sport > 1023 udp length > 12";
    for program in ["tftp-hpa", "atftp", "atftp with options"] {
        let _ = fs::remove_file(&target);
        site.host().lose_first(transfers).unwrap();
        match program {
            "tftp-hpa" => clients::tftp_hpa(&client, server, &name, &target).unwrap(),
            "atftp" => drop(clients::atftp(&client, server, &name, &target, &[]).unwrap()),
            _ => drop(clients::atftp(&client, server, &name, &target, &["blksize 1024"]).unwrap()),
        }
        assert_eq!(
            site.host().lost().unwrap(),
            1,
            "{program}: a packet was lost"
        );
        assert!(fs::read(&target).unwrap() == bytes, "{program}");
    }
    // The ROM of SeaBIOS's card loads its first script through the same loss.
    site.host().lose_first(transfers).unwrap();
    let machine = Machine::new("lossy", Firmware::Bios, 62);
    let _vm = machine.start(&lan, &folder).unwrap();
    site.hands_over_the_agent(machine.mac()).unwrap();
}

/// T8 of the firmware notes: iPXE in a ROM that knows what to load waits for an IPv6 router. Where there is none it is
/// told so, by a message to it alone, and goes on at once; where one advertises itself we say nothing.
#[test]
fn firmware_t8_a_rom_is_told_that_there_is_no_ipv6_router() {
    let run_ = serving(
        "wire-no-router",
        &format!("{ONE}pools = [\"10.77.0.100-10.77.0.199\"]\n"),
    );
    let machine = Machine::new("waiting", Firmware::Bios, 66);
    run_.know(machine.mac()).unwrap();
    let answered = "It asked for an IPv6 router and was told that there is none";
    let fetched = "It fetched the first script";
    let times = |words: &str| {
        let told = run_.site.timeline(machine.mac()).unwrap();
        told.iter().filter(|told| told.contains(words)).count()
    };
    let of_icmp = |file: &Path| {
        let mut dump = run_.site.host().command("tcpdump");
        dump.args(["-nr"]).arg(file);
        dump.arg("icmp6[icmp6type] == 133 or icmp6[icmp6type] == 134");
        let lines = run(&mut dump).unwrap();
        let of_machine = lines
            .lines()
            .filter(|line| line.contains("fe80::5054:ff:fe77:42"));
        of_machine.map(str::to_owned).collect::<Vec<_>>()
    };

    let file = run_.folder.join("alone.pcap");
    let recording = run_.lan.record(&file).unwrap();
    let mut vm = machine.start(&run_.lan, &run_.folder).unwrap();
    run_.site.told(machine.mac(), &[answered, fetched]).unwrap();
    recording.finish().unwrap();
    let packets = of_icmp(&file);
    let last = packets.last().unwrap();
    assert!(
        last.contains("> fe80::5054:ff:fe77:42: ICMP6, router adv"),
        "{packets:#?}"
    );
    let asked = packets.iter().filter(|line| line.contains("> ff02::2"));
    // The sixth would come 8 s after the first.
    assert!((2..6).contains(&asked.count()), "{packets:#?}");

    // One that answers nobody, but advertises itself: we have heard it, and leave the machine to it.
    let file = run_.folder.join("routed.pcap");
    let recording = run_.lan.record(&file).unwrap();
    let router = run_.lan.router(&run_.folder).unwrap();
    router.ignore_solicitations().unwrap();
    let prefix = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0).octets();
    recording.wait_for("an advertisement", &prefix).unwrap();
    let before = times(answered);
    vm.reset().unwrap();
    until("the second script", || times(fetched) == 2).unwrap();
    recording.finish().unwrap();
    let packets = of_icmp(&file);
    let ours = packets
        .iter()
        .filter(|line| line.contains("> fe80::5054:ff:fe77:42: ICMP6, router adv"));
    assert_eq!(ours.count(), 0, "{packets:#?}");
    assert_eq!(times(answered), before);
}
