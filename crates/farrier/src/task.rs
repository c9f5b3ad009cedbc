//! `farrier task`: order work, watch it, stop it, repeat it.

mod text;

use clap::{Args, Subcommand, ValueEnum};
use farrier_api::admin::{
    LeftOut, NewTasks, Plan, TaskQuery, TaskState, TaskWork, TasksCreated, Then,
};
use farrier_api::agent::DiskSelector;
use farrier_api::client::Answer;
use serde_json::Value;
use uuid::Uuid;

use crate::connection::Session;
use crate::exit::Failure;
use crate::machine::MAX_PAGE;
use crate::output::{self};
use crate::wait::wait;
use text::{list, show};

pub(crate) use text::{line, progress};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Read the hardware of machines; nothing is changed.
    Inventory {
        #[command(flatten)]
        order: Order,
    },
    /// Take a machine's disk as the next version of an image.
    Capture {
        #[arg(long)]
        image: String,
        #[arg(long, value_name = "CHOICE", value_parser = choice, help = DISK_HELP)]
        disk: Option<DiskSelector>,
        #[command(flatten)]
        order: Order,
    },
    /// Overwrite the disk of machines with an image.
    Deploy {
        #[command(flatten)]
        content: Content,
        #[command(flatten)]
        order: Order,
    },
    /// Bring the disk of machines back to an image, writing only what differs.
    Repair {
        #[command(flatten)]
        content: Content,
        #[command(flatten)]
        order: Order,
    },
    /// List tasks, the newest first.
    List {
        /// Only of this machine (id, name or address).
        #[arg(long)]
        machine: Option<String>,
        /// Only of the machines of this group.
        #[arg(long, conflicts_with = "machine")]
        group: Option<String>,
        #[arg(long)]
        state: Option<State>,
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show a task.
    Show { task: Uuid },
    /// Wait until tasks have ended; the exit code is 4 if one did not succeed.
    Wait {
        #[arg(required = true)]
        tasks: Vec<Uuid>,
    },
    /// Stop a task.
    Cancel { task: Uuid },
    /// Order the work of an ended task once more.
    Retry {
        task: Uuid,
        #[command(flatten)]
        way: Way,
    },
    /// Put a running or lost task back to the queue: its machine starts it anew.
    Requeue { task: Uuid },
}

#[derive(Debug, Args)]
pub(crate) struct Order {
    /// Machines: ids, names or addresses, repeated or separated by commas.
    #[arg(
        long = "machine",
        required_unless_present = "group",
        value_delimiter = ',',
        value_name = "MACHINE"
    )]
    machines: Vec<String>,
    /// All machines of a group; those that cannot take it now are left out and told of.
    #[arg(long)]
    group: Option<String>,
    /// Wake the machines by magic packets, one after another.
    #[arg(long)]
    wake: bool,
    /// What the machine does afterwards.
    #[arg(long, default_value = "local-boot")]
    then: After,
    #[command(flatten)]
    way: Way,
}

