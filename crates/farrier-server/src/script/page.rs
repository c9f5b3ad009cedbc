//! A decision becomes text: addresses, tokens and names are filled in, then it is written in the loader's language.

use std::net::{IpAddr, SocketAddr};

use farrier_db::{BootToken, DbError};
use farrier_engine::facts::BootFacts;
use farrier_engine::medium::MediumStart;
use farrier_engine::model::{Machine, Registration, TaskId};
use farrier_engine::policy::{AgentPurpose, LocalBoot, ScriptAction};
use farrier_engine::script::{
    self, AgentScript, Argument, CodeScript, Language, LocalDisk, MediumScript, MenuScript,
    NotRepresentable, Text, Url,
};
use farrier_engine::timeline::Entry;
use farrier_engine::{Reason, WallTime};

use super::Reader;
use crate::boot_tree::{self, Asker, Channel, Urls};
use crate::core::{Core, now};
use crate::hex::hex;
use crate::http::agent::token_hash;

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
                title = Text::new(&if registered {
                    name
                } else {
                    format!("{name}, not registered")
                })?;
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
                shown = lines
                    .iter()
                    .map(|line| Text::readable(line))
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

    fn url(&self, path: &str) -> Url {
        if !self.reader.http {
            return boot_tree::tftp(self.asker.server, path);
        }
        // Only iPXE speaks TLS, and goes on as it came.
        let https = self.asker.by == Channel::Https && self.reader.language == Language::Ipxe;
        Urls::by(&self.core.config, self.asker.server, https).url(path)
    }

    async fn agent(
        &self,
        machine: &Machine,
        purpose: AgentPurpose,
        now: WallTime,
    ) -> Result<String, PageError> {
        let agent = self.core.loaders.agent();
        let Some(agent) = agent.as_ref() else {
            return Ok(self.message(Reason::NoAgent)?);
        };
        let confirmed = machine.registration == Registration::Approved;
        if let Err(reason) = self.core.admission.start_agent(self.asker, confirmed) {
            self.core.counters.ignored(reason, now);
            self.core
                .note_entry(Entry::refused(machine.id, now, "the script", reason));
            return Ok(self.message(reason)?);
        }
        let token = self.token(machine, purpose, now).await?;
        let at = SocketAddr::new(self.asker.server, self.core.config.agent_port);
        let server = format!("https://{at}");
        let mut arguments = vec![
            Argument::flag("quiet"),
            // The last one named becomes /dev/console; the agent writes to both.
            Argument::new("console", "ttyS0,115200")?,
            Argument::new("console", "tty0")?,
            // Emulated and some real timers fail the kernel's check although they work.
            Argument::flag("no_timer_check"),
            // A kernel that stops must not stop for ever.
            Argument::new("panic", "30")?,
            Argument::new("farrier.server", &server)?,
            Argument::new("farrier.ca", &self.core.ca.fingerprint())?,
            Argument::new("farrier.token", &token)?,
            Argument::new("farrier.mac", &self.facts.mac.to_string())?,
            Argument::new("farrier.time", &(now.0 / 1000).to_string())?,
        ];
        if let Some(address) = self.address() {
            arguments.push(Argument::new("farrier.address", &address)?);
        }
        let path = |file: &str| format!("boot/agent/{}/{file}", agent.tag);
        let page = script::Page::Agent(AgentScript {
            kernel: &self.url(&path("vmlinuz")),
            initrd: &self.url(&path("agent.img")),
            arguments: &arguments,
            local_disk: &self.local_disk(&LocalBoot::Exit),
        });
        Ok(page.render(self.reader.language)?)
    }

    /// The address the machine has, so that the agent need not ask again: over IPv4 the one we lent, and beside another
    /// DHCP server it asks that; over IPv6 the loader's, whoever it is from, with routes from routers as always there.
    fn address(&self) -> Option<String> {
        let ip = match self.asker.ip {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => return None,
            // Networks of other lengths than 64 configure no hosts (RFC 4291 section 2.5.4).
            IpAddr::V6(ip) => return Some(format!("{ip}/64")),
        };
        self.core
            .leases
            .holder(ip, now())
            .filter(|mac| *mac == self.facts.mac)?;
        let subnet = self.core.leases.subnet_of(ip)?;
        let gateway = subnet
            .router()
            .map(|router| format!(",{router}"))
            .unwrap_or_default();
        Some(format!("{}/{}{gateway}", ip, subnet.subnet.prefix))
    }

    /// A token that is good for one enrolment of this machine. Only its hash is kept.
    async fn token(
        &self,
        machine: &Machine,
        purpose: AgentPurpose,
        now: WallTime,
    ) -> Result<String, PageError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| PageError::Random)?;
        let token: String = hex(&bytes);
        let (task, intent): (Option<TaskId>, _) = match purpose {
            AgentPurpose::Task(task) => (Some(task), "task"),
            AgentPurpose::Register => (None, "register"),
        };
        let stored = BootToken {
            hash: token_hash(&token),
            machine: machine.id,
            task,
            intent: intent.to_owned(),
            created: now,
            expires: now + TOKEN_LIFE,
        };
        self.core.db.create_boot_token(&stored).await?;
        Ok(token)
    }

    fn local_disk(&self, method: &LocalBoot) -> LocalDisk {
        match method {
            LocalBoot::Exit => LocalDisk::Exit,
            LocalBoot::Firmware => LocalDisk::Firmware,
            LocalBoot::Sanboot => LocalDisk::Sanboot,
            LocalBoot::SanbootFile => LocalDisk::SanbootFile,
            LocalBoot::Program(file) => LocalDisk::Program(self.url(&boot_tree::loader_path(file))),
        }
    }
}

/// From the script to the agent's first words: loading over a slow line, and a kernel's start.
const TOKEN_LIFE: std::time::Duration = std::time::Duration::from_secs(900);
