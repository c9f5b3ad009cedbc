//! A second network, and Debian's relay agent between it and the servers.

use std::{net::Ipv4Addr, path::Path, time::Duration};

use anyhow::Result;

use crate::{
    Debs, Host, Lab, Lan, Program,
    net::{OTHER, SERVER},
};

/// 10.78.0.0/24 behind a router at 10.77.0.3.
#[derive(Debug)]
pub struct Relay {
    /// Where the clients are.
    pub far: Lan,
    /// The router, 10.78.0.1 to the clients.
    pub host: Host,
}

impl Relay {
    /// Adds the second network; `servers` learn the way to it.
    pub fn new(near: &Lan, servers: &[&Host]) -> Result<Self> {
        let far = Lan::new()?;
        let host = near.host("relay", Some(Ipv4Addr::new(10, 77, 0, 3)))?;
        far.also(&host, "eth1", Ipv4Addr::new(10, 78, 0, 1))?;
        host.forward()?;
        for server in servers {
            server.ip(["route", "add", "10.78.0.0/24", "via", "10.77.0.3"])?;
        }
        Ok(Self { far, host })
    }

    /// Starts `dhcrelay`, which asks our server and adds option 82.
    pub fn start(&self, lab: &Lab, folder: &Path) -> Result<Program> {
        self.ask(&[SERVER], lab, folder)
    }

    /// The same with a foreign server beside ours.
    pub fn start_for_both(&self, lab: &Lab, folder: &Path) -> Result<Program> {
        self.ask(&[SERVER, OTHER], lab, folder)
    }

    fn ask(&self, servers: &[Ipv4Addr], lab: &Lab, folder: &Path) -> Result<Program> {
        let program = Debs::open(lab)?.program("isc-dhcp-relay", "usr/sbin/dhcrelay")?;
        let mut dhcrelay = self.host.command(&program.to_string_lossy());
        dhcrelay
            .args(["-4", "-d", "-a", "--no-pid", "-id", "eth1", "-iu", "eth0"])
            .args(servers.iter().map(Ipv4Addr::to_string));
        let dhcrelay = Program::start("dhcrelay", dhcrelay, folder)?;
        dhcrelay.wait_for("Sending on", Duration::from_secs(10))?;
        Ok(dhcrelay)
    }
}

/// Our server lends addresses on both sides.
pub const BOTH_NETWORKS: &str = r#"
[[interface]]
name = "eth0"
mode = "dhcp"

[[subnet]]
network = "10.77.0.0/24"
pools = ["10.77.0.100-10.77.0.199"]

[[subnet]]
network = "10.78.0.0/24"
pools = ["10.78.0.100-10.78.0.199"]
routers = ["10.78.0.1"]
"#;
