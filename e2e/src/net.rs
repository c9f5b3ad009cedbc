//! A private LAN: one switch and any number of hosts, each a network namespace.
//!
//! No address, route or interface is added to the machine's own network. A [`Relay`] makes a port of a host reachable
//! at 127.0.0.1 without one: sockets stay in the namespace they were opened in, so one thread can hold both ends.

mod namespace;
mod port;
mod recording;

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context, Result};

use crate::{command::run, lab, server::Program};
use namespace::{
    PREFIX, add_namespace, enter, in_namespace, namespace_command, namespaces, remove,
};

pub use namespace::clean;
pub use port::Relay;
pub use recording::Recording;

/// The address of the host that [`Lan::server`] makes.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// The address of a second server on the same LAN, as [`Lan::other`] makes it.
pub const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A switch with nothing plugged in yet.
///
/// Dropping it ends every program that still runs on it and removes it.
#[derive(Debug)]
pub struct Lan {
    name: String,
    plugs: AtomicU32,
}

impl Lan {
    /// Makes a LAN whose name no other lab on this machine has.
    ///
    /// # Errors
    /// When the machine cannot run a lab, or making the namespace fails.
    pub fn new() -> Result<Self> {
        lab::check_machine()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lan = Self {
            name: format!("{PREFIX}{}-{number}", std::process::id()),
            plugs: AtomicU32::new(0),
        };
        let switch = lan.switch();
        add_namespace(&switch)?;
        // The switch only switches: no address, no IPv6 of its own, no spanning-tree delay.
        in_namespace(
            &switch,
            [
                "link",
                "add",
                "br0",
                "type",
                "bridge",
                "forward_delay",
                "0",
                "mcast_snooping",
                "0",
            ],
        )?;
        in_namespace(&switch, ["link", "set", "br0", "up"])?;
        Ok(lan)
    }

    /// What the names of its namespaces begin with, and those of no other LAN.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Plugs in a host with an address of 10.77.0.0/24, or with none.
    ///
    /// # Errors
    /// When the name is taken on this LAN, or is too long for a namespace.
    pub fn host(&self, name: &str, address: Option<Ipv4Addr>) -> Result<Host> {
        let namespace = format!("{}-{name}", self.name);
        add_namespace(&namespace)?;
        self.cable(&namespace, "eth0", address)?;
        Ok(Host { namespace, address })
    }

    /// Plugs a host of another LAN in here, too, with a second card `card`.
    ///
    /// # Errors
    /// When the host has such a card already.
    pub fn also(&self, host: &Host, card: &str, address: Ipv4Addr) -> Result<()> {
        self.cable(&host.namespace, card, Some(address))
    }

    fn cable(&self, namespace: &str, card: &str, address: Option<Ipv4Addr>) -> Result<()> {
        let plug = self.plug("v");
        let switch = self.switch();
        in_namespace(
            &switch,
            [
                "link", "add", &plug, "type", "veth", "peer", "name", card, "netns", namespace,
            ],
        )?;
        in_namespace(&switch, ["link", "set", &plug, "master", "br0", "up"])?;
        in_namespace(namespace, ["link", "set", card, "up"])?;
        if let Some(address) = address {
            let address = format!("{address}/24");
            in_namespace(
                namespace,
                ["addr", "add", &address, "brd", "+", "dev", card],
            )?;
        }
        Ok(())
    }

    /// The host that the real server runs on: [`SERVER`].
    ///
    /// # Errors
    /// As [`Lan::host`].
    pub fn server(&self) -> Result<Host> {
        self.host("server", Some(SERVER))
    }

    /// A host for a foreign server beside ours: [`OTHER`].
    ///
    /// # Errors
    /// As [`Lan::host`].
    pub fn other(&self) -> Result<Host> {
        self.host("other", Some(OTHER))
    }

