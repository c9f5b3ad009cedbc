//! Deployments that the policy starts by itself: judged when a machine asks for its script, and again when its agent
//! has told what it is made of. What is decided is [`farrier_engine::policy::standing_order`]; here it becomes a task.

mod change;
mod ground;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use farrier_db::{AuditEntry, DbError, TaskQuery};
use farrier_engine::model::{Disk, Inventory, Machine, MachineId, Registration};
use farrier_engine::policy::{AutoDeploy, Held, StandingOrder};
use farrier_engine::task::{DiskSelector, Task, Work};
use farrier_engine::timeline::{Entry, Kind};
use farrier_image::manifest::ImageName;

pub use change::{Concerned, Pair};
pub use ground::{Door, Ground};

use crate::auth::Action;
use crate::core::{Core, now};
use crate::fleet::FleetError;
use crate::service::{matching, selector};
use crate::tasks::queued;
use crate::whereabouts::Place;

/// What keeps one order from being carried out twice, and from being told twice.
#[derive(Debug, Default)]
pub struct StandingOrders {
    /// Held from the look at what the machine had to the task that is stored.
    starting: tokio::sync::Mutex<()>,
    /// Held while a change of the policy is judged and stored, so that none is judged by what is no more.
    changing: tokio::sync::Mutex<()>,
    /// Why nothing was started, as it was told last.
    told: Mutex<HashMap<MachineId, String>>,
}

impl StandingOrders {
    /// Waits until nobody else changes the policy.
    pub async fn one_change(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    fn is_new(&self, machine: MachineId, why: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&machine).is_some_and(|last| last == why) {
            return false;
        }
        if told.len() >= MAX_TOLD {
            told.clear();
        }
        told.insert(machine, why.to_owned());
        true
    }
}

/// What the policy would do to a machine by itself if it booted now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    Nothing,
    Deploys {
        order: Box<StandingOrder>,
        version: u32,
        /// The one that fits the order.
        disk: DiskSelector,
    },
    /// Whether something is deployed depends on an inventory: the agent takes one first.
    TakesInventory,
    Held {
        why: String,
        /// A person has something to do about it.
        is_news: bool,
    },
}

impl fmt::Display for Outlook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("The policy deploys nothing by itself."),
            Self::Deploys { order, version, .. } => {
                let (image, by, often) = (&order.image, &order.by, often(order.mode));
                let which = on_disk(order);
                write!(
                    f,
                    "Its disk is overwritten at its next boot: {image} version {version} is deployed by itself{which}, \
                     {often}, as the {by} says."
                )
            }
            Self::TakesInventory => f.write_str(
                "Its agent takes an inventory at its next boot; whether something is deployed by itself depends on it.",
            ),
            Self::Held { why, .. } => write!(f, "Nothing is deployed by itself. {why}"),
        }
    }
}

impl From<Held> for Outlook {
    fn from(held: Held) -> Self {
        Self::Held {
            is_news: held.is_news(),
            why: held.to_string(),
        }
    }
}

impl Core {
    /// What the policy would do to `machine` by itself.
    pub async fn outlook(&self, machine: &Machine, place: &Place) -> Result<Outlook, DbError> {
        let ground = self.ground();
        if !ground.has_orders(machine) {
            return Ok(Outlook::Nothing);
        }
        let order = match ground.wanted(machine, place) {
            Ok(None) => return Ok(Outlook::Nothing),
            Ok(Some(order)) => Some(order),
            Err(held) if waits_for_inventory(&held, machine) => None,
            Err(held) => return Ok(held.into()),
        };
        let tasks = self.every_task(machine.id).await?;
        Ok(self.prospect(order.as_ref(), machine, &tasks))
    }

    /// What comes of an order; without one, an inventory has to make clear which one it is. `tasks` are all that the
    /// machine ever had.
    fn prospect(
        &self,
        order: Option<&StandingOrder>,
        machine: &Machine,
        tasks: &[Task],
    ) -> Outlook {
        let Some(order) = order else {
            return inventory_first(tasks);
        };
        let Some(version) = self.newest(&order.image) else {
            let why = format!(
                "The {} wants {}, and there is no such image.",
                order.by, order.image
            );
            return Outlook::Held { why, is_news: true };
        };
        if let Err(held) = order.is_open(version, tasks, now()) {
            return held.into();
        }
        let Some(inventory) = &machine.inventory else {
            return inventory_first(tasks);
        };
        match on_one_disk(order, inventory, tasks) {
            Ok(disk) => Outlook::Deploys {
                order: Box::new(order.clone()),
                version,
                disk: pinned(disk),
            },
            Err(why) => Outlook::Held { why, is_news: true },
        }
    }

