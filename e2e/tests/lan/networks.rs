//! Several networks on the interfaces of one process, all of them at the same time.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use farrier_e2e::{
    Capture, Firmware, Host, Lab, Lan, Machine, Relay, Site, clients,
    clients::{PATIENTLY, Settings},
    mtftp,
    server::Dnsmasq,
};

const BOOT: Duration = Duration::from_secs(150);

/// 10.77 and, behind a relay, 10.78 get addresses of ours; 10.79 gets them from another server; 10.80 has ranges,
/// options and IPv6 of its own.
const NETWORKS: &str = r#"
[[interface]]
name = "eth0"
mode = "dhcp"

[[interface]]
name = "eth1"
mode = "proxy"

[[interface]]
name = "eth2"
mode = "dhcp"
rarp = true

[tftp.mtftp]
networks = ["10.77.0.0/24"]
timeout = 1
delay = 1

[[class]]
name = "telephones"
when = 'facts.vendor_class.startsWith("phone-")'
options = { tftp-server-name = "10.80.0.5" }

[[subnet]]
network = "10.77.0.0/24"
pools = ["10.77.0.100-10.77.0.199"]
routers = ["10.77.0.1"]
domain = "first.example"

[[subnet]]
network = "10.78.0.0/24"
pools = ["10.78.0.100-10.78.0.199"]
routers = ["10.78.0.1"]
domain = "behind.example"

[[subnet]]
network = "10.80.0.0/24"
pools = ["10.80.0.100-10.80.0.199", { range = "10.80.0.220-10.80.0.229", allow = ["telephones"] }]
routers = ["10.80.0.254"]
domain = "third.example"

[[subnet.reservation]]
address = "10.80.0.7"
mac = "52:54:00:80:00:07"

[[subnet6]]
network = "fd80::/64"
"#;

/// A network, and a folder for what its programs write.
struct Network<'a> {
    lan: &'a Lan,
    folder: PathBuf,
    /// How its addresses begin.
    begins: &'a str,
    router: &'a str,
    domain: &'a str,
    /// Our address as its clients must be told it.
    server: Ipv4Addr,
    site: &'a Site,
}

/// X1, Z5: DHCP server of one network, ProxyDHCP of the second beside a foreign server, DHCP server of the third with
/// IPv6, and of a fourth behind a relay, in one process and at once. Real firmware boots on the second while clients
/// of others get addresses, boot files and programs on the rest, and nobody hears of another's network.
#[test]
fn x1_many_networks_at_once_in_one_process() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("networks").unwrap();
    let [first, second, third] = [(); 3].map(|()| Lan::new().unwrap());
    let host = first.server().unwrap();
    let [on_second, on_third] = [Ipv4Addr::new(10, 79, 0, 1), Ipv4Addr::new(10, 80, 0, 1)];
    second.also(&host, "eth1", on_second).unwrap();
    third.also(&host, "eth2", on_third).unwrap();
    host.ip(["addr", "add", "fd80::1/64", "dev", "eth2", "nodad"])
        .unwrap();
    let relay = Relay::new(&first, &[&host]).unwrap();
    let other = second.host("other", Some(Ipv4Addr::new(10, 79, 0, 2)));
    let foreign = Dnsmasq::addresses(Ipv4Addr::new(10, 79, 0, 50), Ipv4Addr::new(10, 79, 0, 99));
    let foreign = foreign.start(&other.unwrap(), &folder).unwrap();
    let site = Site::serving(&lab, host, &folder, NETWORKS).unwrap();
    let _dhcrelay = relay.start(&lab, &folder).unwrap();
    let recorded = [
        (&first, "10.77"),
        (&relay.far, "10.78"),
        (&second, "10.79"),
        (&third, "10.80"),
    ];
    let recordings = recorded.map(|(lan, name)| {
        let file = folder.join(format!("{name}.pcap"));
        (lan.record(&file).unwrap(), file, name)
    });

    let network = |lan, begins, router, domain, server| Network {
        folder: folder.join(begins),
        lan,
        begins,
        router,
        domain,
        server,
        site: &site,
    };
    let own = Ipv4Addr::new(10, 77, 0, 1);
    let networks = [
        network(&first, "10.77.0.1", "10.77.0.1", "first.example", own),
        network(&relay.far, "10.78.0.1", "10.78.0.1", "behind.example", own),
        network(
            &third,
            "10.80.0.1",
            "10.80.0.254",
            "third.example",
            on_third,
        ),
    ];
    let machine = Machine::new("proxied", Firmware::Bios, 63);
    let mut vm = machine.start(&second, &folder).unwrap();
    thread::scope(|scope| {
        for network in &networks {
            scope.spawn(|| network.is_served());
        }
        scope.spawn(|| networks[2].has_its_own_ways());
        scope.spawn(|| networks[2].is_served_over_ipv6());
        scope.spawn(|| networks[0].has_mtftp(10, true));
        scope.spawn(|| networks[2].has_mtftp(11, false));
    });
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    vm.power_off().unwrap();

    assert!(
        foreign.log().contains(machine.mac()),
        "its address is foreign"
    );
    let known = site.machine(machine.mac()).unwrap();
    assert_eq!(known["registration"], "approved", "{known:#}");
    let leases = site.get("leases").unwrap().to_string();
    for network in &networks {
        assert!(leases.contains(network.begins), "{leases}");
    }
    assert!(!leases.contains("10.79.0."), "{leases}");
    for (recording, file, name) in recordings {
        recording.finish().unwrap();
        nothing_leaked(&file, name);
    }
}

