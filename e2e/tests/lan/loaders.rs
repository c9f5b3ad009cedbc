//! Loaders other than iPXE, on real firmware: PXELINUX, GRUB, and the signed chain under Secure Boot.

use std::{
    fs,
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, Instant},
};

use farrier_e2e::{
    Bus, Disk, Firmware, Lab, Lan, Machine, Mode, Program, Site, Vm, golden::Golden, report::say,
    server::Dnsmasq,
};
use serde_json::json;

use crate::local_disk::starts_within_10_seconds;

const BOOT: Duration = Duration::from_secs(150);

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
    _other: Vec<Program>,
}

/// A LAN with our server, whose catalogue lacks the loaders with ids that begin so.
fn run(name: &str, without: &[&str]) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    let site = Site::start_without(&lab, host, &folder, Mode::Dhcp, without).unwrap();
    Run {
        folder,
        lan,
        site,
        _other: Vec::new(),
    }
}

/// A DHCP server on another host that names a file of ours and our address; our server answers on TFTP, HTTP and
/// port 4011 only.
fn named_by_dnsmasq(name: &str, file: &str) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    let elsewhere = lan.other().unwrap();
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
    let address = host.address().unwrap();
    let dhcp = Dnsmasq::addresses(first, last)
        .with(&format!("--dhcp-boot={file},farrier,{address}"))
        .start(&elsewhere, &folder)
        .unwrap();
    let site = Site::start(&lab, host, &folder, Mode::Port4011).unwrap();
    Run {
        folder,
        lan,
        site,
        _other: vec![dhcp],
    }
}

/// Our server beside a DHCP server on another host that names nothing, which makes dnsmasq name itself.
fn beside_dnsmasq(name: &str, mode: Mode) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    let elsewhere = lan.other().unwrap();
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
    let dhcp = Dnsmasq::addresses(first, last)
        .start(&elsewhere, &folder)
        .unwrap();
    let site = Site::start_without(&lab, host, &folder, mode, &["ipxe"]).unwrap();
    let signed = serde_json::json!({ "enrolment": "automatic", "secure_boot": true });
    site.put("policy", &signed).unwrap();
    Run {
        folder,
        lan,
        site,
        _other: vec![dhcp],
    }
}

impl Run {
    fn start(&self, machine: &Machine) -> Vm {
        machine.start(&self.lan, &self.folder).unwrap()
    }

    /// Powers a machine on and waits for its agent's inventory; returns the seconds.
    fn registers(&self, machine: &Machine) -> f64 {
        let started = Instant::now();
        let mut vm = self.start(machine);
        vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
        let known = self.site.machine(machine.mac()).unwrap();
        assert_eq!(known["registration"], "approved", "{known:#}");
        started.elapsed().as_secs_f64()
    }

    fn told(&self, machine: &Machine) -> String {
        self.site.timeline(machine.mac()).unwrap().join("\n")
    }
}

/// Secure Boot with Microsoft's keys and nothing set on the machine: unsigned iPXE is refused and named, and the
/// next boot goes by shim, signed GRUB and signed kernel to the agent's inventory.
#[test]
fn k_secure_boot_gets_the_signed_chain() {
    let run = run("k-secure", &[]);
    let chain = run.site.farrier(&["loader", "show"]).unwrap();
    for words in [
        "shim-x64 starts it",
        "shim-x64 REFUSES it: it is not signed",
        "trusts Debian Secure Boot CA",
    ] {
        assert!(chain.contains(words), "{words} in\n{chain}");
    }
    let machine = Machine::new("secure", Firmware::SecurePxe4, 41).memory(768);
    let mut vm = run.start(&machine);
    vm.wait_for("Access Denied", BOOT).unwrap();
    vm.power_off().unwrap();
    let refused = "did not run. It is not signed";
    // So long the server waits for a word of the loader.
    std::thread::sleep(Duration::from_secs(22));
    let seconds = run.registers(&machine);
    let known = run.site.machine(machine.mac()).unwrap();
    assert_eq!(known["inventory"]["secure_boot"], true, "{known:#}");
    let told = run.told(&machine);
    for words in [refused, "shimx64.efi", "grubx64.efi", "GRUB's first script"] {
        assert!(told.contains(words), "{words} in\n{told}");
    }
    say(&format!("Secure Boot to the inventory: {seconds:.1} s"));
}

