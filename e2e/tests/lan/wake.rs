//! Wake-on-LAN, as the wire shows it.

use std::fs;
use std::time::Duration;

use farrier_e2e::{Firmware, Lab, Lan, Machine, Mode, Relay, Site, clients, relay::BOTH_NETWORKS};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(150);
const MAC: &str = "52:54:00:77:00:41";

/// What wakes the card with this address.
fn magic(mac: &str) -> Vec<u8> {
    let mac = mac
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap());
    [vec![0xff; 6], mac.collect::<Vec<_>>().repeat(16)].concat()
}

/// The Ethernet frames of a recording.
fn frames(pcap: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = &pcap[24..];
    while rest.len() > 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(&rest[16..16 + length]);
        rest = &rest[16 + length..];
    }
    frames
}

/// T4: a frame of its own, the limited and the directed broadcast, each with the password.
#[test]
fn t4_magic_packets_go_out_in_every_way() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("wake").unwrap();
    let lan = Lan::new().unwrap();
    let recording = folder.join("lan.pcap");
    let packets = lan.record(&recording).unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Proxy).unwrap();
    site.post("machines", &json!({ "macs": [MAC] })).unwrap();
    let said = site
        .farrier(&["machine", "wake", MAC, "--secure-on", "00:11:22:33:44:55"])
        .unwrap();
    for way in [
        "frame on eth0",
        "255.255.255.255 on eth0",
        "10.77.0.255 on eth0",
    ] {
        assert!(said.contains(way), "{way} is not in {said}");
    }
    packets.finish().unwrap();
    let pcap = fs::read(&recording).unwrap();
    let password = [0, 0x11, 0x22, 0x33, 0x44, 0x55];
    let magic = [&magic(MAC)[..], &password].concat();
    let mut ways: Vec<String> = frames(&pcap)
        .into_iter()
        .filter(|frame| frame.ends_with(&magic))
        .map(|frame| match frame[12..14] {
            [0x08, 0x42] => "frame".to_owned(),
            [0x08, 0x00] => format!("{:?}:{}", &frame[30..34], u16::from(frame[37])),
            _ => format!("{:?}", &frame[12..14]),
        })
        .collect();
    ways.sort();
    assert_eq!(
        ways,
        ["[10, 77, 0, 255]:9", "[255, 255, 255, 255]:9", "frame"]
    );
    site.wait_for(MAC, "sent magic packets", Duration::from_secs(10))
        .unwrap();
    let refused = site.farrier(&["machine", "wake", MAC, "--secure-on", "secret"]);
    let refused = format!("{:#}", refused.unwrap_err());
    assert!(refused.contains("SecureOn"), "{refused}");
}

/// T4, T5: work that is ordered with a wake-up reaches a machine that was off. Its card is played by the recording of
/// the LAN: the power comes on when the packet with this machine's address was heard.
#[test]
fn t4_a_machine_that_hears_the_magic_packet_starts_and_boots() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("wake-boot").unwrap();
    let lan = Lan::new().unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Dhcp).unwrap();
    let machine = Machine::new("sleeper", Firmware::Bios, 58);
    let mac = machine.mac();
    site.farrier(&["machine", "add", mac]).unwrap();
    let heard = lan.record(&folder.join("lan.pcap")).unwrap();

    let work = ["task", "inventory", "--machine", mac, "--wake"];
    let order = [&work[..], &["--then", "power-off", "--yes"]].concat();
    site.farrier(&order).unwrap();
    heard.wait_for("the magic packet", &magic(mac)).unwrap();
    let mut vm = machine.start(&lan, &folder).unwrap();

    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    vm.wait_for_power_off(BOOT).unwrap();
    let known = site.machine(mac).unwrap();
    assert_eq!(known["inventory"]["nics"][0]["mac"], mac, "{known:#}");
    let tasks = site.get("tasks").unwrap();
    assert_eq!(tasks["items"][0]["state"], "done", "{tasks:#}");
    let told = site.told(mac, &["sent magic packets"]).unwrap();
    let place = |words: &str| told.iter().position(|sentence| sentence.contains(words));
    assert!(
        place("sent magic packets") < place("asks how to boot"),
        "{told:#?}"
    );
}

/// T4: a machine that has its lease behind a router, from which only the directed broadcast of its network can reach
/// it. The router is told to let that one pass, which RFC 2644 wants said; before, it keeps it to itself.
#[test]
fn t4_a_router_carries_the_directed_broadcast_to_the_machine() {
    let (lab, near) = (Lab::open().unwrap(), Lan::new().unwrap());
    let folder = lab.scratch("wake-far").unwrap();
    let host = near.server().unwrap();
    let relay = Relay::new(&near, &[&host]).unwrap();
    let site = Site::serving(&lab, host, &folder, BOTH_NETWORKS).unwrap();
    let dhcrelay = relay.start(&lab, &folder).unwrap();
    let sleeper = relay.far.host("sleeper", None).unwrap();
    sleeper.ip(["link", "set", "eth0", "address", MAC]).unwrap();
    let lease = clients::udhcpc(&sleeper, &folder, &[]).unwrap();
    assert!(lease["ip"].starts_with("10.78.0.1"), "{lease:?}");
    dhcrelay.kill().unwrap();
    site.post("machines", &json!({ "macs": [MAC] })).unwrap();
    let wake = || {
        let said = site.farrier(&["machine", "wake", MAC]).unwrap();
        assert!(said.contains("10.78.0.255 by the route"), "{said}");
    };

    let recording = folder.join("far.pcap");
    let packets = relay.far.record(&recording).unwrap();
    wake();
    relay.host.forward_broadcasts("eth0").unwrap();
    wake();
    packets.wait_for("the magic packet", &magic(MAC)).unwrap();
    packets.finish().unwrap();

    let pcap = fs::read(&recording).unwrap();
    let carried = frames(&pcap).into_iter();
    let carried: Vec<_> = carried
        .filter(|frame| frame.ends_with(&magic(MAC)))
        .collect();
    let [frame] = carried.as_slice() else {
        panic!("{} magic packets instead of one", carried.len());
    };
    assert_eq!(frame[..6], [0xff; 6], "to everybody on that wire");
    let (sent, passed) = (64, frame[22]);
    assert_eq!(passed, sent - 1, "by one router");
    assert_eq!(frame[26..30], [10, 77, 0, 1], "from us");
    assert_eq!(frame[30..34], [10, 78, 0, 255], "to the network");
    assert_eq!(frame[36..38], [0, 9], "to the port discard");
}
