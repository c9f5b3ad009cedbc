//! From where a machine starts: the order in its firmware, and a task that chooses once.

use std::time::Duration;

use farrier_e2e::{Bus, Disk, Firmware, Lab, Lan, Machine, Mode, Site, golden::Golden};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(150);

/// T5, F3, Z2: a UEFI machine whose firmware asks the network first does, and its task says that the next boot is from
/// the network. Meanwhile the disk is put first: the next boot is from the network all the same, with the loader
/// that a rule chooses for this model, and the one after that from the disk, without a word to the server.
#[test]
fn t5_a_task_chooses_the_network_for_the_next_boot() {
    let lab = Lab::open().unwrap();
    let golden = Golden::ensure(&lab).unwrap();
    let folder = lab.scratch("t5-next-boot").unwrap();
    let lan = Lan::new().unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Dhcp).unwrap();
    site.put(
        "policy",
        &json!({ "enrolment": "automatic", "menu": "never" }),
    )
    .unwrap();
    let full = json!({
        "name": "full-driver",
        "when": "has(inventory.system) && inventory.system.product == 'Odd Card 5'",
        "settings": { "ipxe_variant": "full" },
    });
    site.put("policy/rules", &json!({ "rules": [full] }))
        .unwrap();

    let disk = folder.join("disk.qcow2");
    let disk = Disk::overlay(&golden.image, disk, Bus::Nvme, "LOCAL").unwrap();
    let machine = Machine::new("next", Firmware::UefiPxe4, 57)
        .model("Farrier Lab", "Odd Card 5")
        .disk(disk);
    site.post("machines", &json!({ "macs": [machine.mac()] }))
        .unwrap();
    let work = json!({ "kind": "inventory" });
    let task = site.order(machine.mac(), &work, "network_boot").unwrap();

    let mut vm = machine.start(&lan, &folder).unwrap();
    vm.wait_for("Farrier: starting the agent", BOOT).unwrap();
    vm.put_network_last().unwrap();
    site.wait_done(&task, BOOT).unwrap();
    let first = site.timeline(machine.mac()).unwrap().join("\n");
    assert!(first.contains("It fetched snponly.efi"), "{first}");
    files_are_told_with_their_hashes(&site, &machine);

    vm.wait_for(
        "the firmware starts 'UEFI PXEv4 (MAC:525400770039)' next",
        BOOT,
    )
    .unwrap();
    vm.wait_for(">>Start PXE over IPv4", BOOT).unwrap();
    site.wait_for(machine.mac(), "It fetched ipxe.efi", BOOT)
        .unwrap();
    site.wait_for(machine.mac(), "told to start its local disk", BOOT)
        .unwrap();
    vm.wait_for("Welcome to GRUB!", BOOT).unwrap();

    let before = asked(&site, &machine);
    vm.reset().unwrap();
    let which = vm.wait_for_any(&["Welcome to GRUB!", ">>Start PXE over IPv4"], BOOT);
    assert_eq!(which.unwrap(), 0, "{}", vm.tail());
    assert_eq!(asked(&site, &machine), before, "the disk is first again");
}

/// How often its firmware asked how to boot.
fn asked(site: &Site, machine: &Machine) -> usize {
    let told = site.timeline(machine.mac()).unwrap();
    let asks = |sentence: &&String| sentence.contains("The firmware asks");
    told.iter().filter(asks).count()
}

/// Z2: what a machine with work fetched is told with the hash of what lies in the server's folder.
fn files_are_told_with_their_hashes(site: &Site, machine: &Machine) {
    let known = site.machine(machine.mac()).unwrap();
    let path = format!(
        "machines/{}/timeline?limit=500",
        known["id"].as_str().unwrap()
    );
    let page = site.get(&path).unwrap();
    let told = |words: &str| {
        let items = page["items"].as_array().unwrap();
        let entry = items
            .iter()
            .find(|e| e["text"].as_str().unwrap().contains(words));
        entry.unwrap_or_else(|| panic!("{words} in {page:#}"))["details"].to_string()
    };
    let data = site.data();
    let loader = std::fs::read_to_string(data.join("loaders/ipxe-snponly-x64.json")).unwrap();
    let loader: serde_json::Value = serde_json::from_str(&loader).unwrap();
    let loader = data
        .join("loaders")
        .join(loader["sha256"].as_str().unwrap());
    for (words, file) in [
        ("It fetched the agent's kernel", data.join("agent/vmlinuz")),
        ("It fetched the agent by", data.join("agent/initrd.img")),
        ("It fetched snponly.efi", loader),
    ] {
        let mut sum = std::process::Command::new("sha256sum");
        let sum = farrier_e2e::command::run(sum.arg(file)).unwrap();
        let sum = sum.split(' ').next().unwrap();
        let details = told(words);
        assert!(
            details.contains("sha256") && details.contains(sum),
            "{sum}: {details}"
        );
    }
}
