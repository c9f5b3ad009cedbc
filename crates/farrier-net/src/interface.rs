//! Network interfaces and their addresses.

use std::ffi::CStr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use farrier_proto::MacAddr;

/// An interface that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    /// None for interfaces without Ethernet addresses.
    pub mac: Option<MacAddr>,
    /// Each address with its prefix length.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Likewise, link-local ones included.
    pub addresses6: Vec<(Ipv6Addr, u8)>,
    pub up: bool,
}

impl Interface {
    /// Whether an address of this interface is in one network with `ip`.
    #[must_use]
    pub fn reaches(&self, ip: Ipv4Addr) -> bool {
        self.addresses
            .iter()
            .any(|(own, prefix)| network(*own, *prefix) == network(ip, *prefix))
    }
}

/// The network part of `ip`.
#[must_use]
pub fn network(ip: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    Ipv4Addr::from_bits(ip.to_bits() & mask)
}

/// All interfaces, in the kernel's order.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut interfaces = Vec::new();
    for entry in std::fs::read_dir("/sys/class/net")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(interface) = read(&name) {
            interfaces.push(interface);
        }
    }
    for (name, address, prefix) in ipv4_addresses()? {
        if let Some(interface) = interfaces.iter_mut().find(|i| i.name == name) {
            interface.addresses.push((address, prefix));
        }
    }
    // Not there where the kernel has no IPv6.
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for (index, address, prefix) in ipv6_addresses(&table) {
        if let Some(interface) = interfaces.iter_mut().find(|i| i.index == index) {
            interface.addresses6.push((address, prefix));
        }
    }
    interfaces.sort_by_key(|i| i.index);
    Ok(interfaces)
}

/// The interface called `name`.
pub fn by_name(name: &str) -> io::Result<Option<Interface>> {
    Ok(list()?.into_iter().find(|i| i.name == name))
}

/// What /sys knows of one interface. None if it went away meanwhile or is no interface
/// (`bonding_masters` lives in the same folder).
fn read(name: &str) -> Option<Interface> {
    let field = |field: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{field}"));
    let index = field("ifindex").ok()?.trim().parse().ok()?;
    let mac = field("address")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let flags = field("flags")
        .ok()
        .and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())?;
    let up = flags & u32::try_from(libc::IFF_UP).unwrap_or(1) != 0;
    Some(Interface {
        name: name.to_owned(),
        index,
        mac,
        addresses: Vec::new(),
        addresses6: Vec::new(),
        up,
    })
}

/// Columns: address, interface index, prefix length, scope, flags, name; numbers in hexadecimal.
fn ipv6_addresses(table: &str) -> impl Iterator<Item = (u32, Ipv6Addr, u8)> {
    table.lines().filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let address = u128::from_str_radix(columns.next()?, 16).ok()?;
        let index = u32::from_str_radix(columns.next()?, 16).ok()?;
        let prefix = u8::from_str_radix(columns.next()?, 16).ok()?;
        Some((index, Ipv6Addr::from_bits(address), prefix))
    })
}

#[allow(
    unsafe_code,
    reason = "getifaddrs has no safe form in the standard library"
)]
fn ipv4_addresses() -> io::Result<Vec<(String, Ipv4Addr, u8)>> {
    let mut head: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `head` is a valid place for the pointer that the call fills in.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = head;
    while !next.is_null() {
        // SAFETY: `next` is a node of the list that getifaddrs returned and that is freed only below.
        let node = unsafe { &*next };
        next = node.ifa_next;
        // SAFETY: both pointers are null or point to a socket address of the list.
        let (address, mask) = unsafe { (ipv4(node.ifa_addr), ipv4(node.ifa_netmask)) };
        if let (Some(address), Some(mask)) = (address, mask) {
            // SAFETY: the name is a NUL-terminated string of the list.
            let name = unsafe { CStr::from_ptr(node.ifa_name) };
            let prefix = u8::try_from(mask.to_bits().leading_ones()).unwrap_or(32);
            found.push((name.to_string_lossy().into_owned(), address, prefix));
        }
    }
    // SAFETY: `head` came from getifaddrs and is not used again.
    unsafe { libc::freeifaddrs(head) };
    Ok(found)
}

/// Reads an IPv4 socket address.
///
/// # Safety
/// `address` is null or points to a socket address as long as its family says.
#[allow(unsafe_code, reason = "see ipv4_addresses")]
unsafe fn ipv4(address: *const libc::sockaddr) -> Option<Ipv4Addr> {
    // SAFETY: by the contract, a non-null pointer leads to at least the family.
    if address.is_null() || i32::from(unsafe { (*address).sa_family }) != libc::AF_INET {
        return None;
    }
    // SAFETY: the family says that this is a sockaddr_in; it may be unaligned for that type.
    let inet = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
    Some(Ipv4Addr::from_bits(u32::from_be(inet.sin_addr.s_addr)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{ipv6_addresses, list, network};

    #[test]
    fn the_kernels_table_of_ipv6_addresses() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fd770000000000000000000000000001 0c 40 00 80     eth0\nnonsense\n";
        let found: Vec<_> = ipv6_addresses(table).collect();
        let expected = [("::1", 1, 128), ("fd77::1", 12, 64)];
        let expected = expected.map(|(a, index, prefix)| (index, a.parse().unwrap(), prefix));
        assert_eq!(found, expected);
    }

    #[test]
    fn network_of_every_prefix() {
        let ip = Ipv4Addr::new(10, 77, 3, 200);
        for (prefix, expected) in [
            (0, [0, 0, 0, 0]),
            (8, [10, 0, 0, 0]),
            (23, [10, 77, 2, 0]),
            (32, [10, 77, 3, 200]),
        ] {
            assert_eq!(network(ip, prefix), Ipv4Addr::from(expected), "/{prefix}");
        }
    }

    #[test]
    fn loopback_is_listed_with_its_address() {
        let interfaces = list().unwrap();
        let lo = interfaces
            .iter()
            .find(|i| i.name == "lo")
            .expect("every Linux machine has lo");
        assert!(lo.index > 0);
        assert!(!lo.up || lo.addresses.contains(&(Ipv4Addr::LOCALHOST, 8)));
    }
}
