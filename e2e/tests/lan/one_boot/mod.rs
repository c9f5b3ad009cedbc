//! One boot, recorded whole: what each stage asked for, what became of it in the record, and what somebody gets of
//! it who listens or forges.

mod forger;
mod listener;

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use farrier_e2e::{
    Capture, Firmware, Host, Lab, Lan, Machine, Mode, Site,
    capture::{Datagram, Stream},
    clients, command,
    lab::until,
};
use listener::{encrypted_behind_the_loader, script_and_files_by_http};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(150);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const AGENT_PLANE: SocketAddrV4 = SocketAddrV4::new(SERVER, 8444);
const BOOT_PLANE: SocketAddrV4 = SocketAddrV4::new(SERVER, 8067);
/// What OVMF says of itself, for udhcpc.
const FIRMWARE: [&str; 4] = ["-V", "PXEClient:Arch:00007:UNDI:003000", "-x", "0x5d:0007"];

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
}

/// F9, F10, T13, X2, X3, Z9, Z17: a UEFI machine that nobody knows boots by PXE, iPXE and a script into the agent,
/// while all that crosses the LAN is recorded; then somebody on the LAN tries what he has read.
#[test]
fn f9_f10_t13_x2_x3_z9_z17_one_boot_recorded() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("one-boot").unwrap();
    let lan = Lan::new().unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Dhcp).unwrap();
    let run = Run { folder, lan, site };
    let secrets = run.plant();
    let file = run.folder.join("boot.pcap");
    let recording = run.lan.record(&file).unwrap();

    let machine = Machine::new("one", Firmware::UefiPxe4, 81);
    let mut vm = machine.start(&run.lan, &run.folder).unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    // Before it restarts for want of work.
    vm.power_off().unwrap();
    recording.finish().unwrap();
    let capture = Capture::read(&file).unwrap();

    run.one_record(&machine);
    run.one_chain(&machine);
    run.last_packets_for_other_programs(&machine);
    let address = run.one_address(&machine, &capture);
    let stages = run.lan.host("stages", None).unwrap();
    let mac = machine.mac();
    stages.ip(["link", "set", "eth0", "address", mac]).unwrap();
    run.compared_with_a_boot_that_stops(&machine, &stages);
    run.same_under_other_names(&machine, &stages, address);
    let token = script_and_files_by_http(&capture, address);
    encrypted_behind_the_loader(&capture, address);

    assert_eq!(
        capture.finds(token.as_bytes()),
        Some("plain"),
        "what did cross the LAN is found"
    );
    for (name, secret) in secrets {
        assert_eq!(capture.finds(&secret), None, "{name} crossed the LAN");
    }
    run.nothing_for_who_forges(&machine, &token);
}

impl Run {
    /// All kinds of secrets that this server has, two of them made for the occasion.
    fn plant(&self) -> Vec<(String, Vec<u8>)> {
        let password = "Tr0ub4dor-and-a-horse";
        let person = json!({ "name": "anna", "password": password, "role": "admin" });
        self.site.post("users", &person).unwrap();
        let token = json!({ "name": "program", "role": "operator" });
        let made = self.site.post("tokens", &token).unwrap();
        let policy = json!({ "enrolment": "automatic", "unknown_machine": "register" });
        self.site.put("policy", &policy).unwrap();
        let read = |name: &str| fs::read(self.site.data().join(name)).unwrap();
        let admin = String::from_utf8(read("admin.token")).unwrap();
        let mut secrets = vec![
            ("a password".to_owned(), password.into()),
            (
                "an API token".to_owned(),
                made["token"].as_str().unwrap().into(),
            ),
            ("the admin token".to_owned(), admin.trim().into()),
            // PKCS#8 of Ed25519 (RFC 8410 section 7): the key itself.
            (
                "the key of images".to_owned(),
                read("ca/images.key")[16..48].to_vec(),
            ),
        ];
        let root = String::from_utf8(read("ca/root.key")).unwrap();
        let body: Vec<&str> = root.lines().filter(|l| !l.starts_with("-----")).collect();
        let der = BASE64_STANDARD.decode(body.concat()).unwrap();
        secrets.push(("the authority's key".to_owned(), der[36..68].to_vec()));
        for (number, line) in body.iter().enumerate() {
            let name = format!("line {number} of the authority's key");
            secrets.push((name, line.as_bytes().to_vec()));
        }
        assert!(secrets.iter().all(|(_, secret)| secret.len() >= 12));
        secrets
    }

