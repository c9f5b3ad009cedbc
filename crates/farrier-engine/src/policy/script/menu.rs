//! The menu, what its entries do, and the media of people's own that this machine can start.

use super::{AgentPurpose, Asked, MenuMedium, ScriptAction};
use crate::Reason;
use crate::catalogue::LoaderKind;
use crate::facts::{Protocol, Stage};
use crate::medium::{MEMDISK_LIMIT, Medium, MediumKind, MediumName, MediumStart};
use crate::model::FirmwareKind;
use crate::policy::{Explanation, MenuEntry, MenuMode};

impl Medium {
    fn shown(&self, name: MediumName) -> MenuMedium {
        MenuMedium {
            name,
            kind: self.kind,
            size: self.size,
        }
    }
}

/// What a menu has room for on 25 lines, with the other entries.
const MAX_MEDIA: usize = 16;

impl Asked<'_> {
    /// The way to the decision that a boot without a choice would come to.
    fn diagnostics(&self) -> Vec<String> {
        let mut alone = Asked {
            told: Explanation::default(),
            policy: self.policy.clone(),
            explains: true,
            ..*self
        };
        alone.rules(None);
        let known = match self.known.machine {
            Some(machine) => format!("{:?} machine {}", machine.registration, machine.id),
            None => "a machine nobody knows".to_owned(),
        };
        let told = |what: Option<String>| what.unwrap_or_else(|| "unknown".to_owned());
        let firmware = told(self.facts.firmware.map(|firmware| firmware.to_string()));
        let arch = told(self.facts.arch.map(|arch| arch.to_string()));
        let who = format!("{} is {known}, {firmware}, {arch}", self.facts.mac);
        let steps = alone.told.steps.iter().map(|step| {
            let mark = if step.matched { "=>" } else { "no" };
            format!("{mark} {}: {}", step.rule, step.why)
        });
        [who].into_iter().chain(steps).collect()
    }

    pub(super) fn menu(&mut self) -> ScriptAction {
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
            media: self.media(),
            local_disk: self.local_boot(),
        }
    }

    pub(super) fn entry(&mut self, entry: MenuEntry) -> ScriptAction {
        match entry {
            MenuEntry::LocalDisk => ScriptAction::LocalDisk(self.local_boot()),
            MenuEntry::Medium(name) => self.medium(name),
            MenuEntry::Register => self.agent(AgentPurpose::Register),
            MenuEntry::Diagnostics => ScriptAction::Diagnostics {
                lines: if self.explains {
                    Vec::new()
                } else {
                    self.diagnostics()
                },
                local_disk: self.local_boot(),
            },
            MenuEntry::MemoryTest => match self.program(LoaderKind::MemoryTest) {
                Some(file) => ScriptAction::MemoryTest(file),
                None => self.message("memory test", Reason::NoMemoryTest),
            },
        }
    }

    /// The media of the policy that there are, and that this machine can start. The default entry is one of them.
    pub(super) fn media(&self) -> Vec<MenuMedium> {
        let default = match self.policy.default_entry {
            MenuEntry::Medium(name) if !self.policy.media.contains(&name) => Some(name),
            _ => None,
        };
        let wanted = default.into_iter().chain(self.policy.media.iter().copied());
        let fitting = wanted.filter_map(|name| {
            let medium = self.snapshot.media.get(&name)?;
            self.way_to_start(medium).ok()?;
            Some(medium.shown(name))
        });
        fitting.take(MAX_MEDIA).collect()
    }

    pub(super) fn medium(&mut self, name: MediumName) -> ScriptAction {
        let Some(medium) = self.snapshot.media.get(&name) else {
            return self.message("medium", Reason::NoMedium);
        };
        match self.way_to_start(medium) {
            Ok(start) => ScriptAction::Medium {
                medium: medium.shown(name),
                start,
                local_disk: self.local_boot(),
            },
            Err(reason) => self.message("medium", reason),
        }
    }

    /// BIOS machines get small images by MEMDISK, which works under every loader and keeps the disk when the loader
    /// is gone. What is too large for that, and everything on UEFI, iPXE reads over the network, unless the firmware
    /// itself makes a RAM disk of it.
    fn way_to_start(&self, medium: &Medium) -> Result<MediumStart, Reason> {
        let is_ipxe = matches!(self.facts.stage, Stage::Ipxe { .. });
        match self.facts.firmware {
            Some(FirmwareKind::Bios) if medium.bios => {
                if medium.size <= MEMDISK_LIMIT
                    && let Some(memdisk) = self.program(LoaderKind::Memdisk)
                {
                    return Ok(MediumStart::Memdisk(memdisk));
                }
                match medium.kind {
                    // A floppy in the network would take the place of none, and iPXE boots from hard disks.
                    MediumKind::Floppy => Err(Reason::NoMemdisk),
                    _ if is_ipxe => Ok(MediumStart::Network),
                    _ if medium.size <= MEMDISK_LIMIT => Err(Reason::NoMemdisk),
                    _ => Err(Reason::MediumNeedsIpxe),
                }
            }
            Some(FirmwareKind::Uefi) if medium.uefi => match self.facts.stage {
                Stage::Firmware if self.facts.protocol == Protocol::Http => {
                    Ok(MediumStart::RamDisk)
                }
                Stage::Ipxe { .. } => Ok(MediumStart::Network),
                _ => Err(Reason::MediumNeedsIpxe),
            },
            _ => Err(Reason::MediumNotForFirmware),
        }
    }
}
