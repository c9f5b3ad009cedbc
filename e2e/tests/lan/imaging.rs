//! Disks over the network: captured, deployed, started, broken and repaired; and what is refused.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use farrier_e2e::{
    Bus, Disk, Firmware, Lab, Lan, Machine, Mode, Site, Vm,
    damage::overwrite_blocks,
    golden::{self, Golden, LOGIN},
    report::say,
};
use serde_json::json;

use crate::local_disk::starts_within_10_seconds;

const BOOT: Duration = Duration::from_secs(150);
const TASK: Duration = Duration::from_secs(300);
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
const IMAGE: &str = "golden";

struct Run {
    golden: Golden,
    folder: PathBuf,
    lan: Lan,
    site: Site,
}

fn run(name: &str) -> Run {
    let lab = Lab::open().unwrap();
    let golden = Golden::ensure(&lab).unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Dhcp).unwrap();
    Run {
        golden,
        folder,
        lan,
        site,
    }
}

impl Run {
    /// A machine we know before it is switched on.
    fn known(&self, machine: &Machine) {
        self.site
            .post("machines", &json!({ "macs": [machine.mac()] }))
            .unwrap();
    }

    /// Puts the golden disk into the store without a machine.
    fn import(&self) {
        let image = self.golden.image.display().to_string();
        self.site
            .farrier(&["image", "import", "--as", IMAGE, &image])
            .unwrap();
    }

    fn blank(&self, name: &str, bytes: u64, bus: Bus) -> Disk {
        Disk::blank(self.folder.join(format!("{name}.raw")), bytes, bus, name).unwrap()
    }

    fn deploy(serial: &str) -> serde_json::Value {
        json!({ "kind": "deploy", "image": IMAGE, "disk": { "serial": serial } })
    }
}

/// The main job (T18, T19, Z1-Z3, Z21, R16): a real Debian disk is captured on one machine, deployed to a blank
/// NVMe disk of a UEFI machine, started from there; then broken, repaired and started again.
#[test]
fn e_t18_capture_deploy_boot_and_f_t19_repair() {
    let run = run("e-main");

    let source = Disk::overlay(
        &run.golden.image,
        run.folder.join("source.qcow2"),
        Bus::Virtio,
        "SOURCE",
    )
    .unwrap();
    let teacher = Machine::new("teacher", Firmware::Bios, 21).disk(source);
    run.known(&teacher);
    let work = json!({ "kind": "capture", "image": IMAGE, "disk": { "serial": "SOURCE" } });
    let task = run.site.order(teacher.mac(), &work, "power_off").unwrap();
    let mut vm = teacher.start(&run.lan, &run.folder).unwrap();
    run.site
        .wait_done(&task, TASK)
        .unwrap_or_else(|e| panic!("{e:#}\n{}", vm.tail()));
    vm.wait_for_power_off(BOOT).unwrap();
    let image = run.site.get(&format!("images/{IMAGE}")).unwrap();
    say(&format!("captured: {}", image["versions"][0]));

    let target = run.blank("TARGET", 3 * GIB, Bus::Nvme);
    let path = target.path().to_path_buf();
    let pupil = Machine::new("pupil", Firmware::UefiPxe4, 22).disk(target);
    run.known(&pupil);
    let task = run
        .site
        .order(pupil.mac(), &Run::deploy("TARGET"), "local_boot")
        .unwrap();
    let mut vm = pupil.start(&run.lan, &run.folder).unwrap();
    run.site
        .wait_done(&task, TASK)
        .unwrap_or_else(|e| panic!("{e:#}\n{}", vm.tail()));
    vm.wait_for(LOGIN, BOOT).unwrap();
    vm.power_off().unwrap();

    let broken = overwrite_blocks(&path, 5, 77).unwrap();
    say(&format!(
        "overwrote {} MiB of the disk with noise",
        broken / MIB
    ));
    let repair = json!({ "kind": "repair", "image": IMAGE, "disk": { "serial": "TARGET" } });
    let task = run.site.order(pupil.mac(), &repair, "local_boot").unwrap();
    let mut vm = pupil.start(&run.lan, &run.folder).unwrap();
    run.site
        .wait_done(&task, TASK)
        .unwrap_or_else(|e| panic!("{e:#}\n{}", vm.tail()));
    vm.wait_for(LOGIN, BOOT).unwrap();
    let told = run.site.timeline(pupil.mac()).unwrap();
    let done = told.iter().rev().find(|s| s.starts_with("Done")).unwrap();
    say(&format!("repair: {done}"));
    let moved: u64 = done
        .rsplit(", ")
        .next()
        .and_then(|part| part.split(' ').next()?.parse().ok())
        .unwrap();
    let stored = image["versions"][0]["stored_bytes"].as_u64().unwrap() / MIB;
    assert!(
        moved * 10 < stored,
        "{moved} MiB of {stored} MiB crossed the network"
    );
}

