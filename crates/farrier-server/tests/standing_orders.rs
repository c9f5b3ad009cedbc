//! Deployments that the policy starts by itself (Z25): once, on the one disk that can be meant, and told.

mod site;

use std::time::Duration;

use farrier_api::agent::{Disk, Inventory, Order, Outcome, ResultReport, Work as WireWork};
use farrier_engine::model::{MachineId, Registration};
use farrier_engine::policy::{AutoDeploy, DeployOver, Enrolment, PolicyBook, Rule, Settings};
use farrier_engine::task::{DiskSelector, State, Task, Work};
use farrier_engine::timeline::Kind;
use farrier_image::chunk::{CHUNK_SIZE, StoredChunk};
use farrier_server::core::{Core, now};
use site::disk::raw_image;
use site::{Agent, Site};
use uuid::Uuid;

const MAC: &str = "52:54:00:00:00:01";
const BLANK: &str = "in_subnet('127.0.0.0/8') && inventory.disks.all(d, d.table == null)";

/// A new version of the image `lab`.
async fn publish(core: &Core, seed: u8) {
    let chunk = StoredChunk::pack(&vec![seed; CHUNK_SIZE], 3);
    let manifest = raw_image("lab", vec![chunk.id]);
    core.store.put(vec![chunk]).await.unwrap();
    core.store.commit(manifest, now().0).await.unwrap();
}

async fn set_rule(site: &Site, when: &str, deploy: AutoDeploy) {
    set_rule_over(site, when, deploy, None).await;
}

async fn set_rule_over(site: &Site, when: &str, deploy: AutoDeploy, over: Option<DeployOver>) {
    let settings = Settings {
        deploy: Some(deploy),
        deploy_over: over,
        image: Some("lab".to_owned()),
        ..Settings::default()
    };
    set_rule_to(site, when, settings).await;
}

async fn set_rule_to(site: &Site, when: &str, settings: Settings) {
    let rule = Rule {
        name: "blank".to_owned().try_into().unwrap(),
        when: when.to_owned(),
        settings,
        refuse_boot: false,
        refuse_tasks: false,
    };
    let stored = site.core.db.policy_book().await.unwrap();
    let book = PolicyBook {
        rules: vec![rule],
        ..stored.book
    };
    site.core.set_book(book, stored.revision).await.unwrap();
}

async fn opened(data: &std::path::Path, when: &str, deploy: AutoDeploy) -> Site {
    let site = Site::open(data).await;
    site.let_everybody_in().await;
    publish(&site.core, 1).await;
    set_rule(&site, when, deploy).await;
    site
}

fn disks(tables: &[Option<&str>]) -> Inventory {
    let disk = |table: &Option<&str>| Disk {
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
        table: table.map(str::to_owned),
    };
    Inventory {
        disks: tables.iter().map(disk).collect(),
        ..Inventory::default()
    }
}

/// Blank ones that differ in their serial numbers.
fn disks_called(serials: &[&str]) -> Inventory {
    let mut inventory = disks(&vec![None; serials.len()]);
    for (disk, serial) in inventory.disks.iter_mut().zip(serials) {
        disk.serial = (*serial).to_owned();
    }
    inventory
}

async fn work(agent: &Agent) -> Order {
    agent.client.work(Duration::ZERO).await.unwrap()
}

/// The deployment that the agent is given.
async fn deployment(agent: &Agent) -> (Uuid, u64, u32, String) {
    match work(agent).await {
        Order::Run {
            task,
            fence,
            work: WireWork::Deploy { version, root, .. },
        } => (task, fence, version, root),
        other => panic!("{other:?}"),
    }
}

async fn ends(agent: &Agent, task: Uuid, fence: u64, outcome: Outcome) {
    let report = ResultReport { fence, outcome };
    agent.client.result(task, &report).await.unwrap();
}

fn done(root: Option<String>) -> Outcome {
    Outcome::Done {
        root,
        disk: Some("sda".to_owned()),
        read_bytes: 0,
        written_bytes: 0,
        moved_bytes: 0,
        bottleneck: None,
    }
}

async fn tasks(site: &Site, machine: MachineId) -> Vec<Task> {
    let query = farrier_db::TaskQuery {
        machine: Some(machine),
        ..farrier_db::TaskQuery::default()
    };
    site.core.db.tasks(&query, None, 100).await.unwrap()
}

fn power_on(site: &Site) {
    site.core.sightings.boot_began(MAC.parse().unwrap(), now());
}

async fn starts_agent(site: &Site) -> bool {
    power_on(site);
    site.script(MAC).await.contains("agent.img")
}

