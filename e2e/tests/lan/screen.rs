//! What a person in front of a machine sees and does: the menu, and waiting to be let in.

use std::{path::PathBuf, time::Duration};

use farrier_e2e::{Firmware, Lab, Lan, Machine, Mode, Site, Vm, clients, lab::until};
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
        let mut code = String::new();
        until("a code of six letters", || {
            let console = vm.console();
            let (_, rest) = console.rsplit_once("on the server: ").unwrap();
            code = rest.chars().take(6).collect();
            code.chars().count() == 6
        })
        .unwrap();
        (vm, code)
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

/// F5, F6, F7, Z11, Z13, Z14: real iPXE shows the menu on the machine's screen, a key at the machine decides, and a
/// task that is due comes before the menu.
#[test]
fn z13_the_menu_shows_on_the_screen_and_keys_choose() {
    let always = json!({
        "enrolment": "automatic", "unknown_machine": "menu", "menu": "always", "menu_timeout_s": 60,
    });
    let run = run("screen-menu", &always);
    let machine = Machine::new("menu", Firmware::Bios, 73);
    f7_one_key_registers(&run, &machine);
    f6_a_task_comes_before_the_menu(&run, &machine);

    let on_key = json!({ "enrolment": "automatic", "menu": "on_key", "menu_timeout_s": 60 });
    run.site.put("policy", &on_key).unwrap();
    let mut vm = run.start(&machine);
    one_key_opens_the_menu(&mut vm);
    vm.press("down").unwrap();
    vm.press("ret").unwrap();
    vm.wait_for("farrier-agent: ready", BOOT).unwrap();
    vm.power_off().unwrap();

    // Nobody presses a key: the default entry runs, which is the local disk here, and no menu is drawn.
    let mut vm = run.start(&machine);
    vm.wait_for("press m for the boot menu", BOOT).unwrap();
    std::thread::sleep(Duration::from_secs(8));
    assert!(!vm.console().contains("Test the memory"), "{}", vm.tail());
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

/// The machine asks for the key for three seconds of its own. A person who is late starts it anew.
fn one_key_opens_the_menu(vm: &mut Vm) {
    for _ in 0..3 {
        vm.wait_for("press m for the boot menu", BOOT).unwrap();
        vm.press("m").unwrap();
        if vm.wait_for(AGAIN, Duration::from_secs(30)).is_ok() {
            return;
        }
        vm.reset().unwrap();
    }
    panic!("no menu:\n{}", vm.tail());
}

/// What the menu says of registering to a machine that is registered.
const AGAIN: &str = "Start the agent and take the inventory";

/// A machine that nobody knows gets the menu that offers to register it, and one key does that.
fn f7_one_key_registers(run: &Run, machine: &Machine) {
    let mut vm = run.start(machine);
    for shown in [
        "Farrier: 52:54:00:77:00:49, not registered",
        "Start from the local disk",
        "Register this machine",
        "Test the memory",
    ] {
        vm.wait_for(shown, BOOT).unwrap();
    }
    let known = run.site.machine(machine.mac()).unwrap();
    assert_eq!(known["registration"], "seen", "{known:#}");
    assert!(known["inventory"].is_null(), "{known:#}");
    vm.press("r").unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    let known = run.site.machine(machine.mac()).unwrap();
    assert_eq!(known["registration"], "approved", "{known:#}");
    assert_eq!(known["inventory"]["system"]["manufacturer"], "Farrier Lab");
    // Before it restarts for want of work.
    vm.power_off().unwrap();
}

/// Without a task the registered machine gets its own menu; with one, the agent starts though a menu is always shown.
fn f6_a_task_comes_before_the_menu(run: &Run, machine: &Machine) {
    run.site
        .farrier(&["machine", "rename", machine.mac(), "desk-7"])
        .unwrap();
    let work = json!({ "kind": "inventory" });
    let task = run.site.order(machine.mac(), &work, "reboot").unwrap();
    let mut vm = run.start(machine);
    run.site.wait_done(&task, BOOT).unwrap();
    vm.wait_for("Farrier: desk-7", BOOT).unwrap();
    vm.wait_for(AGAIN, BOOT).unwrap();

    let task = run.site.order(machine.mac(), &work, "reboot").unwrap();
    vm.reset().unwrap();
    let first = vm.wait_for_any(&["Farrier: desk-7", "farrier-agent: ready"], BOOT);
    assert_eq!(first.unwrap(), 1, "the menu came first: {}", vm.tail());
    run.site.wait_done(&task, BOOT).unwrap();
    vm.wait_for("Farrier: desk-7", BOOT).unwrap();
    vm.power_off().unwrap();
}

/// F5, R14: two machines ask the same URL and get different menus, each by its own settings; one goes on to the
/// network and then to its disk as its flag says, and nobody presses a key.
#[test]
fn f5_r14_each_machine_has_its_own_menu_and_goes_its_way_without_a_key() {
    let policy = json!({ "enrolment": "automatic", "unknown_machine": "menu", "menu": "always" });
    let run = run("screen-own-menu", &policy);
    let machine = Machine::new("own", Firmware::Bios, 74);
    let set = |settings: &[&str]| {
        let words = [&["machine", "set", machine.mac()], settings].concat();
        run.site.farrier(&words).unwrap();
    };
    run.site
        .farrier(&["machine", "add", machine.mac(), "--name", "lab-9"])
        .unwrap();
    set(&["default-entry=register", "menu-timeout-s=2"]);

    // The URL is the same for all: iPXE fills in who asks.
    let ask = |path: &str| {
        let url = format!("http://10.77.0.1:8067/{path}");
        clients::curl(run.site.host(), &["--fail"], &url).unwrap()
    };
    let first = ask("boot/first.ipxe");
    assert_eq!(first.matches("boot/script?").count(), 1, "{first}");
    assert!(
        first.contains("boot/script?mac=${netX/mac:hexhyp}&"),
        "{first}"
    );
    let script = |mac: &str| ask(&format!("boot/script?mac={mac}&platform=pcbios"));
    let unknown = script("52:54:00:77:00:4b");
    for (menu, words) in [
        (&unknown, "menu Farrier: 52:54:00:77:00:4b, not registered"),
        (&unknown, "Register this machine"),
        (&unknown, "choose --default local_disk"),
        (&script(machine.mac()), "menu Farrier: lab-9"),
        (&script(machine.mac()), AGAIN),
        (
            &script(machine.mac()),
            "choose --default register --timeout 2000",
        ),
    ] {
        assert!(menu.contains(words), "{words} in {menu}");
    }

    let mut vm = run.start(&machine);
    vm.wait_for("Farrier: lab-9", BOOT).unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();

    set(&["default-entry=local-disk", "menu=never"]);
    vm.reset().unwrap();
    let words = "It was told to start its local disk";
    run.site.wait_for(machine.mac(), words, BOOT).unwrap();
    let none = vm.shows_within(&["farrier-agent: ready", "Farrier: lab-9"], SILENT);
    assert!(none.is_err(), "neither menu nor agent: {}", vm.tail());
}

/// Longer than a BIOS takes to find nothing on its disks.
const SILENT: Duration = Duration::from_secs(20);
