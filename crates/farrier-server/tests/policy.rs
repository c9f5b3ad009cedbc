//! Groups, rules and wishes in a running server: what machines get, and what is refused.

mod site;

use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_api::agent::{Disk, Inventory, Order};
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::model::{MachineId, Registration};
use farrier_engine::policy::{
    BootIntent, Enrolment, MenuEntry, MenuMode, PolicyBook, Rule, Settings, UnknownMachine, Until,
};
use farrier_engine::task::{DiskSelector, State, Work};
use farrier_engine::timeline::Kind;
use farrier_server::core::now;
use site::Site;

const MAC: &str = "52:54:00:00:00:01";

fn rule(name: &str, when: &str) -> Rule {
    Rule {
        name: name.to_owned().try_into().unwrap(),
        when: when.to_owned(),
        settings: Settings::default(),
        refuse_boot: false,
        refuse_tasks: false,
    }
}

async fn set_rules(site: &Site, rules: Vec<Rule>) {
    let stored = site.core.db.policy_book().await.unwrap();
    let book = PolicyBook {
        rules,
        ..stored.book
    };
    site.core.set_book(book, stored.revision).await.unwrap();
}

async fn approved(site: &Site) -> MachineId {
    site.let_everybody_in().await;
    site.agent(MAC).await.machine
}

fn deploy() -> Work {
    Work::Deploy {
        image: "debian".to_owned(),
        version: None,
        disk: DiskSelector::default(),
    }
}

#[tokio::test]
async fn z15_rules_are_judged_at_boot_and_again_by_what_the_agent_found() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let mut guard = rule(
        "no-servers",
        "inventory.disks.exists(d, d.size_bytes > 1000000)",
    );
    guard.refuse_tasks = true;
    set_rules(&site, vec![guard]).await;
    let agent = site.agent(MAC).await;
    let task = site.order(agent.machine, deploy()).await;

    // The quick check knows no inventory yet: the agent is started to find out.
    let script = site.script(MAC).await;
    assert!(script.contains("agent.img"), "{script}");

    // The detailed check sees what it found.
    let disk = Disk {
        name: "sda".to_owned(),
        size_bytes: 2_000_000,
        logical_sector: 512,
        physical_sector: 512,
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        bus: "sata".to_owned(),
        rotational: false,
        removable: false,
        table: None,
    };
    let inventory = Inventory {
        disks: vec![disk],
        ..Inventory::default()
    };
    agent.client.inventory(&inventory).await.unwrap();
    let order = agent.client.work(Duration::ZERO).await.unwrap();
    assert!(!matches!(order, Order::Run { .. }), "{order:?}");
    let stored = site.stored(task).await;
    assert_eq!(stored.state, State::Failed);
    let why = stored.reason.unwrap();
    assert!(
        why.contains("no-servers") && why.contains("Nothing was written"),
        "{why}"
    );
    site.told(agent.machine, Kind::Task, "no-servers").await;

    // From now on the quick one knows, too, and the agent is not even started.
    site.order(agent.machine, deploy()).await;
    let script = site.script(MAC).await;
    assert!(!script.contains("agent.img"), "{script}");
    site.told(agent.machine, Kind::Refused, "lets nothing be written")
        .await;
}

#[tokio::test]
async fn t12_a_locked_entry_opens_once_by_a_code_and_each_step_is_told() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let machine = approved(&site).await;
    let locked = Settings {
        menu_code: Some(true),
        ..Settings::default()
    };
    site.core.set_site(locked).await.unwrap();
    let choose = async |code: &str| {
        let says = [
            ("mac", MAC),
            ("platform", "efi"),
            ("buildarch", "x86_64"),
            ("choice", "diagnostics"),
            ("code", code),
        ];
        site.script_for(&says).await
    };
    let opened = "what the server decides";
    assert!(choose("").await.contains("needs a code"));
    assert!(choose("123").await.contains("is wrong"));
    site.told(machine, Kind::Refused, "wrong").await;

    let issued = site.core.menu_codes.issue(machine, "ada", now()).unwrap();
    assert!(choose(&issued.code).await.contains(opened));
    site.told(machine, Kind::Operator, "that ada got").await;
    assert!(choose(&issued.code).await.contains("is wrong"));
}

