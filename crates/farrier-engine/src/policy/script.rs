//! What a loader that asks for its script gets.

mod menu;

use std::time::Duration;

use serde::Serialize;

use super::{
    Decision, Explanation, Known, LocalBootChoice, MenuCode, MenuEntry, Policy, Snapshot,
    UnknownMachine, is_of_this_boot, resolve,
};
use crate::catalogue::{LoaderFile, LoaderKind, ipxe_starts_uefi_disks};
use crate::facts::{BootFacts, Stage};
use crate::medium::{MediumKind, MediumName, MediumStart};
use crate::model::{Arch, FirmwareKind, Registration, TaskId};
use crate::task::Work;
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
        /// Those of the site's media that this machine can start.
        media: Vec<MenuMedium>,
        local_disk: LocalBoot,
    },
    LocalDisk(LocalBoot),
    /// A disk image of people's own.
    Medium {
        medium: MenuMedium,
        start: MediumStart,
        local_disk: LocalBoot,
    },
    MemoryTest(LoaderFile),
    /// What would have been decided for a boot without a choice, and why: shown, then the local disk starts.
    Diagnostics {
        lines: Vec<String>,
        local_disk: LocalBoot,
    },
    /// The entry wants a one-time code: whoever is at the machine is asked for it.
    AskCode {
        entry: MenuEntry,
        /// There was one, and it was not right.
        again: bool,
        local_disk: LocalBoot,
    },
    /// The reason is shown for a few seconds, then the local disk starts.
    Message {
        reason: Reason,
        local_disk: LocalBoot,
    },
}

/// A medium, as a menu shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MenuMedium {
    pub name: MediumName,
    pub kind: MediumKind,
    /// In bytes.
    pub size: u64,
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
    /// Back to the firmware, for want of a better way. Takes minutes on many UEFI machines (`firmware.md` T11).
    Exit,
    /// Back to the firmware, since somebody says so; loaders that could start a disk themselves do not.
    Firmware,
    /// BIOS: start drive 0x80.
    Sanboot,
    /// UEFI, iPXE 2.0 and later: start the boot file of the first disk.
    SanbootFile,
    /// UEFI: a program of ours that starts the boot file of the disk.
    Program(LoaderFile),
    /// UEFI, iPXE before 2.0: GRUB, which asks us what to do and starts the boot file of the disk.
    Grub(LoaderFile),
}

/// So many starts of the agent for one task within [`AGENT_WINDOW`] are a loop: the agent comes up and dies, or
/// the machine is switched off under it.
pub const AGENT_LIMIT: usize = 3;
pub const AGENT_WINDOW: Duration = Duration::from_secs(30 * 60);

/// So many deployments within [`DEPLOY_WINDOW`] are a loop: what was deployed does not start, and something orders
/// it anew.
pub const DEPLOY_LIMIT: usize = 3;
pub const DEPLOY_WINDOW: Duration = Duration::from_secs(2 * 3600);

/// Decides one script request. `choice` is what somebody picked in the menu.
#[must_use]
pub fn decide_script(
    facts: &BootFacts,
    choice: Option<MenuEntry>,
    known: &Known<'_>,
    snapshot: &Snapshot,
    now: WallTime,
) -> Decision<ScriptAction> {
    let policy = resolve(snapshot, known.machine, known.rules).policy;
    let mut asked = Asked {
        facts,
        snapshot,
        policy,
        known,
        now,
        told: Explanation::default(),
        explains: false,
    };
    let action = asked.rules(choice);
    Decision {
        action,
        explanation: asked.told,
    }
}

struct Asked<'a> {
    facts: &'a BootFacts,
    snapshot: &'a Snapshot,
    policy: Policy,
    known: &'a Known<'a>,
    now: WallTime,
    told: Explanation,
    /// Only the way is wanted; diagnostics as the default entry must not explain themselves for ever.
    explains: bool,
}