/// Z25: a blank machine that nobody has registered or ordered anything for is found by a rule on its network and its
/// disks, gets its image in the same boot, and not a second time.
#[test]
fn e_z25_a_rule_deploys_to_a_new_machine_by_itself_and_once() {
    let run = run("e-rule");
    run.import();
    let rules = run.folder.join("rules.toml");
    let rule = format!(
        "[[rules]]\nname = \"new-pcs\"\nwhen = \"in_subnet('10.77.0.0/24') && size(inventory.disks) == 1\"\n\
         settings = {{ image = \"{IMAGE}\", deploy = \"once\" }}\n"
    );
    fs::write(&rules, rule).unwrap();
    let set = ["policy", "rules", "--set", rules.to_str().unwrap()];
    let refused = format!("{:#}", run.site.farrier(&set).unwrap_err());
    let words = "Starts deployments by itself, of no machine that is known.";
    assert!(refused.contains(words), "{refused}");
    run.site.farrier(&[&set[..], &["--yes"]].concat()).unwrap();
    let disk = run.blank("BLANK", 3 * GIB, Bus::Virtio);
    let machine = Machine::new("pupil", Firmware::Bios, 28).disk(disk);
    let mut vm = machine.start(&run.lan, &run.folder).unwrap();
    run.site
        .wait_for(machine.mac(), "Started by the rule new-pcs", BOOT)
        .unwrap_or_else(|e| panic!("{e:#}\n{}", vm.tail()));
    let tasks = run.site.get("tasks").unwrap();
    let task = tasks["items"][0]["id"].as_str().unwrap().to_owned();
    let done = run
        .site
        .wait_done(&task, TASK)
        .unwrap_or_else(|e| panic!("{e:#}\n{}", vm.tail()));
    assert_eq!(done["created_by"], "rule new-pcs");
    vm.wait_for("Welcome to GRUB", BOOT).unwrap();
    vm.power_off().unwrap();

    let mut vm = machine.start(&run.lan, &run.folder).unwrap();
    vm.wait_for("Welcome to GRUB", BOOT).unwrap();
    let tasks = run.site.get("tasks").unwrap();
    assert_eq!(tasks["items"].as_array().unwrap().len(), 1, "{tasks:#}");
    let told = run.site.timeline(machine.mac()).unwrap();
    let count = |words: &str| told.iter().filter(|s| s.contains(words)).count();
    assert_eq!(count("The agent enrolled"), 1, "{told:#?}");
    assert_eq!(count("Started by the rule"), 1, "{told:#?}");
    let explained = run
        .site
        .farrier(&["policy", "explain", "--mac", machine.mac()])
        .unwrap();
    let why = "Nothing is deployed by itself. It was deployed to it: golden version 1.";
    assert!(explained.contains(why), "{explained}");
}