#[tokio::test]
async fn z25_a_blank_machine_registers_and_gets_its_image_once() {
    let data = tempfile::tempdir().unwrap();
    // The subnet alone: the rule still holds when the disk is full.
    let site = opened(data.path(), "in_subnet('127.0.0.0/8')", AutoDeploy::Once).await;
    let agent = site.agent(MAC).await;
    let machine = agent.machine;
    assert!(tasks(&site, machine).await.is_empty(), "not on a guess");
    agent.client.inventory(&disks(&[None])).await.unwrap();
    let (task, fence, version, root) = deployment(&agent).await;
    assert_eq!(version, 1);
    site.told(machine, Kind::Task, "Started by the rule blank")
        .await;
    let stored = &tasks(&site, machine).await[0];
    assert!(stored.by_policy && stored.created_by == "rule blank");
    let audit = site.core.db.audit(None, 10).await.unwrap();
    let entry = audit.iter().find(|e| e.value.who == "rule blank").unwrap();
    assert_eq!(entry.value.what, "task.create");
    assert!(entry.value.target.contains("deploy lab version 1"));
    ends(&agent, task, fence, done(Some(root))).await;
    assert!(matches!(work(&agent).await, Order::Leave { .. }));

    // The next boots, before and after the death of the server: the local disk.
    assert!(!starts_agent(&site).await);
    publish(&site.core, 2).await;
    assert!(!starts_agent(&site).await, "once is once in any version");
    site.kill().await;
    let site = Site::open(data.path()).await;
    assert!(!starts_agent(&site).await);
    // And whoever starts the agent by hand starts nothing.
    let agent = site.agent(MAC).await;
    agent
        .client
        .inventory(&disks(&[Some("gpt")]))
        .await
        .unwrap();
    assert!(matches!(work(&agent).await, Order::Leave { .. }));
    assert_eq!(tasks(&site, machine).await.len(), 1);
}

/// A known machine is started for a new version without anybody's order.
#[tokio::test]
async fn z25_each_version_is_deployed_once() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "machine.known", AutoDeploy::EachVersion).await;
    let agent = site.agent(MAC).await;
    for version in 1..=2 {
        agent.client.inventory(&disks(&[None])).await.unwrap();
        let (task, fence, found, root) = deployment(&agent).await;
        assert_eq!(found, version);
        ends(&agent, task, fence, done(Some(root))).await;
        assert!(!starts_agent(&site).await, "version {version} is there");
        if version == 1 {
            publish(&site.core, 2).await;
            assert!(starts_agent(&site).await);
            // GRUB fetches its script twice, and people press the reset button.
            assert!(starts_agent(&site).await);
            assert_eq!(tasks(&site, agent.machine).await.len(), 2);
        }
    }
}

#[tokio::test]
async fn z25_one_that_fails_stops_after_its_attempts_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), BLANK, AutoDeploy::EachVersion).await;
    let agent = site.agent(MAC).await;
    agent.client.inventory(&disks(&[None])).await.unwrap();
    for attempt in 1..=3 {
        let (task, fence, ..) = deployment(&agent).await;
        let outcome = Outcome::Failed {
            reason: "the network broke".to_owned(),
            retry: true,
        };
        ends(&agent, task, fence, outcome).await;
        // What was written so far is no reason to leave it half done: the disk is not blank any more.
        agent
            .client
            .inventory(&disks(&[Some("gpt")]))
            .await
            .unwrap();
        let state = tasks(&site, agent.machine).await[0].state;
        let last = attempt == 3;
        assert_eq!(state == State::Failed, last, "{attempt}: {state:?}");
    }
    assert_eq!(tasks(&site, agent.machine).await.len(), 1);
    // Blank or not, nobody tries it a second time.
    agent.client.inventory(&disks(&[None])).await.unwrap();
    assert!(!starts_agent(&site).await);
    assert!(matches!(work(&agent).await, Order::Leave { .. }));
    let told = site.told(agent.machine, Kind::Warning, "failed").await;
    assert!(
        told.text.contains("no second one is started"),
        "{}",
        told.text
    );
    assert!(!starts_agent(&site).await);
    let entries = site
        .core
        .db
        .timeline(agent.machine, None, 200)
        .await
        .unwrap();
    let same = entries.iter().filter(|e| e.value.text == told.text);
    assert_eq!(same.count(), 1, "it is told once");
    assert_eq!(tasks(&site, agent.machine).await.len(), 1);
}

