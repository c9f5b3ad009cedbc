//! The machines and open tasks in memory, with the ways to find them.
//!
//! A hundred thousand machines have to fit beside everything else into 60 MB, so a machine lies here packed
//! ([`Packed`]), and is unpacked for whoever asks.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use farrier_db::StoredMachine;
use farrier_engine::WallTime;
use farrier_engine::model::{Arch, FirmwareKind, Machine, MachineId, Registration, TaskId};
use farrier_engine::policy::ShortName;
use farrier_engine::task::Task;
use farrier_proto::MacAddr;
use uuid::Uuid;

use super::packed::{Models, Packed};

#[derive(Debug, Default)]
pub(super) struct Known {
    machines: HashMap<MachineId, Slot>,
    models: Models,
    by_mac: HashMap<MacAddr, Holders>,
    by_uuid: HashMap<Uuid, Holders>,
    /// Those of groups; no group is here without a machine.
    by_group: HashMap<ShortName, HashSet<MachineId>>,
    /// Machines that nobody has said are ours.
    unconfirmed: HashSet<MachineId>,
    tasks: HashMap<TaskId, Arc<Task>>,
    /// Unfinished tasks of each machine, oldest first.
    queues: HashMap<MachineId, Vec<TaskId>>,
}

/// A machine, and beside it what is asked of all machines at once or changes with each boot.
#[derive(Debug)]
struct Slot {
    packed: Packed,
    last_seen: WallTime,
    arch: Option<Arch>,
    firmware: Option<FirmwareKind>,
    /// Only seen, and nobody has named it.
    is_nobodys: bool,
}

/// The machines behind one address or UUID: nearly always one.
#[derive(Debug)]
enum Holders {
    One(MachineId),
    Several(Vec<MachineId>),
}

impl Known {
    /// Room for so many machines, so that a start does not move those it has read already.
    pub(super) fn reserve(&mut self, machines: usize) {
        self.machines.reserve(machines);
        self.by_mac.reserve(machines);
    }

    pub(super) fn machine(&self, id: MachineId) -> Option<Arc<Machine>> {
        let slot = self.machines.get(&id)?;
        Some(Arc::new(slot.packed.unpack(id, slot.last_seen)))
    }

    pub(super) fn candidates(&self, macs: &[MacAddr], uuid: Option<Uuid>) -> Vec<Arc<Machine>> {
        let by_mac = macs.iter().filter_map(|mac| self.by_mac.get(mac));
        let by_uuid = uuid.iter().filter_map(|uuid| self.by_uuid.get(uuid));
        let mut ids = Vec::new();
        for id in by_mac.chain(by_uuid).flat_map(Holders::ids) {
            if !ids.contains(id) {
                ids.push(*id);
            }
        }
        ids.into_iter().filter_map(|id| self.machine(id)).collect()
    }

    pub(super) fn members(&self, group: &ShortName) -> Vec<MachineId> {
        let members = self.by_group.get(group).into_iter().flatten();
        members.copied().collect()
    }

    pub(super) fn machine_ids(&self) -> Vec<MachineId> {
        self.machines.keys().copied().collect()
    }

    pub(super) fn architectures(&self) -> BTreeSet<(Arch, FirmwareKind)> {
        let slots = self.machines.values();
        slots
            .filter_map(|slot| Some((slot.arch?, slot.firmware?)))
            .collect()
    }

    pub(super) fn machine_count(&self) -> usize {
        self.machines.len()
    }

    pub(super) fn unconfirmed_count(&self) -> usize {
        self.unconfirmed.len()
    }

    pub(super) fn saw(&mut self, id: MachineId, now: WallTime) {
        if let Some(slot) = self.machines.get_mut(&id) {
            slot.last_seen = now;
        }
    }

    pub(super) fn put_machine(&mut self, machine: Machine) {
        self.put_stored(machine.into());
    }

