//! Many clients, one stream: RFC 2090 with Debian's atftp, MTFTP of PXE 2.1 with a scripted ROM.

use std::{collections::BTreeMap, fs, net::Ipv4Addr, path::PathBuf, thread, time::Duration};

use farrier_e2e::{
    Host, Lab, Lan, Site, clients, command::run as run_command, lab::until, mtftp, report::say,
};

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
}

const DHCP: &str = r#"
[[interface]]
name = "eth0"
mode = "dhcp"
[[subnet]]
network = "10.77.0.0/24"
pools = ["10.77.0.100-10.77.0.199"]
"#;

/// The clients get the addresses that they have in the lab.
fn reservations() -> String {
    let each = (10..15).map(|n| {
        let card = card(n);
        format!("[[subnet.reservation]]\naddress = \"10.77.0.{n}\"\nmac = \"{card}\"\n")
    });
    each.collect()
}

fn run(name: &str, tables: &str) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let text = format!("{tables}\n{DHCP}{}", reservations());
    let site = Site::serving(&lab, lan.server().unwrap(), &folder, &text).unwrap();
    Run { folder, lan, site }
}

impl Run {
    fn client(&self, n: u8) -> Host {
        let address = Ipv4Addr::new(10, 77, 0, n);
        let host = self.lan.host(&format!("c{n}"), Some(address)).unwrap();
        host.ip(["link", "set", "eth0", "address", &card(n)])
            .unwrap();
        host.ip(["route", "add", "224.0.0.0/4", "dev", "eth0"])
            .unwrap();
        host
    }

    /// The file of a loader, by its name in the catalogue.
    fn loader(&self, id: &str) -> (String, Vec<u8>) {
        let folder = self.site.data().join("loaders");
        let entry = fs::read_to_string(folder.join(format!("{id}.json"))).unwrap();
        let entry: serde_json::Value = serde_json::from_str(&entry).unwrap();
        let bytes = fs::read(folder.join(entry["sha256"].as_str().unwrap())).unwrap();
        let name = format!("boot/{id}/{}", entry["file_name"].as_str().unwrap());
        (name, bytes)
    }

    /// How often each block went to a group, and which blocks went to single clients.
    fn heard(&self) -> (BTreeMap<u16, u32>, Vec<u16>) {
        let pcap = fs::read(self.folder.join("lan.pcap")).unwrap();
        let (mut blocks, mut alone) = (BTreeMap::new(), Vec::new());
        let mut rest = &pcap[24..];
        while let Some((header, tail)) = rest.split_at_checked(16) {
            let len = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
            let Some((frame, tail)) = tail.split_at_checked(len) else {
                break;
            };
            rest = tail;
            // IPv4, no options, UDP, DATA.
            if frame.len() < 46 || frame[12..15] != [8, 0, 0x45] || frame[23] != 17 {
                continue;
            }
            if frame[42..44] != [0, 3] || frame[26..30] != [10, 77, 0, 1] {
                continue;
            }
            let block = u16::from_be_bytes([frame[44], frame[45]]);
            if frame[30] == 239 {
                *blocks.entry(block).or_default() += 1;
            } else {
                alone.push(block);
            }
        }
        (blocks, alone)
    }
}

fn mac(n: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0x77, 0x12, n]
}

fn card(n: u8) -> String {
    mac(n).map(|byte| format!("{byte:02x}")).join(":")
}

/// How many UDP packets a host has sent.
fn sent(host: &Host) -> u64 {
    let told = run_command(host.command("cat").arg("/proc/net/snmp")).unwrap();
    // A line of names and one of numbers: InDatagrams, NoPorts, InErrors, OutDatagrams.
    let numbers = told.lines().filter(|line| line.starts_with("Udp:")).nth(1);
    let sent = numbers.unwrap().split(' ').nth(4).unwrap();
    sent.parse().unwrap()
}