#[tokio::test]
async fn z25_no_disk_is_guessed_and_no_stranger_is_overwritten() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "true", AutoDeploy::Once).await;
    let agent = site.agent(MAC).await;
    agent.client.inventory(&disks(&[None, None])).await.unwrap();
    assert!(matches!(work(&agent).await, Order::Leave { .. }));
    site.told(agent.machine, Kind::Warning, "2 disks that could be meant")
        .await;
    assert!(!starts_agent(&site).await);
    assert!(tasks(&site, agent.machine).await.is_empty());

    for registration in [
        Registration::Seen,
        Registration::Pending,
        Registration::Disabled,
    ] {
        site.set_registration(agent.machine, registration).await;
        let one_disk = |machine: &mut farrier_engine::model::Machine| {
            if let Some(inventory) = &mut machine.inventory {
                inventory.disks.truncate(1);
            }
        };
        let changed = site.core.fleet.change_machine(agent.machine, one_disk);
        changed.await.unwrap();
        site.script(MAC).await;
        assert!(
            tasks(&site, agent.machine).await.is_empty(),
            "{registration:?}"
        );
    }
    site.set_registration(agent.machine, Registration::Approved)
        .await;
    assert!(starts_agent(&site).await, "and now it is one of ours");
}

/// Somebody adds a machine by its address: nothing is known of its disks, so the agent looks first.
#[tokio::test]
async fn z25_a_machine_without_inventory_is_looked_at_first() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), BLANK, AutoDeploy::Once).await;
    let settings = Settings {
        enrolment: Some(Enrolment::Approve),
        ..Settings::default()
    };
    site.core.set_site(settings).await.unwrap();
    site.script(MAC).await;
    let machine = site.machine_of(MAC);
    assert!(tasks(&site, machine).await.is_empty());
    site.set_registration(machine, Registration::Approved).await;

    assert!(starts_agent(&site).await);
    assert!(starts_agent(&site).await);
    let queued = tasks(&site, machine).await;
    assert_eq!(queued.len(), 1);
    assert_eq!(queued[0].work, Work::Inventory);
    let agent = site.agent(MAC).await;
    agent.client.inventory(&disks(&[None])).await.unwrap();
    let Order::Run { task, fence, .. } = work(&agent).await else {
        panic!("the inventory comes first")
    };
    assert_eq!(task, queued[0].id.0);
    ends(&agent, task, fence, done(None)).await;
    let (_, _, version, _) = deployment(&agent).await;
    assert_eq!(version, 1, "in the same boot");
}

/// Ordered by what was known yesterday, and stopped by what the agent finds today.
#[tokio::test]
async fn z25_what_the_rule_no_longer_wants_is_not_written() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "false", AutoDeploy::Once).await;
    let agent = site.agent(MAC).await;
    agent.client.inventory(&disks(&[None])).await.unwrap();
    set_rule(&site, BLANK, AutoDeploy::Once).await;
    assert!(starts_agent(&site).await);
    // Meanwhile somebody has put a disk with data into it.
    agent
        .client
        .inventory(&disks(&[Some("gpt")]))
        .await
        .unwrap();
    assert!(matches!(work(&agent).await, Order::Leave { .. }));
    let stopped = &tasks(&site, agent.machine).await[0];
    assert_eq!(stopped.state, State::Failed);
    let why = stopped.reason.clone().unwrap();
    assert!(
        why.contains("Nothing was written. The policy does not want it any more"),
        "{why}"
    );
}

#[tokio::test]
async fn z25_many_requests_at_once_start_one_task() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "false", AutoDeploy::Once).await;
    let agent = site.agent(MAC).await;
    agent.client.inventory(&disks(&[None])).await.unwrap();
    set_rule(&site, "true", AutoDeploy::Once).await;
    let place = site.core.place_at([127, 0, 0, 1].into());
    let started = (0..16).map(|_| {
        let (core, place) = (site.core.clone(), place.clone());
        tokio::spawn(async move { core.start_standing_order(agent.machine, &place).await })
    });
    let started: Vec<_> = started.collect();
    let mut count = 0;
    for one in started {
        count += usize::from(one.await.unwrap().is_some());
    }
    assert_eq!(count, 1);
    assert_eq!(tasks(&site, agent.machine).await.len(), 1);
}

/// The disk of a machine that was in use before it came to us is not the policy's to erase, until somebody says so.
#[tokio::test]
async fn z25_a_disk_that_holds_something_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "true", AutoDeploy::Once).await;
    let agent = site.agent(MAC).await;
    agent
        .client
        .inventory(&disks(&[Some("gpt")]))
        .await
        .unwrap();
    assert!(matches!(work(&agent).await, Order::Leave { .. }));
    site.told(agent.machine, Kind::Warning, "not blank (gpt)")
        .await;
    assert!(!starts_agent(&site).await);
    assert!(tasks(&site, agent.machine).await.is_empty());

    // Found blank at its last boot, and no longer when the agent looks again.
    agent.client.inventory(&disks(&[None])).await.unwrap();
    let queued = tasks(&site, agent.machine).await;
    assert_eq!(queued.len(), 1);
    agent
        .client
        .inventory(&disks(&[Some("mbr")]))
        .await
        .unwrap();
    assert!(matches!(work(&agent).await, Order::Leave { .. }));
    let stopped = site.stored(queued[0].id).await;
    assert_eq!(stopped.state, State::Failed);
    assert!(stopped.reason.unwrap().contains("not blank (mbr)"));

    publish(&site.core, 2).await;
    let over = Some(DeployOver::Anything);
    set_rule_over(&site, "true", AutoDeploy::EachVersion, over).await;
    assert!(starts_agent(&site).await);
    let (_, _, version, _) = deployment(&agent).await;
    assert_eq!(version, 2);
}

