//! The virtual tree that firmware and loaders fetch from, by TFTP and HTTP alike.
//!
//! Names are looked up, never joined to a path: what is not in the table below does not exist.
//!
//! | name | what |
//! | --- | --- |
//! | `boot/<loader id>/<file>` | a boot program of the catalogue |
//! | `boot/local-disk/<loader id>/<file>` | GRUB, to start the local disk with |
//! | `boot/<loader id>/<shim>.img`, `.../<grub>.img` | a RAM disk with shim and GRUB, or with GRUB alone, for UEFI HTTP Boot |
//! | `boot/media/<image>`, `.../<image>.ipxe` | an image of the data folder, and the script that starts it |
//! | `<any folder>/<file>` | the boot program of that file name |
//! | `autoexec.ipxe`, `default.ipxe` in any folder, `boot/first.ipxe` | iPXE's first script: who are you? |
//! | `grub.cfg`, `grub.cfg-01-...` in any folder | GRUB's |
//! | `pxelinux.cfg/...` in any folder | PXELINUX's configuration, U-Boot's or s390x's menu, for one machine |
//! | `C0A80007`, `C0A80007.SUN4U` | the boot program of the machine with this address |
//! | `boot/script/<language>/...` | the same, for loaders that were told to ask again |
//! | `boot/named/<name>` | the script that starts one machine's agent, once |
//! | `boot/agent/<tag>/vmlinuz`, `.../agent.img` | the agent |
//!
//! A folder named by a board's serial number or hardware address in front of any of these is passed over.

mod boards;
mod itself;
mod local_disk;
mod media;
mod ram_disks;
mod scripts;
mod told;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use farrier_engine::catalogue::{Catalogue, Loader, LoaderFile, LoaderKind};
use farrier_engine::model::FirmwareKind;
use farrier_engine::policy::{Policy, resolve};
use farrier_engine::script::Url;
use farrier_engine::timeline::Entry;
use farrier_engine::{Reason, WallTime};
use farrier_proto::MacAddr;
use farrier_proto::session::tftp_transfer::Limits;
use farrier_proto::wire::dhcpv6::mac_of_link_local;

use crate::boards::Boards;
use crate::config::{BootTlsConfig, Config};
use crate::core::{Core, now};
use crate::neighbours::Neighbours;
use crate::sightings::Takes;

pub use media::Large;
pub(crate) use scripts::tftp;

/// The first script, as a path.
pub const FIRST_SCRIPT: &str = "boot/first.ipxe";
/// Where a loader asks for its own script.
pub const SCRIPT: &str = "boot/script";
/// Above the names of scripts that are good once; by HTTP alone.
pub const NAMED: &str = "boot/named";

/// Who asks, by address only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub ip: IpAddr,
    /// Our address it asks at.
    pub server: IpAddr,
    pub by: Channel,
}

/// How it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Http,
    Https,
    Tftp,
}

/// Something to send.
#[derive(Clone, Debug)]
pub struct Served {
    pub content: Bytes,
    /// For the timeline.
    pub name: String,
    /// Known of files that were checked against it when they were read: boot programs and the agent.
    pub sha256: Option<String>,
    /// A boot program: it counts for the loop detector.
    pub loader: bool,
    /// Firmware with Secure Boot refuses it.
    pub unsigned: bool,
    /// What is wrong with it: a sentence for the timeline of who got it.
    pub warning: Option<String>,
    pub content_type: &'static str,
}

/// There is nothing of this name, or it cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    NoSuchName,
    /// Loaders probe for it on their way; no news.
    Expected,
    NoAgent,
    /// A Raspberry Pi asks for its first file.
    NoBoardFolder,
    /// There is something, but not for this machine.
    Refused(Reason),
    /// There is an image, but it cannot be made this machine's own: a sentence.
    Unfit(String),
    Unreadable(String),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName | Self::Expected => f.write_str("There is no such file."),
            Self::Refused(reason) => f.write_str(reason.sentence()),
            Self::Unfit(why) => f.write_str(why),
            Self::NoBoardFolder => f.write_str(
                "There are no files of a Raspberry Pi: take its boot folder over with `farrier loader board`.",
            ),
            Self::NoAgent => f.write_str("The agent was not built yet: run `farrier agent build`."),
            Self::Unreadable(cause) => write!(f, "The file cannot be read: {cause}."),
        }
    }
}

