//! Work for machines: plan, create, cancel, repeat, look.

use std::sync::Arc;

use farrier_api::admin::{
    NewTasks, Page, Plan, TaskQuery, TaskState, TaskSummary, TaskWork, TasksCreated,
};
use farrier_engine::model::{MachineId, TaskId};
use farrier_engine::task::{self, Task, Work};
use farrier_engine::timeline::Kind;
use farrier_image::manifest::ImageName;
use uuid::Uuid;

use super::convert::{self, Like};
use super::plan::require;
use super::task_plan::Prepared;
use super::wake::wake_one_after_another;
use super::{Code, Desk, Refusal, limit};
use crate::auth::Action;
use crate::core::now;
use crate::tasks::queued;

impl Desk {
    /// Tasks, the newest first. Those that run are shown as they are in memory, progress included.
    pub async fn tasks(&self, query: &TaskQuery) -> Result<Page<TaskSummary>, Refusal> {
        self.allow(Action::Look)?;
        let before = query.after.as_deref().map(parse_id).transpose()?;
        let wanted = farrier_db::TaskQuery {
            machine: query.machine.map(MachineId),
            machines: query
                .group
                .as_deref()
                .map(|group| self.members_of(group))
                .transpose()?,
            state: query.state.map(Like::like),
        };
        let limit = limit(query.limit);
        let rows = self.core.db.tasks(&wanted, before, limit).await?;
        let next = rows
            .last()
            .filter(|_| rows.len() >= limit as usize)
            .map(|t| t.id.to_string());
        let items: Vec<_> = rows.iter().map(|stored| self.fresh(stored)).collect();
        Ok(Page {
            total: items.len() as u64,
            items,
            next,
        })
    }

    /// All tasks that are not ended, the newest first.
    pub fn unfinished_tasks(&self) -> Result<Vec<TaskSummary>, Refusal> {
        self.allow(Action::Look)?;
        let tasks = self.core.fleet.unfinished();
        Ok(tasks
            .iter()
            .rev()
            .map(|t| convert::task_summary(&self.core, t))
            .collect())
    }

    pub async fn task(&self, id: Uuid) -> Result<TaskSummary, Refusal> {
        self.allow(Action::Look)?;
        if let Some(task) = self.core.fleet.task(TaskId(id)) {
            return Ok(convert::task_summary(&self.core, &task));
        }
        match self.core.db.task(TaskId(id)).await? {
            Some(task) => Ok(convert::task_summary(&self.core, &task)),
            None => Err(Refusal::missing("task", id)),
        }
    }

    /// What creating these tasks would do.
    pub async fn plan_tasks(&self, new: &NewTasks) -> Result<Plan, Refusal> {
        self.allow(Action::CreateTask)?;
        Ok(self.prepare(new).await?.plan)
    }

    pub async fn create_tasks(&self, new: &NewTasks) -> Result<TasksCreated, Refusal> {
        self.allow(Action::CreateTask)?;
        if new.wake {
            self.allow(Action::WakeMachine)?;
        }
        if new.is_many() {
            return self.create_many(new).await;
        }
        let Prepared { plan, orders } = self.prepare(new).await?;
        if plan.destructive {
            require(&plan, new.confirm.as_deref())?;
        }
        let mut tasks = Vec::with_capacity(orders.len());
        for (machine, work) in orders {
            let stored = self.order(machine, work, new.then.like()).await?;
            if new.wake {
                wake_one_after_another(Arc::clone(&self.core), vec![machine], &self.who.name);
            }
            tasks.push(convert::task_summary(&self.core, &stored));
        }
        self.audit(Action::CreateTask, plan.summary.clone()).await;
        Ok(TasksCreated {
            plan,
            tasks,
            left_out: Vec::new(),
        })
    }

    /// Stores a task and tells of it.
    pub(super) async fn order(
        &self,
        machine: MachineId,
        work: Work,
        then: task::Then,
    ) -> Result<Arc<Task>, Refusal> {
        let task = Task {
            then,
            ..queued(machine, work, self.who.name.clone(), now())
        };
        let stored = self.core.fleet.add_task(task).await?;
        self.core.note(
            machine,
            Kind::Task,
            format!("{} ordered: {}.", self.who.name, describe(&stored.work)),
        );
        Ok(stored)
    }

