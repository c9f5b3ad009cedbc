//! Who is behind an address, as the kernel's neighbour table knows it.
//!
//! Beside a foreign DHCP server we have no leases; but a client that reached us by unicast is in the
//! table, since we answered it. A hint for the timeline and the menu, never a credential.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;

use farrier_proto::MacAddr;

/// Every complete entry of the table.
pub fn table() -> io::Result<HashMap<Ipv4Addr, MacAddr>> {
    std::fs::read_to_string("/proc/net/arp").map(|table| entries(&table).collect())
}

/// Columns: address, type, flags, hardware address, mask, device. Flag 2 is "complete".
fn entries(table: &str) -> impl Iterator<Item = (Ipv4Addr, MacAddr)> {
    table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let address: Ipv4Addr = columns.next()?.parse().ok()?;
        let flags = columns
            .nth(1)?
            .strip_prefix("0x")
            .and_then(|f| u32::from_str_radix(f, 16).ok())?;
        let mac: MacAddr = columns.next()?.parse().ok()?;
        (flags & 2 != 0 && !mac.is_unusable()).then_some((address, mac))
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::entries;

    const TABLE: &str = "\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.100      0x1         0x2         52:54:00:77:00:01     *        br0
10.77.0.101      0x1         0x0         00:00:00:00:00:00     *        br0
nonsense
";

    #[test]
    fn only_complete_entries_count() {
        let found = |ip: Ipv4Addr| entries(TABLE).find(|(address, _)| *address == ip);
        let mac = |last| found(Ipv4Addr::new(10, 77, 0, last)).map(|(_, mac)| mac);
        assert_eq!(mac(100).unwrap().to_string(), "52:54:00:77:00:01");
        assert_eq!(mac(101), None);
        assert_eq!(mac(102), None);
    }
}
