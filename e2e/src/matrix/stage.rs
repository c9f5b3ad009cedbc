//! The network that a row's machine boots in: the server, and who else is on it.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::json;

use super::{Role, Row, core_image};
use crate::{
    Debs, Firmware, Lab, Lan, Mode, Program, Relay, Site, lab::until, net::Router,
    relay::BOTH_NETWORKS, server::Dnsmasq, site::OVER_IPV6,
};

/// Networks and programs of a row, until dropped.
#[derive(Debug)]
pub(super) struct Stage {
    folder: PathBuf,
    site: Site,
    /// Ended before the networks that they run on.
    _others: Vec<Program>,
    _router: Option<Router>,
    near: Lan,
    /// Behind the relay.
    far: Option<Relay>,
}

impl Stage {
    /// With all that one row's machine needs.
    pub(super) fn set_up(lab: &Lab, row: &Row) -> Result<Self> {
        let stage = Self::open(lab, row.name, row.role, row.without)?;
        let site = &stage.site;
        if row.firmware.is_secure() {
            let policy = json!({ "enrolment": "automatic", "secure_boot": true });
            site.put("policy", &policy)?;
        }
        if let Some(foreign) = row.foreign_loader() {
            let debs = Debs::open(lab)?;
            let deb = debs.fetch_as(foreign.name, foreign.package, foreign.suite)?;
            let file = match row.firmware {
                Firmware::Slof => core_image::build(&debs.unpack(&deb)?, &stage.folder)?,
                _ => deb.path,
            };
            import(site, &file, foreign.loader)?;
        }
        Ok(stage)
    }

    /// The server in this role, with the loaders that it has by default but those whose ids begin so.
    pub(super) fn open(lab: &Lab, name: &str, role: Role, without: &[&str]) -> Result<Self> {
        let folder = lab.scratch(&format!("matrix-{name}"))?;
        let near = Lan::new()?;
        let host = near.server()?;
        let mut others = Vec::new();
        let mut far = None;
        // Without announcements iPXE waits for IPv6 on each boot.
        let router = match role {
            Role::Dhcp | Role::Proxy => Some(near.router(&folder)?),
            Role::Relay | Role::Named(_) | Role::Ipv6 => None,
        };
        let mut mode = Mode::Dhcp;
        match role {
            Role::Dhcp => {}
            Role::Proxy => {
                mode = Mode::Proxy;
                others.push(lends().start(&near.other()?, &folder)?);
            }
            Role::Named(file) => {
                mode = Mode::Port4011;
                let named = lends().with(&format!(
                    "--dhcp-boot={file},farrier,{}",
                    crate::net::SERVER
                ));
                others.push(named.start(&near.other()?, &folder)?);
            }
            Role::Relay => {
                let relay = Relay::new(&near, &[&host])?;
                others.push(relay.start(lab, &folder)?);
                far = Some(relay);
            }
            Role::Ipv6 => drop(host.ip(["addr", "add", "fd77::1/64", "dev", "eth0", "nodad"])?),
        }
        let site = match role {
            Role::Relay => Site::serving(lab, host, &folder, BOTH_NETWORKS)?,
            Role::Ipv6 => Site::serving(lab, host, &folder, OVER_IPV6)?,
            _ => Site::start_without(lab, host, &folder, mode, without)?,
        };
        Ok(Self {
            folder,
            site,
            _others: others,
            _router: router,
            near,
            far,
        })
    }

    /// Where the machine is plugged in.
    pub(super) fn lan(&self) -> &Lan {
        self.far.as_ref().map_or(&self.near, |relay| &relay.far)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn site(&self) -> &Site {
        &self.site
    }
}

/// A foreign DHCP server.
fn lends() -> Dnsmasq {
    Dnsmasq::addresses(Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199))
}

/// Adds a loader, and waits until the running server has it.
fn import(site: &Site, loader: &Path, id: &str) -> Result<()> {
    site.farrier(&["loader", "import", &loader.to_string_lossy()])?;
    until("that the server has the loader", || {
        let listed = site.farrier(&["loader", "list"]);
        listed.is_ok_and(|listed| listed.contains(id))
    })
}
