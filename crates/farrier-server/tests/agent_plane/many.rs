//! R15: one order for a room of machines, carried out by the agent of each.

use std::collections::BTreeSet;
use std::sync::Arc;

use farrier_api::admin::{GroupDetail, NewTasks, TaskQuery, TaskWork, TasksCreated, Then, Wake};
use farrier_api::agent::{Disk, DiskSelector, Inventory, Outcome, ResultReport, Work as WireWork};
use farrier_engine::model::{MachineId, Registration, Role, TaskId};
use farrier_engine::policy::ShortName;
use farrier_engine::task::State;
use farrier_engine::timeline::Kind;
use farrier_image::apply::{self, Mode};
use farrier_image::capture::{self, CaptureOptions};
use farrier_image::device::MemDevice;
use farrier_image::manifest::{MAX_PLAIN, SignedManifest};
use farrier_image::transport::Unwatched;
use farrier_server::auth::{Principal, Via};
use farrier_server::service::{Code, Desk};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{begin, done};
use crate::site::disk::{Remote, content, disk};
use crate::site::{Agent, Site, capture_of};

const ROOM: &str = "room";
const SEATS: u8 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r15_one_order_deploys_a_room_of_twenty_machines() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let desk = operator(&site);
    desk.set_group(ROOM, farrier_api::admin::Settings::default(), None)
        .await
        .unwrap();
    let source = Arc::new(disk(5, 2));
    let mut seats = Vec::new();
    for seat in 0..SEATS {
        seats.push(seated(&site, seat, 1).await);
    }
    captured(&site, &seats[0], &source).await;

    // Four who cannot take it: each for a reason of its own.
    let stranger = seated(&site, 100, 1).await;
    site.set_registration(stranger.machine, Registration::Pending)
        .await;
    let two_disks = seated(&site, 101, 2).await;
    let blank = seated(&site, 102, 0).await;
    let busy = seated(&site, 103, 1).await;
    site.order(busy.machine, capture_of("another")).await;

    let order = |confirm: Option<&String>| NewTasks {
        machines: Vec::new(),
        group: Some(ROOM.to_owned()),
        confirm: confirm.cloned(),
        ..deployment()
    };
    let plan = desk.plan_tasks(&order(None)).await.unwrap();
    assert_eq!(plan.summary, "Deploy debian version 1 on 20 machines.");
    assert!(plan.destructive);
    assert_eq!(plan.steps.len(), usize::from(SEATS));
    for step in &plan.steps {
        let says = step.contains("OVERWRITE ACME") && step.ends_with("): debian version 1");
        assert!(says, "{step}");
    }
    let why = |machine: MachineId| {
        let left = plan.left_out.iter().find(|left| left.machine == machine.0);
        left.unwrap().why.clone()
    };
    assert_eq!(plan.left_out.len(), 4, "{:?}", plan.left_out);
    assert!(why(stranger.machine).contains("not approved"));
    assert!(why(two_disks.machine).contains("2 of its disks fit"));
    assert!(why(blank.machine).contains("nothing is known of its disks"));
    assert!(why(busy.machine).contains("capture the disk as another, queued"));

    let refusal = desk.create_tasks(&order(None)).await.unwrap_err();
    assert_eq!(refusal.code, Code::ConfirmNeeded);

    // Sent three times, twice of it at once: ordered once.
    let confirmed = order(Some(&plan.confirm));
    let (one, two) = tokio::join!(desk.create_tasks(&confirmed), desk.create_tasks(&confirmed));
    let (one, two) = (one.unwrap(), two.unwrap());
    let three = desk.create_tasks(&confirmed).await.unwrap();
    assert_eq!(one.tasks.len(), usize::from(SEATS));
    assert_eq!((ids(&one), &one.left_out), (ids(&two), &two.left_out));
    assert_eq!(ids(&one), ids(&three));
    assert_eq!(site.core.fleet.unfinished().len(), usize::from(SEATS) + 1);

    // A new plan knows that they have it; carried out, it adds nothing.
    let plan = desk.plan_tasks(&order(None)).await.unwrap();
    let known: BTreeSet<_> = plan.left_out.iter().filter_map(|left| left.task).collect();
    assert_eq!((plan.steps.len(), known), (0, ids(&one)));

    let works: Vec<_> = seats
        .iter()
        .enumerate()
        .map(|(seat, agent)| {
            let (site, agent) = (Arc::clone(&site.core), agent.clone());
            tokio::spawn(async move { work(&site, &agent, seat != 7).await })
        })
        .collect();
    let mut held = Vec::new();
    for work in works {
        held.push(work.await.unwrap());
    }
    let expected = content(&source);
    for (seat, target) in held.iter().enumerate() {
        match target {
            Some(target) => assert!(content(target)[..expected.len()] == expected[..], "{seat}"),
            None => assert_eq!(seat, 7),
        }
    }
    let states = newest(&desk).await;
    let counted = (states.newest.done, states.newest.failed, states.newest.none);
    assert_eq!(counted, (19, 1, 3), "{:?}", states.newest);
    assert_eq!((states.newest.queued, states.members.len()), (1, 24));
    let listed = TaskQuery {
        group: Some(ROOM.to_owned()),
        state: Some(farrier_api::admin::TaskState::Done),
        limit: Some(100),
        ..TaskQuery::default()
    };
    // The capture was of this room, too.
    assert_eq!(desk.tasks(&listed).await.unwrap().items.len(), 20);

    // All is done, and the first order sent once more overwrites nothing; a new plan would.
    assert_eq!(
        ids(&desk.create_tasks(&confirmed).await.unwrap()),
        ids(&one)
    );
    assert_eq!(site.core.fleet.unfinished().len(), 1);
    let plan = desk.plan_tasks(&order(None)).await.unwrap();
    assert_eq!(plan.steps.len(), usize::from(SEATS));
}