/// A foreign DHCP server names our PXELINUX, and our own server says nothing about booting: so the card's iPXE
/// takes it. It finds its configuration and starts the agent.
#[test]
fn l_pxelinux_starts_the_agent() {
    let run = named_by_dnsmasq("l-pxelinux", "boot/lpxelinux-bios/lpxelinux.0");
    let machine = Machine::new("pxelinux", Firmware::Bios, 42);
    let seconds = run.registers(&machine);
    let told = run.told(&machine);
    assert!(told.contains("its PXELINUX configuration"), "{told}");
    say(&format!("PXELINUX to the inventory: {seconds:.1} s"));
}

/// GRUB by TFTP starts the agent, since the site wants it rather than iPXE.
#[test]
fn m_grub_starts_the_agent() {
    let run = run("m-grub", &[]);
    let policy = serde_json::json!({ "enrolment": "automatic", "first_loader": "grub" });
    run.site.put("policy", &policy).unwrap();
    let machine = Machine::new("grub", Firmware::UefiPxe4, 43).memory(768);
    let seconds = run.registers(&machine);
    assert!(run.told(&machine).contains("its GRUB script"));
    say(&format!("GRUB to the inventory: {seconds:.1} s"));
}

/// GRUB that came by UEFI HTTP Boot, with Secure Boot (T4 of the firmware notes: left alone it stops at its prompt).
#[test]
fn n_http_boot_with_secure_boot_reaches_the_agent() {
    let run = run("n-secure-http", &["ipxe"]);
    run.site
        .put(
            "policy",
            &serde_json::json!({ "enrolment": "automatic", "secure_boot": true }),
        )
        .unwrap();
    let machine = Machine::new("http", Firmware::SecureHttp4, 44).memory(1024);
    let seconds = run.registers(&machine);
    let known = run.site.machine(machine.mac()).unwrap();
    assert_eq!(known["inventory"]["secure_boot"], true, "{known:#}");
    say(&format!(
        "HTTP Boot and Secure Boot to the inventory: {seconds:.1} s"
    ));
}

/// GRUB behind a foreign DHCP server that names itself as next server (T3 of the firmware notes: GRUB asks that one
/// for its files): it gets an address of our own small pool, Secure Boot included.
#[test]
fn o_grub_gets_on_beside_a_foreign_dhcp_server() {
    let run = beside_dnsmasq("o-pool", Mode::ProxyWithPool);
    let machine = Machine::new("pool", Firmware::SecurePxe4, 45).memory(768);
    let seconds = run.registers(&machine);
    let leases = run.site.get("leases").unwrap().to_string();
    assert!(
        leases.contains("10.77.0.20"),
        "an address of our pool: {leases}"
    );
    assert!(run.told(&machine).contains("its GRUB script"));
    say(&format!(
        "GRUB beside a foreign DHCP server to the inventory: {seconds:.1} s"
    ));
}

/// The same by HTTP Boot, where no address of ours is needed: the RAM disk's script names our server.
#[test]
fn p_http_boot_gets_on_beside_a_foreign_dhcp_server() {
    let run = beside_dnsmasq("p-http-proxy", Mode::Proxy);
    let machine = Machine::new("http", Firmware::SecureHttp4, 46).memory(1024);
    let seconds = run.registers(&machine);
    say(&format!(
        "HTTP Boot beside a foreign DHCP server to the inventory: {seconds:.1} s"
    ));
}

/// T11 of the firmware notes, by GRUB: nothing to do, so the disk's own loader is chain-loaded.
#[test]
fn q_grub_starts_the_local_disk() {
    let run = run("q-grub-local", &["ipxe", "shim"]);
    let disk = golden(&run, Bus::Nvme);
    let machine = Machine::new("local", Firmware::UefiPxe4, 47).disk(disk);
    let mut vm = without_work(&run, &machine);
    let ours = vm.wait_for("Welcome to GRUB!", BOOT).unwrap();
    let way = ["Farrier: starting the local disk", "Welcome to GRUB!"];
    starts_within_10_seconds(&mut vm, "GRUB", ours, &way);
    vm.wait_for("Debian GNU/Linux", BOOT).unwrap();
}

