//! What a loader that asks for its script gets.

use std::time::Duration;

use serde::Serialize;

use super::{
    Decision, Explanation, Known, MenuEntry, MenuMode, Policy, Snapshot, UnknownMachine, resolve,
};
use crate::catalogue::{LoaderFile, LoaderKind};
use crate::facts::{BootFacts, Stage};
use crate::model::{FirmwareKind, Registration, TaskId};
use crate::{Reason, WallTime};

/// What the script does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptAction {
    Agent(AgentPurpose),
    Menu {
        default: MenuEntry,
        timeout: Duration,
        /// Shown only if a key is pressed; otherwise the default entry runs.
        on_key: bool,
        local_disk: LocalBoot,
    },
    LocalDisk(LocalBoot),
    MemoryTest(LoaderFile),
    /// The reason is shown for a few seconds, then the local disk starts.
    Message {
        reason: Reason,
        local_disk: LocalBoot,
    },
}

/// Why the agent is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentPurpose {
    Task(TaskId),
    Register,
}

/// How this firmware is brought to its local disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalBoot {
    /// Back to the firmware. Takes minutes on many UEFI machines (`firmware.md` T11).
    Exit,
    /// BIOS: start drive 0x80.
    Sanboot,
    /// UEFI, iPXE 2.0 and later: start the boot file of the first disk.
    SanbootFile,
    /// UEFI: a program of ours that starts the boot file of the disk.
    Program(LoaderFile),
}

/// Decides one script request. `choice` is what somebody picked in the menu.
#[must_use]
pub fn decide_script(
    facts: &BootFacts,
    choice: Option<MenuEntry>,
    known: &Known<'_>,
    snapshot: &Snapshot,
    now: WallTime,
) -> Decision<ScriptAction> {
    let policy = resolve(&snapshot.site, known.machine).policy;
    let mut asked = Asked {
        facts,
        snapshot,
        policy,
        told: Explanation::default(),
    };
    let action = asked.rules(choice, known, now);
    Decision {
        action,
        explanation: asked.told,
    }
}

struct Asked<'a> {
    facts: &'a BootFacts,
    snapshot: &'a Snapshot,
    policy: Policy,
    told: Explanation,
}

impl Asked<'_> {
    fn rules(
        &mut self,
        choice: Option<MenuEntry>,
        known: &Known<'_>,
        now: WallTime,
    ) -> ScriptAction {
        if known.conflict {
            return self.message("identity", Reason::IdentityConflict);
        }
        self.told
            .passed("identity", "Nothing speaks against it being this machine.");

        if known.is(Registration::Disabled) {
            return self.message("machine enabled", Reason::MachineDisabled);
        }
        self.told.passed("machine enabled", "It is not disabled.");

        let is_unknown = !known.is_registered();
        if is_unknown && self.policy.unknown_machine == UnknownMachine::Ignore {
            return self.message("unknown machine", Reason::UnknownMachine);
        }

        if let Some(entry) = choice {
            self.told
                .matched("menu choice", "Somebody at the machine chose.");
            return self.entry(entry);
        }

        if is_unknown && self.policy.unknown_machine == UnknownMachine::Register {
            self.told.matched(
                "unknown machine",
                "Nobody has registered it: the agent does.",
            );
            return self.agent(AgentPurpose::Register);
        }
        let why = if is_unknown {
            "Unknown ones are treated like machines without work."
        } else {
            "It is registered."
        };
        self.told.passed("unknown machine", why);

        match known.due.filter(|task| task.is_due(now)) {
            Some(task) if known.is(Registration::Approved) => {
                self.told
                    .matched("task due", format!("Task {} is due.", task.id));
                return self.agent(AgentPurpose::Task(task.id));
            }
            Some(_) => self.told.passed("task due", Reason::NotApproved.sentence()),
            None => self
                .told
                .passed("task due", "No task is due, so no agent is loaded."),
        }

        self.menu()
    }

    fn menu(&mut self) -> ScriptAction {
        let on_key = match self.policy.menu {
            MenuMode::Never => {
                self.told.passed("menu", "The policy shows none.");
                self.told
                    .matched("default entry", "The default entry runs.");
                return self.entry(self.policy.default_entry);
            }
            MenuMode::Always => false,
            MenuMode::OnKey => true,
        };
        let why = if on_key {
            "It is shown if a key is pressed."
        } else {
            "It is always shown."
        };
        self.told.matched("menu", why);
        ScriptAction::Menu {
            default: self.policy.default_entry,
            timeout: self.policy.menu_timeout,
            on_key,
            local_disk: self.local_boot(),
        }
    }

    fn entry(&mut self, entry: MenuEntry) -> ScriptAction {
        match entry {
            MenuEntry::LocalDisk => ScriptAction::LocalDisk(self.local_boot()),
            MenuEntry::Register => self.agent(AgentPurpose::Register),
            MenuEntry::MemoryTest => match self.program(LoaderKind::MemoryTest) {
                Some(file) => ScriptAction::MemoryTest(file),
                None => self.message("memory test", Reason::NoMemoryTest),
            },
        }
    }

    fn agent(&mut self, purpose: AgentPurpose) -> ScriptAction {
        if self
            .facts
            .arch
            .is_some_and(|arch| self.snapshot.agents.contains(&arch))
        {
            return ScriptAction::Agent(purpose);
        }
        self.message("agent", Reason::NoAgent)
    }

    fn message(&mut self, rule: &'static str, reason: Reason) -> ScriptAction {
        self.told.matched(rule, reason.sentence());
        ScriptAction::Message {
            reason,
            local_disk: self.local_boot(),
        }
    }

    fn local_boot(&self) -> LocalBoot {
        match self.facts.firmware {
            Some(FirmwareKind::Bios) => LocalBoot::Sanboot,
            Some(FirmwareKind::Uefi) => match self.program(LoaderKind::LocalBoot) {
                Some(file) => LocalBoot::Program(file),
                None if self.is_ipxe_2() => LocalBoot::SanbootFile,
                None => LocalBoot::Exit,
            },
            _ => LocalBoot::Exit,
        }
    }

    fn program(&self, kind: LoaderKind) -> Option<LoaderFile> {
        let (arch, firmware) = (self.facts.arch?, self.facts.firmware?);
        self.snapshot
            .catalogue
            .of_kind(kind, arch, firmware)
            .map(LoaderFile::from)
    }

    fn is_ipxe_2(&self) -> bool {
        let Stage::Ipxe {
            version: Some(version),
            ..
        } = &self.facts.stage
        else {
            return false;
        };
        let major = version
            .as_str()
            .split('.')
            .next()
            .and_then(|major| major.parse::<u32>().ok());
        major.is_some_and(|major| major >= 2)
    }
}
