//! One order for many machines: each gets its task or is told of, and the order sent again orders nothing again.

use std::collections::VecDeque;

use farrier_api::admin::{LeftOut, NewTasks, Plan, TasksCreated};
use farrier_engine::model::{MachineId, TaskId};

use super::convert::{self, Like};
use super::plan::require;
use super::task_plan::{Prepared, left_out_by_id};
use super::wake::wake_one_after_another;
use super::{Code, Desk, Refusal};
use crate::auth::Action;

impl Desk {
    /// Goes on when whoever asked is gone: half a room would be neither the old state nor the new one.
    pub(super) async fn create_many(&self, new: &NewTasks) -> Result<TasksCreated, Refusal> {
        let (desk, new) = (self.clone(), new.clone());
        tokio::spawn(async move { desk.order_all(&new).await })
            .await
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?
    }

    async fn order_all(&self, new: &NewTasks) -> Result<TasksCreated, Refusal> {
        // One order after the other: the same one sent twice at once meets its own answer.
        let mut orders = self.core.orders.lock().await;
        if let Some(known) = orders.of(new.confirm.as_deref()) {
            return self.again(known).await;
        }
        let Prepared {
            plan,
            orders: wanted,
        } = self.prepare(new).await?;
        require(&plan, new.confirm.as_deref())?;
        if wanted.is_empty() && plan.left_out.iter().any(|left| left.task.is_none()) {
            return Err(nobody(&plan));
        }
        let mut order = Order {
            left_out: plan.left_out.clone(),
            plan,
            tasks: Vec::with_capacity(wanted.len()),
        };
        let mut tasks = Vec::with_capacity(wanted.len());
        let mut woken: Vec<MachineId> = Vec::new();
        for (machine, work) in wanted {
            match self.order(machine, work, new.then.like()).await {
                Ok(stored) => {
                    order.tasks.push(stored.id);
                    woken.push(machine);
                    tasks.push(convert::task_summary(&self.core, &stored));
                }
                Err(refusal) => order
                    .left_out
                    .push(left_out_by_id(self, machine, refusal.message)),
            }
        }
        if new.wake {
            wake_one_after_another(self.core.clone(), woken, &self.who.name);
        }
        self.audit(Action::CreateTask, order.plan.summary.clone())
            .await;
        let created = TasksCreated {
            plan: order.plan.clone(),
            tasks,
            left_out: order.left_out.clone(),
        };
        orders.remember(order);
        Ok(created)
    }

    /// The answer to an order that was carried out before: its tasks as they are now.
    async fn again(&self, known: &Order) -> Result<TasksCreated, Refusal> {
        let mut tasks = Vec::with_capacity(known.tasks.len());
        for id in &known.tasks {
            match self.task(id.0).await {
                Ok(task) => tasks.push(task),
                // Its machine was forgotten, and the task with it.
                Err(refusal) if refusal.code == Code::NotFound => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(TasksCreated {
            plan: known.plan.clone(),
            tasks,
            left_out: known.left_out.clone(),
        })
    }
}

fn nobody(plan: &Plan) -> Refusal {
    let few = plan.left_out.iter().take(FEW);
    let few: Vec<String> = few
        .map(|left| format!("{}: {}", left.machine_name, left.why))
        .collect();
    let message = format!("none of the {} machines can take it", plan.left_out.len());
    Refusal::new(Code::NotPossible, message).hint(few.join("; "))
}

/// The last orders for many machines that were carried out, by what confirmed them.
#[derive(Debug, Default)]
pub struct Orders(VecDeque<Order>);

#[derive(Clone, Debug)]
struct Order {
    plan: Plan,
    tasks: Vec<TaskId>,
    left_out: Vec<LeftOut>,
}

impl Orders {
    fn of(&self, confirm: Option<&str>) -> Option<&Order> {
        let confirm = confirm?;
        let same = |order: &&Order| crate::auth::token::same(confirm, &order.plan.confirm);
        self.0.iter().find(same)
    }

    fn remember(&mut self, order: Order) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(order);
    }
}

/// Whoever sends an order again does it within seconds.
const REMEMBERED: usize = 32;
/// Reasons that are told in one breath.
const FEW: usize = 5;