#[tokio::test]
async fn r15_an_order_that_nobody_can_take_says_so_and_does_nothing() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let desk = operator(&site);
    let one = seated(&site, 1, 1).await;
    let two = seated(&site, 2, 1).await;
    for agent in [&one, &two] {
        site.set_registration(agent.machine, Registration::Disabled)
            .await;
    }
    let mut order = NewTasks {
        machines: vec![one.machine.0, two.machine.0],
        work: TaskWork::Inventory,
        ..deployment()
    };
    let plan = desk.plan_tasks(&order).await.unwrap();
    assert!(plan.summary.contains("none of the machines"), "{plan:?}");
    order.confirm = Some(plan.confirm);
    let refusal = desk.create_tasks(&order).await.unwrap_err();
    assert_eq!(refusal.code, Code::NotPossible, "{refusal:?}");
    assert!(refusal.hint.unwrap().contains("it is disabled"));

    // A plan of yesterday: meanwhile they were let in again.
    for agent in [&one, &two] {
        site.set_registration(agent.machine, Registration::Approved)
            .await;
    }
    let refusal = desk.create_tasks(&order).await.unwrap_err();
    assert_eq!(refusal.code, Code::PlanChanged, "{refusal:?}");

    // An empty group, one that is not there, a capture of many: refused before anything is planned.
    desk.set_group("empty", farrier_api::admin::Settings::default(), None)
        .await
        .unwrap();
    for (group, work, code) in [
        ("empty", TaskWork::Inventory, Code::BadRequest),
        ("nowhere", TaskWork::Inventory, Code::NotFound),
    ] {
        let order = NewTasks {
            machines: Vec::new(),
            group: Some(group.to_owned()),
            work,
            ..deployment()
        };
        assert_eq!(desk.plan_tasks(&order).await.unwrap_err().code, code);
    }
    order.work = TaskWork::Capture {
        image: "debian".to_owned(),
        disk: DiskSelector::default(),
    };
    let refusal = desk.plan_tasks(&order).await.unwrap_err();
    assert!(refusal.message.contains("of one machine"), "{refusal:?}");
    assert_eq!(site.core.fleet.unfinished().len(), 0);
}

/// Magic packets for a room go out one after another, and each machine's timeline tells of its own.
#[tokio::test]
async fn r15_a_room_is_woken_with_pauses() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let desk = operator(&site);
    let mut order = NewTasks {
        work: TaskWork::Inventory,
        wake: true,
        ..deployment()
    };
    for seat in 0..3 {
        order.machines.push(seated(&site, seat, 1).await.machine.0);
    }
    let plan = desk.plan_tasks(&order).await.unwrap();
    let last = plan.steps.last().unwrap();
    assert_eq!(last, "wake 3 machines by magic packets, 10 in a second");
    order.confirm = Some(plan.confirm);
    let created = desk.create_tasks(&order).await.unwrap();
    assert_eq!(created.tasks.len(), 3);
    // Where no packet may be sent at all, that is what the timeline says.
    let another = seated(&site, 9, 1).await.machine.0;
    let woken = desk.wake_machine(another, &Wake { secure_on: None }).await;
    let (kind, words) = match woken {
        Ok(_) => (Kind::Operator, "sent magic packets"),
        Err(_) => (Kind::Warning, "could not be woken"),
    };
    let mut told = Vec::new();
    for machine in &order.machines {
        told.push(site.told(MachineId(*machine), kind, words).await.at);
    }
    for pair in told.windows(2) {
        assert!(pair[1].since(pair[0]).as_millis() >= 90, "{told:?}");
    }
}

