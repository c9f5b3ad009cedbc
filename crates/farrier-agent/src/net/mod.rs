//! Brings up the NIC that the machine booted from, and no other.

mod dhcp;
mod rtnetlink;

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use farrier_proto::MacAddr;

use crate::arguments::Arguments;
use crate::screen::Screen;
use rtnetlink::RouteSocket;

/// A NIC as `/sys/class/net` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    /// The address it was made with, whatever was set later.
    pub mac: MacAddr,
}

/// Why the network is not there.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(
        "no NIC has the address {mac} that this machine booted with (found: {found}); its driver may be missing"
    )]
    NoBootNic { mac: MacAddr, found: String },
    #[error("the kernel did not {operation} on {interface}")]
    Kernel {
        operation: &'static str,
        interface: String,
        source: io::Error,
    },
    #[error("{0} has no link; check the cable and the switch port")]
    NoLink(String),
    #[error("no DHCP server answered on {0}")]
    NoLease(String),
    #[error("no router has announced an IPv6 network on {0} within {wait} s", wait = ROUTER_WAIT.as_secs())]
    NoRouter(String),
}

/// How long drivers may take to show the boot NIC; docks behind USB are slow.
const NIC_WAIT: Duration = Duration::from_secs(20);
/// Gigabit negotiation takes 2-4 s, switches with spanning tree up to 30.
const LINK_WAIT: Duration = Duration::from_secs(35);

/// Routers answer a solicitation within half a second (RFC 4861 section 10); the kernel asks three times, 4 s apart.
const ROUTER_WAIT: Duration = Duration::from_secs(20);

/// Brings the boot NIC up with the script's address, or with one from DHCP; over IPv6 with what a router announces.
pub fn bring_up(arguments: &Arguments, screen: &Screen) -> Result<Interface, NetError> {
    let interface = wait_for_nic(arguments.mac, Path::new("/sys/class/net"))?;
    let kernel = |operation| {
        let interface = interface.name.clone();
        move |source| NetError::Kernel {
            operation,
            interface,
            source,
        }
    };
    let mut routes = RouteSocket::open().map_err(kernel("open a route socket"))?;
    let _ = routes.set_up(1);
    routes
        .set_up(interface.index)
        .map_err(kernel("switch the link on"))?;
    wait_for_link(&interface)?;
    let address = match arguments.address {
        Some(address) => address,
        None if arguments.server.0.is_ipv6() => {
            screen.say(format!("waiting for a router on {}", interface.name));
            wait_for_router(&interface)?;
            return Ok(interface);
        }
        None => {
            screen.say(format!("asking DHCP for an address on {}", interface.name));
            let lease = dhcp::acquire(&interface)
                .ok_or_else(|| NetError::NoLease(interface.name.clone()))?;
            let address = lease.address;
            dhcp::keep(interface.clone(), lease);
            address
        }
    };
    routes
        .add_address(interface.index, address.address, address.prefix)
        .map_err(kernel("set the address"))?;
    if let Some(gateway) = address.gateway {
        routes
            .add_default_route(interface.index, gateway)
            .map_err(kernel("set the gateway"))?;
    }
    screen.say(format!(
        "{} is {}/{}",
        interface.name, address.address, address.prefix
    ));
    Ok(interface)
}

/// Switches all NICs off, so that none of them writes received packets into memory that is somebody else's by then.
/// One that will not is left as it is.
pub fn take_down() {
    let Ok(mut routes) = RouteSocket::open() else {
        return;
    };
    for interface in interfaces(Path::new("/sys/class/net")) {
        let _ = routes.set_down(interface.index);
    }
}

/// All NICs with hardware behind them. `folder` is `/sys/class/net`.
#[must_use]
pub fn interfaces(folder: &Path) -> Vec<Interface> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| interface(&entry.path()))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn interface(path: &Path) -> Option<Interface> {
    let read = |file: &str| fs::read_to_string(path.join(file)).ok();
    if !path.join("device").exists() {
        return None;
    }
    let index = read("ifindex")?.trim().parse().ok()?;
    let now: MacAddr = read("address")?.trim().parse().ok()?;
    let mac = RouteSocket::open()
        .and_then(|mut routes| routes.permanent_address(index))
        .ok()
        .flatten();
    let name = path.file_name()?.to_str()?.to_owned();
    Some(Interface {
        name,
        index,
        mac: mac.unwrap_or(now),
    })
}

fn wait_for_nic(mac: MacAddr, folder: &Path) -> Result<Interface, NetError> {
    let start = Instant::now();
    loop {
        let found = interfaces(folder);
        if let Some(boot) = found.iter().find(|interface| interface.mac == mac) {
            return Ok(boot.clone());
        }
        if start.elapsed() > NIC_WAIT {
            let list: Vec<_> = found
                .iter()
                .map(|nic| format!("{} {}", nic.name, nic.mac))
                .collect();
            let found = if list.is_empty() {
                "none".to_owned()
            } else {
                list.join(", ")
            };
            return Err(NetError::NoBootNic { mac, found });
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn wait_for_link(interface: &Interface) -> Result<(), NetError> {
    let carrier = format!("/sys/class/net/{}/carrier", interface.name);
    let start = Instant::now();
    while start.elapsed() < LINK_WAIT {
        if fs::read_to_string(&carrier).is_ok_and(|text| text.trim() == "1") {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(NetError::NoLink(interface.name.clone()))
}

/// Until the kernel has made itself an address of an announced network. Its routes it has from there, too.
fn wait_for_router(interface: &Interface) -> Result<(), NetError> {
    let start = Instant::now();
    while start.elapsed() < ROUTER_WAIT {
        let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        if has_global_address(&table, &interface.name) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(NetError::NoRouter(interface.name.clone()))
}

/// `table` is `/proc/net/if_inet6`: address, index, prefix length, scope, flags, name, in hex. An address that is
/// still looked for on the network is none yet.
fn has_global_address(table: &str, name: &str) -> bool {
    const GLOBAL: &str = "00";
    const TENTATIVE: u8 = 0x40;
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let &[_, _, _, scope, flags, of] = words.as_slice() else {
            return false;
        };
        let settled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & TENTATIVE == 0);
        of == name && scope == GLOBAL && settled
    })
}

/// The prefix length of a subnet mask, if it is one.
fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (ones == bits.count_ones() && ones > 0)
        .then(|| u8::try_from(ones).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{has_global_address, prefix_of};

    #[test]
    fn rfc4862_an_address_counts_once_nobody_objected() {
        let table = |scope: &str, flags: &str| {
            format!(
                "00000000000000000000000000000001 01 80 10 80       lo\n\
                 fd770000000000005054000000000001 02 40 {scope} {flags}     eth0\n"
            )
        };
        assert!(has_global_address(&table("00", "00"), "eth0"));
        assert!(!has_global_address(&table("00", "00"), "eth1"));
        assert!(
            !has_global_address(&table("20", "80"), "eth0"),
            "link-local"
        );
        assert!(!has_global_address(&table("00", "40"), "eth0"), "tentative");
        assert!(!has_global_address("", "eth0"));
    }

    #[test]
    fn only_contiguous_masks_are_prefixes() {
        assert_eq!(prefix_of(Ipv4Addr::new(255, 255, 240, 0)), Some(20));
        assert_eq!(prefix_of(Ipv4Addr::BROADCAST), Some(32));
        assert_eq!(prefix_of(Ipv4Addr::new(255, 0, 255, 0)), None);
        assert_eq!(prefix_of(Ipv4Addr::UNSPECIFIED), None);
    }
}