    /// X2: ROM, loader and agent are one machine, and nobody else was seen.
    fn one_record(&self, machine: &Machine) {
        let page = self.site.get("machines").unwrap();
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page:#}");
        let status = self.site.get("status").unwrap();
        assert_eq!(status["machines"]["total"], 1, "{status:#}");
        let strangers = status["strangers"].to_string();
        assert!(!strangers.contains(machine.mac()), "{strangers}");
        let known = self.site.machine(machine.mac()).unwrap();
        assert_eq!(known["registration"], "approved", "{known:#}");
        assert_eq!(known["macs"], json!([machine.mac()]), "{known:#}");
        assert_eq!(known["uuid"], machine.uuid(), "{known:#}");
        assert_eq!(known["inventory"]["nics"][0]["mac"], machine.mac());
    }

    /// Z17 and F10: the NBP, iPXE and the script in order, in one boot.
    fn one_chain(&self, machine: &Machine) {
        let told = self.site.told(machine.mac(), &["The agent enrolled"]);
        let told = told.unwrap();
        let mut rest = told.iter();
        for words in [
            "The firmware asks how to boot",
            "told to fetch a loader by TFTP",
            "It fetched snponly.efi",
            "It fetched the first script by TFTP",
            "told to start the agent to register",
            "It fetched the agent's kernel",
            "It fetched the agent",
            "The agent enrolled",
        ] {
            assert!(
                rest.any(|sentence| sentence.contains(words)),
                "{words:?} does not follow in {told:#?}"
            );
        }
        let known = self.site.machine(machine.mac()).unwrap();
        let path = format!("machines/{}/compare", known["id"].as_str().unwrap());
        let boots = self.site.get(&path).unwrap();
        assert_eq!(
            boots["verdict"],
            "There is no good boot before this one to compare it with."
        );
        assert_eq!(boots["last_is_good"], true, "{boots:#}");
        let steps = boots["steps"].to_string();
        for words in [
            "The firmware asks",
            "It fetched snponly.efi",
            "The agent enrolled",
        ] {
            assert!(steps.contains(words), "{words} in {steps}");
        }
    }

    /// The capture that the server keeps of this machine, as a person looks at it with a program of others.
    fn last_packets_for_other_programs(&self, machine: &Machine) {
        let file = self.folder.join("machine.pcap");
        let file = file.to_str().unwrap();
        let save = ["machine", "capture", machine.mac(), "--output", file];
        self.site.farrier(&save).unwrap();
        let read = ["-n", "-v", "-Z", "root", "-r", file];
        let read = command::run(&mut command::command("tcpdump", read)).unwrap();
        for words in [
            "DHCP-Message (53), length 1: Discover",
            "DHCP-Message (53), length 1: ACK",
            "RRQ \"boot/ipxe-snponly-x64/snponly.efi\" octet",
        ] {
            assert!(read.contains(words), "{words} in {read}");
        }
    }

    /// Z17: the same firmware gets its address once more, and fetches nothing: laid beside the good boot, the first
    /// thing that did not happen is named.
    fn compared_with_a_boot_that_stops(&self, machine: &Machine, stages: &Host) {
        clients::udhcpc(stages, &self.folder, &FIRMWARE).unwrap();
        let known = self.site.machine(machine.mac()).unwrap();
        let path = format!("machines/{}/compare", known["id"].as_str().unwrap());
        let missing = "The first thing that did not happen this time: It fetched snponly.efi";
        let mut verdict = String::new();
        let named = until("that the second boot is told of", || {
            let boots = self.site.get(&path).unwrap();
            verdict = boots["verdict"].to_string();
            verdict.contains(missing) && boots["last_is_good"] == false
        });
        named.unwrap_or_else(|e| panic!("{e:#}: {verdict}"));
    }

