//! What a change of the policy, or of one machine, would start that was not to be started before.
//!
//! A machine that is not approved is judged as if it were: whoever approves it carries out what was confirmed here.

use std::sync::Arc;

use farrier_db::DbError;
use farrier_engine::model::{Machine, Registration};
use farrier_engine::policy::{AutoDeploy, DeployOver, Held, StandingOrder};
use farrier_engine::task::Task;

use super::{Ground, Outlook, waits_for_inventory};
use crate::core::{Core, now};
use crate::whereabouts::Place;

/// A machine that would get something it was not to get before.
#[derive(Debug)]
pub struct Concerned {
    pub machine: Arc<Machine>,
    /// What; none where it is held back before that can be told.
    pub order: Option<StandingOrder>,
    pub outlook: Outlook,
}

/// One machine before a change and after it.
pub type Pair = (Arc<Machine>, Arc<Machine>);

impl Core {
    /// Calls `each` for every known machine that `after` gives something which `before` did not. Judged on what is
    /// known now; nothing that packets wait for is held meanwhile.
    pub async fn newly_ordered(
        self: &Arc<Self>,
        before: &Ground,
        after: &Ground,
        mut each: impl FnMut(Concerned),
    ) -> Result<(), DbError> {
        let touched = after.touched_from(before, &self.fleet);
        for ids in touched.chunks(MACHINES_AT_ONCE) {
            let machines = ids.iter().filter_map(|id| self.fleet.machine(*id));
            let pairs: Vec<Pair> = machines.map(|one| (Arc::clone(&one), one)).collect();
            self.newly_ordered_of(pairs, before, after, &mut each)
                .await?;
        }
        Ok(())
    }

    /// The same for machines that are changed themselves.
    pub async fn newly_ordered_of(
        self: &Arc<Self>,
        pairs: Vec<Pair>,
        before: &Ground,
        after: &Ground,
        mut each: impl FnMut(Concerned),
    ) -> Result<(), DbError> {
        let (core, before, after) = (Arc::clone(self), before.clone(), after.clone());
        let judge = move || {
            let judged = pairs.into_iter().filter_map(|(was, is)| {
                let place = core.place_of(&is);
                let wanted = new_wish((&before, &after), (&was, &is), &place)?;
                Some((is, wanted))
            });
            judged.collect::<Vec<_>>()
        };
        let judged = tokio::task::spawn_blocking(judge).await;
        for (machine, wanted) in judged.map_err(|_| DbError::Closed)? {
            if let Some(concerned) = self.concerned(machine, wanted).await? {
                each(concerned);
            }
        }
        Ok(())
    }

    /// None if what happened to the machine so far rules it out for ever.
    async fn concerned(
        &self,
        machine: Arc<Machine>,
        wanted: Result<StandingOrder, Held>,
    ) -> Result<Option<Concerned>, DbError> {
        let approved = as_approved(&machine);
        let order = match &wanted {
            Ok(order) => Some(order),
            Err(held) if waits_for_inventory(held, &approved) => None,
            Err(held) => {
                let outlook = held.clone().into();
                let order = None;
                return Ok(Some(Concerned {
                    machine,
                    order,
                    outlook,
                }));
            }
        };
        let tasks = self.every_task(machine.id).await?;
        if order.is_some_and(|order| self.is_over(order, &tasks)) {
            return Ok(None);
        }
        Ok(Some(Concerned {
            outlook: self.prospect(order, &approved, &tasks),
            order: wanted.ok(),
            machine,
        }))
    }

    /// Whether the machine had its one deployment.
    fn is_over(&self, order: &StandingOrder, tasks: &[Task]) -> bool {
        let version = self.newest(&order.image).unwrap_or(0);
        let open = order.is_open(version, tasks, now());
        order.mode == AutoDeploy::Once
            && matches!(open, Err(Held::Done { .. } | Held::Tried { .. }))
    }
}

/// What `after` wants that `before` did not, or why it holds it back for now.
fn new_wish(
    (before, after): (&Ground, &Ground),
    (was, is): (&Machine, &Machine),
    place: &Place,
) -> Option<Result<StandingOrder, Held>> {
    if !after.has_orders(is) {
        return None;
    }
    let wanted = after.wanted(&as_approved(is), place).transpose()?;
    match (&wanted, before.wanted(&as_approved(was), place)) {
        (Ok(order), Ok(Some(had))) if covers(&had, order) => None,
        (Err(_), Err(_) | Ok(Some(_))) if after.says_nothing_more(is, before, was) => None,
        _ => Some(wanted),
    }
}

/// Whether whoever had `had` gets nothing new by `order`.
fn covers(had: &StandingOrder, order: &StandingOrder) -> bool {
    had.image == order.image
        && had.disk == order.disk
        && (had.mode == order.mode || order.mode == AutoDeploy::Once)
        && (had.over == order.over || order.over == DeployOver::Blank)
}

fn as_approved(machine: &Machine) -> Machine {
    Machine {
        registration: Registration::Approved,
        ..machine.clone()
    }
}

/// Unpacked at a time: a hundred thousand at once would take more memory than the server has.
const MACHINES_AT_ONCE: usize = 256;
