//! Wake-on-LAN, as the wire shows it.

use std::fs;
use std::time::Duration;

use farrier_e2e::{Lab, Lan, Mode, Site};
use serde_json::json;

const MAC: &str = "52:54:00:77:00:41";

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
    std::thread::sleep(Duration::from_secs(1));
    drop(packets);
    let pcap = fs::read(&recording).unwrap();
    let mut magic = vec![0xff; 6];
    magic.extend([0x52, 0x54, 0, 0x77, 0, 0x41].repeat(16));
    magic.extend([0, 0x11, 0x22, 0x33, 0x44, 0x55]);
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
