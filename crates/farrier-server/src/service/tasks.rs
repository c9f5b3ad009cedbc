//! Work for machines: plan, create, cancel, repeat, look.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use farrier_api::admin::{
    NewTasks, Page, Plan, TaskQuery, TaskState, TaskSummary, TaskWork, TasksCreated,
};
use farrier_engine::model::{Disk, Machine, MachineId, Registration, TaskId};
use farrier_engine::policy::{Judged, Origin, Verdict, resolve};
use farrier_engine::task::{self, DiskSelector, Progress, State, Task, Work};
use farrier_engine::timeline::Kind;
use farrier_image::manifest::ImageName;
use uuid::Uuid;

use super::convert::{self, Like};
use super::plan::{Draft, require};
use super::{Code, Desk, Refusal, limit};
use crate::auth::Action;
use crate::core::{new_id, now};
use crate::ui::text::bytes;

impl Desk {
    /// Tasks, the newest first. Those that run are shown as they are in memory, progress included.
    pub async fn tasks(&self, query: &TaskQuery) -> Result<Page<TaskSummary>, Refusal> {
        self.allow(Action::Look)?;
        let before = query.after.as_deref().map(parse_id).transpose()?;
        let wanted = farrier_db::TaskQuery {
            machine: query.machine.map(MachineId),
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
        let Prepared {
            plan,
            orders: machines,
        } = self.prepare(new).await?;
        if plan.destructive || machines.len() > 1 {
            require(&plan, new.confirm.as_deref())?;
        }
        let at = now();
        let mut tasks = Vec::with_capacity(machines.len());
        for (machine, work) in machines {
            let task = Task {
                id: TaskId(new_id()),
                machine,
                work,
                state: State::Queued,
                fence: 0,
                attempts: 0,
                max_attempts: ATTEMPTS,
                created: at,
                created_by: self.who.name.clone(),
                expires: at + LIFETIME,
                heard: None,
                progress: Progress::default(),
                reason: None,
                ended: None,
                then: new.then.like(),
                revision: 0,
            };
            let stored = self.core.fleet.add_task(task).await?;
            self.core.note(
                machine,
                Kind::Task,
                format!("{} ordered: {}.", self.who.name, describe(&stored.work)),
            );
            tasks.push(convert::task_summary(&self.core, &stored));
        }
        self.audit(Action::CreateTask, plan.summary.clone()).await;
        Ok(TasksCreated { plan, tasks })
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
            work: old.work,
            then: old.then,
            confirm: None,
        })
    }

    fn fresh(&self, stored: &Task) -> TaskSummary {
        match self.core.fleet.task(stored.id) {
            Some(task) => convert::task_summary(&self.core, &task),
            None => convert::task_summary(&self.core, stored),
        }
    }

    async fn prepare(&self, new: &NewTasks) -> Result<Prepared, Refusal> {
        let ids: BTreeSet<Uuid> = new.machines.iter().copied().collect();
        if ids.is_empty() || ids.len() > MAX_MACHINES {
            return Err(Refusal::bad(format!("name 1 to {MAX_MACHINES} machines")));
        }
        let wanted = convert::work_back(new.work.clone());
        let mut draft = Draft {
            summary: String::new(),
            steps: Vec::new(),
            warnings: Vec::new(),
            destructive: matches!(wanted, Work::Deploy { .. } | Work::Repair { .. }),
            touches: vec![format!("{wanted:?} {:?} {ids:?}", new.then)],
        };
        let mut settled: HashMap<String, (Work, Option<Content>)> = HashMap::new();
        let mut orders = Vec::with_capacity(ids.len());
        for id in ids {
            let machine = self
                .core
                .fleet
                .machine(MachineId(id))
                .ok_or_else(|| Refusal::missing("machine", id))?;
            let chosen = self.image_for(&wanted, &machine)?;
            let work = chosen.as_ref().map_or(&wanted, |chosen| &chosen.work);
            let key = format!("{work:?}");
            if !settled.contains_key(&key) {
                settled.insert(key.clone(), self.settle(work.clone()).await?);
            }
            let Some((work, image)) = settled.get(&key) else {
                continue;
            };
            if let Some(chosen) = chosen {
                let name = convert::machine_name(&machine);
                let what = describe(work);
                let origin = chosen.origin;
                draft
                    .steps
                    .push(format!("{name}: {what}, chosen by {origin}"));
            }
            self.plan_one(&mut draft, &machine, work, image.as_ref());
            draft.touches.push(format!("{work:?}"));
            orders.push((machine.id, work.clone()));
        }
        let what = match &settled.values().collect::<Vec<_>>()[..] {
            [(work, _)] => capital(&describe(work)),
            _ => format!(
                "{} that the policy chooses",
                capital(&describe(&wanted)).trim_end()
            ),
        };
        draft.summary = match orders.len() {
            1 => format!("{what}."),
            many => format!("{what} on {many} machines."),
        };
        Ok(Prepared {
            plan: draft.finish(),
            orders,
        })
    }

    /// The work with the image that the machine's policy chooses, if `wanted` names none. A rule that might choose
    /// another one and cannot be judged chooses none: nothing is overwritten on a guess.
    fn image_for(&self, wanted: &Work, machine: &Machine) -> Result<Option<Chosen>, Refusal> {
        let (Work::Deploy { image, version, .. } | Work::Repair { image, version, .. }) = wanted
        else {
            return Ok(None);
        };
        if !image.is_empty() {
            return Ok(None);
        }
        if version.is_some() {
            return Err(Refusal::bad(
                "a version is of a certain image: name the image, too",
            ));
        }
        let name = convert::machine_name(machine);
        let core = &self.core;
        let rules = core.rules.load();
        let judged = rules.judge(None, Some(machine), || core.place_of(machine));
        let resolved = resolve(&core.snapshot.load(), Some(machine), &judged);
        let origin = resolved.origins.image;
        let decided = |judged: &&Judged<'_>| Origin::Rule(judged.rule.name.clone()) == origin;
        let before = judged.iter().take_while(|judged| !decided(judged));
        let unclear = |judged: &&Judged<'_>| {
            judged.rule.settings.image.is_some() && matches!(judged.verdict, Verdict::Failed(_))
        };
        if origin != Origin::Machine
            && let Some(judged) = before.clone().find(unclear)
        {
            let rule = &judged.rule.name;
            let message = format!("{name}: the rule {rule} chooses an image and cannot be judged");
            return Err(Refusal::new(Code::NotPossible, message).hint(
                "`farrier policy explain` says why; an inventory may help, or name the image",
            ));
        }
        let Some(image) = resolved.policy.image else {
            let message = format!("{name}: no image is named, and no setting or rule chooses one");
            return Err(Refusal::bad(message)
                .hint("name one, or let `image` of a rule, a group or the site choose"));
        };
        let work = match wanted.clone() {
            Work::Deploy { version, disk, .. } => Work::Deploy {
                image,
                version,
                disk,
            },
            Work::Repair { version, disk, .. } => Work::Repair {
                image,
                version,
                disk,
            },
            other => other,
        };
        Ok(Some(Chosen { work, origin }))
    }

    /// Pins "the newest" to the version that is newest now, so that what was confirmed is what is done.
    async fn settle(&self, work: Work) -> Result<(Work, Option<Content>), Refusal> {
        let (name, wanted) = match &work {
            Work::Inventory => return Ok((work, None)),
            Work::Capture { image, .. } => {
                parse_image(image)?;
                return Ok((work, None));
            }
            Work::Deploy { image, version, .. } | Work::Repair { image, version, .. } => {
                (parse_image(image)?, *version)
            }
        };
        let content = self.content(&name, wanted).await?;
        let work = match work {
            Work::Deploy { image, disk, .. } => Work::Deploy {
                image,
                version: Some(content.version),
                disk,
            },
            Work::Repair { image, disk, .. } => Work::Repair {
                image,
                version: Some(content.version),
                disk,
            },
            other => other,
        };
        Ok((work, Some(content)))
    }

    fn plan_one(&self, draft: &mut Draft, machine: &Machine, work: &Work, image: Option<&Content>) {
        let name = convert::machine_name(machine);
        match machine.registration {
            Registration::Approved => {}
            Registration::Disabled => draft.warnings.push(format!(
                "{name} is disabled: enable it, or nothing happens."
            )),
            Registration::Seen | Registration::Pending => {
                draft
                    .warnings
                    .push(format!("{name} is not approved: approve it, or it waits."));
            }
        }
        let queue = self.core.fleet.queue(machine.id).len();
        if queue > 0 {
            draft.warnings.push(format!(
                "{name} has {queue} unfinished task(s): this one comes after."
            ));
        }
        let (verb, selector) = match work {
            Work::Inventory => {
                draft
                    .steps
                    .push(format!("{name}: read its hardware, change nothing"));
                return;
            }
            Work::Capture { disk, .. } => ("read", disk),
            Work::Deploy { disk, .. } => ("OVERWRITE", disk),
            Work::Repair { disk, .. } => ("bring back to the image", disk),
        };
        let Some(inventory) = &machine.inventory else {
            draft.warnings.push(format!("{name} has no inventory yet: its agent decides which disk fits, and stops if that is not exactly one."));
            draft
                .steps
                .push(format!("{name}: {verb} the disk that fits"));
            return;
        };
        match &matching(&inventory.disks, selector)[..] {
            [disk] => {
                draft.steps.push(format!("{name}: {verb} {}", disk_words(disk)));
                if image.is_some_and(|i| i.disk_bytes > disk.size_bytes) {
                    draft.warnings.push(format!("{name}: the image may not fit on {}.", disk_words(disk)));
                }
            }
            [] => draft.warnings.push(format!("{name}: no disk fits the choice; the agent will stop before it writes.")),
            many => draft.warnings.push(format!(
                "{name}: {} disks fit the choice; name one by its serial number, or the agent will stop before it writes.",
                many.len()
            )),
        }
    }
}