impl Network<'_> {
    fn client(&self, name: &str) -> (Host, PathBuf) {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        (self.lan.host(name, None).unwrap(), folder)
    }

    /// Addresses, boot files by both protocols and scripts are of this network.
    fn is_served(&self) {
        // A machine that was on another network a moment ago, and asks for what it had there.
        let (roaming, folder) = self.client("roaming");
        roaming
            .ip(["link", "set", "eth0", "address", "52:54:00:77:99:99"])
            .unwrap();
        for had in ["10.77.0.199", "10.80.0.199", "10.78.0.199"] {
            let told = clients::udhcpc(&roaming, &folder, &["-r", had]).unwrap();
            self.is_of_here(&told);
        }

        let (rom, folder) = self.client("rom");
        let bios = ["-V", "PXEClient:Arch:00000:UNDI:002001", "-x", "0x5d:0000"];
        let told = clients::udhcpc(&rom, &folder, &bios).unwrap();
        self.is_of_here(&told);
        assert_eq!(told["siaddr"], self.server.to_string(), "{told:?}");
        let address = format!("{}/24", told["ip"]);
        rom.ip(["addr", "add", &address, "dev", "eth0"]).unwrap();
        if !self.begins.starts_with(&self.server.to_string()[..5]) {
            rom.ip(["route", "add", "default", "via", self.router])
                .unwrap();
        }
        let (name, bytes) = self.site.loader().unwrap();
        assert_eq!(told["boot_file"], name, "{told:?}");
        let target = folder.join("fetched");
        clients::tftp_hpa(&rom, self.server, &name, &target).unwrap();
        assert!(fs::read(&target).unwrap() == bytes, "TFTP");

        let http = ["-V", "HTTPClient:Arch:00016:UNDI:003001", "-x", "0x5d:0010"];
        let told = clients::udhcpc(&rom, &folder, &http).unwrap();
        let base = format!("http://{}:8067/", self.server);
        assert!(told["boot_file"].starts_with(&base), "{told:?}");
        fetched(&rom, &folder, &told["boot_file"]);
        let script = "boot/script?mac=52-54-00-77-99-99&platform=efi&buildarch=x86_64";
        let script = clients::curl(&rom, &["--fail"], &format!("{base}{script}")).unwrap();
        let names_us = format!("//{}", self.server);
        assert!(script.contains(&names_us), "{script}");
    }

    fn is_of_here(&self, told: &Settings) {
        assert!(told["ip"].starts_with(self.begins), "{told:?}");
        assert_eq!(told["router"], self.router, "{told:?}");
        assert_eq!(told["domain"], self.domain, "{told:?}");
        assert_eq!(told["serverid"], self.server.to_string(), "{told:?}");
    }

    /// A ROM finds its program on the network's stream, or is told of none.
    fn has_mtftp(&self, last: u8, is_told: bool) {
        let octets = self.server.octets();
        let own = Ipv4Addr::new(octets[0], octets[1], octets[2], last);
        let host = self.lan.host("mtftp", Some(own)).unwrap();
        host.ip(["route", "add", "224.0.0.0/4", "dev", "eth0"])
            .unwrap();
        let folder = self.folder.join("mtftp");
        fs::create_dir_all(&folder).unwrap();
        // Streams are for who has spoken DHCP with us under its own card (T8).
        clients::udhcpc(&host, &folder, &[]).unwrap();
        let reply = mtftp::discover(&host, [0x52, 0x54, 0, 0x77, 0x88, last], 0).unwrap();
        let offer = mtftp::offered(&reply);
        assert_eq!(offer.is_some(), is_told, "{offer:?}");
        let Some(offer) = offer else { return };
        assert_eq!(offer.server, self.server, "{offer:?}");
        let fetched = mtftp::fetch(&host, &offer, None, Duration::from_secs(120)).unwrap();
        assert!(fetched.bytes == self.site.loader().unwrap().1, "MTFTP");
    }

    /// A class with a range and an option of its own, BOOTP and RARP.
    fn has_its_own_ways(&self) {
        let (telephone, folder) = self.client("telephone");
        let asks = ["-V", "phone-7", "-O", "tftp"];
        let told = clients::udhcpc(&telephone, &folder, &asks).unwrap();
        assert_eq!(told["ip"], "10.80.0.220", "{told:?}");
        assert_eq!(told["tftp"], "10.80.0.5", "{told:?}");

        let (old, folder) = self.client("old");
        let reply = clients::bootp(&old, [0x52, 0x54, 0, 0x80, 0, 7], PATIENTLY).unwrap();
        let reply = reply.expect("a BOOTREPLY");
        assert_eq!(reply[16..20], [10, 80, 0, 7], "yiaddr");
        assert_eq!(reply[20..24], [10, 80, 0, 1], "siaddr");
        let heard = clients::hear_rarp(&old, &folder).unwrap();
        clients::rarp(&old, [0x52, 0x54, 0, 0x80, 0, 7]).unwrap();
        heard
            .wait_for("at 10.80.0.7", Duration::from_secs(5))
            .unwrap();
    }

    fn is_served_over_ipv6(&self) {
        let (client, folder) = self.client("six");
        let configuration = "send dhcp6.client-arch-type 7;\nalso request dhcp6.bootfile-url;\n";
        let lease = clients::dhclient6(&client, &folder, configuration).unwrap();
        let (_, address) = lease.split_once("iaaddr ").unwrap();
        let (address, _) = address.split_once(' ').unwrap();
        assert!(address.starts_with("fd80::"), "{lease}");
        let (_, url) = lease.split_once("bootfile-url \"").unwrap();
        let (url, _) = url.split_once('"').unwrap();
        assert!(url.starts_with("tftp://[fd80::1]/boot/"), "{lease}");
        let address = format!("{address}/64");
        client
            .ip(["addr", "add", &address, "dev", "eth0", "nodad"])
            .unwrap();
        let by_tftp = fetched(&client, &folder, url);
        let url = url.replace("tftp://[fd80::1]", "http://[fd80::1]:8067");
        assert!(by_tftp == fetched(&client, &folder, &url), "the same file");
        let first = "http://[fd80::1]:8067/boot/first.ipxe";
        let first = clients::curl(&client, &["--fail"], first).unwrap();
        assert!(!first.contains("10."), "{first}");
    }
}