/// RFC 2090: five atftp clients ask at the same time, and their file passes the switch once; where some of them were
/// not there in time, once more for all of those.
#[test]
fn rfc2090_atftp_clients_share_one_stream() {
    let run = run("multicast-atftp", "[tftp.multicast]");
    // It has 30 blocks, and the kernel keeps 44 for a client that is not running. Of a larger file such a client would
    // lose what comes after those.
    let (name, bytes) = run.loader("pxelinux-bios");
    let hosts: Vec<_> = (10..15).map(|n| run.client(n)).collect();
    for host in &hosts {
        let folder = run.folder.join(host.address().unwrap().to_string());
        fs::create_dir_all(&folder).unwrap();
        clients::udhcpc(host, &folder, &[]).unwrap();
    }
    let recording = run.lan.record(&run.folder.join("lan.pcap")).unwrap();
    let server = run.site.host().address().unwrap();
    thread::scope(|scope| {
        let ask = || {
            let before = hosts.iter().map(sent).collect::<Vec<_>>();
            for host in &hosts {
                let (folder, name, bytes) = (&run.folder, &name, &bytes);
                scope.spawn(move || {
                    let target = folder.join(host.address().unwrap().to_string()).join("got");
                    let options = ["multicast", "blksize 1456"];
                    clients::atftp(host, server, name, &target, &options).unwrap();
                    assert!(fs::read(&target).unwrap() == *bytes);
                });
            }
            until("that all have asked", || {
                hosts
                    .iter()
                    .zip(&before)
                    .all(|(host, before)| sent(host) > *before)
            })
        };
        // It finds all five requests when it goes on, however long it took to start who sends them.
        run.site.suspended(ask).unwrap().unwrap();
    });
    recording.finish().unwrap();
    let (blocks, alone) = run.heard();
    let (sent, needed) = (blocks.values().sum::<u32>(), bytes.len() / 1456 + 1);
    say(&format!(
        "5 clients, {needed} blocks: {sent} to the group, {} to clients",
        alone.len()
    ));
    assert_eq!((blocks.len(), &alone[..]), (needed, &[][..]));
    // Who had not joined the group when the stream began gets in its turn what it lacks, and the others who lack
    // something hear it with it; and blocks come again while their master is not running. Five clients that share
    // nothing would make it five copies.
    assert!(sent as usize <= 2 * needed, "{blocks:?}");
}

/// RFC 2090: the first client takes its turn and dies; the others are done two seconds later than they would be.
#[test]
fn rfc2090_the_next_client_becomes_master() {
    let run = run("multicast-dead", "[tftp.multicast]");
    let (name, bytes) = run.loader("ipxe-undionly-bios");
    let (dead, alive) = (run.client(10), run.client(11));
    for host in [&dead, &alive] {
        clients::udhcpc(host, &run.folder, &[]).unwrap();
    }
    let server = run.site.host().address().unwrap();
    let mut request = vec![0, 1];
    request.extend(name.as_bytes());
    request.extend(b"\0octet\0multicast\0\0blksize\x001456\0");
    dead.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        socket.send_to(&request, (server, 69))?;
        let mut buffer = [0; 512];
        let (len, from) = socket.recv_from(&mut buffer)?;
        let oack = buffer[..len].escape_ascii().to_string();
        assert!(oack.contains(",1758,1"), "it is the master: {oack}");
        socket.send_to(&[0, 4, 0, 0], from)?;
        Ok(())
    })
    .unwrap();
    let began = std::time::Instant::now();
    let target = run.folder.join("got");
    clients::atftp(
        &alive,
        server,
        &name,
        &target,
        &["multicast", "blksize 1456"],
    )
    .unwrap();
    let took = began.elapsed();
    assert!(fs::read(&target).unwrap() == bytes);
    say(&format!("the next client had the file after {took:?}"));
    // Usual are two seconds. A client that is alone would be waited for for ten.
    assert!(took < Duration::from_secs(9), "{took:?}");
}

const MTFTP: &str = "[tftp.mtftp]\ntimeout = 1\ndelay = 1";