fn operator(site: &Site) -> Desk {
    Desk::new(
        Arc::clone(&site.core),
        Principal {
            name: "ada".to_owned(),
            role: Role::Admin,
            via: Via::Local,
            from: None,
        },
    )
}

fn deployment() -> NewTasks {
    NewTasks {
        machines: Vec::new(),
        group: None,
        work: TaskWork::Deploy {
            image: "debian".to_owned(),
            version: None,
            disk: DiskSelector::default(),
        },
        then: Then::LocalBoot,
        wake: false,
        confirm: None,
    }
}

fn ids(created: &TasksCreated) -> BTreeSet<Uuid> {
    created.tasks.iter().map(|task| task.id).collect()
}

async fn newest(desk: &Desk) -> GroupDetail {
    desk.group(ROOM).await.unwrap()
}

/// An agent in the room that has told of its disks, if it has any.
async fn seated(site: &Site, seat: u8, disks: usize) -> Agent {
    let agent = site.agent(&format!("52:54:00:00:01:{seat:02x}")).await;
    if disks > 0 {
        let disks = (0..disks).map(|n| Disk {
            name: format!("sd{n}"),
            size_bytes: 3 << 20,
            logical_sector: 512,
            physical_sector: 512,
            model: "ACME".to_owned(),
            serial: format!("S{seat}-{n}"),
            wwn: String::new(),
            bus: "sata".to_owned(),
            rotational: false,
            removable: false,
            table: None,
        });
        let inventory = Inventory {
            disks: disks.collect(),
            ..Inventory::default()
        };
        agent.client.inventory(&inventory).await.unwrap();
    }
    let room: ShortName = ROOM.to_owned().try_into().unwrap();
    site.core
        .fleet
        .change_machine(agent.machine, |m| m.group = Some(room.clone()))
        .await
        .unwrap();
    agent
}

pub(crate) async fn captured(site: &Site, agent: &Agent, source: &Arc<MemDevice>) {
    let id = site.order(agent.machine, capture_of("debian")).await;
    let (task, fence, _) = begin(agent).await;
    let remote = remote(agent, task, fence);
    let source = Arc::clone(source);
    let captured = tokio::task::spawn_blocking(move || {
        let plan =
            capture::plan(&*source, &CaptureOptions::new("debian".parse().unwrap())).unwrap();
        capture::capture(&*source, &plan, &remote, &Unwatched).unwrap()
    });
    let keys = [site.core.ca.image_verifying_key()];
    let (_, root) = captured.await.unwrap().signed.open(&keys).unwrap();
    let report = done(fence, Some(root.to_string()));
    agent.client.result(task, &report).await.unwrap();
    assert_eq!(site.stored(id).await.state, State::Done);
}

/// What one machine of the room does; one that has a broken disk says so and holds nothing.
async fn work(core: &farrier_server::core::Core, agent: &Agent, sound: bool) -> Option<MemDevice> {
    let (task, fence, work) = begin(agent).await;
    let WireWork::Deploy { version, .. } = work else {
        panic!("{work:?}")
    };
    if !sound {
        let outcome = Outcome::Failed {
            reason: "the disk cannot be written".to_owned(),
            retry: false,
        };
        let report = ResultReport { fence, outcome };
        agent.client.result(task, &report).await.unwrap();
        return None;
    }
    let bytes = agent.client.manifest("debian", version, MAX_PLAIN);
    let signed = SignedManifest {
        bytes: bytes.await.unwrap(),
    };
    let (manifest, _) = signed.open(&[core.ca.image_verifying_key()]).unwrap();
    let remote = remote(agent, task, fence);
    let applied = tokio::task::spawn_blocking(move || {
        let target = disk(6, 3);
        let plan = apply::plan(&target, &manifest, Mode::Deploy).unwrap();
        let applied = apply::apply(&target, &manifest, &plan, &remote, &Unwatched).unwrap();
        assert!(applied.proven);
        (target, applied.root.to_string())
    });
    let (target, root) = applied.await.unwrap();
    let report = done(fence, Some(root));
    agent.client.result(task, &report).await.unwrap();
    let stored = core.db.task(TaskId(task)).await.unwrap().unwrap();
    assert_eq!(stored.state, State::Done);
    Some(target)
}

pub(crate) fn remote(agent: &Agent, task: Uuid, fence: u64) -> Remote {
    Remote {
        client: agent.client.clone(),
        task,
        fence,
        handle: Handle::current(),
    }
}
