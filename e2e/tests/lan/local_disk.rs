//! How soon the local disk starts when a machine has nothing to do.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use farrier_e2e::{
    Bus, Debs, Disk, Firmware, Lab, Lan, Machine, Mode, Program, Site, Suite, Vm,
    golden::Golden,
    lab::{patience, stretched},
    report::say,
    server::Dnsmasq,
};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(150);

/// Waits for the words that lead from a loader to the disk's own, one after another. `began` is when the loader showed
/// itself, in seconds after power-on, and the words follow what was waited for then.
///
/// The goal is 10 seconds on a machine with nothing else to do: those in which the emulated one was kept from running
/// do not count.
pub(crate) fn starts_within_10_seconds(vm: &mut Vm, loader: &str, began: f64, words: &[&str]) {
    let before = vm.kept_waiting();
    let mut reached = began;
    for words in words {
        reached = vm.wait_for(words, BOOT).unwrap();
    }
    let seconds = reached - began;
    let waited = vm.kept_waiting() - before;
    say(&format!(
        "{loader} to the disk's loader: {seconds:.1} s, of which it waited for a processor for {waited:.1} s"
    ));
    let limit = stretched(Duration::from_secs(10)).as_secs_f64();
    assert!(seconds - waited <= limit, "{seconds} s, {waited} s");
}

/// A site as Debian 12 alone makes it.
struct Debian12 {
    lab: Lab,
    folder: PathBuf,
    lan: Lan,
    site: Site,
    _other: Option<Program>,
}

impl Debian12 {
    /// Without any loader for PCs yet.
    fn new(name: &str, mode: Mode) -> Self {
        let lab = Lab::open().unwrap();
        let folder = lab.scratch(name).unwrap();
        let lan = Lan::new().unwrap();
        let host = lan.server().unwrap();
        let other = (mode == Mode::Proxy).then(|| dnsmasq(&lan, &folder));
        let left_out = ["ipxe", "grub", "shim"];
        let site = Site::start_without(&lab, host, &folder, mode, &left_out).unwrap();
        Self {
            lab,
            folder,
            lan,
            site,
            _other: other,
        }
    }

    /// Imports a package of the installed release, and returns what the command said beside its list.
    fn import(&self, package: &str) -> String {
        let debs = Debs::open(&self.lab).unwrap();
        let kept = format!("{package}-installed");
        let deb = debs.fetch_as(&kept, package, Suite::Installed).unwrap();
        let arguments = ["loader", "import", deb.path.to_str().unwrap()];
        let output = self.site.command(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Waits until the running server has this boot program.
    fn has(&self, id: &str) {
        let began = Instant::now();
        while !self.site.get("loaders").unwrap().to_string().contains(id) {
            assert!(
                began.elapsed() < patience(Duration::from_secs(20)),
                "{id} was not noticed"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the doctor says of local disks.
    fn doctor(&self) -> String {
        let doctor = self.site.get("doctor").unwrap();
        let checks = doctor["checks"].as_array().unwrap();
        let ours = |name: &str| name.starts_with("local disk");
        let ours = checks.iter().filter(|c| ours(c["name"].as_str().unwrap()));
        ours.map(ToString::to_string).collect()
    }

    fn start(&self, machine: Machine, bus: Bus) -> Vm {
        let golden = Golden::ensure(&self.lab).unwrap();
        let path = self.folder.join("disk.qcow2");
        let disk = Disk::overlay(&golden.image, path, bus, "LOCAL").unwrap();
        machine.disk(disk).start(&self.lan, &self.folder).unwrap()
    }
}

/// Names no boot file, and itself as next server.
fn dnsmasq(lan: &Lan, folder: &Path) -> Program {
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
    let addresses = Dnsmasq::addresses(first, last);
    addresses.start(&lan.other().unwrap(), folder).unwrap()
}

/// Ours, and then the disk's own.
const GRUB_TO_GRUB: [&str; 3] = [
    "Welcome to GRUB!",
    "Farrier: starting the local disk",
    "Welcome to GRUB!",
];

/// T11 of the firmware notes with the iPXE that Debian 12 has, which starts no disk on UEFI: the import and the doctor
/// say that it would take minutes and what helps, and with that GRUB it does not.
#[test]
fn local_disk_by_old_ipxe_on_uefi_is_started_by_grub() {
    let run = Debian12::new("old-ipxe-disk", Mode::Dhcp);
    let _router = run.lan.router(&run.folder).unwrap();
    let slow = "takes minutes on many";
    let said = run.import("ipxe");
    for words in [slow, "grub-efi-amd64-signed"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    run.has("ipxe-snponly-x64");
    assert!(run.doctor().contains(slow), "{}", run.doctor());
    let said = run.import("grub-efi-amd64-signed");
    assert!(!said.contains(slow), "{said}");
    run.has("grub-net-x64");
    assert_eq!(run.doctor(), "");

    let nothing_to_do = json!({ "menu": "never", "unknown_machine": "menu" });
    run.site.put("policy", &nothing_to_do).unwrap();
    let machine = Machine::new("local", Firmware::UefiPxe4, 51);
    let mac = machine.mac().to_owned();
    let mut vm = run.start(machine, Bus::Nvme);
    for boot in ["first", "second"] {
        if boot == "second" {
            vm.reset().unwrap();
        }
        let ours = vm.wait_for("iPXE initialising devices", BOOT).unwrap();
        let way = format!("iPXE 1.0 of the {boot} boot");
        starts_within_10_seconds(&mut vm, &way, ours, &GRUB_TO_GRUB);
        vm.wait_for("Debian GNU/Linux", BOOT).unwrap();
    }
    let words = [
        "to start the local disk",
        "GRUB's script that starts the local disk",
    ];
    let told = run.site.told(&mac, &words).unwrap();
    assert!(!told.join("\n").contains("never asked"), "{told:#?}");
}

/// The same beside a foreign DHCP server that names itself as next server, of whom GRUB would ask its script (T3 of the
/// firmware notes), and for somebody who picks the disk in iPXE's menu: GRUB does not ask again.
#[test]
fn local_disk_by_old_ipxe_on_uefi_is_started_by_grub_beside_a_foreign_dhcp_server() {
    let run = Debian12::new("old-ipxe-proxy", Mode::Proxy);
    let _router = run.lan.router(&run.folder).unwrap();
    run.import("ipxe");
    run.import("grub-efi-amd64-signed");
    run.has("ipxe-snponly-x64");
    run.has("grub-net-x64");
    let by_menu = json!({ "menu": "always", "menu_timeout_s": 600, "unknown_machine": "menu" });
    run.site.put("policy", &by_menu).unwrap();
    let machine = Machine::new("local", Firmware::UefiPxe4, 52);
    let mut vm = run.start(machine, Bus::Ahci);
    let shown = vm.wait_for("Show what the server decides", BOOT).unwrap();
    vm.press("l").unwrap();
    starts_within_10_seconds(&mut vm, "The menu of iPXE 1.0", shown, &GRUB_TO_GRUB);
    vm.wait_for("Debian GNU/Linux", BOOT).unwrap();
}
