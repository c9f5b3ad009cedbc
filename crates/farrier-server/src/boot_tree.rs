//! The virtual tree that firmware and loaders fetch from, by TFTP and HTTP alike.
//!
//! Names are looked up, never joined to a path: what is not in the table below does not exist.
//!
//! | name | what |
//! | --- | --- |
//! | `boot/<loader id>/<file>` | a boot program of the catalogue |
//! | `autoexec.ipxe` in any folder, `boot/first.ipxe` | the first script: who are you? |
//! | `boot/agent/<tag>/vmlinuz`, `.../agent.img` | the agent |

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farrier_engine::Reason;
use farrier_engine::catalogue::LoaderFile;
use farrier_engine::script::{self, Url};
use farrier_engine::timeline::{Entry, Transfer, TransferEnd};
use farrier_net::neighbour;
use farrier_proto::MacAddr;
use farrier_proto::session::tftp_transfer::{Event, Phase};

use crate::core::{Core, now};

/// The first script, as a path.
pub const FIRST_SCRIPT: &str = "boot/first.ipxe";
/// Where a loader asks for its own script.
pub const SCRIPT: &str = "boot/script";

/// Who asks, by address only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub ip: Ipv4Addr,
    /// Our address it asks at.
    pub server: Ipv4Addr,
}

/// Something to send.
#[derive(Clone, Debug)]
pub struct Served {
    pub content: Bytes,
    /// For the timeline.
    pub name: String,
    /// A boot program: it counts for the loop detector.
    pub loader: bool,
    pub content_type: &'static str,
}

/// There is nothing of this name, or it cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    NoSuchName,
    NoAgent,
    Unreadable(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("There is no such file."),
            Self::NoAgent => f.write_str("The agent was not built yet: run `farrier agent build`."),
            Self::Unreadable(cause) => write!(f, "The file cannot be read: {cause}."),
        }
    }
}

/// Makes URLs of the boot listener.
#[derive(Clone, Copy, Debug)]
pub struct Urls {
    pub server: Ipv4Addr,
    pub port: u16,
}

impl Urls {
    #[must_use]
    pub fn of(self, path: &str) -> String {
        format!("http://{}:{}/{path}", self.server, self.port)
    }

    /// The same, for scripts. Paths are ours and always fit.
    #[must_use]
    pub fn url(self, path: &str) -> Url {
        Url::new(&self.of(path)).expect("an address, a port and a path of ours make a URL")
    }
}

/// The path of a boot program.
#[must_use]
pub fn loader_path(file: &LoaderFile) -> String {
    format!("boot/{}/{}", file.id, file.file_name)
}

/// The tree of one server.
#[derive(Debug)]
pub struct BootTree {
    core: Arc<Core>,
    /// Our own networks, whose hosts may ask.
    networks: Vec<(Ipv4Addr, u8)>,
}

impl BootTree {
    #[must_use]
    pub fn new(core: Arc<Core>, networks: Vec<(Ipv4Addr, u8)>) -> Self {
        Self { core, networks }
    }

    /// Whether this address is a client of ours. Nobody else gets a byte, so that we cannot be used to
    /// flood a third party (`T8`).
    #[must_use]
    pub fn may_ask(&self, ip: Ipv4Addr) -> bool {
        let near = |(network, prefix): &(Ipv4Addr, u8)| {
            farrier_net::interface::network(ip, *prefix) == *network
        };
        self.networks.iter().any(near) || self.core.leases.subnet_of(ip).is_some()
    }

    /// Whether this address is likely to ask for itself: it holds a lease, or has spoken DHCP with us of late.
    #[must_use]
    pub fn has_proven_itself(&self, ip: Ipv4Addr) -> bool {
        let (core, now) = (&self.core, now());
        core.leases.holder(ip, now).is_some() || {
            let mac = neighbour::hardware_address(ip).ok().flatten();
            core.exchanges.include(ip, mac, now)
        }
    }

    /// Counts a request by TFTP that is refused, and tells of it.
    pub fn refused(&self, asker: Asker, reason: Reason) {
        self.core.counters.ignored(reason);
        self.record(asker, |machine| {
            Entry::refused(machine, now(), "TFTP", reason)
        });
    }

    /// Counts a packet that did not leave, since nobody acknowledges what goes to this network. Such requests
    /// are likely forged, so they are on nobody's timeline.
    pub fn withheld(&self, ip: Ipv4Addr) {
        tracing::debug!(%ip, "too much goes to this network unacknowledged: a TFTP answer is withheld");
        self.core.counters.ignored(Reason::AnswerBudget);
    }

    /// Counts a request from an address that may not ask.
    pub fn ignored_stranger(&self, ip: Ipv4Addr) {
        tracing::debug!(%ip, "a request from outside the served networks is ignored");
        self.core.counters.dropped();
    }

    /// Looks a cleaned name up.
    pub async fn resolve(&self, name: &str, asker: Asker) -> Result<Served, Missing> {
        let urls = Urls {
            server: asker.server,
            port: self.core.config.boot_http_port,
        };
        let parts: Vec<&str> = name.split('/').collect();
        match parts.as_slice() {
            [.., "autoexec.ipxe"] | ["boot", "first.ipxe"] => Ok(first_script(urls)),
            ["boot", "agent", tag, file] => self.agent_file(tag, file),
            ["boot", id, file] => self.loader(id, file),
            _ => Err(Missing::NoSuchName),
        }
    }

