//! The kernel's announcements of devices (`Documentation/ABI/testing/sysfs-uevent`, netlink family
//! `NETLINK_KOBJECT_UEVENT`): `add@/devices/...`, then `KEY=value` texts, all ended by zeros.

use std::os::fd::OwnedFd;

use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

/// A socket on which the kernel announces devices.
#[derive(Debug)]
pub struct Uevents(OwnedFd);

/// One announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uevent(Vec<u8>);

/// The kernel's own buffer for one announcement is 2 KiB plus header.
const MAX_EVENT: usize = 8192;

impl Uevents {
    /// Starts listening. What happens from here on is queued by the kernel.
    pub fn open() -> rustix::io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            flags,
            Some(KOBJECT_UEVENT),
        )?;
        const KERNEL_GROUP: u32 = 1;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self(socket))
    }

    /// Waits for the next announcement; none when the socket is broken. The kernel drops announcements
    /// when we are too slow (`ENOBUFS`), which counts as an empty one.
    #[must_use]
    pub fn next(&self) -> Option<Uevent> {
        let mut buffer = vec![0; MAX_EVENT];
        match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
            Ok((len, _)) => {
                buffer.truncate(len);
                Some(Uevent(buffer))
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::NOBUFS) => Some(Uevent(Vec::new())),
            Err(_) => None,
        }
    }
}

impl Uevent {
    /// The modalias of a device that was added.
    #[must_use]
    pub fn added_modalias(&self) -> Option<&str> {
        let mut texts = self
            .0
            .split(|b| *b == 0)
            .filter_map(|text| std::str::from_utf8(text).ok());
        texts.next().filter(|head| head.starts_with("add@"))?;
        texts.find_map(|text| text.strip_prefix("MODALIAS="))
    }
}

#[cfg(test)]
mod tests {
    use super::Uevent;

    #[test]
    fn only_added_devices_ask_for_a_driver() {
        let event = |text: &str| Uevent(text.replace('|', "\0").into_bytes());
        let added = event("add@/devices/x|ACTION=add|MODALIAS=scsi:t-0x00|SEQNUM=1|");
        assert_eq!(added.added_modalias(), Some("scsi:t-0x00"));
        assert_eq!(
            event("remove@/devices/x|MODALIAS=scsi:t-0x00|").added_modalias(),
            None
        );
        assert_eq!(event("add@/devices/x|ACTION=add|").added_modalias(), None);
        assert_eq!(event("").added_modalias(), None);
    }
}