    pub(super) fn put_stored(&mut self, stored: StoredMachine) {
        let machine = &stored.machine;
        let id = machine.id;
        self.unindex(id);
        for mac in &machine.macs {
            hold(&mut self.by_mac, *mac, id);
        }
        if let Some(uuid) = machine.uuid {
            hold(&mut self.by_uuid, uuid, id);
        }
        if let Some(group) = &machine.group {
            self.by_group.entry(group.clone()).or_default().insert(id);
        }
        if matches!(
            machine.registration,
            Registration::Seen | Registration::Pending
        ) {
            self.unconfirmed.insert(id);
        }
        let slot = Slot {
            last_seen: machine.last_seen,
            arch: machine.arch,
            firmware: machine.firmware,
            is_nobodys: machine.registration == Registration::Seen && machine.name.is_none(),
            packed: self.models.pack(stored),
        };
        if let Some(old) = self.machines.insert(id, slot) {
            self.models.forget(old.packed);
        }
    }

    /// Seen long ago, and nobody has named it or given it work since.
    pub(super) fn stalest(&self, before: WallTime) -> Option<MachineId> {
        let seen = self
            .unconfirmed
            .iter()
            .filter_map(|id| Some((self.machines.get(id)?, *id)));
        let forgotten = seen.filter(|(slot, id)| {
            slot.is_nobodys
                && slot.last_seen < before
                && self.queues.get(id).is_none_or(Vec::is_empty)
        });
        forgotten
            .min_by_key(|(slot, _)| slot.last_seen)
            .map(|(_, id)| id)
    }

    pub(super) fn forget_machine(&mut self, id: MachineId) {
        self.unindex(id);
        if let Some(old) = self.machines.remove(&id) {
            self.models.forget(old.packed);
        }
        for task in self.queues.remove(&id).unwrap_or_default() {
            self.tasks.remove(&task);
        }
    }

    fn unindex(&mut self, id: MachineId) {
        let Some(old) = self.machine(id) else {
            return;
        };
        self.unconfirmed.remove(&id);
        for mac in &old.macs {
            release(&mut self.by_mac, mac, id);
        }
        if let Some(uuid) = old.uuid {
            release(&mut self.by_uuid, &uuid, id);
        }
        if let Some(group) = &old.group
            && let Some(members) = self.by_group.get_mut(group)
        {
            members.remove(&id);
            if members.is_empty() {
                self.by_group.remove(group);
            }
        }
    }

    pub(super) fn task(&self, id: TaskId) -> Option<Arc<Task>> {
        self.tasks.get(&id).cloned()
    }

    pub(super) fn tasks(&self) -> Vec<Arc<Task>> {
        self.tasks.values().cloned().collect()
    }

    pub(super) fn queue(&self, machine: MachineId) -> Vec<Arc<Task>> {
        let queue = self.queues.get(&machine).into_iter().flatten();
        queue.filter_map(|id| self.tasks.get(id).cloned()).collect()
    }

    pub(super) fn change_task(&mut self, id: TaskId, update: impl FnOnce(&mut Task)) {
        if let Some(task) = self.tasks.get_mut(&id) {
            update(Arc::make_mut(task));
        }
    }

    pub(super) fn put_task(&mut self, task: Arc<Task>) {
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

impl Holders {
    fn ids(&self) -> &[MachineId] {
        match self {
            Self::One(id) => std::slice::from_ref(id),
            Self::Several(ids) => ids,
        }
    }
}

fn hold<K: Eq + std::hash::Hash>(index: &mut HashMap<K, Holders>, key: K, id: MachineId) {
    index
        .entry(key)
        .and_modify(|holders| match holders {
            Holders::One(first) => *holders = Holders::Several(vec![*first, id]),
            Holders::Several(ids) => ids.push(id),
        })
        .or_insert(Holders::One(id));
}

fn release<K: Eq + std::hash::Hash>(index: &mut HashMap<K, Holders>, key: &K, id: MachineId) {
    let Some(holders) = index.get_mut(key) else {
        return;
    };
    let left: Vec<MachineId> = holders
        .ids()
        .iter()
        .copied()
        .filter(|other| *other != id)
        .collect();
    match left[..] {
        [] => drop(index.remove(key)),
        [one] => *holders = Holders::One(one),
        _ => *holders = Holders::Several(left),
    }
}
