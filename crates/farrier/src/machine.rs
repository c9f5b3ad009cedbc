//! `farrier machine`: look, name, let in, keep out, set, forget.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use farrier_api::admin::{
    BootComparison, IssuedCode, MachineChange, MachineDetail, MachineQuery, MachineSummary,
    MenuEntry, NewIntent, NewMachine, Page, Registration, TimelineEntry, TimelineQuery, Until,
    Wake, Woken,
};
use farrier_server::service::describe_work;
use farrier_server::ui::text::{bytes, shown};
use serde_json::Value;

use crate::connection::Session;
use crate::output::{Fields, Table, time};
use crate::setting::{Setting, apply, pairs};

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
    },
    /// Say what a machine does at its next boots, before any task; or take that back.
    Boot {
        machine: String,
        /// What it starts; without it, the wish is taken back.
        entry: Option<Entry>,
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
pub(crate) enum Entry {
    Diagnostics,
    LocalDisk,
    MemoryTest,
    Register,
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
        Verb::Rename { machine, name } => {
            let id = id_of(session, &machine).await?;
            let change = MachineChange {
                name: Some(name),
                ..MachineChange::default()
            };
            session.show(
                &client.patch(&["machines", &id], &change).await?,
                outcome("renamed"),
            )
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
        Verb::Group { machine, name } => {
            let id = id_of(session, &machine).await?;
            let change = MachineChange {
                group: Some(name),
                ..MachineChange::default()
            };
            session.show(&client.patch(&["machines", &id], &change).await?, show)
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
                entry: entry.wire(),
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
        Verb::Set { machine, settings } => {
            let known = session.machine(&machine).await?;
            let settings = Some(apply(&known.settings, &settings)?);
            let change = MachineChange {
                settings,
                ..MachineChange::default()
            };
            let id = known.summary.id.to_string();
            session.show(&client.patch(&["machines", &id], &change).await?, show)
        }
    }
}

impl Entry {
    fn wire(self) -> MenuEntry {
        match self {
            Self::Diagnostics => MenuEntry::Diagnostics,
            Self::LocalDisk => MenuEntry::LocalDisk,
            Self::MemoryTest => MenuEntry::MemoryTest,
            Self::Register => MenuEntry::Register,
        }
    }
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

fn outcome(word: &'static str) -> impl FnOnce(&MachineDetail) -> String {
    move |machine| format!("{}: {word}", shown(&called(&machine.summary)))
}

fn woken_text(woken: &Woken) -> String {
    let failed = woken.failed.iter().map(|what| format!("failed: {what}"));
    let sent = woken.sent.iter().map(|what| format!("sent: {what}"));
    sent.chain(failed).collect::<Vec<_>>().join("\n")
}

fn code_text(issued: &IssuedCode) -> String {
    format!(
        "{}  good once at this machine's menu, until {}",
        issued.code,
        time(issued.expires)
    )
}

/// What people call it.
pub(crate) fn called(machine: &MachineSummary) -> String {
    let first = || machine.macs.first().cloned();
    machine
        .name
        .clone()
        .or_else(first)
        .unwrap_or_else(|| machine.id.to_string())
}

fn list(page: &Page<MachineSummary>) -> String {
    let mut table = Table::new([
        "NAME",
        "MAC",
        "STATE",
        "MODEL",
        "MEMORY",
        "LAST SEEN",
        "TASK",
    ]);
    for machine in &page.items {
        let model = format!("{} {}", machine.manufacturer, machine.product);
        let memory = if machine.memory_bytes == 0 {
            String::new()
        } else {
            bytes(machine.memory_bytes)
        };
        let task = machine.task.as_ref();
        table.row([
            machine.name.clone().unwrap_or_default(),
            machine.macs.first().cloned().unwrap_or_default(),
            registration(machine.registration).to_owned(),
            model.trim().to_owned(),
            memory,
            time(machine.last_seen),
            task.map_or_else(String::new, |t| {
                format!("{} ({})", describe_work(&t.work), t.state.as_str())
            }),
        ]);
    }
    table.to_string()
}

fn show(machine: &MachineDetail) -> String {
    let known = &machine.summary;
    let mut fields = Fields::default();
    fields.field("name", known.name.as_deref().unwrap_or("(none)"));
    fields.field("state", registration(known.registration));
    fields.field("id", known.id);
    fields.field("addresses", known.macs.join(", "));
    fields.field(
        "uuid",
        known.uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
    );
    let words = [known.firmware.as_deref(), known.arch.as_deref()];
    fields.field(
        "firmware",
        words.into_iter().flatten().collect::<Vec<_>>().join(" "),
    );
    fields.field(
        "model",
        format!("{} {}", known.manufacturer, known.product).trim(),
    );
    fields.field("serial", &known.serial);
    fields.field("first seen", time(known.first_seen));
    fields.field("last seen", time(known.last_seen));
    if let Some(task) = &known.task {
        fields.field(
            "task",
            format!(
                "{} {} ({})",
                task.id,
                describe_work(&task.work),
                task.state.as_str()
            ),
        );
    }
    if let Some(group) = &machine.group {
        fields.field("group", group);
    }
    if let Some(wish) = &machine.intent {
        let entry = serde_json::to_value(wish.entry).unwrap_or_default();
        let entry = entry.as_str().unwrap_or_default().to_owned();
        let text = format!(
            "{entry}, {} times until {}, by {}",
            wish.boots_left,
            time(wish.expires),
            wish.set_by
        );
        fields.field("next boots", text);
    }
    if let Some(learned) = &machine.learned {
        let text = format!(
            "{}, {}; it worked with its {} firmware since {}",
            learned.strategy,
            learned.what,
            learned.firmware.as_deref().unwrap_or("unknown"),
            time(learned.since)
        );
        fields.field("strategy found", text);
    }
    for (name, value) in pairs(&machine.settings) {
        fields.field(&format!("setting {name}"), value);
    }
    let mut text = String::new();
    if let Some(inventory) = &machine.inventory {
        fields.field(
            "cpu",
            format!(
                "{} ({} threads)",
                inventory.cpu.model, inventory.cpu.threads
            ),
        );
        fields.field("memory", bytes(inventory.memory_bytes));
        let secure = inventory
            .secure_boot
            .map_or("", |on| if on { "on" } else { "off" });
        fields.field("secure boot", secure);
        fields.field("tpm", inventory.tpm.as_deref().unwrap_or_default());
        fields.field("no driver for", inventory.pci_without_driver.join(", "));
        text = format!("\n{}\n{}", disks(inventory), nics(inventory));
    }
    format!("{fields}{text}")
}

fn disks(inventory: &farrier_api::agent::Inventory) -> String {
    let mut table = Table::new(["DISK", "BUS", "SIZE", "MODEL", "SERIAL", "WWN", "TABLE"]);
    for disk in &inventory.disks {
        table.row([
            disk.name.clone(),
            if disk.removable {
                format!("{}, removable", disk.bus)
            } else {
                disk.bus.clone()
            },
            bytes(disk.size_bytes),
            disk.model.clone(),
            disk.serial.clone(),
            disk.wwn.clone(),
            disk.table.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

fn nics(inventory: &farrier_api::agent::Inventory) -> String {
    let mut table = Table::new(["NIC", "MAC", "LINK", "DRIVER", "PCI"]);
    for nic in &inventory.nics {
        let link = if nic.link_up { "up" } else { "down" };
        table.row([
            nic.name.clone(),
            nic.mac.clone(),
            if nic.boot {
                format!("{link}, booted from")
            } else {
                link.to_owned()
            },
            nic.driver.clone(),
            nic.pci_id.clone(),
        ]);
    }
    table.to_string()
}

pub(crate) fn timeline(page: &Page<TimelineEntry>, details: bool) -> String {
    let mut table = Table::default();
    for entry in page.items.iter().rev() {
        table.row([time(entry.at), entry.kind.clone(), entry.text.clone()]);
        if details {
            for (name, value) in &entry.details {
                table.row(["".to_owned(), "".to_owned(), format!("{name}: {value}")]);
            }
        }
    }
    table.to_string()
}

fn compared(comparison: &BootComparison) -> String {
    let mut table = Table::new(["GOOD BOOT", "LAST BOOT", "WHAT"]);
    let seconds = |ms: Option<u64>| {
        ms.map_or_else(
            || "missing".to_owned(),
            |ms| format!("{:.1} s", ms as f64 / 1e3),
        )
    };
    for step in &comparison.steps {
        table.row([
            seconds(step.good_ms),
            seconds(step.last_ms),
            step.text.clone(),
        ]);
    }
    format!("{}\n\n{table}", shown(&comparison.verdict))
}

fn save(file: &[u8], output: &Path) -> anyhow::Result<()> {
    if output == Path::new("-") {
        return Ok(std::io::stdout().lock().write_all(file)?);
    }
    std::fs::write(output, file).with_context(|| format!("{} cannot be written", output.display()))
}

fn registration(registration: Registration) -> &'static str {
    match registration {
        Registration::Seen => "seen",
        Registration::Pending => "pending",
        Registration::Approved => "approved",
        Registration::Disabled => "disabled",
    }
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