    pub async fn cancel_task(&self, id: Uuid) -> Result<TaskSummary, Refusal> {
        self.allow(Action::CancelTask)?;
        let id = TaskId(id);
        if self.core.fleet.task(id).is_none() {
            let ended = self.task(id.0).await?;
            return Err(Refusal::new(
                Code::NotPossible,
                format!("the task is {} already", ended.state.as_str()),
            ));
        }
        let stored = self
            .event(
                id,
                task::Event::Cancel {
                    by: self.who.name.clone(),
                },
            )
            .await?;
        self.audit(Action::CancelTask, id.to_string()).await;
        Ok(convert::task_summary(&self.core, &stored))
    }

    /// The same work once more, as a new task; what came of the old one stays readable.
    pub async fn retry_task(
        &self,
        id: Uuid,
        confirm: Option<String>,
    ) -> Result<TasksCreated, Refusal> {
        self.allow(Action::CreateTask)?;
        self.create_tasks(&NewTasks {
            confirm,
            ..self.retry_of(id).await?
        })
        .await
    }

    /// Puts a running or lost task back to the queue: its machine starts it anew.
    pub async fn requeue_task(&self, id: Uuid) -> Result<TaskSummary, Refusal> {
        self.allow(Action::CreateTask)?;
        let stored = self
            .event(
                TaskId(id),
                task::Event::Retry {
                    by: self.who.name.clone(),
                },
            )
            .await?;
        self.core.forget_rounds(TaskId(id)).await;
        self.audit(Action::CreateTask, format!("requeued {id}"))
            .await;
        Ok(convert::task_summary(&self.core, &stored))
    }

    async fn event(&self, id: TaskId, event: task::Event) -> Result<Arc<Task>, Refusal> {
        let change = |task: &Task| {
            let applied = task::apply(task, event.clone(), now())?;
            // The database counts revisions and wants the one that was read.
            Ok((
                Task {
                    revision: task.revision,
                    ..applied.task
                },
                applied.said,
            ))
        };
        let changed: Result<_, task::Refused> = self.core.fleet.change_task(id, change).await?;
        let (stored, said) =
            changed.map_err(|refused| Refusal::new(Code::NotPossible, refused.to_string()))?;
        for sentence in said {
            self.core.note(stored.machine, Kind::Task, sentence);
        }
        Ok(stored)
    }

    pub async fn plan_retry(&self, id: Uuid) -> Result<Plan, Refusal> {
        self.plan_tasks(&self.retry_of(id).await?).await
    }

    async fn retry_of(&self, id: Uuid) -> Result<NewTasks, Refusal> {
        let old = self.task(id).await?;
        if !old.state.is_final() {
            return Err(Refusal::new(Code::NotPossible, "the task is not ended, it goes on by itself")
                .hint(format!("watch it with `farrier task wait {id}`, or put it back with `farrier task requeue {id}`")));
        }
        Ok(NewTasks {
            machines: vec![old.machine],
            group: None,
            work: old.work,
            then: old.then,
            wake: false,
            confirm: None,
        })
    }

    fn fresh(&self, stored: &Task) -> TaskSummary {
        match self.core.fleet.task(stored.id) {
            Some(task) => convert::task_summary(&self.core, &task),
            None => convert::task_summary(&self.core, stored),
        }
    }
}

/// "deploy lab-win11 version 3", for sentences.
pub(super) fn describe(work: &Work) -> String {
    let version = |v: &Option<u32>| v.map_or_else(String::new, |v| format!(" version {v}"));
    match work {
        Work::Inventory => "take the inventory".to_owned(),
        Work::Capture { image, .. } => format!("capture the disk as {image}"),
        Work::Deploy {
            image, version: v, ..
        } => format!("deploy {image}{}", version(v)),
        Work::Repair {
            image, version: v, ..
        } => format!("repair from {image}{}", version(v)),
    }
}

/// The same for what the interface calls work.
#[must_use]
pub fn describe_work(work: &TaskWork) -> String {
    describe(&convert::work_back(work.clone()))
}

pub(super) fn parse_image(text: &str) -> Result<ImageName, Refusal> {
    text.parse()
        .map_err(|e: farrier_image::manifest::ImageNameError| Refusal::bad(e.to_string()))
}

fn parse_id(text: &str) -> Result<TaskId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::bad("`after` is not a place that a page ended at"))
}

/// The states worth a filter on the page.
pub const STATES: [TaskState; 7] = [
    TaskState::Queued,
    TaskState::Running,
    TaskState::Lost,
    TaskState::Done,
    TaskState::Failed,
    TaskState::Cancelled,
    TaskState::Expired,
];
