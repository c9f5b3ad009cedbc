//! The same work for many machines: who they are, and who of them cannot take it now.

use std::collections::BTreeSet;

use farrier_api::admin::{LeftOut, NewTasks, TaskState};
use farrier_engine::model::{Machine, MachineId, Registration, TaskId};
use farrier_engine::task::{Task, Then, Work};
use uuid::Uuid;

use super::matching;
use crate::service::convert::{Like, machine_name};
use crate::service::tasks::describe;
use crate::service::{Desk, Refusal};

impl Desk {
    /// Everybody the order is for.
    pub(super) fn wanted_machines(&self, new: &NewTasks) -> Result<BTreeSet<Uuid>, Refusal> {
        let mut ids: BTreeSet<Uuid> = new.machines.iter().copied().collect();
        if let Some(group) = &new.group {
            let members = self.core.fleet.members(&self.known_group(group)?);
            if members.is_empty() && ids.is_empty() {
                let refusal = Refusal::bad(format!("no machine is in the group {group}"));
                return Err(
                    refusal.hint("put them into it: farrier machine group <machine> <group>")
                );
            }
            ids.extend(members.iter().map(|id| id.0));
        }
        if ids.is_empty() || ids.len() > MAX_MACHINES {
            let refusal = Refusal::bad(format!(
                "name 1 to {MAX_MACHINES} machines, or a group of them"
            ));
            return Err(refusal);
        }
        Ok(ids)
    }

    /// Why this machine gets no task while the others do. Nobody looks at each of many: what one person would be
    /// warned of is left alone here.
    pub(super) fn against(&self, machine: &Machine, work: &Work, then: Then) -> Option<LeftOut> {
        let because = |why: String| Some(left_out(machine, why, None));
        match machine.registration {
            Registration::Approved => {}
            Registration::Disabled => return because("it is disabled: enable it".to_owned()),
            Registration::Seen | Registration::Pending => {
                return because("it is not approved: approve it".to_owned());
            }
        }
        let queue = self.core.fleet.queue(machine.id);
        let same = |task: &&std::sync::Arc<Task>| task.work == *work && task.then == then;
        if let Some(task) = queue.iter().find(same) {
            let why = format!("that is ordered already, and {}", state(task));
            return Some(left_out(machine, why, Some(task.id)));
        }
        if let Some(task) = queue.first() {
            return because(format!(
                "it has a task already: {}, {}",
                describe(&task.work),
                state(task)
            ));
        }
        let (Work::Deploy { disk, .. } | Work::Repair { disk, .. }) = work else {
            return None;
        };
        let Some(inventory) = &machine.inventory else {
            return because("nothing is known of its disks: take its inventory first".to_owned());
        };
        match matching(&inventory.disks, disk).len() {
            1 => None,
            0 => because("none of its disks fits the choice".to_owned()),
            many => because(format!(
                "{many} of its disks fit the choice: order it alone, with the serial number of one"
            )),
        }
    }
}

fn state(task: &Task) -> &'static str {
    let state: TaskState = task.state.like();
    state.as_str()
}

pub(in crate::service) fn left_out(
    machine: &Machine,
    why: String,
    task: Option<TaskId>,
) -> LeftOut {
    LeftOut {
        machine: machine.id.0,
        machine_name: machine_name(machine),
        why,
        task: task.map(|id| id.0),
    }
}

/// The same for one that may be gone by now.
pub(in crate::service) fn left_out_by_id(desk: &Desk, id: MachineId, why: String) -> LeftOut {
    match desk.core.fleet.machine(id) {
        Some(machine) => left_out(&machine, why, None),
        None => LeftOut {
            machine: id.0,
            machine_name: id.to_string(),
            why,
            task: None,
        },
    }
}

/// One request is one school; more is more than one request.
pub(super) const MAX_MACHINES: usize = 1000;
