//! The lab tests itself: if one of these fails, no end-to-end test says anything about Farrier. That the golden disk
//! starts is shown by the machines without work, which start it on BIOS and UEFI.

use std::{fs, net::Ipv4Addr, time::Duration};

use farrier_e2e::{
    Firmware, Lab, Lan, Machine, clients,
    server::{Dnsmasq, web_files},
};

const BOOT: Duration = Duration::from_secs(60);

fn pool() -> (Ipv4Addr, Ipv4Addr) {
    (Ipv4Addr::new(10, 77, 0, 50), Ipv4Addr::new(10, 77, 0, 99))
}

/// A foreign DHCP server hands a SeaBIOS machine a script over HTTP, and the script's words show on the console.
#[test]
fn lab_boots_a_bios_machine_from_a_foreign_server() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("lab-bios").unwrap();
    let lan = Lan::new().unwrap();
    let _router = lan.router(&folder).unwrap();
    let other = lan.other().unwrap();
    let files = folder.join("files");
    fs::create_dir_all(&files).unwrap();
    fs::write(
        files.join("boot.ipxe"),
        "#!ipxe\necho LAB-SCRIPT-RAN on ${platform}\nsleep 100\n",
    )
    .unwrap();
    let _web = web_files(&other, &files, &folder).unwrap();
    let dhcp =
        Dnsmasq::addresses(pool().0, pool().1).with("--dhcp-boot=http://10.77.0.2/boot.ipxe");
    let dhcp = dhcp.start(&other, &folder).unwrap();
    let recording = lan.record(&folder.join("lan.pcap")).unwrap();

    let mut vm = Machine::new("bios", Firmware::Bios, 1)
        .start(&lan, &folder)
        .unwrap();
    vm.wait_for("LAB-SCRIPT-RAN on pcbios", BOOT).unwrap();

    assert!(
        dhcp.log().contains("52:54:00:77:00:01"),
        "the foreign server saw the machine's MAC"
    );
    recording.finish().unwrap();
    assert!(
        fs::metadata(folder.join("lan.pcap")).unwrap().len() > 1000,
        "the LAN was recorded"
    );
}

/// An OVMF machine asks the foreign server as a UEFI machine does.
#[test]
fn lab_boots_a_uefi_machine_to_its_dhcp_request() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("lab-uefi").unwrap();
    let lan = Lan::new().unwrap();
    let other = lan.other().unwrap();
    let dhcp = Dnsmasq::addresses(pool().0, pool().1)
        .start(&other, &folder)
        .unwrap();

    let _vm = Machine::new("uefi", Firmware::UefiPxe4, 2)
        .start(&lan, &folder)
        .unwrap();
    dhcp.wait_for("vendor class: PXEClient:Arch:00007", BOOT)
        .unwrap();
}

/// The foreign clients work against a foreign server, so that their failures against ours mean something.
#[test]
fn foreign_clients_work_against_a_foreign_server() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("lab-clients").unwrap();
    let files = folder.join("files");
    fs::create_dir_all(&files).unwrap();
    let content: Vec<u8> = (0..100_000_u32)
        .map(|n| n.to_le_bytes()[n as usize % 3])
        .collect();
    fs::write(files.join("data"), &content).unwrap();
    let lan = Lan::new().unwrap();
    let other = lan.other().unwrap();
    let _dhcp = Dnsmasq::addresses(pool().0, pool().1)
        .tftp(&files)
        .start(&other, &folder)
        .unwrap();
    let _web = web_files(&other, &files, &folder).unwrap();
    let client = lan
        .host("client", Some(Ipv4Addr::new(10, 77, 0, 10)))
        .unwrap();

    let told = clients::udhcpc(&client, &folder, &[]).unwrap();
    assert!(told["ip"].starts_with("10.77.0."), "{told:?}");
    assert!(
        clients::dhclient(&client, &folder)
            .unwrap()
            .contains("fixed-address 10.77.0.")
    );

    clients::tftp_hpa(
        &client,
        other.address().unwrap(),
        "data",
        &folder.join("hpa"),
    )
    .unwrap();
    assert_eq!(fs::read(folder.join("hpa")).unwrap(), content);
    clients::atftp(
        &client,
        other.address().unwrap(),
        "data",
        &folder.join("atftp"),
        &["blksize 1428"],
    )
    .unwrap();
    assert_eq!(fs::read(folder.join("atftp")).unwrap(), content);
    clients::curl(&client, &["--fail"], "http://10.77.0.2/data").unwrap();
    assert!(clients::curl(&client, &["--fail"], "http://10.77.0.2/absent").is_err());

    // How many answers a foreign server loses on a busy machine is not ours to judge.
    let load = ["-r", "20", "-n", "40", "-R", "5"];
    let report = clients::perfdhcp(&client, &load).unwrap_or_else(|drops| format!("{drops:#}"));
    let received = report.split("received packets: ").nth(1);
    let received = received.and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
    assert!(received.is_some_and(|count| count > 0), "{report}");
}

/// A port of a host answers on 127.0.0.1, and a LAN leaves nothing behind.
#[test]
fn relay_reaches_a_host_and_a_lan_cleans_up() {
    use std::io::{Read, Write};
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("lab-relay").unwrap();
    fs::write(folder.join("page"), "the page").unwrap();
    let name = {
        let lan = Lan::new().unwrap();
        let server = lan.server().unwrap();
        let web = web_files(&server, &folder, &folder).unwrap();
        web.wait_until("listening", Duration::from_secs(5), |_| {
            clients::curl(&server, &[], "http://10.77.0.1/page").is_ok()
        })
        .unwrap();
        let relay = server.relay(80).unwrap();
        assert!(relay.address.ip().is_loopback());
        let mut socket = std::net::TcpStream::connect(relay.address).unwrap();
        socket.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("the page"), "{answer}");
        assert!(
            server
                .run(|| Ok(std::net::TcpStream::connect("10.77.0.1:80").is_ok()))
                .unwrap()
        );
        assert_eq!(namespaces(lan.name()).len(), 2, "the switch and the server");
        lan.name().to_owned()
    };
    // Other tests of this process have LANs of their own.
    let left = namespaces(&name);
    assert!(left.is_empty(), "{left:?}");
}

/// The namespaces of a LAN.
fn namespaces(lan: &str) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let begin = format!("{lan}-");
    names.filter(|name| name.starts_with(&begin)).collect()
}