    /// Starts what the policy deploys to a machine by itself, if there is something and it may be.
    pub async fn start_standing_order(&self, id: MachineId, place: &Place) -> Option<Arc<Task>> {
        let machine = self.fleet.machine(id)?;
        if !self.has_standing_orders(&machine) {
            return None;
        }
        // Loaders fetch their script more than once, and two agents may report at once.
        let _one = self.standing_orders.starting.lock().await;
        let machine = self.fleet.machine(id)?;
        let queue = self.fleet.queue(id);
        if queue.iter().any(|task| task.work != Work::Inventory) {
            return None;
        }
        let outlook = match self.outlook(&machine, place).await {
            Ok(outlook) => outlook,
            Err(error) => {
                tracing::warn!(machine = %id, %error, "what a machine had so far cannot be read, so nothing is started by itself");
                return None;
            }
        };
        let (work, by) = match &outlook {
            Outlook::Deploys {
                order,
                version,
                disk,
            } => {
                let work = Work::Deploy {
                    image: order.image.clone(),
                    version: Some(*version),
                    disk: disk.clone(),
                };
                (work, order.by.to_string())
            }
            Outlook::TakesInventory if queue.is_empty() => (Work::Inventory, "policy".to_owned()),
            Outlook::Held { why, is_news: true } => {
                if self.standing_orders.is_new(id, why) {
                    self.note(id, Kind::Warning, outlook.to_string());
                }
                return None;
            }
            _ => return None,
        };
        match self.add_by_policy(&machine, work, by).await {
            Ok(task) => Some(task),
            Err(error) => {
                tracing::warn!(machine = %id, %error, "a task could not be stored, so it is not started by itself");
                None
            }
        }
    }

    /// Whether the policy still wants a task that it started: its rules may have changed, and the agent has just told
    /// what the machine is made of. An attempt that came to nothing may have written to the disk already, so that what
    /// is on it now says nothing any more; all else is judged again, and the disk has to be the same one.
    pub async fn is_still_wanted(
        &self,
        task: &Task,
        machine: &Machine,
        place: &Place,
    ) -> Result<(), String> {
        let Work::Deploy { image, disk, .. } = &task.work else {
            return Ok(());
        };
        if !task.by_policy {
            return Ok(());
        }
        let is_first = task.attempts <= 1;
        let ground = self.ground();
        let wanted = |machine: &Machine| match ground.wanted(machine, place) {
            Ok(Some(order)) if order.image == *image => Ok(order),
            Ok(_) => Err("The policy does not want it any more.".to_owned()),
            Err(held) => Err(held.to_string()),
        };
        let order = match wanted(machine) {
            Err(_) if !is_first => wanted(&as_it_came(machine, disk))?,
            wanted => wanted?,
        };
        let Some(inventory) = &machine.inventory else {
            return Err("Its inventory is gone.".to_owned());
        };
        match matching(&inventory.disks, disk).len() {
            0 => return Err("The disk that it was ordered for is not there any more.".to_owned()),
            1 => {}
            many => {
                return Err(format!(
                    "It was ordered for one of {many} disks that look the same."
                ));
            }
        }
        let tasks = self.every_task(machine.id).await;
        let tasks = tasks.map_err(|error| error.to_string())?;
        match on_one_disk(&order, inventory, &tasks) {
            Err(_) if !is_first => {
                let came = as_it_came(machine, disk).inventory.unwrap_or_default();
                on_one_disk(&order, &came, &tasks).map(drop)
            }
            judged => judged.map(drop),
        }
    }

    /// Whether anything could be deployed by itself to this machine; costs nothing where nobody uses it.
    #[must_use]
    pub fn has_standing_orders(&self, machine: &Machine) -> bool {
        self.ground().has_orders(machine)
    }

    fn newest(&self, image: &str) -> Option<u32> {
        let name: ImageName = image.parse().ok()?;
        let versions = self.store.versions(&name);
        versions.iter().map(|known| known.version).max()
    }