#[tokio::test]
async fn rules_on_boot_facts_set_the_menu_and_refuse_the_boot() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let machine = approved(&site).await;
    let mut menu = rule("uefi-menu", "facts.firmware == 'uefi'");
    menu.settings.menu = Some(MenuMode::Always);
    menu.settings.menu_timeout_s = Some(77);
    set_rules(
        &site,
        vec![rule("broken", "facts.nothing > 3"), menu.clone()],
    )
    .await;
    let script = site.script(MAC).await;
    assert!(script.contains("--timeout 77000"), "{script}");

    let refuse = Rule {
        refuse_boot: true,
        ..menu
    };
    set_rules(&site, vec![refuse]).await;
    let script = site.script(MAC).await;
    assert!(!script.contains("choose"), "{script}");
    assert!(script.contains("rule of the site refuses"), "{script}");
    site.told(machine, Kind::Refused, "rule of the site").await;
}

/// By where its packet came from, by where its loader and its agent speak from, and in the dry run.
#[tokio::test]
async fn z25_rules_on_subnets_set_what_a_machine_gets() {
    let data = tempfile::tempdir().unwrap();
    let networks = "[[subnet]]\nnetwork = \"127.0.0.0/8\"\nname = \"office\"\n\
                    [[subnet6]]\nnetwork = \"fd00:1:2:3::/64\"\nname = \"office\"\n";
    let site = Site::configured(data.path(), networks).await;
    let mut menu = rule("office-menu", "machine.subnet == 'office'");
    menu.settings.menu = Some(MenuMode::Always);
    menu.settings.menu_timeout_s = Some(55);
    let mut elsewhere = rule("elsewhere", "!in_subnet('127.0.0.0/8')");
    elsewhere.refuse_boot = true;
    let mut enrolment = rule("let-in", "in_subnet('127.0.0.0/16')");
    enrolment.settings.enrolment = Some(Enrolment::Automatic);
    enrolment.settings.unknown_machine = Some(UnknownMachine::Menu);
    set_rules(&site, vec![menu, elsewhere, enrolment]).await;

    let script = site.script(MAC).await;
    assert!(script.contains("--timeout 55000"), "{script}");
    // Its agent is let in by where it speaks from.
    let agent = site.agent(MAC).await;
    let machine = site.core.fleet.machine(agent.machine).unwrap();
    assert_eq!(machine.registration, Registration::Approved);
    let place = site.core.place_of(&machine);
    assert_eq!(place.subnet, "office");
    assert_eq!(place.address, Some([127, 0, 0, 1].into()));

    let at = |ip: &str| site.core.place_at(ip.parse().unwrap()).subnet;
    assert_eq!(at("fd00:1:2:3::7"), "office");
    assert_eq!(at("10.0.0.1"), "", "outside of all");
    let away = site.core.policy_at(&machine, [10, 0, 0, 1].into());
    assert_eq!(away.menu, MenuMode::OnKey);
    assert_eq!(away.enrolment, Enrolment::Approve);
}

/// A DHCP client is on the wire that its packet came from. A lease that it had elsewhere says nothing.
#[tokio::test]
async fn z25_a_dhcp_client_is_where_it_asks_from() {
    let data = tempfile::tempdir().unwrap();
    let networks = "[[shared_network]]\nname = \"hall\"\n\
        [[subnet]]\nnetwork = \"10.1.0.0/24\"\nname = \"east\"\npools = [\"10.1.0.10-10.1.0.20\"]\nshared_network = \"hall\"\n\
        [[subnet]]\nnetwork = \"10.2.0.0/24\"\nname = \"west\"\nshared_network = \"hall\"\n\
        [[subnet]]\nnetwork = \"10.3.0.0/24\"\n";
    let site = Site::configured(data.path(), networks).await;
    let (mac, none) = (MAC.parse().unwrap(), Ipv4Addr::UNSPECIFIED);
    let on = |link: [u8; 4]| site.core.place_on(link.into(), none, mac);
    assert_eq!(
        (on([10, 1, 0, 1]).subnet, on([10, 1, 0, 1]).address),
        ("east".to_owned(), None)
    );
    let lease = Lease {
        ip: [10, 1, 0, 12].into(),
        mac,
        client_id: None,
        hostname: None,
        state: LeaseState::Active,
        starts: now(),
        ends: now() + Duration::from_secs(600),
    };
    site.core.leases.grant(lease, now()).await.unwrap();
    let held = Some([10, 1, 0, 12].into());
    assert_eq!(on([10, 1, 0, 1]).address, held);
    let hall = on([10, 2, 0, 1]);
    assert_eq!(
        (hall.subnet.as_str(), hall.address),
        ("east", held),
        "one wire"
    );
    let moved = on([10, 3, 0, 1]);
    assert_eq!(
        (moved.subnet.as_str(), moved.address),
        ("10.3.0.0/24", None)
    );
    let renewing = site
        .core
        .place_on([10, 1, 0, 1].into(), [10, 3, 0, 9].into(), mac);
    assert_eq!(renewing.address, Some([10, 3, 0, 9].into()));
}

