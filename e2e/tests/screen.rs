//! What a person in front of a machine sees and does: the menu, and waiting to be let in.

use std::{path::PathBuf, time::Duration};

use farrier_e2e::{Firmware, Lab, Lan, Machine, Mode, Site, Vm};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(150);

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
}

fn run(name: &str, policy: &serde_json::Value) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Dhcp).unwrap();
    site.put("policy", policy).unwrap();
    Run { folder, lan, site }
}

impl Run {
    fn start(&self, machine: &Machine) -> Vm {
        machine.start(&self.lan, &self.folder).unwrap()
    }

    /// A machine that waits for a person, and the code on its screen.
    fn waiting(&self, machine: &Machine) -> (Vm, String) {
        let mut vm = self.start(machine);
        vm.wait_for("compare this code on the server: ", BOOT)
            .unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let console = vm.console();
        let (_, code) = console.rsplit_once("on the server: ").unwrap();
        (vm, code.chars().take(6).collect())
    }
}

/// Section 3 of the trust model: a machine waits on its screen for a person, who compares a code, and goes on
/// when it is let in; one that is turned away is told.
#[test]
fn t12_a_machine_waits_for_approval_and_is_let_in_or_turned_away() {
    let run = run("screen-approval", &json!({ "enrolment": "approve" }));
    let welcome = Machine::new("welcome", Firmware::Bios, 71);
    let (mut vm, code) = run.waiting(&welcome);
    let machine = run.site.machine(welcome.mac()).unwrap();
    assert_eq!(machine["registration"], "pending", "{machine:#}");
    assert!(
        machine["inventory"].is_null(),
        "nothing is taken from it before"
    );
    run.site
        .wait_for(welcome.mac(), &code, Duration::from_secs(5))
        .unwrap();
    run.site
        .farrier(&["machine", "approve", welcome.mac()])
        .unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    let machine = run.site.machine(welcome.mac()).unwrap();
    assert_eq!(machine["registration"], "approved", "{machine:#}");
    vm.power_off().unwrap();

    let unwelcome = Machine::new("unwelcome", Firmware::Bios, 72);
    let (mut vm, other) = run.waiting(&unwelcome);
    assert_ne!(code, other, "each boot has a key of its own");
    run.site
        .farrier(&["machine", "disable", unwelcome.mac()])
        .unwrap();
    vm.wait_for("This machine is disabled", BOOT).unwrap();
    let machine = run.site.machine(unwelcome.mac()).unwrap();
    assert!(machine["inventory"].is_null(), "{machine:#}");
}

/// Z11, Z13, Z14: real iPXE shows the menu on the machine's screen, and a key at the machine decides.
#[test]
fn z13_the_menu_shows_on_the_screen_and_keys_choose() {
    let always = json!({ "enrolment": "automatic", "menu": "always", "menu_timeout_s": 60 });
    let run = run("screen-menu", &always);
    let machine = Machine::new("menu", Firmware::Bios, 73);
    run.site
        .post("machines", &json!({ "macs": [machine.mac()] }))
        .unwrap();
    let mut vm = run.start(&machine);
    for shown in [
        "Farrier: 52:54:00:77:00:49",
        "Start from the local disk",
        "Register this machine",
        "Test the memory",
    ] {
        vm.wait_for(shown, BOOT).unwrap();
    }
    vm.press("r").unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    vm.power_off().unwrap();

    let on_key = json!({ "enrolment": "automatic", "menu": "on_key", "menu_timeout_s": 60 });
    run.site.put("policy", &on_key).unwrap();
    let mut vm = run.start(&machine);
    vm.wait_for("press m for the boot menu", BOOT).unwrap();
    vm.press("m").unwrap();
    vm.wait_for("Register this machine", BOOT).unwrap();
    vm.press("down").unwrap();
    vm.press("ret").unwrap();
    vm.wait_for("farrier-agent: ready", BOOT).unwrap();
    vm.power_off().unwrap();

    // Nobody presses a key: the default entry runs, which is the local disk here, and no menu is drawn.
    let mut vm = run.start(&machine);
    vm.wait_for("press m for the boot menu", BOOT).unwrap();
    std::thread::sleep(Duration::from_secs(8));
    assert!(
        !vm.console().contains("Register this machine"),
        "{}",
        vm.tail()
    );
    vm.power_off().unwrap();

    run.site.put("policy", &always).unwrap();
    let mut vm = run.start(&machine);
    vm.wait_for("Show what the server decides", BOOT).unwrap();
    vm.press("d").unwrap();
    for shown in [
        "what the server decides for this machine",
        machine.mac(),
        "=> menu",
        "Press a key to start the local disk",
    ] {
        vm.wait_for(shown, BOOT).unwrap();
    }
    vm.power_off().unwrap();

    // Locked, the same entry wants a code that somebody with rights got; typed wrong, it is asked for again.
    let locked = json!({ "enrolment": "automatic", "menu": "always", "menu_timeout_s": 60, "menu_code": true });
    run.site.put("policy", &locked).unwrap();
    let printed = run
        .site
        .farrier(&["machine", "code", machine.mac()])
        .unwrap();
    let code: String = printed.chars().take(6).collect();
    assert!(code.bytes().all(|b| b.is_ascii_digit()), "{printed}");
    let mut vm = run.start(&machine);
    vm.wait_for("Show what the server decides", BOOT).unwrap();
    vm.press("d").unwrap();
    for (typed, shown) in [
        ("x", "that code is wrong"),
        (&code, "what the server decides for this machine"),
    ] {
        vm.wait_for("this entry needs a code", BOOT).unwrap();
        vm.wait_for("Code:", BOOT).unwrap();
        for key in typed.chars() {
            vm.press(&key.to_string()).unwrap();
        }
        vm.press("ret").unwrap();
        vm.wait_for(shown, BOOT).unwrap();
    }
}
