//! What the server runs with. [`mod@file`] is what may be written, [`Config`] what is used; between them lies
//! [`Config::parse`], which reports every fault at once with key, line and remedy.

mod convert;
mod convert4;
mod convert6;
mod convert_holder;
mod convert_tftp;
mod convert_tls;
pub mod file;
mod options;

use std::collections::HashMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use farrier_engine::address6::{Prefix, Reserved6};
use farrier_engine::lease::{AddressRange, Subnet};
use farrier_engine::parameter::OptionSet;
use farrier_engine::policy::{Rule, ShortName};
use farrier_engine::tls::KeyKind;
use farrier_proto::wire::option;

pub(crate) use convert_holder::Evidence;

use crate::transfer::Habits;

/// Everything decided: no value is unset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub boot_http_port: u16,
    /// Whether machines that wait for an IPv6 router are told where there is none.
    pub end_ipv6_wait: bool,
    /// HTTPS for firmware and loaders, if it is on.
    pub boot_tls: Option<BootTlsConfig>,
    pub tftp: TftpConfig,
    pub agent_port: u16,
    pub admin: SocketAddr,
    pub admin_names: Vec<String>,
    pub interfaces: Vec<Interface>,
    /// By their number in [`farrier_engine::lease::Classes`].
    pub classes: Vec<ClassConfig>,
    pub subnets: Vec<SubnetConfig>,
    pub subnets6: Vec<Subnet6Config>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub mode: Mode,
    /// None: its first address, found when the server starts.
    pub address: Option<Ipv4Addr>,
    /// Whether RARP is answered there.
    pub rarp: bool,
}

/// HTTPS for firmware and loaders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootTlsConfig {
    pub port: u16,
    pub certificate: BootCertificate,
    /// In URLs, in place of our address.
    pub host: Option<String>,
    /// Further names in the certificate.
    pub names: Vec<String>,
}

/// Where the certificate for firmware and loaders comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootCertificate {
    /// An authority of ours with keys of this kind.
    Own(KeyKind),
    Files {
        chain: PathBuf,
        key: PathBuf,
    },
}

/// How files leave by TFTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TftpConfig {
    pub habits: Habits,
    /// RFC 2090, if it is on.
    pub multicast: Option<Groups>,
    /// MTFTP, if it is on.
    pub mtftp: Option<MtftpConfig>,
}

/// Where streams go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    pub range: AddressRange,
    pub port: u16,
}

/// MTFTP of PXE 2.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtftpConfig {
    /// Whose clients are told; none means all.
    pub networks: Option<Vec<(Ipv4Addr, u8)>>,
    pub groups: Groups,
    pub server_port: u16,
    pub timeout: Duration,
    pub delay: Duration,
}

/// What the server is on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The DHCP server: lends addresses and names boot files. Answers on 4011 too.
    Dhcp,
    /// Beside a DHCP server on another host: names boot files only.
    Proxy,
    /// Beside a DHCP server on this host: answers on port 4011 only.
    Port4011,
}

/// A network, and what its clients are told with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetConfig {
    pub subnet: Subnet,
    /// What rules call it.
    pub name: Option<ShortName>,
    /// What holds for every client in it, that of wider layers included.
    pub options: OptionSet,
    /// What holds for the holder of a reserved address besides.
    pub reserved: HashMap<Ipv4Addr, OptionSet>,
    /// Whether addresses are looked for on the network before they are offered.
    pub probe: bool,
}

/// A kind of clients, and what they are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassConfig {
    /// Its condition; it sets nothing but the class.
    pub rule: Rule,
    pub options: OptionSet,
}

impl SubnetConfig {
    /// The layers of options for who has `ip` and is in these classes, the most specific first.
    #[must_use]
    pub fn layers<'a>(
        &'a self,
        ip: Ipv4Addr,
        classes: impl Iterator<Item = &'a OptionSet>,
    ) -> Vec<&'a OptionSet> {
        let own = self.reserved.get(&ip).into_iter();
        own.chain(classes).chain([&self.options]).collect()
    }

    /// The way out of it.
    #[must_use]
    pub fn router(&self) -> Option<Ipv4Addr> {
        let routers = self.options.find(option::ROUTER)?;
        routers.value.first_chunk().copied().map(Ipv4Addr::from)
    }
}

/// An IPv6 network to boot in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet6Config {
    pub prefix: Prefix,
    /// What rules call it.
    pub name: Option<ShortName>,
    pub network: Ipv6Addr,
    pub dns: Vec<Ipv6Addr>,
    pub lease_seconds: u32,
    pub router_advertisement: bool,
    pub reserved: Reserved6,
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `interface[0].mode`
    pub key: String,
    /// From 1; none when the fault is not in a line.
    pub line: Option<usize>,
    pub what: String,
    pub remedy: String,
}

/// Everything wrong with the configuration. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    pub file: PathBuf,
    pub faults: Vec<Fault>,
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        write!(
            f,
            "{file} cannot be used ({} found):",
            count(self.faults.len())
        )?;
        for fault in &self.faults {
            write!(f, "\n  {}", fault.key)?;
            if let Some(line) = fault.line {
                write!(f, " (line {line})")?;
            }
            write!(f, ": {}\n    {}", fault.what, fault.remedy)?;
        }
        Ok(())
    }
}

fn count(faults: usize) -> String {
    match faults {
        1 => "1 fault".to_owned(),
        n => format!("{n} faults"),
    }
}

impl Config {
    /// Reads and converts `path`.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let text = std::fs::read_to_string(path).map_err(|e| Faults {
            file: path.to_owned(),
            faults: vec![Fault {
                key: "file".to_owned(),
                line: None,
                what: format!("cannot be read: {e}"),
                remedy: "Write one (`farrier config reference` prints an example) or name it with --config.".to_owned(),
            }],
        })?;
        Self::parse(&text).map_err(|faults| Faults {
            file: path.to_owned(),
            faults,
        })
    }

    /// Converts `text`, collecting every fault.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        convert::parse(text)
    }

    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data_dir.join("farrier.db")
    }

    #[must_use]
    pub fn image_store(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    #[must_use]
    pub fn media(&self) -> PathBuf {
        self.data_dir.join("media")
    }

    /// Boot programs.
    #[must_use]
    pub fn loaders(&self) -> PathBuf {
        self.data_dir.join("loaders")
    }

    /// Kernel, initial RAM disk and their description, as `farrier agent build` leaves them.
    #[must_use]
    pub fn agent_files(&self) -> PathBuf {
        self.data_dir.join("agent")
    }

    /// The site's certificate authority and image signing key.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.data_dir.join("ca")
    }
}

/// 8067 is free of well-known services and recalls port 67.
pub const DEFAULT_BOOT_HTTP_PORT: u16 = 8067;
/// What firmware and people expect of HTTPS.
pub const DEFAULT_BOOT_TLS_PORT: u16 = 443;
pub const DEFAULT_AGENT_PORT: u16 = 8444;
/// Loopback: nobody is let in from the network before an operator says so.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:8443";
pub const DEFAULT_DATA_DIR: &str = "/var/lib/farrier";
/// Half a school day: long enough to survive a night without the server being noticed.
pub const DEFAULT_LEASE_SECONDS: u32 = 12 * 3600;

/// A commented example, printed by `farrier config reference` and parsed by a test.
pub const EXAMPLE: &str = include_str!("example.toml");

#[cfg(test)]
mod tests;
