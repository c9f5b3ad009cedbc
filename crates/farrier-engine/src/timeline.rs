//! The life story of a machine, told to people.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::facts::{BootFacts, Protocol, Stage};
use crate::model::{MachineId, TaskId};
use crate::policy::{AgentPurpose, Boot, MenuEntry, ScriptAction};
use crate::silence::Awaited;
use crate::strategy::{Change, Strategy};
use crate::{Reason, WallTime};

/// One entry. `text` is a whole sentence in plain words; `details` are the facts behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub machine: MachineId,
    pub at: WallTime,
    pub kind: Kind,
    pub text: Cow<'static, str>,
    /// Names and values, in the order to show them.
    pub details: Vec<Detail>,
}

/// A name and its value.
pub type Detail = (Cow<'static, str>, Cow<'static, str>);

/// What an entry is about; decides its mark on the page and lets people filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A packet or request came in.
    Seen,
    /// We answered it so.
    Answered,
    /// We chose not to answer, or said no.
    Refused,
    /// A file went out, or did not arrive whole.
    Transfer,
    /// The agent enrolled, reported or left.
    Agent,
    /// A task or one of its steps changed.
    Task,
    /// A person changed something.
    Operator,
    /// Something a person should look at.
    Warning,
}

/// What a transfer of a file came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferEnd {
    Done,
    /// The client only asked for the size; edk2 and BIOS ROMs do so before each real transfer.
    Probe,
    /// The client gave up, in its own words if it had any.
    Aborted,
    TimedOut,
    /// We have no such file.
    NotFound,
}

/// One file on its way to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// `TFTP` or `HTTP`.
    pub by: &'static str,
    pub name: &'a str,
    pub bytes: u64,
    /// Of the whole file, where it is known: boot programs and the agent were checked against it when they were read.
    pub sha256: Option<&'a str>,
    pub took: Duration,
    pub end: TransferEnd,
    /// What the client said when it gave up.
    pub said: Option<&'a str>,
}