/// T12, Z6, Z7: BIOS ROMs are told where to listen, as configured; three of them share one stream, the late one gets
/// what it missed, and one that dies in the middle does not keep the others from their file.
#[test]
fn t12_z7_mtftp_clients_share_one_stream() {
    let run = run("multicast-mtftp", MTFTP);
    let hosts: Vec<_> = (10..13).map(|n| run.client(n)).collect();
    for host in &hosts {
        clients::udhcpc(host, &run.folder, &[]).unwrap();
    }
    let offers: Vec<_> = (10..)
        .zip(&hosts)
        .map(|(n, host)| mtftp::offered(&mtftp::discover(host, mac(n), 0).unwrap()).unwrap())
        .collect();
    let (name, bytes) = run.loader("ipxe-undionly-bios");
    let offer = &offers[0];
    let told = (
        offer.group.to_string(),
        offer.server_port,
        offer.timeout,
        offer.delay,
    );
    assert_eq!(told, ("239.255.67.65:1758".to_owned(), 1759, 1, 1));
    assert_eq!(offer.file, name);
    assert!(
        offers.iter().all(|other| other == offer),
        "one file, one group"
    );
    let fetch = |host: usize, dies: Option<u16>| {
        mtftp::fetch(&hosts[host], offer, dies, Duration::from_secs(120))
    };
    let recording = run.lan.record(&run.folder.join("lan.pcap")).unwrap();
    let fetched: Vec<_> = thread::scope(|scope| {
        let fetch = &fetch;
        let running: Vec<_> = (0..3)
            .map(|n| scope.spawn(move || fetch(n, None)))
            .collect();
        running
            .into_iter()
            .map(|one| one.join().unwrap().unwrap())
            .collect()
    });
    recording.finish().unwrap();
    assert!(fetched.iter().all(|one| one.bytes == bytes));
    let (blocks, alone) = run.heard();
    let (sent, needed) = (blocks.values().sum::<u32>(), bytes.len() / 512 + 1);
    say(&format!(
        "3 clients, {needed} blocks: {sent} to the group, {} to clients",
        alone.len()
    ));
    assert_eq!(blocks.len(), needed);
    // A stream whose master is not running for a while is given up, and then another one brings what is left. Three
    // clients that share nothing would make it three copies.
    assert!(sent as usize <= 2 * needed, "{blocks:?}");
    // Who lost the race to open is offered a turn of its own, which begins with block 1 to it alone.
    assert!(alone.iter().all(|block| *block == 1), "{alone:?}");
    // The stream stops in the middle, and its server has not noticed yet when the others begin to listen.
    let died = fetch(0, Some(20)).unwrap_err().to_string();
    assert!(died.contains("dies"), "{died}");
    let late: Vec<_> = thread::scope(|scope| {
        let fetch = &fetch;
        let late = [1, 2].map(|n| scope.spawn(move || fetch(n, None)));
        late.into_iter()
            .map(|one| one.join().unwrap().unwrap())
            .collect()
    });
    assert!(late.iter().all(|one| one.bytes == bytes));
    assert!(late.iter().any(|one| one.opened), "somebody took over");
}

/// Z7: TFTP is the default, and UEFI is never told of MTFTP, since edk2 throws such offers away.
#[test]
fn z7_without_the_table_and_for_uefi_there_is_tftp_alone() {
    let on = run("multicast-uefi", MTFTP);
    let host = on.client(10);
    let reply = mtftp::discover(&host, mac(20), 7).unwrap();
    assert_eq!(mtftp::offered(&reply), None, "UEFI");
    let reply = mtftp::discover(&host, mac(21), 0).unwrap();
    assert!(mtftp::offered(&reply).is_some(), "BIOS");
    drop(on);
    let elsewhere = format!("{MTFTP}\nnetworks = [\"10.78.0.0/24\"]");
    let elsewhere = run("multicast-elsewhere", &elsewhere);
    let reply = mtftp::discover(&elsewhere.client(10), mac(23), 0).unwrap();
    assert_eq!(mtftp::offered(&reply), None, "another network");
    drop(elsewhere);
    let off = run("multicast-off", "");
    let host = off.client(10);
    let reply = mtftp::discover(&host, mac(22), 0).unwrap();
    assert_eq!(mtftp::offered(&reply), None, "off");
    let (name, bytes) = off.loader("ipxe-undionly-bios");
    let target = off.folder.join("got");
    clients::udhcpc(&host, &off.folder, &[]).unwrap();
    let server = off.site.host().address().unwrap();
    // A client that asks for multicast gets its options without it.
    clients::atftp(
        &host,
        server,
        &name,
        &target,
        &["multicast", "blksize 1456"],
    )
    .unwrap();
    assert!(fs::read(&target).unwrap() == bytes);
}