#[tokio::test]
async fn a_wish_is_granted_as_often_as_it_says_and_survives_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut site = Site::open(data.path()).await;
    let machine = approved(&site).await;
    wish(&site, machine).await;
    for boot in 0..4 {
        power_on(&site);
        let script = site.script(MAC).await;
        let shown = script.contains("echo Farrier: what the server decides");
        assert_eq!(shown, boot < 2, "boot {boot}: {script}");
        if shown {
            assert!(
                script.contains("boot intent"),
                "it explains itself: {script}"
            );
        }
        site.kill().await;
        site = Site::open(data.path()).await;
    }
}

#[tokio::test]
async fn a_machine_whose_agent_never_comes_back_is_stopped_and_named() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let machine = approved(&site).await;
    let task = site.order(machine, Work::Inventory).await;
    for boot in 0..5 {
        power_on(&site);
        let script = site.script(MAC).await;
        assert_eq!(
            script.contains("agent.img"),
            boot < 3,
            "boot {boot}: {script}"
        );
    }
    site.told(machine, Kind::Warning, "started three times")
        .await;
    // A person gives it a new attempt.
    site.core.forget_rounds(task).await;
    assert!(site.script(MAC).await.contains("agent.img"));
}

/// Somebody wishes for diagnostics at its next two boots.
async fn wish(site: &Site, machine: MachineId) {
    let intent = BootIntent {
        entry: MenuEntry::Diagnostics,
        boots_left: 2,
        expires: now() + Duration::from_secs(600),
        until: Until::Used,
        set_at: now(),
        set_by: "ada".to_owned(),
        counted: None,
    };
    let wished =
        |machine: &mut farrier_engine::model::Machine| machine.intent = Some(intent.clone());
    site.core
        .fleet
        .change_machine(machine, wished)
        .await
        .unwrap();
}

/// The machine's firmware asks how to boot.
fn power_on(site: &Site) {
    site.core.sightings.boot_began(MAC.parse().unwrap(), now());
}

/// GRUB fetches its script twice in one boot.
#[tokio::test]
async fn a_wish_is_counted_once_in_a_boot_however_often_its_script_is_fetched() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let machine = approved(&site).await;
    wish(&site, machine).await;
    for boot in 0..4 {
        power_on(&site);
        for fetch in 0..3 {
            let script = site.script(MAC).await;
            let shown = script.contains("echo Farrier: what the server decides");
            assert_eq!(shown, boot < 2, "boot {boot}, fetch {fetch}: {script}");
        }
    }
    let left = site.core.fleet.machine(machine).unwrap();
    assert_eq!(left.intent, None, "it is forgotten");
}

#[tokio::test]
async fn starts_of_the_agent_are_counted_once_in_a_boot_and_outlive_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut site = Site::open(data.path()).await;
    let machine = approved(&site).await;
    let task = site.order(machine, Work::Inventory).await;
    for boot in 0..5 {
        power_on(&site);
        for fetch in 0..2 {
            let script = site.script(MAC).await;
            let started = script.contains("agent.img");
            assert_eq!(started, boot < 3, "boot {boot}, fetch {fetch}: {script}");
        }
        site.kill().await;
        site = Site::open(data.path()).await;
    }
    site.core.forget_rounds(task).await;
    site.kill().await;
    site = Site::open(data.path()).await;
    power_on(&site);
    assert!(site.script(MAC).await.contains("agent.img"));
}