impl Entry {
    /// An entry with a sentence of the caller's.
    #[must_use]
    pub fn new(
        machine: MachineId,
        at: WallTime,
        kind: Kind,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            machine,
            at,
            kind,
            text: short(text.into(), MAX_TEXT),
            details: Vec::new(),
        }
    }

    /// Adds one fact. Long values are cut, since clients choose many of them.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        if self.details.len() < MAX_DETAILS {
            let value = short(Cow::Owned(value.to_string()), MAX_VALUE);
            let value = Cow::Owned(value.into_owned());
            self.details.push((Cow::Borrowed(name), value));
        }
        self
    }

    /// The same with a short word of ours, which costs nothing.
    #[must_use]
    fn with_word(mut self, name: &'static str, word: &'static str) -> Self {
        self.details
            .push((Cow::Borrowed(name), Cow::Borrowed(word)));
        self
    }

    /// A boot packet came in; `message` is its name, such as `DHCPDISCOVER`.
    #[must_use]
    pub fn packet_seen(
        machine: MachineId,
        at: WallTime,
        message: &'static str,
        facts: &BootFacts,
    ) -> Self {
        let who = match &facts.stage {
            Stage::Firmware => "The firmware",
            Stage::Ipxe { .. } => "iPXE",
            Stage::Loader(_) => "A boot program",
            Stage::Os => "The operating system",
        };
        let wish = match facts.protocol {
            Protocol::Http => "asks how to boot by HTTP",
            Protocol::Bootp => "asks for an address and a boot file by BOOTP",
            Protocol::Script => "asks for its script",
            Protocol::Pxe | Protocol::PlainDhcp if facts.wants_boot() => "asks how to boot",
            Protocol::Pxe | Protocol::PlainDhcp => "asks for an address",
        };
        let mut entry = Self::new(machine, at, Kind::Seen, format!("{who} {wish}."));
        entry.details.reserve(USUAL_DETAILS);
        entry = entry.with_word("message", message).with("mac", facts.mac);
        if let Some(arch) = facts.arch {
            entry = entry.with_word("architecture", arch.name());
        }
        if let Some(firmware) = facts.firmware {
            entry = entry.with_word("firmware", firmware.name());
        }
        if let Some(class) = &facts.vendor_class {
            entry = entry.with("vendor class", class);
        }
        if let Some(relay) = &facts.relay {
            entry = entry.with("relay", relay.giaddr);
        }
        for quirk in &facts.quirks {
            entry = entry.with("quirk", quirk.name);
        }
        for oddity in &facts.oddities {
            entry = entry.with("oddity", oddity.sentence());
        }
        entry
    }

    /// We answered with a boot file.
    #[must_use]
    pub fn boot_answered(
        machine: MachineId,
        at: WallTime,
        message: &'static str,
        boot: &Boot,
    ) -> Self {
        let (text, file) = match boot {
            Boot::Loader(file) => ("It was told to fetch a loader by TFTP.", Some(file)),
            Boot::HttpLoader(file) => ("It was told to fetch a loader by HTTP.", Some(file)),
            Boot::Medium(_) => ("It was told to fetch a disk image by HTTP.", None),
            Boot::HttpsMedium(_) => ("It was told to fetch a disk image by HTTPS.", None),
            Boot::HttpsLoader(file) => ("It was told to fetch a loader by HTTPS.", Some(file)),
            Boot::Script => ("It was told where its script is.", None),
            Boot::HttpsScript => ("It was told where its script is, by HTTPS.", None),
        };
        let entry = Self::new(machine, at, Kind::Answered, text).with_word("message", message);
        match (file, boot) {
            (Some(file), _) => entry.with("loader", &file.id),
            (None, Boot::Medium(name) | Boot::HttpsMedium(name)) => entry.with("medium", name),
            (None, _) => entry,
        }
    }

    /// It knew what to load and still asked for an IPv6 router.
    #[must_use]
    pub fn no_router(machine: MachineId, at: WallTime) -> Self {
        const TEXT: &str = "It asked for an IPv6 router and was told that there is none; iPXE would wait 13 s for one.";
        Self::new(machine, at, Kind::Answered, TEXT).with_word("message", "ROUTER ADVERTISEMENT")
    }

    /// We offered or confirmed an address.
    #[must_use]
    pub fn address_answered(
        machine: MachineId,
        at: WallTime,
        message: &'static str,
        ip: impl Into<IpAddr>,
    ) -> Self {
        let ip = ip.into();
        let text = match message {
            "DHCPOFFER" | "ADVERTISE" => format!("It was offered the address {ip}."),
            _ => format!("It has the address {ip}."),
        };
        Self::new(machine, at, Kind::Answered, text).with_word("message", message)
    }

    /// It holds an address and asked for more time, which the database did not take.
    #[must_use]
    pub fn lease_not_prolonged(
        machine: MachineId,
        at: WallTime,
        ip: Ipv4Addr,
        left: Duration,
    ) -> Self {
        let left = left.as_secs();
        let text = format!(
            "It keeps the address {ip} for the {left} s that are left of its lease. They could not be made more, \
             since the database cannot be written: look at its disk."
        );
        Self::new(machine, at, Kind::Warning, text).with("address", ip)
    }

    /// Somebody else uses the address that it would have been offered.
    #[must_use]
    pub fn address_taken(machine: MachineId, at: WallTime, ip: Ipv4Addr, by: &str) -> Self {
        let text = format!(
            "The address {ip} was not offered, since {by} uses it. It is set aside for an hour."
        );
        Self::new(machine, at, Kind::Warning, text).with("address", ip)
    }

    /// We stayed silent, said no or gave less than asked.
    #[must_use]
    pub fn refused(
        machine: MachineId,
        at: WallTime,
        message: &'static str,
        reason: Reason,
    ) -> Self {
        Self::new(machine, at, Kind::Refused, reason.sentence())
            .with_word("message", message)
            .with_word("reason", reason.label())
    }

    /// What was expected did not come.
    #[must_use]
    pub fn silence(machine: MachineId, at: WallTime, awaited: Awaited) -> Self {
        Self::new(machine, at, Kind::Warning, awaited.sentence())
            .with_word("reason", awaited.label())
    }

    /// Offers led to nothing, so another way is tried.
    #[must_use]
    pub fn strategy_changed(machine: MachineId, at: WallTime, change: &Change) -> Self {
        let Change {
            from,
            to,
            offers,
            over,
        } = change;
        let text = format!(
            "{offers} offers within {} s, and no request after any of them: the firmware does not act on {}. Strategy \
             changed from {from} to {to}: {}.",
            over.as_secs(),
            from.clause(),
            to.clause()
        );
        Self::new(machine, at, Kind::Warning, text).with("reason", "strategy_changed")
    }

    /// A way of offering that brought a loader is kept for the next boots.
    #[must_use]
    pub fn strategy_learned(machine: MachineId, at: WallTime, strategy: Strategy) -> Self {
        let text = format!(
            "Its firmware starts with strategy {strategy}, {}: remembered for its next boots.",
            strategy.clause()
        );
        Self::new(machine, at, Kind::Answered, text).with("strategy", strategy)
    }

    /// Somebody picked in the menu of the ROM; none means what the policy says.
    #[must_use]
    pub fn picked_in_rom(machine: MachineId, at: WallTime, picked: Option<MenuEntry>) -> Self {
        let text = "It asked for a boot item, as picked in its ROM's menu.";
        let item = picked.map_or_else(
            || "as the policy says".to_owned(),
            |entry| entry.to_string(),
        );
        Self::new(machine, at, Kind::Seen, text).with("item", item)
    }

    /// A transfer ended.
    #[must_use]
    pub fn transfer(machine: MachineId, at: WallTime, transfer: &Transfer<'_>) -> Self {
        let Transfer {
            by,
            name,
            bytes,
            sha256,
            took,
            end,
            said,
        } = *transfer;
        let name = short(Cow::Borrowed(name), MAX_VALUE);
        let text = match end {
            TransferEnd::Done => format!("It fetched {name} by {by}."),
            TransferEnd::Probe => format!("It asked for the size of {name} by {by}."),
            TransferEnd::Aborted => format!("It gave up fetching {name} by {by}."),
            TransferEnd::TimedOut => format!("It stopped answering while fetching {name} by {by}."),
            TransferEnd::NotFound => format!("It asked for {name} by {by}, which we do not have."),
        };
        let mut entry = Self::new(machine, at, Kind::Transfer, text);
        if end != TransferEnd::NotFound {
            entry = entry
                .with("bytes", bytes)
                .with("milliseconds", took.as_millis());
        }
        if end == TransferEnd::Done
            && let Some(sha256) = sha256
        {
            entry = entry.with("sha256", sha256);
        }
        match said {
            Some(said) => entry.with("client said", said),
            None => entry,
        }
    }

    /// A script went out.
    #[must_use]
    pub fn script_served(machine: MachineId, at: WallTime, action: &ScriptAction) -> Self {
        let (kind, text) = match action {
            ScriptAction::Agent(AgentPurpose::Task(_)) => (
                Kind::Answered,
                "It was told to start the agent for its task.",
            ),
            ScriptAction::Agent(AgentPurpose::Register) => (
                Kind::Answered,
                "It was told to start the agent to register.",
            ),
            ScriptAction::Menu { on_key: true, .. } => (
                Kind::Answered,
                "It got the menu, shown if a key is pressed.",
            ),
            ScriptAction::Menu { .. } => (Kind::Answered, "It got the menu."),
            ScriptAction::LocalDisk(_) => (Kind::Answered, "It was told to start its local disk."),
            ScriptAction::Medium { .. } => (Kind::Answered, "It was told to start a disk image."),
            ScriptAction::MemoryTest(_) => {
                (Kind::Answered, "It was told to start the memory test.")
            }
            ScriptAction::Diagnostics { .. } => (
                Kind::Answered,
                "It was shown what the server decides for it.",
            ),
            ScriptAction::AskCode { again: false, .. } => (
                Kind::Answered,
                "Whoever is at the machine was asked for the code of a menu entry.",
            ),
            ScriptAction::AskCode { again: true, .. } => (
                Kind::Refused,
                "The code that was typed for a menu entry is wrong, used up or too old.",
            ),
            // Going in circles ends only when somebody looks.
            ScriptAction::Message {
                reason: reason @ (Reason::AgentLoop | Reason::ReinstallLoop),
                ..
            } => (Kind::Warning, reason.sentence()),
            ScriptAction::Message { reason, .. } => (Kind::Refused, reason.sentence()),
        };
        let entry = Self::new(machine, at, kind, text);
        match action {
            ScriptAction::Agent(AgentPurpose::Task(task)) => entry.with("task", task),
            ScriptAction::Medium { medium, .. } => entry.with("medium", medium.name),
            ScriptAction::Message { reason, .. } => entry.with_word("reason", reason.label()),
            _ => entry,
        }
    }

    /// The agent enrolled.
    #[must_use]
    pub fn agent_enrolled(machine: MachineId, at: WallTime, from: IpAddr) -> Self {
        Self::new(machine, at, Kind::Agent, "The agent is up and enrolled.").with("address", from)
    }

    /// The agent was not let in; `why` is a clause such as "the token was used before".
    #[must_use]
    pub fn agent_refused(machine: MachineId, at: WallTime, from: IpAddr, why: &str) -> Self {
        Self::new(
            machine,
            at,
            Kind::Refused,
            format!("The agent was not let in: {why}."),
        )
        .with("address", from)
    }

    /// A task or one of its steps changed; the text comes from [`crate::task::apply`].
    #[must_use]
    pub fn task(machine: MachineId, at: WallTime, task: TaskId, text: &str) -> Self {
        Self::new(machine, at, Kind::Task, text.to_owned()).with("task", task)
    }

    /// Two machines show the same evidence.
    #[must_use]
    pub fn conflict(machine: MachineId, at: WallTime, why: &str) -> Self {
        Self::new(
            machine,
            at,
            Kind::Warning,
            Reason::IdentityConflict.sentence(),
        )
        .with("why", why)
    }
}

/// At most `max` characters on one line; what is cut is marked.
fn short(text: Cow<'_, str>, max: usize) -> Cow<'_, str> {
    // No text has more characters than bytes.
    if text.len() <= max && !text.chars().any(char::is_control) {
        return text;
    }
    let mut short: String = text
        .chars()
        .take(max)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(max).is_some() {
        short.push('…');
    }
    Cow::Owned(short)
}

const MAX_TEXT: usize = 400;
const MAX_VALUE: usize = 200;
const MAX_DETAILS: usize = 24;
/// Of a packet: one allocation for all of them.
const USUAL_DETAILS: usize = 6;

#[cfg(test)]
mod tests;