/// A machine with a disk for its system and another for its data.
#[tokio::test]
async fn z25_the_policy_names_the_disk() {
    let data = tempfile::tempdir().unwrap();
    let site = opened(data.path(), "false", AutoDeploy::Once).await;
    let agent = site.agent(MAC).await;
    let found = disks_called(&["SYSTEM", "DATA"]);
    agent.client.inventory(&found).await.unwrap();
    let set = async |choice: DiskSelector| {
        let settings = Settings {
            deploy: Some(AutoDeploy::Once),
            deploy_disk: Some(choice),
            image: Some("lab".to_owned()),
            ..Settings::default()
        };
        set_rule_to(&site, "true", settings).await;
    };
    let choice = |serial: Option<&str>, bus: &str| DiskSelector {
        serial: serial.map(str::to_owned),
        bus: Some(bus.to_owned()),
        ..DiskSelector::default()
    };
    for (choice, why) in [
        (choice(None, "sata"), "2 disks that could be meant"),
        (
            choice(Some("OTHER"), "sata"),
            "the disk serial=OTHER,bus=sata, and the machine has no such disk",
        ),
    ] {
        set(choice).await;
        assert!(!starts_agent(&site).await);
        site.told(agent.machine, Kind::Warning, why).await;
        assert!(matches!(work(&agent).await, Order::Leave { .. }));
        assert!(tasks(&site, agent.machine).await.is_empty());
    }
    set(choice(Some("SYSTEM"), "sata")).await;
    assert!(starts_agent(&site).await);
    let Order::Run {
        work: WireWork::Deploy { disk, .. },
        ..
    } = work(&agent).await
    else {
        panic!("there is something to do")
    };
    assert_eq!(disk.serial.as_deref(), Some("SYSTEM"));
    assert_eq!(
        disk.min_bytes, disk.max_bytes,
        "that one and no other: {disk:?}"
    );
}

/// What is half written goes on, and only as long as the policy wants it, and on the same disk.
#[tokio::test]
async fn z25_a_second_attempt_is_judged_again() {
    for (change, why) in [
        ("none", ""),
        ("rule", "The policy does not want it any more"),
        ("image", "The policy does not want it any more"),
        (
            "disk",
            "The disk that it was ordered for is not there any more",
        ),
        ("approval", "The machine is not approved"),
    ] {
        let data = tempfile::tempdir().unwrap();
        let site = opened(data.path(), BLANK, AutoDeploy::Once).await;
        let agent = site.agent(MAC).await;
        agent
            .client
            .inventory(&disks_called(&["ONE"]))
            .await
            .unwrap();
        let (task, fence, ..) = deployment(&agent).await;
        let outcome = Outcome::Failed {
            reason: "the network broke".to_owned(),
            retry: true,
        };
        ends(&agent, task, fence, outcome).await;
        let mut found = disks_called(&["ONE"]);
        found.disks[0].table = Some("gpt".to_owned());
        match change {
            "rule" => set_rule(&site, "false", AutoDeploy::Once).await,
            "image" => {
                let settings = Settings {
                    deploy: Some(AutoDeploy::Once),
                    image: Some("other".to_owned()),
                    ..Settings::default()
                };
                set_rule_to(&site, "true", settings).await;
            }
            "disk" => found = disks_called(&["TWO"]),
            _ => {}
        }
        agent.client.inventory(&found).await.unwrap();
        if change == "approval" {
            let place = site.core.place_at([127, 0, 0, 1].into());
            let mut machine = (*site.core.fleet.machine(agent.machine).unwrap()).clone();
            machine.registration = Registration::Pending;
            let mut stored = site.stored(farrier_engine::model::TaskId(task)).await;
            stored.attempts = 2;
            let judged = site.core.is_still_wanted(&stored, &machine, &place).await;
            assert!(judged.unwrap_err().contains(why));
            continue;
        }
        let order = work(&agent).await;
        let stored = site.stored(farrier_engine::model::TaskId(task)).await;
        if change == "none" {
            assert!(matches!(order, Order::Run { task: again, .. } if again == task));
            assert_eq!(stored.attempts, 2);
            continue;
        }
        assert!(matches!(order, Order::Leave { .. }), "{change}: {order:?}");
        assert_eq!(stored.state, State::Failed, "{change}");
        let said = stored.reason.unwrap();
        assert!(said.contains(why), "{change}: {said}");
        assert!(
            said.contains("This attempt wrote nothing; the ones before it may have"),
            "{said}"
        );
    }
}