    /// A host that announces an IPv6 prefix.
    ///
    /// Without router advertisements iPXE in a ROM waits about 13 s on each boot for IPv6 to time out, behind a relay
    /// and beside other servers than ours.
    ///
    /// # Errors
    /// When dnsmasq cannot be started.
    pub fn router(&self, folder: &Path) -> Result<Router> {
        let host = self.host("router", Some(Ipv4Addr::new(10, 77, 0, 254)))?;
        in_namespace(
            &host.namespace,
            ["addr", "add", "fd77::fe/64", "dev", "eth0", "nodad"],
        )?;
        let mut dnsmasq = host.command("dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--port=0",
            "--interface=eth0",
        ]);
        dnsmasq.args([
            "--enable-ra",
            "--dhcp-range=fd77::,ra-only,64",
            "--ra-param=eth0,4,1800",
        ]);
        dnsmasq.arg(format!(
            "--dhcp-leasefile={}",
            folder.join("router.leases").display()
        ));
        let program = Program::start("router", dnsmasq, folder)?;
        Ok(Router {
            _program: program,
            host,
        })
    }

    /// Plugs in a network card of an emulator, which must be started on [`Lan::switch_command`].
    ///
    /// # Errors
    /// When the device cannot be made.
    pub fn tap(&self) -> Result<String> {
        let tap = self.plug("t");
        let switch = self.switch();
        in_namespace(&switch, ["tuntap", "add", &tap, "mode", "tap"])?;
        in_namespace(&switch, ["link", "set", &tap, "master", "br0", "up"])?;
        Ok(tap)
    }

    /// Records everything that passes the switch. The file is whole once the recording is finished.
    ///
    /// # Errors
    /// When tcpdump cannot be started.
    pub fn record(&self, file: &Path) -> Result<Recording> {
        Recording::start(self, file)
    }

    /// A command that will run where the switch is.
    #[must_use]
    pub fn switch_command(&self, program: &str) -> Command {
        namespace_command(&self.switch(), program)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn plug(&self, kind: &str) -> String {
        let before = self.plugs.fetch_add(1, Ordering::Relaxed);
        format!("{kind}{}", before + 1)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for namespace in namespaces(&self.name) {
            remove(&namespace);
        }
    }
}

/// A host on the LAN; it disappears with the [`Lan`].
#[derive(Debug, Clone)]
pub struct Host {
    namespace: String,
    address: Option<Ipv4Addr>,
}

/// The host that sends router advertisements, until dropped.
#[derive(Debug)]
pub struct Router {
    _program: Program,
    host: Host,
}

impl Router {
    /// From now on it hears nobody who asks for a router, and advertises itself now and then as before.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn ignore_solicitations(&self) -> Result<()> {
        let rules = "table inet deaf { chain in { type filter hook input priority 0; icmpv6 type nd-router-solicit drop; }; }";
        run(self.host.command("nft").arg(rules)).map(drop)
    }
}

impl Host {
    /// The address given when it was made.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.address
    }

    /// A command that will run on this host and end with the thread that starts it.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        namespace_command(&self.namespace, program)
    }

    /// Adds a second address or changes the interface: the words behind `ip`.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn ip<const N: usize>(&self, words: [&str; N]) -> Result<String> {
        in_namespace(&self.namespace, words)
    }

    /// Lets it pass on packets between its networks.
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn forward(&self) -> Result<()> {
        self.run(|| {
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot turn on forwarding")
        })
    }

    /// Lets it pass on what comes in by `card` for everybody in another of its networks, which a router does not do
    /// unless told (RFC 2644).
    ///
    /// # Errors
    /// When the kernel does not allow it.
    pub fn forward_broadcasts(&self, card: &str) -> Result<()> {
        self.run(|| {
            for conf in ["all", card] {
                let file = format!("/proc/sys/net/ipv4/conf/{conf}/bc_forwarding");
                fs::write(&file, "1").with_context(|| format!("cannot write {file}"))?;
            }
            Ok(())
        })
    }

    /// Loses the first UDP packet that leaves and matches `rule`, in the words of nftables.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn lose_first(&self, rule: &str) -> Result<()> {
        let _ = run(self.command("nft").args(["delete", "table", "inet", "lab"]));
        let rules = format!(
            "table inet lab {{ chain out {{ type filter hook output priority 0; {rule} numgen inc mod 1000000 0 counter drop; }}; }}"
        );
        run(self.command("nft").arg(rules)).map(drop)
    }

    /// How many packets [`Host::lose_first`] has lost.
    ///
    /// # Errors
    /// When nftables refuses.
    pub fn lost(&self) -> Result<u32> {
        let told = run(self.command("nft").args(["list", "table", "inet", "lab"]))?;
        let count = told.split("counter packets ").nth(1);
        count
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .with_context(|| format!("no counter in {told}"))
    }

    /// Joins this host to another by a cable of their own, `wire0` on both, with an address and a prefix length for
    /// each: no switch is in between to be measured with them.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn wire(&self, other: &Self, own: (Ipv4Addr, u8), its: (Ipv4Addr, u8)) -> Result<()> {
        in_namespace(
            &self.namespace,
            [
                "link",
                "add",
                "wire0",
                "type",
                "veth",
                "peer",
                "name",
                "wire0",
                "netns",
                &other.namespace,
            ],
        )?;
        for (host, (address, prefix)) in [(self, own), (other, its)] {
            host.ip([
                "addr",
                "add",
                &format!("{address}/{prefix}"),
                "brd",
                "+",
                "dev",
                "wire0",
            ])?;
            host.ip(["link", "set", "wire0", "up"])?;
        }
        Ok(())
    }

    /// Runs a function with this host's network, on a thread of its own.
    ///
    /// # Errors
    /// When the namespace cannot be entered; what the function returns is passed on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                enter(&self.namespace)?;
                work()
            });
            match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}