struct Prepared {
    plan: Plan,
    orders: Vec<(MachineId, Work)>,
}

/// Work whose image the policy chose, and who of it did.
struct Chosen {
    work: Work,
    origin: Origin,
}

/// What of an image a plan needs.
pub(super) struct Content {
    pub(super) version: u32,
    pub(super) disk_bytes: u64,
}

/// The disks of an inventory that a selector means; the agent, which sees what is mounted, has the last word.
fn matching<'a>(disks: &'a [Disk], s: &DiskSelector) -> Vec<&'a Disk> {
    let same = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|w| w == has);
    let fits = |d: &&Disk| {
        same(&s.serial, &d.serial)
            && same(&s.wwn, &d.wwn)
            && same(&s.bus, &d.bus)
            && s.min_bytes.is_none_or(|min| d.size_bytes >= min)
            && s.max_bytes.is_none_or(|max| d.size_bytes <= max)
            && s.model.as_deref().is_none_or(|m| d.model.contains(m))
            && (s.allow_removable || !d.removable)
    };
    disks.iter().filter(fits).collect()
}

fn disk_words(disk: &Disk) -> String {
    let model = if disk.model.is_empty() {
        "disk"
    } else {
        &disk.model
    };
    let serial = if disk.serial.is_empty() {
        String::new()
    } else {
        format!(", serial {}", disk.serial)
    };
    format!("{model} ({}{serial})", bytes(disk.size_bytes))
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

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
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

/// A machine that fails three times wants a person.
const ATTEMPTS: u32 = 3;
/// A task ordered on Friday may wait for the machine until the Friday after.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// One request is one school; more is more than one request.
const MAX_MACHINES: usize = 1000;

#[cfg(test)]
mod tests;