/// Makes URLs of the boot listeners.
#[derive(Clone, Copy, Debug)]
pub struct Urls<'a> {
    config: &'a Config,
    server: IpAddr,
    https: Option<&'a BootTlsConfig>,
}

impl<'a> Urls<'a> {
    /// Of plain HTTP at our address `server`.
    #[must_use]
    pub fn plain(config: &'a Config, server: IpAddr) -> Self {
        Self {
            config,
            server,
            https: None,
        }
    }

    /// By HTTPS if so and if there is such a listener.
    #[must_use]
    pub fn by(config: &'a Config, server: IpAddr, https: bool) -> Self {
        Self {
            https: config.boot_tls.as_ref().filter(|_| https),
            ..Self::plain(config, server)
        }
    }

    #[must_use]
    pub fn of(self, path: &str) -> String {
        // Shown with brackets where it is of IPv6.
        let at = |port| SocketAddr::new(self.server, port);
        match self.https {
            None => format!("http://{}/{path}", at(self.config.boot_http_port)),
            Some(tls) => match &tls.host {
                Some(host) => format!("https://{host}:{}/{path}", tls.port),
                None => format!("https://{}/{path}", at(tls.port)),
            },
        }
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

/// The path of a GRUB that is fetched to start the local disk with.
#[must_use]
pub fn disk_starter_path(file: &LoaderFile) -> String {
    format!("boot/local-disk/{}/{}", file.id, file.file_name)
}

/// A shim that is about to start something else.
#[derive(Clone, Debug)]
struct ShimSent {
    id: String,
    at: WallTime,
    /// Its second stage was asked for by its name.
    asked_on: bool,
}

/// The tree of one server.
#[derive(Debug)]
pub struct BootTree {
    core: Arc<Core>,
    /// Our own networks, whose hosts may ask.
    networks: Vec<(Ipv4Addr, u8)>,
    /// Which shim went out to whom, until its second stage did.
    shims: Mutex<HashMap<IpAddr, ShimSent>>,
    /// RAM disks by what is on them and our address in their scripts.
    ram_disks: Mutex<HashMap<ram_disks::Key, Bytes>>,
    neighbours: Neighbours,
    boards: Boards,
}

impl BootTree {
    #[must_use]
    pub fn new(core: Arc<Core>, networks: Vec<(Ipv4Addr, u8)>) -> Self {
        Self {
            boards: Boards::below(&core.config.data_dir),
            core,
            networks,
            shims: Mutex::default(),
            ram_disks: Mutex::default(),
            neighbours: Neighbours::default(),
        }
    }

    fn shims(&self) -> MutexGuard<'_, HashMap<IpAddr, ShimSent>> {
        self.shims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this address is a client of ours. Nobody else gets a byte, so that we cannot be used to
    /// flood a third party (`T8`).
    #[must_use]
    pub fn may_ask(&self, ip: IpAddr) -> bool {
        let ip = match ip {
            IpAddr::V4(ip) => ip,
            // A link-local address cannot come from elsewhere.
            IpAddr::V6(ip) => {
                return ip.is_unicast_link_local() || self.core.subnet6_of(ip).is_some();
            }
        };
        let near = |(network, prefix): &(Ipv4Addr, u8)| {
            farrier_net::interface::network(ip, *prefix) == *network
        };
        self.networks.iter().any(near) || self.core.leases.subnet_of(ip).is_some()
    }

    /// Whether this address is likely to ask for itself: it holds a lease, or has spoken DHCP with us of late.
    #[must_use]
    pub fn has_proven_itself(&self, ip: IpAddr) -> bool {
        let (core, now) = (&self.core, now());
        let leased = match ip {
            IpAddr::V4(ip) => core.leases.holder(ip, now).is_some(),
            IpAddr::V6(_) => false,
        };
        leased || core.exchanges.include(ip, self.card(ip), now)
    }

    /// The bytes that may leave for what this address or its card has said by DHCP of late; asked once for each.
    pub(crate) fn spend_exchanges(&self, ip: IpAddr) -> u64 {
        self.core.exchanges.spend(ip, self.card(ip), now())
    }

    /// Somebody asks for a file: what was awaited has come, and the packet is kept for whoever looks for it.
    pub fn asked(&self, from: SocketAddr, at: SocketAddr, packet: &[u8]) {
        if let Some(mac) = self.mac_of(from.ip()) {
            self.core.silences.file_asked(mac);
            self.core.strategies.fetched(mac, now());
            self.core.packets.keep_any(mac, now(), from, at, packet);
        }
    }

    /// The same by HTTP.
    pub fn asked_by_http(&self, ip: IpAddr) {
        if let Some(mac) = self.mac_of(ip) {
            self.core.silences.file_asked(mac);
            self.core.strategies.fetched(mac, now());
        }
    }

    /// An answer by TFTP that is no block of a file.
    pub fn answered(&self, to: SocketAddr, from: SocketAddr, packet: &[u8]) {
        if let Some(mac) = self.mac_of(to.ip()) {
            self.core.packets.keep_any(mac, now(), from, to, packet);
        }
    }

    /// Counts a request by TFTP that is refused, and tells of it.
    pub fn refused(&self, asker: Asker, reason: Reason) {
        self.core.counters.ignored(reason, now());
        self.record(asker, |machine| {
            Entry::refused(machine, now(), "TFTP", reason)
        });
    }

    /// Counts a packet that did not leave, since nobody acknowledges what goes to this network. Such requests
    /// are likely forged, so they are on nobody's timeline.
    pub fn withheld(&self, ip: IpAddr) {
        tracing::debug!(%ip, "too much goes to this network unacknowledged: a TFTP answer is withheld");
        self.core.counters.ignored(Reason::AnswerBudget, now());
    }

    /// Counts a request from an address that may not ask.
    pub fn ignored_stranger(&self, ip: IpAddr) {
        tracing::debug!(%ip, "a request from outside the served networks is ignored");
        self.core.counters.dropped();
    }

    /// Looks a cleaned name up.
    pub async fn resolve(&self, name: &str, asker: Asker) -> Result<Served, Missing> {
        let board = self.board_name(name, asker.ip);
        if let Some(board) = board
            && let Some(served) = self.board_file(board)?
        {
            return Ok(served);
        }
        let name = board.map_or(name, |board| board.rest);
        if let Some(script) = self.script(name, asker).await {
            return script;
        }
        let parts: Vec<&str> = name.split('/').collect();
        if let ["boot", "agent", tag, file] = parts.as_slice() {
            return self.agent_file(tag, file);
        }
        if let ["boot", "media", image] = parts.as_slice() {
            return self.medium(image, asker).await;
        }
        if let ["boot", "local-disk", id, file] = parts.as_slice() {
            return self.disk_starter(id, file, asker);
        }
        let catalogue = self.core.loaders.catalogue();
        if let ["boot", id, file] = parts.as_slice()
            && let Some(first) = ram_disks::first_on(&catalogue, id, file)
        {
            return self.ram_disk(&catalogue, first, asker);
        }
        match find(&catalogue, &parts) {
            Some(loader) => {
                let served = self.loader(loader)?;
                if served.loader {
                    self.begins_anew(asker);
                }
                if loader.kind == LoaderKind::Shim {
                    self.shim_sent(asker, &loader.id);
                } else if served.loader {
                    self.shim_asked_on(asker);
                }
                Ok(served)
            }
            None => self.lacks(asker, board),
        }
    }

    fn loader(&self, loader: &Loader) -> Result<Served, Missing> {
        let file = &loader.file_name;
        let content = self.core.loaders.bytes(loader).map_err(|e| {
            tracing::error!(loader = loader.id, error = %e, "a loader cannot be served");
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
            sha256: Some(loader.sha256.clone()),
            loader: loader.kind != LoaderKind::Part,
            unsigned: loader.firmware == FirmwareKind::Uefi && loader.signer.is_none(),
            warning: None,
            content_type,
        })
    }

    fn agent_file(&self, tag: &str, file: &str) -> Result<Served, Missing> {
        let agent = self.core.loaders.agent();
        let agent = agent.as_ref().as_ref().ok_or(Missing::NoAgent)?;
        if agent.tag != tag {
            return Err(Missing::NoSuchName);
        }
        let (content, name, record) = match file {
            "vmlinuz" => (&agent.vmlinuz, "the agent's kernel", &agent.image.vmlinuz),
            "agent.img" => (&agent.initrd, "the agent", &agent.image.initrd),
            _ => return Err(Missing::NoSuchName),
        };
        Ok(Served {
            content: content.clone(),
            name: name.to_owned(),
            sha256: Some(record.sha256.clone()),
            loader: false,
            unsigned: false,
            warning: None,
            content_type: "application/octet-stream",
        })
    }

    fn mac_of(&self, ip: IpAddr) -> Option<MacAddr> {
        let leased = match ip {
            IpAddr::V4(ip) => self.core.leases.holder(ip, now()),
            IpAddr::V6(_) => None,
        };
        leased.or_else(|| self.card(ip))
    }

    /// What the device at this address takes by TFTP, if it is one of those with a limit.
    #[must_use]
    pub fn takes(&self, ip: IpAddr) -> Takes {
        let known = self.mac_of(ip);
        known.map_or_else(Takes::default, |mac| self.core.sightings.takes(mac, now()))
    }

    /// What its settings allow by TFTP.
    #[must_use]
    pub fn allows(&self, ip: IpAddr) -> Limits {
        let policy = self.policy_of(ip);
        Limits {
            max_blksize: policy.tftp_blksize,
            max_windowsize: policy.tftp_windowsize,
            timeout_s: policy.tftp_timeout_s,
            ..Limits::default()
        }
    }

    fn policy_of(&self, ip: IpAddr) -> Policy {
        let core = &self.core;
        let machines = self
            .mac_of(ip)
            .map_or_else(Vec::new, |mac| core.fleet.candidates(&[mac], None));
        match machines.as_slice() {
            [machine] => core.policy_at(machine, ip),
            _ => resolve(&core.snapshot.load(), None, &[]).policy,
        }
    }

    /// The hardware address behind an address: as the kernel learned it, or as the address itself tells.
    fn card(&self, ip: IpAddr) -> Option<MacAddr> {
        match ip {
            IpAddr::V4(ip) => self.neighbours.hardware_address(ip),
            IpAddr::V6(ip) => {
                let lent = || self.core.owner6(ip);
                mac_of_link_local(ip).or_else(lent)
            }
        }
    }
}

/// A loader by its id and file name; else beside another loader, as second stages ask; else by its file name in
/// any folder, as other DHCP servers may name it.
fn find<'a>(catalogue: &'a Catalogue, parts: &[&str]) -> Option<&'a Loader> {
    let file = parts.last()?;
    if let ["boot", id, _] = parts
        && let Some(first) = catalogue.by_id(id)
    {
        let beside = |other: &&Loader| {
            other.file_name == *file && (other.arch, other.firmware) == (first.arch, first.firmware)
        };
        return Some(first)
            .filter(|first| first.file_name == *file)
            .or_else(|| catalogue.iter().find(beside));
    }
    catalogue.by_file_name(file)
}