/// A file, which is a program and no page that says what is wrong.
fn fetched(client: &Host, folder: &Path, url: &str) -> Vec<u8> {
    let target = folder.join("fetched");
    let _ = fs::remove_file(&target);
    let output = target.display().to_string();
    clients::curl(client, &["--fail", "--output", &output], url).unwrap();
    let bytes = fs::read(&target).unwrap();
    assert!(bytes.len() > 10_000, "{url} has {} bytes", bytes.len());
    bytes
}

/// No address of another network is in what was said about addresses and booting here, and none was written in any
/// file or script that came over this network in the clear.
fn nothing_leaked(recording: &Path, name: &str) {
    let seen = Capture::read(recording).unwrap();
    let replies = || {
        let said = seen.datagrams.iter();
        said.filter(|one| [67, 4011].contains(&one.from.port()) && one.payload.first() == Some(&2))
    };
    for other in ["10.77", "10.78", "10.79", "10.80"] {
        // The relay is on both of its networks, and what it carries is of both.
        let related = ["10.77", "10.78"];
        if other == name || (related.contains(&name) && related.contains(&other)) {
            continue;
        }
        let text = format!("{other}.0.");
        assert_eq!(seen.finds(text.as_bytes()), None, "{text} on {name}");
        let (_, second) = other.split_once('.').unwrap();
        let octets = [10, second.parse().unwrap(), 0];
        for datagram in replies() {
            let found = datagram.payload.windows(3).any(|bytes| bytes == octets);
            assert!(!found, "{other} in what {} said on {name}", datagram.from);
        }
    }
    // Behind the relay we have the address of the network in front of it.
    let own = if name == "10.78" { "10.77" } else { name };
    let found = seen.finds(format!("{own}.0.1:8067").as_bytes());
    assert_eq!(found, Some("plain"), "our URLs on {name}");
    assert!(replies().count() > 3, "{name} has answers in it");
}
