//! Machines and tasks as the server knows them now: in memory for every packet, in the database for ever.
//!
//! Reads never wait and never fail, so that known machines boot while the database is away. Changes are
//! stored first and become visible only then.

mod known;
mod packed;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use farrier_db::{Db, DbError};
use farrier_engine::WallTime;
use farrier_engine::model::{Arch, FirmwareKind, Machine, MachineId, TaskId};
use farrier_engine::policy::ShortName;
use farrier_engine::task::Task;
use farrier_proto::MacAddr;
use tokio::sync::broadcast;
use uuid::Uuid;

use known::Known;

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
    known: Arc<RwLock<Known>>,
    changes: broadcast::Sender<Change>,
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
        known.reserve(usize::try_from(db.machine_total().await?).unwrap_or_default());
        db.all_machines(|stored| known.put_stored(stored)).await?;
        for task in db.unfinished_tasks().await? {
            known.put_task(Arc::new(task));
        }
        Ok(Self {
            db,
            known: Arc::new(RwLock::new(known)),
            changes,
        })
    }

    #[must_use]
    pub fn machine(&self, id: MachineId) -> Option<Arc<Machine>> {
        self.read(|known| known.machine(id))
    }

    /// Every machine that was ever seen with this address or this SMBIOS UUID, most likely one first
    /// found. More than one is for [`farrier_engine`]'s identity rules to decide.
    #[must_use]
    pub fn candidates(&self, macs: &[MacAddr], uuid: Option<Uuid>) -> Vec<Arc<Machine>> {
        self.read(|known| known.candidates(macs, uuid))
    }

    /// The machines of a group.
    #[must_use]
    pub fn members(&self, group: &ShortName) -> Vec<MachineId> {
        self.read(|known| known.members(group))
    }

    /// Every machine, in the order in which they came.
    #[must_use]
    pub fn machine_ids(&self) -> Vec<MachineId> {
        let mut ids = self.read(Known::machine_ids);
        ids.sort_unstable();
        ids
    }

    /// What kinds of machines there are.
    #[must_use]
    pub fn architectures(&self) -> BTreeSet<(Arch, FirmwareKind)> {
        self.read(Known::architectures)
    }

    #[must_use]
    pub fn machine_count(&self) -> usize {
        self.read(Known::machine_count)
    }

    /// How many machines wait for somebody to say that they are ours.
    #[must_use]
    pub fn unconfirmed_count(&self) -> usize {
        self.read(Known::unconfirmed_count)
    }

    /// The unconfirmed machine that was silent longest, if that is since before `before` and nobody has
    /// named it or given it work.
    #[must_use]
    pub fn stalest(&self, before: WallTime) -> Option<MachineId> {
        self.read(|known| known.stalest(before))
    }

    /// Stores a machine nobody knew.
    pub async fn add_machine(&self, machine: Machine) -> Result<Arc<Machine>, FleetError> {
        self.add_holding(machine, ()).await
    }

    /// The same, with something that is held until everybody can see the machine. Who stops waiting does not undo
    /// what it asked for: the row is stored all the same, and must be seen.
    pub async fn add_holding<H: Send + 'static>(
        &self,
        machine: Machine,
        held: H,
    ) -> Result<Arc<Machine>, FleetError> {
        let (db, known, changes) = (
            self.db.clone(),
            Arc::clone(&self.known),
            self.changes.clone(),
        );
        let adding = tokio::spawn(async move {
            let stored = Arc::new(db.create_machine(&machine).await?);
            known
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .put_machine((*stored).clone());
            // Nobody may be listening.
            let _ = changes.send(Change::Machine(stored.id));
            drop(held);
            Ok(stored)
        });
        adding.await.map_err(|_| DbError::Closed)?
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
                    self.write(|known| known.put_machine((*stored).clone()));
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
        self.write(|known| known.saw(id, now));
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
        self.read(|known| known.task(id))
    }

    /// The machine's unfinished tasks, oldest first.
    #[must_use]
    pub fn queue(&self, machine: MachineId) -> Vec<Arc<Task>> {
        self.read(|known| known.queue(machine))
    }

    /// All unfinished tasks, oldest first.
    #[must_use]
    pub fn unfinished(&self) -> Vec<Arc<Task>> {
        let mut tasks: Vec<_> = self.read(Known::tasks);
        tasks.sort_by_key(|task| task.id);
        tasks
    }

    pub async fn add_task(&self, task: Task) -> Result<Arc<Task>, FleetError> {
        let stored = Arc::new(self.db.create_task(&task).await?);
        self.write(|known| known.put_task(Arc::clone(&stored)));
        self.tell(Change::Task(stored.id));
        // Nobody who looks at the machine knows the task yet.
        self.tell(Change::Machine(stored.machine));
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
        self.write(|known| known.change_task(id, update));
        self.tell(Change::Task(id));
    }

    async fn reread_machine(&self, id: MachineId) -> Result<(), FleetError> {
        let stored = self
            .db
            .machine(id)
            .await?
            .ok_or(FleetError::NoMachine(id))?;
        self.write(|known| known.put_machine(stored));
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
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// More would mean that two servers fight over one row for ever.
const CONFLICTS: usize = 8;
