//! A decision becomes text: addresses, tokens and names are filled in, then it is written in the loader's language.

use std::net::IpAddr;

use farrier_db::DbError;
use farrier_engine::facts::BootFacts;
use farrier_engine::medium::MediumStart;
use farrier_engine::model::{Machine, Registration};
use farrier_engine::policy::{LocalBoot, ScriptAction};
use farrier_engine::script::{
    self, CodeScript, Language, LocalDisk, MediumScript, MenuScript, NotRepresentable, Text, Url,
};
use farrier_engine::{Reason, WallTime};

use super::Reader;
use crate::boot_tree::{self, Asker, Channel, Urls};
use crate::core::Core;

/// A script could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum PageError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Value(#[from] NotRepresentable),
    #[error("no random numbers")]
    Random,
}

pub(super) struct Page<'a> {
    pub(super) core: &'a Core,
    pub(super) facts: &'a BootFacts,
    pub(super) asker: Asker,
    pub(super) reader: &'a Reader,
}

impl Page<'_> {
    pub(super) async fn render(
        &self,
        action: &ScriptAction,
        machine: Option<&Machine>,
        now: WallTime,
    ) -> Result<String, PageError> {
        let (method, title, program, shown, image);
        let page = match action {
            ScriptAction::Agent(purpose) => match machine {
                Some(machine) => return self.agent(machine, *purpose, now).await,
                // Not stored just now: without a row there is no token.
                None => return Ok(self.message(Reason::NotStored)?),
            },
            ScriptAction::Menu {
                default,
                timeout,
                on_key,
                media,
                local_disk,
            } => {
                let name = machine
                    .and_then(|machine| machine.name.as_ref())
                    .map(ToString::to_string);
                let name = name.unwrap_or_else(|| self.facts.mac.to_string());
                let registered =
                    machine.is_some_and(|machine| machine.registration != Registration::Seen);
                let not_registered = if registered { "" } else { ", not registered" };
                let away = if self.core.db.is_away() { AWAY } else { "" };
                title = Text::new(&format!("{name}{not_registered}{away}"))?;
                method = self.local_disk(local_disk);
                script::Page::Menu(MenuScript {
                    title: &title,
                    registered,
                    default: *default,
                    timeout: *timeout,
                    on_key: *on_key,
                    script: &self.reader.script,
                    media,
                    local_disk: &method,
                })
            }
            ScriptAction::Medium {
                medium,
                start,
                local_disk,
            } => {
                let memdisk = match start {
                    MediumStart::Memdisk(file) => Some(self.url(&boot_tree::loader_path(file))),
                    MediumStart::Network | MediumStart::RamDisk => None,
                };
                program = memdisk;
                image = self.url("boot/media").with_segment(medium.name.as_str())?;
                method = self.local_disk(local_disk);
                script::Page::Medium(MediumScript {
                    image: &image,
                    kind: medium.kind,
                    memdisk: program.as_ref(),
                    local_disk: &method,
                })
            }
            ScriptAction::LocalDisk(how) => {
                method = self.local_disk(how);
                script::Page::LocalDisk(&method)
            }
            ScriptAction::MemoryTest(file) => {
                image = self.url(&boot_tree::loader_path(file));
                method = self.local_disk(&LocalBoot::Exit);
                script::Page::MemoryTest {
                    program: &image,
                    local_disk: &method,
                }
            }
            ScriptAction::Diagnostics { lines, local_disk } => {
                let away = self.core.db.is_away().then_some(AWAY_LINE);
                shown = away
                    .into_iter()
                    .chain(lines.iter().map(String::as_str))
                    .map(Text::readable)
                    .collect::<Vec<_>>();
                method = self.local_disk(local_disk);
                script::Page::Diagnostics {
                    lines: &shown,
                    local_disk: &method,
                }
            }
            ScriptAction::AskCode {
                entry,
                again,
                local_disk,
            } => {
                method = self.local_disk(local_disk);
                script::Page::AskCode(CodeScript {
                    entry: *entry,
                    again: *again,
                    script: &self.reader.script,
                    local_disk: &method,
                })
            }
            ScriptAction::Message { reason, local_disk } => {
                method = self.local_disk(local_disk);
                script::Page::Message {
                    reason: *reason,
                    local_disk: &method,
                }
            }
        };
        Ok(page.render(self.reader.language)?)
    }

    pub(super) fn message(&self, reason: Reason) -> Result<String, NotRepresentable> {
        script::Page::Message {
            reason,
            local_disk: &LocalDisk::Exit,
        }
        .render(self.reader.language)
    }

    pub(super) fn url(&self, path: &str) -> Url {
        if !self.reader.http {
            return boot_tree::tftp(self.asker.server, path);
        }
        // Only iPXE speaks TLS, and goes on as it came.
        let https = self.asker.by == Channel::Https && self.reader.language == Language::Ipxe;
        Urls::by(&self.core.config, self.asker.server, https).url(path)
    }

    pub(super) fn local_disk(&self, method: &LocalBoot) -> LocalDisk {
        match method {
            LocalBoot::Exit => LocalDisk::Exit,
            LocalBoot::Firmware => LocalDisk::Firmware,
            LocalBoot::Sanboot => LocalDisk::Sanboot,
            LocalBoot::SanbootFile => LocalDisk::SanbootFile,
            LocalBoot::Program(file) => LocalDisk::Program(self.url(&boot_tree::loader_path(file))),
            LocalBoot::Grub(file) => match self.asker.server {
                IpAddr::V4(next_server) => LocalDisk::Grub {
                    program: self.url(&boot_tree::disk_starter_path(file)),
                    next_server,
                },
                // iPXE passes on no IPv6 address.
                IpAddr::V6(_) => LocalDisk::Exit,
            },
        }
    }
}

/// Behind the title of a menu.
const AWAY: &str = " (database away: as last known)";
const AWAY_LINE: &str = "The server cannot write its database: this is what it knew last.";
