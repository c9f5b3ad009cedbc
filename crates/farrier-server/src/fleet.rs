//! Machines and tasks as the server knows them now: in memory for every packet, in the database for ever.
//!
//! Reads never wait and never fail, so that known machines boot while the database is away. Changes are
//! stored first and become visible only then.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, RwLock};

use farrier_db::{Db, DbError, MachineQuery};
use farrier_engine::WallTime;
use farrier_engine::model::{Arch, FirmwareKind, Machine, MachineId, Registration, TaskId};
use farrier_engine::policy::ShortName;
use farrier_engine::task::Task;
use farrier_proto::MacAddr;
use tokio::sync::broadcast;
use uuid::Uuid;

/// Something that people may be looking at has changed. Carries ids only: whoever is interested asks
/// again, with their own rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Images,
    Leases,
    Machine(MachineId),
    Site,
    Task(TaskId),
    Timeline(MachineId),
}

/// All machines, and all tasks that are not ended.
#[derive(Debug)]
pub struct Fleet {
    db: Db,
    known: RwLock<Known>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct Known {
    machines: HashMap<MachineId, Arc<Machine>>,
    by_mac: HashMap<MacAddr, Vec<MachineId>>,
    by_uuid: HashMap<Uuid, Vec<MachineId>>,
    tasks: HashMap<TaskId, Arc<Task>>,
    /// Machines that nobody has said are ours.
    unconfirmed: HashSet<MachineId>,
    /// Unfinished tasks of each machine, oldest first.
    queues: HashMap<MachineId, Vec<TaskId>>,
}

/// A change was not made.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("there is no machine {0}")]
    NoMachine(MachineId),
    #[error("there is no unfinished task {0}")]
    NoTask(TaskId),
    #[error(transparent)]
    Db(#[from] DbError),
}

impl Fleet {
    /// Reads everything there is.
    pub async fn load(db: Db, changes: broadcast::Sender<Change>) -> Result<Self, DbError> {
        let mut known = Known::default();
        let mut after = None;
        loop {
            let page = db.machines(&MachineQuery::default(), after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            page.into_iter()
                .for_each(|machine| known.put_machine(Arc::new(machine)));
        }
        for task in db.unfinished_tasks().await? {
            known.put_task(Arc::new(task));
        }
        Ok(Self {
            db,
            known: RwLock::new(known),
            changes,
        })
    }

    #[must_use]
    pub fn machine(&self, id: MachineId) -> Option<Arc<Machine>> {
        self.read(|known| known.machines.get(&id).cloned())
    }

    /// Every machine that was ever seen with this address or this SMBIOS UUID, most likely one first
    /// found. More than one is for [`farrier_engine`]'s identity rules to decide.
    #[must_use]
    pub fn candidates(&self, macs: &[MacAddr], uuid: Option<Uuid>) -> Vec<Arc<Machine>> {
        self.read(|known| {
            let by_mac = macs
                .iter()
                .filter_map(|mac| known.by_mac.get(mac))
                .flatten();
            let by_uuid = uuid
                .iter()
                .filter_map(|uuid| known.by_uuid.get(uuid))
                .flatten();
            let mut ids: Vec<MachineId> = by_mac.chain(by_uuid).copied().collect();
            let mut seen = Vec::new();
            ids.retain(|id| {
                !seen.contains(id) && {
                    seen.push(*id);
                    true
                }
            });
            ids.iter()
                .filter_map(|id| known.machines.get(id).cloned())
                .collect()
        })
    }

    /// The machines of a group.
    #[must_use]
    pub fn members(&self, group: &ShortName) -> Vec<MachineId> {
        self.read(|known| {
            let all = known.machines.values();
            all.filter(|machine| machine.group.as_ref() == Some(group))
                .map(|machine| machine.id)
                .collect()
        })
    }

    /// What kinds of machines there are.
    #[must_use]
    pub fn architectures(&self) -> BTreeSet<(Arch, FirmwareKind)> {
        self.read(|known| {
            let machines = known.machines.values();
            machines
                .filter_map(|machine| Some((machine.arch?, machine.firmware?)))
                .collect()
        })
    }

    #[must_use]
    pub fn machine_count(&self) -> usize {
        self.read(|known| known.machines.len())
    }

    /// How many machines wait for somebody to say that they are ours.
    #[must_use]
    pub fn unconfirmed_count(&self) -> usize {
        self.read(|known| known.unconfirmed.len())
    }

    /// The unconfirmed machine that was silent longest, if that is since before `before` and nobody has
    /// named it or given it work.
    #[must_use]
    pub fn stalest(&self, before: WallTime) -> Option<MachineId> {
        self.read(|known| known.stalest(before))
    }

    /// Stores a machine nobody knew.
    pub async fn add_machine(&self, machine: Machine) -> Result<Arc<Machine>, FleetError> {
        let stored = Arc::new(self.db.create_machine(&machine).await?);
        self.write(|known| known.put_machine(Arc::clone(&stored)));
        self.tell(Change::Machine(stored.id));
        Ok(stored)
    }

    /// Changes a machine by `change`, which may be run again on a newer state when somebody else was faster.
    pub async fn change_machine(
        &self,
        id: MachineId,
        mut change: impl FnMut(&mut Machine),
    ) -> Result<Arc<Machine>, FleetError> {
        for _ in 0..CONFLICTS {
            let current = self.machine(id).ok_or(FleetError::NoMachine(id))?;
            let mut changed = (*current).clone();
            change(&mut changed);
            if changed == *current {
                return Ok(current);
            }
            match self.db.update_machine(&changed).await {
                Ok(stored) => {
                    let stored = Arc::new(stored);
                    self.write(|known| known.put_machine(Arc::clone(&stored)));
                    self.tell(Change::Machine(id));
                    return Ok(stored);
                }
                Err(DbError::Conflict { .. }) => self.reread_machine(id).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(FleetError::Db(DbError::Conflict {
            what: "machine",
            id: id.to_string(),
        }))
    }

    /// Notes in memory that a machine is alive; stored with its next change.
    pub fn saw_machine(&self, id: MachineId, now: WallTime) {
        self.write(|known| {
            if let Some(machine) = known.machines.get_mut(&id) {
                Arc::make_mut(machine).last_seen = now;
            }
        });
        self.tell(Change::Machine(id));
    }

    /// Forgets a machine and its unfinished tasks.
    pub async fn delete_machine(&self, id: MachineId) -> Result<bool, FleetError> {
        let deleted = self.db.delete_machine(id).await?;
        self.write(|known| known.forget_machine(id));
        self.tell(Change::Machine(id));
        Ok(deleted)
    }

    /// An unfinished task.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<Arc<Task>> {
        self.read(|known| known.tasks.get(&id).cloned())
    }

    /// The machine's unfinished tasks, oldest first.
    #[must_use]
    pub fn queue(&self, machine: MachineId) -> Vec<Arc<Task>> {
        self.read(|known| {
            let queue = known.queues.get(&machine).into_iter().flatten();
            queue
                .filter_map(|id| known.tasks.get(id).cloned())
                .collect()
        })
    }

    /// All unfinished tasks, oldest first.
    #[must_use]
    pub fn unfinished(&self) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = self.read(|known| known.tasks.values().cloned().collect());
        tasks.sort_by_key(|task| task.id);
        tasks
    }

    pub async fn add_task(&self, task: Task) -> Result<Arc<Task>, FleetError> {
        let stored = Arc::new(self.db.create_task(&task).await?);
        self.write(|known| known.put_task(Arc::clone(&stored)));
        self.tell(Change::Task(stored.id));
        Ok(stored)
    }

    /// Changes an unfinished task by `change`, which may refuse; what it refuses with is the inner error.
    pub async fn change_task<R, E>(
        &self,
        id: TaskId,
        mut change: impl FnMut(&Task) -> Result<(Task, R), E>,
    ) -> Result<Result<(Arc<Task>, R), E>, FleetError> {
        for _ in 0..CONFLICTS {
            let current = self.task(id).ok_or(FleetError::NoTask(id))?;
            let (mut changed, result) = match change(&current) {
                Ok(changed) => changed,
                Err(refused) => return Ok(Err(refused)),
            };
            changed.revision = current.revision;
            match self.db.update_task(&changed).await {
                Ok(stored) => {
                    let stored = Arc::new(stored);
                    self.write(|known| known.put_task(Arc::clone(&stored)));
                    self.tell(Change::Task(id));
                    return Ok(Ok((stored, result)));
                }
                Err(DbError::Conflict { .. }) => self.reread_task(id).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(FleetError::Db(DbError::Conflict {
            what: "task",
            id: id.to_string(),
        }))
    }

    /// Shows newer progress without storing it: it would cost a disk write per second and task, and a
    /// restarted server hears it again within a second.
    pub fn show_progress(&self, id: TaskId, update: impl FnOnce(&mut Task)) {
        self.write(|known| {
            if let Some(task) = known.tasks.get_mut(&id) {
                update(Arc::make_mut(task));
            }
        });
        self.tell(Change::Task(id));
    }

    async fn reread_machine(&self, id: MachineId) -> Result<(), FleetError> {
        let stored = self
            .db
            .machine(id)
            .await?
            .ok_or(FleetError::NoMachine(id))?;
        self.write(|known| known.put_machine(Arc::new(stored)));
        Ok(())
    }

    async fn reread_task(&self, id: TaskId) -> Result<(), FleetError> {
        let stored = self.db.task(id).await?.ok_or(FleetError::NoTask(id))?;
        self.write(|known| known.put_task(Arc::new(stored)));
        Ok(())
    }

    /// Nobody may be listening; that is no fault.
    fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(
            &self
                .known
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    fn write<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(
            &mut self
                .known
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl Known {
    fn put_machine(&mut self, machine: Arc<Machine>) {
        self.unindex(machine.id);
        for mac in &machine.macs {
            self.by_mac.entry(*mac).or_default().push(machine.id);
        }
        if let Some(uuid) = machine.uuid {
            self.by_uuid.entry(uuid).or_default().push(machine.id);
        }
        if matches!(
            machine.registration,
            Registration::Seen | Registration::Pending
        ) {
            self.unconfirmed.insert(machine.id);
        }
        self.machines.insert(machine.id, machine);
    }

    /// Seen long ago, and nobody has named it or given it work since.
    fn stalest(&self, before: WallTime) -> Option<MachineId> {
        let seen = self
            .unconfirmed
            .iter()
            .filter_map(|id| self.machines.get(id));
        let forgotten = seen.filter(|machine| {
            machine.registration == Registration::Seen
                && machine.name.is_none()
                && machine.last_seen < before
                && self.queues.get(&machine.id).is_none_or(Vec::is_empty)
        });
        forgotten
            .min_by_key(|machine| machine.last_seen)
            .map(|machine| machine.id)
    }

    fn forget_machine(&mut self, id: MachineId) {
        self.unindex(id);
        self.machines.remove(&id);
        for task in self.queues.remove(&id).unwrap_or_default() {
            self.tasks.remove(&task);
        }
    }

    fn unindex(&mut self, id: MachineId) {
        let Some(old) = self.machines.get(&id) else {
            return;
        };
        self.unconfirmed.remove(&id);
        for mac in &old.macs {
            if let Some(ids) = self.by_mac.get_mut(mac) {
                ids.retain(|other| *other != id);
            }
        }
        if let Some(ids) = old.uuid.and_then(|uuid| self.by_uuid.get_mut(&uuid)) {
            ids.retain(|other| *other != id);
        }
    }

    fn put_task(&mut self, task: Arc<Task>) {
        let queue = self.queues.entry(task.machine).or_default();
        if task.state.is_ended() {
            queue.retain(|id| *id != task.id);
            self.tasks.remove(&task.id);
            return;
        }
        if !queue.contains(&task.id) {
            queue.push(task.id);
        }
        self.tasks.insert(task.id, task);
    }
}

const PAGE: u32 = 1000;
/// More would mean that two servers fight over one row for ever.
const CONFLICTS: usize = 8;