impl Asked<'_> {
    fn rules(&mut self, choice: Option<MenuEntry>) -> ScriptAction {
        let known = self.known;
        if known.conflict {
            return self.message("identity", Reason::IdentityConflict);
        }
        self.told
            .passed("identity", "Nothing speaks against it being this machine.");

        if known.is(Registration::Disabled) {
            return self.message("machine enabled", Reason::MachineDisabled);
        }
        self.told.passed("machine enabled", "It is not disabled.");

        if self.told.refused_by_rule(known.rules) {
            return self.refused(Reason::RefusedByRule);
        }

        let is_unknown = !known.is_registered();
        if is_unknown && self.policy.unknown_machine == UnknownMachine::Ignore {
            return self.message("unknown machine", Reason::UnknownMachine);
        }

        if let Some(entry) = choice {
            self.told
                .matched("menu choice", "Somebody at the machine chose.");
            return self.chosen(entry);
        }

        if let Some(entry) = self.intent() {
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

        self.task().unwrap_or_else(|| self.menu())
    }

    /// What somebody may do who stands in front of the machine, and whom nobody knows.
    fn chosen(&mut self, entry: MenuEntry) -> ScriptAction {
        let free = [MenuEntry::LocalDisk, self.policy.default_entry];
        if !self.policy.menu_code || free.contains(&entry) {
            return self.entry(entry);
        }
        let again = match self.known.code {
            MenuCode::Right => {
                self.told
                    .matched("menu code", "The entry wants a code, and it was right.");
                return self.entry(entry);
            }
            MenuCode::Wrong => true,
            MenuCode::NotGiven => false,
        };
        self.told
            .matched("menu code", "The entry wants a code that is good once.");
        ScriptAction::AskCode {
            entry,
            again,
            local_disk: self.local_boot(),
        }
    }

    /// What a person wished for the next boots.
    fn intent(&mut self) -> Option<MenuEntry> {
        let machine = self.known.machine?;
        let intent = machine.intent.as_ref()?;
        if intent.is_counted(self.known.boot_began, self.now) {
            self.told
                .matched("boot intent", "It was granted for this boot already.");
            return Some(intent.entry);
        }
        if let Some(end) = intent.end(machine, self.now) {
            self.told.passed("boot intent", end.sentence());
            return None;
        }
        self.told.matched(
            "boot intent",
            format!(
                "{} wished it for {} boot(s) more.",
                intent.set_by, intent.boots_left
            ),
        );
        Some(intent.entry)
    }

    /// The task that is due, unless the machine goes in circles.
    fn task(&mut self) -> Option<ScriptAction> {
        let Some(task) = self.known.due.filter(|task| task.is_due(self.now)) else {
            self.told
                .passed("task due", "No task is due, so no agent is loaded.");
            return None;
        };
        if !self.known.is(Registration::Approved) {
            self.told.passed("task due", Reason::NotApproved.sentence());
            return None;
        }
        let lately = |times: &[WallTime], window| {
            let recent = times.iter().filter(|at| self.now.since(**at) < window);
            recent.count()
        };
        // What this boot was told already is no new round.
        let is_earlier = |at: &WallTime| !is_of_this_boot(*at, self.known.boot_began, self.now);
        let starts = self.known.agent_starts.iter().copied();
        let earlier: Vec<WallTime> = starts.filter(is_earlier).collect();
        let starts = lately(&earlier, AGENT_WINDOW);
        let deployments = lately(self.known.deployments, DEPLOY_WINDOW);
        if starts >= AGENT_LIMIT {
            return Some(self.message("agent loop", Reason::AgentLoop));
        }
        // The quick check: what is judged by the inventory is judged again when the agent has sent a fresh one.
        let writes = matches!(task.work, Work::Deploy { .. } | Work::Repair { .. });
        let guard = self
            .known
            .rules
            .iter()
            .find(|judged| judged.rule.refuse_tasks && judged.holds());
        if let Some(judged) = guard.filter(|_| writes) {
            self.told
                .matched(format!("rule {}", judged.rule.name), judged.why());
            return Some(self.refused(Reason::TaskRefusedByRule));
        }
        if matches!(task.work, Work::Deploy { .. }) && deployments >= DEPLOY_LIMIT {
            return Some(self.message("reinstall loop", Reason::ReinstallLoop));
        }
        self.told.passed(
            "loops",
            format!(
                "The agent was started {starts} times for it; {deployments} deployments lately."
            ),
        );
        self.told
            .matched("task due", format!("Task {} is due.", task.id));
        Some(self.agent(AgentPurpose::Task(task.id)))
    }

    fn agent(&mut self, purpose: AgentPurpose) -> ScriptAction {
        if self
            .facts
            .arch
            .is_some_and(|arch| self.snapshot.agents.contains(&arch))
        {
            return ScriptAction::Agent(purpose);
        }
        let is_pc = matches!(self.facts.arch, Some(Arch::X86_64) | None)
            && matches!(
                self.facts.firmware,
                Some(FirmwareKind::Bios | FirmwareKind::Uefi) | None
            );
        let reason = if is_pc {
            Reason::NoAgent
        } else {
            Reason::NoAgentForMachine
        };
        self.message("agent", reason)
    }

    fn message(&mut self, rule: &'static str, reason: Reason) -> ScriptAction {
        self.told.matched(rule, reason.sentence());
        self.refused(reason)
    }

    fn refused(&self, reason: Reason) -> ScriptAction {
        ScriptAction::Message {
            reason,
            local_disk: self.local_boot(),
        }
    }

    fn local_boot(&self) -> LocalBoot {
        let choice = self.policy.local_boot;
        match (choice, self.facts.firmware) {
            (LocalBootChoice::Firmware, _) => LocalBoot::Firmware,
            (_, Some(FirmwareKind::Bios)) => LocalBoot::Sanboot,
            (LocalBootChoice::FirstDisk, Some(FirmwareKind::Uefi)) if self.is_ipxe_2() => {
                LocalBoot::SanbootFile
            }
            (_, Some(FirmwareKind::Uefi)) => self.local_boot_on_uefi(),
            _ => LocalBoot::Exit,
        }
    }

    fn local_boot_on_uefi(&self) -> LocalBoot {
        if let Some(file) = self.program(LoaderKind::LocalBoot) {
            return LocalBoot::Program(file);
        }
        match self.program(LoaderKind::Grub) {
            _ if self.is_ipxe_2() => LocalBoot::SanbootFile,
            Some(file) if self.is_ipxe() && !self.known.stops_in_grub => LocalBoot::Grub(file),
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

    fn is_ipxe(&self) -> bool {
        matches!(self.facts.stage, Stage::Ipxe { .. })
    }

    fn is_ipxe_2(&self) -> bool {
        let Stage::Ipxe {
            version: Some(version),
            ..
        } = &self.facts.stage
        else {
            return false;
        };
        ipxe_starts_uefi_disks(version.as_str()) == Some(true)
    }
}
