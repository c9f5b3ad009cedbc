//! The script that starts the agent, and the name under which it is fetched.

use std::net::{IpAddr, SocketAddr};

use farrier_db::BootToken;
use farrier_engine::model::{Machine, Registration, TaskId};
use farrier_engine::policy::{AgentPurpose, LocalBoot};
use farrier_engine::script::{self, AgentScript, Argument, Language};
use farrier_engine::timeline::Entry;
use farrier_engine::{Reason, WallTime};

use super::page::{Page, PageError};
use crate::boot_tree::NAMED;
use crate::core::now;
use crate::hex::hex;
use crate::http::agent::token_hash;
use crate::named_scripts::Promised;

impl Page<'_> {
    /// What starts the agent: its name where the loader can ask for it, else itself.
    pub(super) async fn agent(
        &self,
        machine: &Machine,
        purpose: AgentPurpose,
        now: WallTime,
    ) -> Result<String, PageError> {
        if self.core.loaders.agent().is_none() {
            return Ok(self.message(Reason::NoAgent)?);
        }
        let confirmed = machine.registration == Registration::Approved;
        if let Err(reason) = self.core.admission.start_agent(self.asker, confirmed) {
            self.core.counters.ignored(reason, now);
            self.core
                .note_entry(Entry::refused(machine.id, now, "the script", reason));
            return Ok(self.message(reason)?);
        }
        if self.reader.language == Language::Ipxe {
            let promised = Promised {
                machine: machine.id,
                mac: self.facts.mac,
                purpose,
                told: self.asker.ip,
            };
            if let Some(name) = self.core.named_scripts.name(promised, now) {
                let named = self.url(&format!("{NAMED}/{name}"));
                return Ok(script::named(&named, &self.reader.script));
            }
        }
        self.agent_itself(machine, purpose, now).await
    }

    /// Kernel, RAM disk and arguments with a new token.
    pub(super) async fn agent_itself(
        &self,
        machine: &Machine,
        purpose: AgentPurpose,
        now: WallTime,
    ) -> Result<String, PageError> {
        let agent = self.core.loaders.agent();
        let Some(agent) = agent.as_ref() else {
            return Ok(self.message(Reason::NoAgent)?);
        };
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
}

/// From the script to the agent's first words: loading over a slow line, and a kernel's start.
const TOKEN_LIFE: std::time::Duration = std::time::Duration::from_secs(900);