#[derive(Debug, Args)]
pub(crate) struct Content {
    /// Which image; what the machine's policy chooses when left out (`image` of a rule, a group, the site).
    #[arg(long)]
    image: Option<String>,
    /// Which version; the newest when left out.
    #[arg(long, requires = "image")]
    version: Option<u32>,
    #[arg(long, value_name = "CHOICE", value_parser = choice, help = DISK_HELP)]
    disk: Option<DiskSelector>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Way {
    /// Do it; without this, what destroys something is only shown.
    #[arg(long)]
    yes: bool,
    /// Stay until the work is done.
    #[arg(long)]
    wait: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum After {
    LocalBoot,
    NetworkBoot,
    PowerOff,
    Reboot,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    Cancelled,
    Done,
    Expired,
    Failed,
    Lost,
    Queued,
    Running,
}

pub(crate) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Inventory { order } => create(session, order, TaskWork::Inventory).await,
        Verb::Capture { image, disk, order } => {
            create(
                session,
                order,
                TaskWork::Capture {
                    image,
                    disk: disk.unwrap_or_default(),
                },
            )
            .await
        }
        Verb::Deploy {
            content:
                Content {
                    image,
                    version,
                    disk,
                },
            order,
        } => {
            create(
                session,
                order,
                TaskWork::Deploy {
                    image: image.unwrap_or_default(),
                    version,
                    disk: disk.unwrap_or_default(),
                },
            )
            .await
        }
        Verb::Repair {
            content:
                Content {
                    image,
                    version,
                    disk,
                },
            order,
        } => {
            create(
                session,
                order,
                TaskWork::Repair {
                    image: image.unwrap_or_default(),
                    version,
                    disk: disk.unwrap_or_default(),
                },
            )
            .await
        }
        Verb::List {
            machine,
            group,
            state,
            limit,
        } => {
            let machine = match machine {
                Some(named) => Some(session.machine(&named).await?.summary.id),
                None => None,
            };
            let query = TaskQuery {
                machine,
                group,
                state: state.map(State::word),
                limit: Some(limit.min(MAX_PAGE)),
                after: None,
            };
            session.show(&client.ask(&["tasks"], &query).await?, list)
        }
        Verb::Show { task } => {
            session.show(&client.get(&["tasks", &task.to_string()]).await?, show)
        }
        Verb::Wait { tasks } => wait(session, &tasks).await,
        Verb::Cancel { task } => {
            let answer = client
                .post(&["tasks", &task.to_string(), "cancel"], &Value::Null)
                .await?;
            session.show(&answer, line)
        }
        Verb::Requeue { task } => {
            let answer = client
                .post(&["tasks", &task.to_string(), "requeue"], &Value::Null)
                .await?;
            session.show(&answer, line)
        }
        Verb::Retry { task, way } => {
            let task = task.to_string();
            let path = ["tasks", &task, "retry"];
            let plan: Answer<Plan> = client.get(&path).await?;
            let harmless = !plan.read()?.destructive;
            let confirm = session.agree(&plan, way.yes || harmless)?;
            created(session, &client.post(&path, &confirm).await?, way).await
        }
    }
}

/// Shows what would be done, and does it if that was confirmed or harms nothing.
async fn create(session: &Session, order: Order, work: TaskWork) -> anyhow::Result<()> {
    let mut machines = Vec::with_capacity(order.machines.len());
    for named in &order.machines {
        machines.push(session.machine(named).await?.summary.id);
    }
    let mut new = NewTasks {
        machines,
        group: order.group,
        work,
        then: order.then.word(),
        wake: order.wake,
        confirm: None,
    };
    let plan: Answer<Plan> = session.client.post(&["tasks", "plan"], &new).await?;
    let harmless = !plan.read()?.destructive && !new.is_many();
    new.confirm = Some(session.agree(&plan, order.way.yes || harmless)?.confirm);
    created(
        session,
        &session.client.post(&["tasks"], &new).await?,
        order.way,
    )
    .await
}

async fn created(session: &Session, answer: &Answer<TasksCreated>, way: Way) -> anyhow::Result<()> {
    let TasksCreated {
        tasks, left_out, ..
    } = answer.read()?;
    if !way.wait {
        session.show(answer, text::created)?;
        return all_took_it(&left_out);
    }
    output::talk(text::created(&answer.read()?).trim_end());
    let known = left_out.iter().filter_map(|left| left.task);
    let ids: Vec<_> = tasks.iter().map(|task| task.id).chain(known).collect();
    wait(session, &ids).await?;
    all_took_it(&left_out)
}

/// Machines that have this very order already are as they should be.
fn all_took_it(left_out: &[LeftOut]) -> anyhow::Result<()> {
    match left_out.iter().filter(|left| left.task.is_none()).count() {
        0 => Ok(()),
        count => Err(
            Failure::task_failed(format!("{count} machine(s) got no task"))
                .hint("the list says why; put that right and repeat the command")
                .into(),
        ),
    }
}

impl After {
    fn word(self) -> Then {
        match self {
            Self::LocalBoot => Then::LocalBoot,
            Self::NetworkBoot => Then::NetworkBoot,
            Self::PowerOff => Then::PowerOff,
            Self::Reboot => Then::Reboot,
        }
    }
}

impl State {
    fn word(self) -> TaskState {
        match self {
            Self::Cancelled => TaskState::Cancelled,
            Self::Done => TaskState::Done,
            Self::Expired => TaskState::Expired,
            Self::Failed => TaskState::Failed,
            Self::Lost => TaskState::Lost,
            Self::Queued => TaskState::Queued,
            Self::Running => TaskState::Running,
        }
    }
}

fn choice(text: &str) -> Result<DiskSelector, String> {
    text.parse()
}

/// Exactly one must fit, or the agent stops before it writes.
const DISK_HELP: &str = "The one disk with serial=,wwn=,bus=,model=,min=,max= or `removable`";