/// The same image on the other firmware and bus, BIOS and SATA. R2: the server is killed while the disk is being
/// written; the agent waits and goes on, and the disk starts to its login prompt.
#[test]
fn e_t18_g_r2_a_bios_machine_boots_from_sata_though_the_server_was_killed_mid_deploy() {
    let mut run = run("g-kill");
    run.import();
    let machine =
        Machine::new("killed", Firmware::Bios, 24).disk(run.blank("KILLED", 3 * GIB, Bus::Ahci));
    run.known(&machine);
    let task = run
        .site
        .order(machine.mac(), &Run::deploy("KILLED"), "local_boot")
        .unwrap();
    let mut vm = machine.start(&run.lan, &run.folder).unwrap();
    run.site
        .wait_for(machine.mac(), "The agent enrolled", BOOT)
        .unwrap();
    let started = std::time::Instant::now();
    loop {
        let task = run.site.get(&format!("tasks/{task}")).unwrap();
        if task["progress"]["done_bytes"].as_u64().unwrap_or(0) > 10 * MIB {
            break;
        }
        assert!(
            started.elapsed() < TASK,
            "the deployment does not begin: {task:#}\n{}",
            vm.tail()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    run.site.kill();
    std::thread::sleep(Duration::from_secs(5));
    run.site.resume().unwrap();
    let done = run
        .site
        .wait_done(&task, TASK)
        .unwrap_or_else(|e| panic!("{e:#}\n{}", vm.tail()));
    assert_eq!(
        done["attempts"], 1,
        "it went on instead of starting anew: {done:#}"
    );
    vm.wait_for(LOGIN, BOOT).unwrap();
}

/// R18: two equal disks, and a disk that is too small, are refused before anything is written.
#[test]
fn h_r18_ambiguous_and_small_disks_are_refused() {
    let run = run("h-refusals");
    run.import();
    let (one, two) = (
        run.blank("ONE", 3 * GIB, Bus::Virtio),
        run.blank("TWO", 3 * GIB, Bus::Virtio),
    );
    let small = run.blank("SMALL", 512 * MIB, Bus::Nvme);
    let paths: Vec<PathBuf> = [&one, &two, &small]
        .map(|disk| disk.path().to_path_buf())
        .to_vec();
    let machine = Machine::new("disks", Firmware::Bios, 25)
        .disk(one)
        .disk(two)
        .disk(small);
    run.known(&machine);
    let ambiguous = json!({ "kind": "deploy", "image": IMAGE, "disk": { "bus": "virtio" } });
    let first = run
        .site
        .order(machine.mac(), &ambiguous, "local_boot")
        .unwrap();
    let second = run
        .site
        .order(machine.mac(), &Run::deploy("SMALL"), "power_off")
        .unwrap();
    let mut vm = machine.start(&run.lan, &run.folder).unwrap();
    for (task, words) in [(first, "2 disks"), (second, "small")] {
        let ended = run
            .site
            .wait_task(&task, TASK)
            .unwrap_or_else(|e| panic!("{e:#}\n{}", vm.tail()));
        assert_eq!(ended["state"], "failed", "{ended:#}");
        let reason = ended["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(words), "{reason}");
    }
    vm.wait_for_power_off(BOOT).unwrap();
    for path in paths {
        assert!(is_blank(&path), "{} was written to", path.display());
    }
}

/// What iPXE shows first, in the ROM of a card and as the firmware's program.
const IPXE: &str = "iPXE initialising devices";

/// T5, T21, Z1, R14 of the capabilities: no task, so no agent is downloaded, and the local disk starts within 10
/// seconds; and when it starts in the way `without_trace`, in a machine as it is without us.
fn local_disk_starts(name: &str, firmware: Firmware, number: u8, bus: Bus, without_trace: &str) {
    let run = run(name);
    // Where nobody announces an IPv6 prefix, the ROM waits 13 s for one (T8 of the firmware notes).
    let _router = run.lan.router(&run.folder).unwrap();
    run.site
        .put(
            "policy",
            &json!({ "menu": "never", "unknown_machine": "menu" }),
        )
        .unwrap();
    let disk = Disk::overlay(
        &run.golden.image,
        run.folder.join("disk.qcow2"),
        bus,
        "LOCAL",
    )
    .unwrap();
    let machine = Machine::new("local", firmware, number).disk(disk);
    let mut vm = machine.start(&run.lan, &run.folder).unwrap();
    let ours = vm.wait_for(IPXE, BOOT).unwrap();
    starts_within_10_seconds(&mut vm, "iPXE by default", ours, &["GRUB"]);
    run.site
        .wait_for(machine.mac(), "start its local disk", BOOT)
        .unwrap();
    run.site
        .farrier(&["policy", "set", &format!("local_boot={without_trace}")])
        .unwrap();
    vm.reset().unwrap();
    let ours = vm.wait_for(IPXE, BOOT).unwrap();
    let way = format!("iPXE with local_boot={without_trace}");
    starts_within_10_seconds(&mut vm, &way, ours, &["GRUB"]);
    vm.wait_for(LOGIN, BOOT).unwrap();
    let told = run.site.timeline(machine.mac()).unwrap();
    assert!(!told.iter().any(|s| s.contains("agent")), "{told:#?}");
    assert!(!vm.console().contains("farrier-agent"), "no agent ran");
    let after_us = what_the_system_finds(&mut vm);
    vm.power_off().unwrap();

    let mac = &machine.mac().to_owned();
    let told = run.site.timeline(mac).unwrap();
    let mut vm = machine
        .without_network_boot()
        .start(&run.lan, &run.folder)
        .unwrap();
    vm.wait_for(LOGIN, BOOT).unwrap();
    let without_us = what_the_system_finds(&mut vm);
    assert_eq!(run.site.timeline(mac).unwrap(), told, "it did not ask");
    let of_nothing = "d41d8cd98f00b204e9800998ecf8427e".to_owned();
    assert!(!without_us.contains(&of_nothing), "{without_us:?}");
    assert_eq!(after_us, without_us);
}

/// Where memory is, what ACPI says, and how the disk begins: a checksum of each.
fn what_the_system_finds(vm: &mut Vm) -> Vec<String> {
    golden::log_in(vm, BOOT).unwrap();
    let line = "dmesg -t | grep BIOS-e820 | md5sum; \
         (cd /sys/firmware/acpi/tables && md5sum $(find . -maxdepth 1 -type f | sort)) | md5sum; \
         dd if=$(findmnt -no SOURCE / | sed s/p*[0-9]*$//) bs=1M count=1 status=none | md5sum";
    let sums = |said: &str| {
        let words = said
            .split_whitespace()
            .filter(|word| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let sums: Vec<_> = words.map(str::to_owned).collect();
        (sums.len() == 3).then_some(sums)
    };
    golden::ask(vm, line, sums).unwrap()
}

#[test]
fn i_z1_without_work_a_bios_machine_starts_its_disk() {
    // A loader that starts the disk itself stays in memory beside it, which the system finds missing.
    local_disk_starts("i-bios", Firmware::Bios, 26, Bus::Virtio, "firmware");
}

#[test]
fn i_z1_without_work_a_uefi_machine_starts_its_disk() {
    local_disk_starts("i-uefi", Firmware::UefiPxe4, 27, Bus::Nvme, "auto");
}

fn is_blank(path: &Path) -> bool {
    let mut file = fs::File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).unwrap();
        if read == 0 {
            return true;
        }
        if buffer[..read].iter().any(|byte| *byte != 0) {
            return false;
        }
    }
}
