//! GRUB that an older iPXE fetches to start the local disk with.
//!
//! iPXE before 2.0 starts no disk on UEFI, and GRUB comes with no word of why it was fetched: it asks for its script
//! like any other. So who fetches it for the disk is remembered until it asks. One that never does has no network
//! behind this iPXE and stands at its prompt; the machine is spared that for a day.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;

use crate::notes::Notes;

/// Who fetched GRUB for its disk, by address, since it says no more: bounded, and each for a short while.
#[derive(Debug)]
pub struct DiskStarts(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    fetched: Notes<IpAddr, Fetched>,
    stopped: Notes<IpAddr, Stopped>,
}

#[derive(Clone, Copy, Debug)]
struct Fetched {
    has_asked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stopped {
    is_told: bool,
}

impl Default for DiskStarts {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            fetched: Notes::new(MAX, FRESH),
            stopped: Notes::new(MAX, STOPPED_KEPT),
        }))
    }
}

impl DiskStarts {
    /// GRUB is fetched for the disk.
    pub fn fetched(&self, ip: IpAddr, now: WallTime) {
        let has_asked = false;
        self.inner().fetched.put(ip, Fetched { has_asked }, now);
    }

    /// GRUB asks for its script, which it does more than once. Whether it is there for the disk.
    pub fn asks(&self, ip: IpAddr, now: WallTime) -> bool {
        let fetched = &mut self.inner().fetched;
        fetched.amend(&ip, |fetched| fetched.has_asked = true);
        fetched.fresh(&ip, now).is_some()
    }

    /// Another boot begins. A GRUB of the one before that never asked had stopped.
    pub fn begins_anew(&self, ip: IpAddr, now: WallTime) {
        let mut inner = self.inner();
        let before = inner.fetched.remove(&ip);
        if before.is_some_and(|before| !before.what.has_asked) {
            let is_told = false;
            inner.stopped.put(ip, Stopped { is_told }, now);
        }
    }

    /// Whether GRUB stopped there of late.
    #[must_use]
    pub fn stops(&self, ip: IpAddr, now: WallTime) -> bool {
        self.inner().stopped.fresh(&ip, now).is_some()
    }

    /// The same, once for each time that it did.
    pub fn take_news(&self, ip: IpAddr, now: WallTime) -> bool {
        let stopped = &mut self.inner().stopped;
        let is_news = stopped.fresh(&ip, now).is_some_and(|stop| !stop.is_told);
        stopped.amend(&ip, |stop| stop.is_told = true);
        is_news
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From GRUB's last byte to its last request: it starts, and looks for some files by TFTP first.
const FRESH: Duration = Duration::from_secs(120);
/// The firmware, or the card, may be another one tomorrow.
const STOPPED_KEPT: Duration = Duration::from_secs(24 * 3600);
/// More than a storm of ten thousand machines.
const MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const START: WallTime = WallTime(1_000_000);

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + n).into()
    }

    #[test]
    fn t11_grub_is_there_for_the_disk_as_often_as_it_asks_in_one_boot() {
        let starts = DiskStarts::default();
        assert!(!starts.asks(ip(1), START), "nobody sent it");
        starts.fetched(ip(1), START);
        assert!(starts.asks(ip(1), START) && starts.asks(ip(1), START));
        assert!(!starts.asks(ip(2), START), "somebody else's");
        assert!(!starts.asks(ip(1), START + FRESH), "too late");
        starts.fetched(ip(1), START);
        assert!(starts.asks(ip(1), START));
        starts.begins_anew(ip(1), START);
        assert!(!starts.asks(ip(1), START), "another boot");
        assert!(!starts.stops(ip(1), START), "it did ask");
    }

    #[test]
    fn t11_grub_that_never_asks_has_stopped_and_is_told_once() {
        let starts = DiskStarts::default();
        starts.fetched(ip(1), START);
        assert!(!starts.stops(ip(1), START), "it may still come");
        let next = START + Duration::from_secs(3600);
        for _ in 0..2 {
            starts.begins_anew(ip(1), next);
            assert!(starts.stops(ip(1), next));
        }
        assert!(starts.take_news(ip(1), next) && !starts.take_news(ip(1), next));
        assert!(starts.stops(ip(1), next), "told, and still so");
        assert!(!starts.stops(ip(2), next) && !starts.take_news(ip(2), next));
        assert!(!starts.stops(ip(1), next + STOPPED_KEPT), "another try");
    }

    #[test]
    fn t10_invented_addresses_fill_no_more_than_their_tables() {
        let starts = DiskStarts::default();
        for n in 0..2 * u32::try_from(MAX).unwrap() {
            starts.fetched(ip(n), START);
        }
        assert_eq!(starts.inner().fetched.all().count(), MAX);
        for n in 0..2 * u32::try_from(MAX).unwrap() {
            starts.begins_anew(ip(n), START);
        }
        assert_eq!(starts.inner().stopped.all().count(), MAX);
        assert_eq!(starts.inner().fetched.all().count(), 0);
    }
}