    /// F10: the firmware asks for an address, and iPXE and the agent use the same one.
    fn one_address(&self, machine: &Machine, capture: &Capture) -> Ipv4Addr {
        let mine = |payload: &&[u8]| payload.get(28..34) == Some(&octets(machine.mac())[..]);
        let dhcp = capture.datagrams.iter().filter(|d| d.to.port() == 67);
        let requests: Vec<_> = dhcp.filter(|d| mine(&&d.payload[..])).collect();
        let asks = |kind: u8| {
            let class = b"PXEClient:Arch:00007";
            let fits = |d: &&&Datagram| {
                option(&d.payload, 53) == Some(&[kind])
                    && option(&d.payload, 60).is_some_and(|value| value.starts_with(class))
            };
            requests.iter().any(|d| fits(&d))
        };
        assert!(asks(1) && asks(3), "the ROM discovers and requests");
        let replies = capture.datagrams.iter().filter(|d| d.to.port() == 68);
        let lent: BTreeSet<_> = replies
            .map(|d| &d.payload[..])
            .filter(mine)
            .filter_map(|reply| Some((*option(reply, 53)?.first()?, reply.get(16..20)?.to_vec())))
            .filter(|(kind, _)| [2, 5].contains(kind))
            .map(|(_, address)| address)
            .collect();
        assert_eq!(
            lent.len(),
            1,
            "one address in all offers and ACKs: {lent:?}"
        );
        let octets: [u8; 4] = lent.first().unwrap()[..].try_into().unwrap();
        let address = Ipv4Addr::from(octets);
        let leases = self.site.get("leases").unwrap().to_string();
        assert_eq!(leases.matches(machine.mac()).count(), 1, "{leases}");
        assert!(leases.contains(&format!("\"{address}\"")), "{leases}");
        let first_script = capture
            .datagrams
            .iter()
            .find(|d| d.to.port() == 69 && d.payload.windows(13).any(|w| w == b"autoexec.ipxe"));
        assert_eq!(
            *first_script.expect("iPXE's first request").from.ip(),
            address
        );
        let agent = capture.streams.iter().find(|s| s.to == AGENT_PLANE);
        assert_eq!(*agent.expect("the agent's first words").from.ip(), address);
        address
    }

    /// F10: stages that do ask again name themselves otherwise, and stay the same machine with the same lease.
    fn same_under_other_names(&self, machine: &Machine, stages: &Host, address: Ipv4Addr) {
        let mac = machine.mac();
        let own = format!("0x3d:01{}", mac.replace(':', ""));
        let ipxe = ["-x", &own, "-x", "0x4d:69505845"];
        let system = ["-x", "0x3d:ff770051000100012f0c2d3a525400770051"];
        for (stage, words) in [
            ("a ROM without an identifier", FIRMWARE.to_vec()),
            ("iPXE", [&FIRMWARE[..], &ipxe].concat()),
            ("an operating system with a DUID", system.to_vec()),
        ] {
            let words = [&["-C"], &words[..]].concat();
            let told = clients::udhcpc(stages, &self.folder, &words).unwrap();
            assert_eq!(told["ip"], address.to_string(), "{stage}");
        }
        let leases = self.site.get("leases").unwrap().to_string();
        assert_eq!(leases.matches(mac).count(), 1, "{leases}");
        self.one_record(machine);
    }
}

/// The connection on which this address asked for a path that ends so.
fn asked<'a>(capture: &'a Capture, from: Ipv4Addr, end: &str) -> &'a Stream {
    let line = format!("{end} HTTP/1.1\r\n");
    let asks =
        |s: &&Stream| *s.from.ip() == from && String::from_utf8_lossy(&s.bytes).contains(&line);
    capture
        .streams
        .iter()
        .find(asks)
        .unwrap_or_else(|| panic!("nobody asked for {end}"))
}

/// An option of a DHCP message.
fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(240..)?;
    loop {
        match rest {
            [0, after @ ..] => rest = after,
            [code, length, after @ ..] if *code != 255 => {
                let value = after.get(..usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                rest = &after[value.len()..];
            }
            _ => return None,
        }
    }
}

fn octets(mac: &str) -> Vec<u8> {
    mac.split(':')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}