    async fn every_task(&self, machine: MachineId) -> Result<Vec<Task>, DbError> {
        let query = TaskQuery {
            machine: Some(machine),
            ..TaskQuery::default()
        };
        let mut tasks: Vec<Task> = Vec::new();
        loop {
            let before = tasks.last().map(|task| task.id);
            let page = self.db.tasks(&query, before, PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            tasks.extend(page);
            if is_last {
                return Ok(tasks);
            }
        }
    }

    async fn add_by_policy(
        &self,
        machine: &Machine,
        work: Work,
        by: String,
    ) -> Result<Arc<Task>, FleetError> {
        let at = now();
        let what = match &work {
            Work::Deploy {
                image,
                version: Some(version),
                ..
            } => format!("deploy {image} version {version}"),
            _ => "take the inventory, to see what is deployed".to_owned(),
        };
        let task = Task {
            by_policy: true,
            ..queued(machine.id, work, by.clone(), at)
        };
        let stored = self.fleet.add_task(task).await?;
        let told = format!("Started by the {by}, without anybody's order: {what}.");
        self.note_entry(Entry::task(machine.id, at, stored.id, &told));
        tracing::info!(machine = %machine.id, task = %stored.id, by, what, "started by the policy");
        let entry = AuditEntry {
            at,
            who: by,
            from: None,
            what: Action::CreateTask.as_str().to_owned(),
            target: format!("{}: {what}", machine.id),
            allowed: true,
        };
        if let Err(error) = self.db.append_audit(&entry).await {
            tracing::warn!(%error, "the audit entry could not be stored");
        }
        Ok(stored)
    }
}

/// Whether exactly one disk can be meant, and what is on it may be lost.
fn on_one_disk<'a>(
    order: &StandingOrder,
    inventory: &'a Inventory,
    tasks: &[Task],
) -> Result<&'a Disk, String> {
    let StandingOrder { by, image, .. } = order;
    let is_named = order.disk != DiskSelector::default();
    match matching(&inventory.disks, &order.disk)[..] {
        [disk] => order
            .may_overwrite(disk, tasks)
            .map(|()| disk)
            .map_err(|held| held.to_string()),
        [] if is_named => Err(format!(
            "The {by} wants {image} on the disk {}, and the machine has no such disk.",
            selector(&order.disk)
        )),
        ref many => Err(format!(
            "The {by} wants {image}, and the machine has {} disks that could be meant: name one in `deploy_disk` \
             beside `deploy`, or order it by hand.",
            many.len()
        )),
    }
}

/// The machine with nothing on the disk that was written to.
fn as_it_came(machine: &Machine, written: &DiskSelector) -> Machine {
    let mut machine = machine.clone();
    let disks = machine
        .inventory
        .iter_mut()
        .flat_map(|found| &mut found.disks);
    for disk in disks {
        if !matching(std::slice::from_ref(disk), written).is_empty() {
            disk.table = None;
        }
    }
    machine
}

/// That disk and no other, by all that is known of it: who puts another one in its place finds it untouched.
fn pinned(disk: &Disk) -> DiskSelector {
    let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    DiskSelector {
        serial: said(&disk.serial),
        wwn: said(&disk.wwn),
        bus: said(&disk.bus),
        model: said(&disk.model),
        min_bytes: Some(disk.size_bytes),
        max_bytes: Some(disk.size_bytes),
        allow_removable: disk.removable,
    }
}

/// Whether what the machine is made of may make it clear.
fn waits_for_inventory(held: &Held, machine: &Machine) -> bool {
    matches!(held, Held::Unclear { .. } | Held::Refused(_))
        && machine.inventory.is_none()
        && machine.registration == Registration::Approved
}

/// One inventory is asked for; if none came of it, a person has to look.
fn inventory_first(tasks: &[Task]) -> Outlook {
    let asked = |task: &&Task| task.by_policy && task.work == Work::Inventory;
    match tasks.iter().find(asked) {
        None => Outlook::TakesInventory,
        Some(_) => Outlook::Held {
            why: "It needs an inventory first, and the one that was asked for has not come: `farrier task inventory` \
                  asks again."
                .to_owned(),
            is_news: true,
        },
    }
}

/// ` to the disk serial=S5`, where one is named.
pub(crate) fn on_disk(order: &StandingOrder) -> String {
    match &*selector(&order.disk).to_string() {
        "" => String::new(),
        disk => format!(" to the disk {disk}"),
    }
}

pub(crate) fn often(mode: AutoDeploy) -> &'static str {
    match mode {
        AutoDeploy::Never => "never",
        AutoDeploy::Once => "once",
        AutoDeploy::EachVersion => "once in each version",
    }
}

const PAGE: u32 = 200;
/// More machines than one server boots.
const MAX_TOLD: usize = 1 << 16;