/// L2: the same by PXELINUX on a BIOS, which our own DHCP server names by an option of the machine: a rule says that
/// nothing of ours is named to the ROM.
#[test]
fn l2_our_dhcp_names_pxelinux_and_it_starts_the_local_disk() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("l2-pxelinux").unwrap();
    let lan = Lan::new().unwrap();
    let machine = Machine::new("local", Firmware::Bios, 48);
    let served = format!(
        "[[interface]]\nname = \"eth0\"\nmode = \"dhcp\"\n\n[[subnet]]\nnetwork = \"10.77.0.0/24\"\n\n\
         [[subnet.reservation]]\naddress = \"10.77.0.20\"\nmac = \"{}\"\n\
         options = {{ boot-file-name = \"boot/pxelinux-bios/pxelinux.0\" }}\n",
        machine.mac()
    );
    let site = Site::serving(&lab, lan.server().unwrap(), &folder, &served).unwrap();
    let rule =
        json!({ "name": "own-loader", "when": "facts.stage == 'ipxe'", "refuse_boot": true });
    site.put("policy/rules", &json!({ "rules": [rule] }))
        .unwrap();
    let run = Run {
        folder,
        lan,
        site,
        _other: Vec::new(),
    };
    let machine = machine.disk(golden(&run, Bus::Virtio));
    let mut vm = without_work(&run, &machine);
    vm.wait_for("pxelinux.0", BOOT).unwrap();
    let ours = vm
        .wait_for("Farrier: starting the local disk", BOOT)
        .unwrap();
    starts_within_10_seconds(&mut vm, "PXELINUX", ours, &["GRUB"]);
    let words = [
        "It has the address 10.77.0.20",
        "its PXELINUX configuration",
    ];
    run.site.told(machine.mac(), &words).unwrap();
}

/// GRUB fetches its script more than once in a boot, and a wish for one boot is one boot.
#[test]
fn z11_grub_uses_up_one_boot_of_a_wish() {
    let run = run("z11-grub-wish", &["ipxe", "shim"]);
    let machine = Machine::new("wish", Firmware::UefiPxe4, 50);
    run.site
        .farrier(&["machine", "add", machine.mac()])
        .unwrap();
    let wish = ["machine", "boot", machine.mac(), "diagnostics", "--boots"];
    run.site.farrier(&[&wish[..], &["2"]].concat()).unwrap();
    let left = || {
        let known = run.site.machine(machine.mac()).unwrap();
        let path = format!("machines/{}", known["id"].as_str().unwrap());
        run.site.get(&path).unwrap()["intent"]["boots_left"].as_u64()
    };
    for expected in [Some(1), None] {
        let mut vm = run.start(&machine);
        vm.wait_for("Press Escape to start the local disk", BOOT)
            .unwrap();
        assert_eq!(left(), expected, "{}", run.told(&machine));
        vm.power_off().unwrap();
    }
}

/// A floppy made by `farrier media`, started from memory by MEMDISK: a foreign DHCP server names its script.
#[test]
fn s_a_floppy_starts_from_memory() {
    let run = named_by_dnsmasq("s-memdisk", "http://10.77.0.1:8067/boot/media/dos.img.ipxe");
    let (media, files) = (run.site.data().join("media"), run.folder.join("files"));
    fs::create_dir_all(&media).unwrap();
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("FARRIER.BAT"), b"").unwrap();
    let image = media.join("dos.img");
    let made = [
        "media",
        "floppy",
        "create",
        image.to_str().unwrap(),
        files.to_str().unwrap(),
    ];
    run.site.farrier(&made).unwrap();
    let mut floppy = fs::read(&image).unwrap();
    floppy[0x3e..0x3e + MARKER.len()].copy_from_slice(MARKER);
    fs::write(&image, floppy).unwrap();
    let machine = Machine::new("floppy", Firmware::Bios, 49);
    let mut vm = run.start(&machine);
    let seconds = vm.wait_for("FLOPPY STARTED", BOOT).unwrap();
    say(&format!(
        "MEMDISK to the floppy's boot sector: {seconds:.1} s"
    ));
}

/// Behind the volume's parameters in the boot sector at 0x7c00: prints the text that follows it by INT 10h. SeaBIOS
/// holds the last letters back from the serial line, so there are more than are waited for.
const MARKER: &[u8] = b"\x31\xc0\x8e\xd8\xbe\x53\x7c\xac\x84\xc0\x74\xfe\xb4\x0e\xbb\x07\x00\xcd\x10\xeb\xf2FLOPPY STARTED FROM MEMORY\r\n\0";

fn golden(run: &Run, bus: Bus) -> Disk {
    let golden = Golden::ensure(&Lab::open().unwrap()).unwrap();
    Disk::overlay(&golden.image, run.folder.join("disk.qcow2"), bus, "LOCAL").unwrap()
}

fn without_work(run: &Run, machine: &Machine) -> Vm {
    let policy = serde_json::json!({ "menu": "never", "unknown_machine": "menu" });
    run.site.put("policy", &policy).unwrap();
    run.start(machine)
}