    fn loader(&self, id: &str, file: &str) -> Result<Served, Missing> {
        let catalogue = self.core.loaders.catalogue();
        let loader = catalogue
            .by_id(id)
            .filter(|loader| loader.file_name == file)
            .ok_or(Missing::NoSuchName)?;
        let content = self.core.loaders.bytes(loader).map_err(|e| {
            tracing::error!(loader = id, error = %e, "a loader cannot be served");
            Missing::Unreadable(e.to_string())
        })?;
        let content_type = if file.ends_with(".efi") {
            "application/efi"
        } else {
            "application/octet-stream"
        };
        Ok(Served {
            content,
            name: format!("{file} {}", loader.version),
            loader: true,
            content_type,
        })
    }

    fn agent_file(&self, tag: &str, file: &str) -> Result<Served, Missing> {
        let agent = self.core.loaders.agent();
        let agent = agent.as_ref().as_ref().ok_or(Missing::NoAgent)?;
        if agent.tag != tag {
            return Err(Missing::NoSuchName);
        }
        let (content, name) = match file {
            "vmlinuz" => (agent.vmlinuz.clone(), "the agent's kernel"),
            "agent.img" => (agent.initrd.clone(), "the agent"),
            _ => return Err(Missing::NoSuchName),
        };
        Ok(Served {
            content,
            name: name.to_owned(),
            loader: false,
            content_type: "application/octet-stream",
        })
    }

    /// Records a name that is not there. Loaders probe for many; only what is not expected is news.
    pub fn missed(&self, name: &str, asker: Asker, missing: &Missing) {
        if *missing == Missing::NoSuchName && EXPECTED_MISSES.iter().any(|end| name.ends_with(end))
        {
            return;
        }
        self.record(asker, |machine| {
            let ended = ended("TFTP", name, 0, Duration::ZERO, TransferEnd::NotFound, None);
            Entry::transfer(machine, now(), &ended)
        });
    }

    /// Records the end of a TFTP transfer.
    pub fn transferred(&self, served: &Served, asker: Asker, event: &Event) {
        let (end, bytes, took, said) = match event {
            Event::Done {
                bytes, duration, ..
            } => (TransferEnd::Done, *bytes, *duration, None),
            Event::Probe => return,
            Event::ClientError { text, .. } => {
                (TransferEnd::Aborted, 0, Duration::ZERO, Some(text.as_str()))
            }
            // Only the last ACK is missing: loaders that start at once do not send it.
            Event::TimedOut {
                phase: Phase::Closing,
            } => (
                TransferEnd::Done,
                served.content.len() as u64,
                Duration::ZERO,
                None,
            ),
            Event::TimedOut { .. } => (TransferEnd::TimedOut, 0, Duration::ZERO, None),
        };
        if end == TransferEnd::Done && served.loader {
            self.loaded(asker);
        }
        self.record(asker, |machine| {
            Entry::transfer(
                machine,
                now(),
                &ended("TFTP", &served.name, bytes, took, end, said),
            )
        });
    }

    /// Counts a boot program that went out whole.
    pub fn loaded(&self, asker: Asker) {
        if let Some(mac) = self.mac_of(asker.ip) {
            self.core.sightings.loaded(mac, now());
        }
    }

    /// Puts something on the timeline of whoever has this address.
    pub fn record(
        &self,
        asker: Asker,
        entry: impl FnOnce(farrier_engine::model::MachineId) -> Entry,
    ) {
        let Some(mac) = self.mac_of(asker.ip) else {
            return;
        };
        let machines = self.core.fleet.candidates(&[mac], None);
        let machine = if machines.len() == 1 {
            machines.first()
        } else {
            None
        };
        self.core.tell_of(mac, machine.map(AsRef::as_ref), entry);
    }

    fn mac_of(&self, ip: Ipv4Addr) -> Option<MacAddr> {
        let leased = self.core.leases.holder(ip, now());
        leased.or_else(|| neighbour::hardware_address(ip).ok().flatten())
    }
}

fn first_script(urls: Urls) -> Served {
    Served {
        content: Bytes::from(script::first(&urls.url(SCRIPT))),
        name: "the first script".to_owned(),
        loader: false,
        content_type: "text/plain",
    }
}

fn ended<'a>(
    by: &'static str,
    name: &'a str,
    bytes: u64,
    took: Duration,
    end: TransferEnd,
    said: Option<&'a str>,
) -> Transfer<'a> {
    Transfer {
        by,
        name,
        bytes,
        took,
        end,
        said,
    }
}

/// Asked for by shim, GRUB, PXELINUX and boards, and rightly missing.
const EXPECTED_MISSES: &[&str] = &[
    "revocations.efi",
    "revocations_sku.efi",
    "revocations_sbat.efi",
    "shim_certificate_0.efi",
    "bootsig.bin",
    "autoboot.txt",
    "boot.scr.uimg",
    ".lst",
];
