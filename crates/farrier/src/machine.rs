//! `farrier machine`: look, name, let in, keep out, set, forget.

mod text;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use farrier_api::admin::{
    MachineChange, MachineQuery, MenuEntry, NewIntent, NewMachine, Registration, TimelineQuery,
    Until, Wake,
};
use serde_json::Value;
use text::{code_text, compared, list, outcome, show, timeline, woken_text};

use crate::connection::Session;
use crate::setting::{Setting, apply};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List machines.
    List {
        /// Part of a name, address, serial or model.
        #[arg(long)]
        search: Option<String>,
        /// Only machines in this state.
        #[arg(long)]
        state: Option<State>,
    },
    /// Show all that is known of a machine.
    Show { machine: String },
    /// Show what happened to a machine, the latest last.
    Timeline {
        machine: String,
        /// How many entries.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Show the facts behind each entry.
        #[arg(long)]
        details: bool,
    },
    /// Show the last boot beside the last good one.
    Compare { machine: String },
    /// Save the machine's last packets for Wireshark or tcpdump.
    Capture {
        machine: String,
        /// Where to; `-` is the standard output.
        #[arg(long, short, default_value = "-")]
        output: PathBuf,
    },
    /// Add a machine before it is switched on for the first time.
    Add {
        /// Its hardware addresses.
        #[arg(required = true)]
        macs: Vec<String>,
        #[arg(long)]
        name: Option<String>,
    },
    /// Name a machine.
    Rename {
        machine: String,
        /// A host name, or '' for none.
        name: String,
        /// Do it where it starts a deployment by itself; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
    /// Let a machine in: its agent may enrol and work.
    Approve { machine: String },
    /// Wake a machine by magic packets (Wake-on-LAN).
    Wake {
        machine: String,
        /// The password its card wants: 00:11:22:33:44:55 or 1.2.3.4.
        #[arg(long, value_name = "PASSWORD")]
        secure_on: Option<String>,
    },
    /// Tell a machine to leave the network boot alone.
    Disable { machine: String },
    /// Let a disabled machine in again.
    Enable { machine: String },
    /// Forget a machine with its inventory, tasks and timeline.
    Delete {
        machine: String,
        /// Do it; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
    /// Put a machine into a group, whose settings count where it sets nothing itself.
    Group {
        machine: String,
        /// The group's name, or '' for none.
        name: String,
        /// Do it where it starts a deployment by itself; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
    /// Say what a machine does at its next boots, before any task; or take that back.
    Boot {
        machine: String,
        /// What it starts: local-disk, register, memory-test, diagnostics or medium:NAME; without it, the wish is
        /// taken back.
        entry: Option<String>,
        /// For so many boots.
        #[arg(long, default_value_t = 1)]
        boots: u16,
        /// Forgotten after so many minutes.
        #[arg(long, default_value_t = 60)]
        minutes: u32,
        /// Ends before that, too.
        #[arg(long, default_value = "used")]
        until: End,
    },
    /// Get a code that opens the entries of the machine's menu once, for whoever stands in front of it.
    Code { machine: String },
    /// Change what a machine sets for itself.
    Set {
        machine: String,
        /// menu=always, menu-timeout-s=5, secure-boot=true ...; an empty value leaves it to the site.
        #[arg(required = true, value_name = "NAME=VALUE")]
        settings: Vec<Setting>,
        /// Do it where it starts a deployment by itself; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    Approved,
    Disabled,
    Pending,
    Seen,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum End {
    /// Nothing but the count and the time.
    Used,
    /// Somebody has approved the machine.
    Approved,
    /// The agent has told what the machine is made of.
    Inventoried,
}

pub(crate) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::List { search, state } => {
            let query = MachineQuery {
                search,
                registration: state.map(State::registration),
                limit: Some(MAX_PAGE),
                ..MachineQuery::default()
            };
            session.show(&client.every(&["machines"], &query).await?, list)
        }
        Verb::Show { machine } => session.show(&client.get(&["machines", &machine]).await?, show),
        Verb::Timeline {
            machine,
            limit,
            details,
        } => {
            let id = id_of(session, &machine).await?;
            let query = TimelineQuery {
                limit: Some(limit),
                ..TimelineQuery::default()
            };
            let entries = client.ask(&["machines", &id, "timeline"], &query).await?;
            session.show(&entries, |page| timeline(page, details))
        }
        Verb::Compare { machine } => {
            let id = id_of(session, &machine).await?;
            session.show(&client.get(&["machines", &id, "compare"]).await?, compared)
        }
        Verb::Capture { machine, output } => {
            let id = id_of(session, &machine).await?;
            let file = client.download(&["machines", &id, "capture"]).await?;
            save(&file, &output)
        }
        Verb::Add { macs, name } => session.show(
            &client
                .post(&["machines"], &NewMachine { macs, name })
                .await?,
            outcome("added"),
        ),
        Verb::Rename { machine, name, yes } => {
            let id = id_of(session, &machine).await?;
            let change = MachineChange {
                name: Some(name),
                ..MachineChange::default()
            };
            let answer = session.patch_machine(&id, &change, yes).await?;
            session.show(&answer, outcome("renamed"))
        }
        Verb::Approve { machine } => register(session, &machine, "approve", "approved").await,
        Verb::Wake { machine, secure_on } => {
            let id = id_of(session, &machine).await?;
            let woken = client
                .post(&["machines", &id, "wake"], &Wake { secure_on })
                .await?;
            session.show(&woken, woken_text)
        }
        Verb::Enable { machine } => register(session, &machine, "approve", "enabled").await,
        Verb::Disable { machine } => register(session, &machine, "disable", "disabled").await,
        Verb::Delete { machine, yes } => {
            let id = id_of(session, &machine).await?;
            let path = ["machines", &id, "delete"];
            let confirm = session.confirmed(&path, yes).await?;
            client.post::<Value>(&path, &confirm).await?;
            session.done("deleted")
        }
        Verb::Group { machine, name, yes } => {
            let id = id_of(session, &machine).await?;
            let change = MachineChange {
                group: Some(name),
                ..MachineChange::default()
            };
            session.show(&session.patch_machine(&id, &change, yes).await?, show)
        }
        Verb::Boot {
            machine,
            entry,
            boots,
            minutes,
            until,
        } => {
            let id = id_of(session, &machine).await?;
            let path = ["machines", &id, "intent"];
            let Some(entry) = entry else {
                client.delete(&path).await?;
                return session.done("it boots as its policy says");
            };
            let wish = NewIntent {
                entry: entry_of(&entry),
                boots,
                minutes,
                until: until.wire(),
            };
            session.show(&client.put(&path, &wish).await?, show)
        }
        Verb::Code { machine } => {
            let id = id_of(session, &machine).await?;
            let issued = client.post(&["machines", &id, "code"], &()).await?;
            session.show(&issued, code_text)
        }
        Verb::Set {
            machine,
            settings,
            yes,
        } => {
            let known = session.machine(&machine).await?;
            let settings = Some(apply(&known.settings, &settings)?);
            let change = MachineChange {
                settings,
                ..MachineChange::default()
            };
            let id = known.summary.id.to_string();
            session.show(&session.patch_machine(&id, &change, yes).await?, show)
        }
    }
}

/// As settings write it. The name of a medium keeps its hyphens.
fn entry_of(text: &str) -> MenuEntry {
    if text.starts_with("medium:") {
        return MenuEntry(text.to_owned());
    }
    MenuEntry(text.replace('-', "_"))
}

impl End {
    fn wire(self) -> Until {
        match self {
            Self::Used => Until::Used,
            Self::Approved => Until::Approved,
            Self::Inventoried => Until::Inventoried,
        }
    }
}

async fn register(
    session: &Session,
    machine: &str,
    verb: &str,
    word: &'static str,
) -> anyhow::Result<()> {
    let id = id_of(session, machine).await?;
    let answer = session
        .client
        .post(&["machines", &id, verb], &Value::Null)
        .await?;
    session.show(&answer, outcome(word))
}

async fn id_of(session: &Session, machine: &str) -> anyhow::Result<String> {
    Ok(session.machine(machine).await?.summary.id.to_string())
}

fn save(file: &[u8], output: &Path) -> anyhow::Result<()> {
    if output == Path::new("-") {
        return Ok(std::io::stdout().lock().write_all(file)?);
    }
    std::fs::write(output, file).with_context(|| format!("{} cannot be written", output.display()))
}

impl State {
    fn registration(self) -> Registration {
        match self {
            Self::Approved => Registration::Approved,
            Self::Disabled => Registration::Disabled,
            Self::Pending => Registration::Pending,
            Self::Seen => Registration::Seen,
        }
    }
}

/// The most that the server gives at once.
pub(crate) const MAX_PAGE: u32 = 500;
