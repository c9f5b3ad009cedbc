//! What strangers did, until they become machines.
//!
//! Anybody can send packets under invented hardware addresses, so a stranger costs no database row before
//! it has fetched something from us. What it did until then is kept here, bounded, and moved to its
//! timeline when it gets one.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::facts::BootFacts;
use farrier_engine::model::{Arch, FirmwareKind};
use farrier_engine::timeline::Entry;
use farrier_proto::MacAddr;

/// Stories of hardware addresses that are no machine yet, and loader downloads of all.
#[derive(Debug, Default)]
pub struct Sightings {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    stories: HashMap<MacAddr, Vec<Entry>>,
    /// Oldest first; the order in which stories are forgotten.
    order: VecDeque<MacAddr>,
    loads: HashMap<MacAddr, VecDeque<WallTime>>,
    /// Who was sent an unsigned UEFI loader and has not been heard of since.
    unheard: HashMap<MacAddr, WallTime>,
    /// Who did not run one, and when.
    refusing: HashMap<MacAddr, WallTime>,
    /// Who got nothing of a transfer with large blocks or a window, and when.
    stalled: HashMap<MacAddr, WallTime>,
    /// What firmware last said of itself by DHCP, and when.
    kinds: HashMap<MacAddr, Said>,
    /// When firmware last asked how to boot.
    boots: HashMap<MacAddr, WallTime>,
    swept: Option<WallTime>,
}

/// What firmware says of itself only by DHCP.
#[derive(Debug)]
struct Said {
    arch: Option<Arch>,
    firmware: Option<FirmwareKind>,
    max_blksize: Option<u16>,
    at: WallTime,
}

/// The largest blocks and windows of TFTP that reach a device; none where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    pub max_blksize: Option<u16>,
    pub max_windowsize: Option<u16>,
}

impl Sightings {
    /// Keeps what a stranger did; the entry's machine is not looked at.
    pub fn note(&self, mac: MacAddr, entry: Entry) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.stories.contains_key(&mac) {
            if inner.order.len() >= MAX_STRANGERS
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.stories.remove(&oldest);
            }
            inner.order.push_back(mac);
        }
        let story = inner.stories.entry(mac).or_default();
        if story.len() < MAX_STORY {
            story.push(entry);
        }
    }

    /// Takes what is known of a stranger that is one no longer.
    pub fn take(&self, mac: MacAddr) -> Vec<Entry> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.order.retain(|other| *other != mac);
        inner.stories.remove(&mac).unwrap_or_default()
    }

    /// Addresses seen of late that are no machine, with the last thing each did.
    #[must_use]
    pub fn strangers(&self) -> Vec<(MacAddr, Entry)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let newest_first = inner.order.iter().rev();
        newest_first
            .filter_map(|mac| Some((*mac, inner.stories.get(mac)?.last()?.clone())))
            .collect()
    }

    /// Firmware said by DHCP what it is. Loaders that ask for a script by name only do not say it again.
    pub fn said(&self, mac: MacAddr, facts: &BootFacts, now: WallTime) {
        if facts.arch.is_none() && facts.firmware.is_none() {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !inner.kinds.contains_key(&mac);
        if is_new && inner.kinds.len() >= MAX_STRANGERS {
            inner.sweep_kinds(now);
        }
        if !is_new || inner.kinds.len() < MAX_STRANGERS {
            let said = Said {
                arch: facts.arch,
                firmware: facts.firmware,
                max_blksize: facts.max_blksize(),
                at: now,
            };
            inner.kinds.insert(mac, said);
        }
    }

    /// Firmware or a loader asks how to boot: what follows is one boot, until the next time.
    pub fn boot_began(&self, mac: MacAddr, now: WallTime) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.boots.len() >= MAX_STRANGERS && !inner.boots.contains_key(&mac) {
            inner.boots.retain(|_, at| now.since(*at) < LOADS_KEPT);
        }
        if inner.boots.len() < MAX_STRANGERS || inner.boots.contains_key(&mac) {
            inner.boots.insert(mac, now);
        }
    }

    /// When that was.
    #[must_use]
    pub fn began(&self, mac: MacAddr) -> Option<WallTime> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.boots.get(&mac).copied()
    }

    /// What firmware of this address last said of itself.
    #[must_use]
    pub fn kind(&self, mac: MacAddr) -> Option<(Option<Arch>, Option<FirmwareKind>)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.kinds.get(&mac).map(|said| (said.arch, said.firmware))
    }

    /// Every kind of firmware that has asked to boot.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<(Arch, FirmwareKind)> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let said = inner.kinds.values();
        said.filter_map(|said| Some((said.arch?, said.firmware?)))
            .collect()
    }

    /// What this address takes by TFTP: by what its firmware is, and by what did not arrive.
    #[must_use]
    pub fn takes(&self, mac: MacAddr, now: WallTime) -> Takes {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = inner.stalled.get(&mac);
        if stalled.is_some_and(|at| now.since(*at) < STALL_KEPT) {
            return Takes {
                max_blksize: Some(SMALL_BLOCK),
                max_windowsize: Some(1),
            };
        }
        Takes {
            max_blksize: inner.kinds.get(&mac).and_then(|said| said.max_blksize),
            max_windowsize: None,
        }
    }

    /// Until when it gets small blocks because of that.
    #[must_use]
    pub fn small_blocks_until(&self, mac: MacAddr, now: WallTime) -> Option<WallTime> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = *inner.stalled.get(&mac)?;
        (now.since(stalled) < STALL_KEPT).then(|| stalled + STALL_KEPT)
    }

    /// Not one block of a transfer arrived there.
    pub fn stalled(&self, mac: MacAddr, now: WallTime) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.stalled.len() >= MAX_STRANGERS && !inner.stalled.contains_key(&mac) {
            inner.stalled.retain(|_, at| now.since(*at) < STALL_KEPT);
        }
        if inner.stalled.len() < MAX_STRANGERS {
            inner.stalled.insert(mac, now);
        }
    }

    /// A loader went out whole to this address.
    pub fn loaded(&self, mac: MacAddr, now: WallTime) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.loads.len() >= MAX_STRANGERS {
            inner.loads.retain(|_, times| {
                times
                    .back()
                    .is_some_and(|last| now.since(*last) < LOADS_KEPT)
            });
        }
        let times = inner.loads.entry(mac).or_default();
        times.push_back(now);
        if times.len() > MAX_LOADS {
            times.pop_front();
        }
    }

    /// When loaders went out to this address of late, oldest first: what the loop detector looks at.
    #[must_use]
    pub fn recent_loads(&self, mac: MacAddr, now: WallTime) -> Vec<WallTime> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let times = inner.loads.get(&mac).into_iter().flatten();
        times
            .copied()
            .filter(|at| now.since(*at) < LOADS_KEPT)
            .collect()
    }

    /// An unsigned loader for UEFI went out whole. Firmware with Secure Boot refuses it without a word to us.
    pub fn sent_unsigned(&self, mac: MacAddr, now: WallTime) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.unheard.len() >= MAX_STRANGERS {
            inner.unheard.retain(|_, at| now.since(*at) < LOADS_KEPT);
        }
        if inner.unheard.len() < MAX_STRANGERS {
            inner.unheard.insert(mac, now);
        }
    }

    /// Whether nothing was heard since the loader that was sent at `at`; then the next one has to be signed.
    pub fn unheard_since(&self, mac: MacAddr, at: WallTime) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.unheard.get(&mac) != Some(&at) {
            return false;
        }
        inner.unheard.remove(&mac);
        if inner.refusing.len() >= MAX_STRANGERS {
            inner
                .refusing
                .retain(|_, since| at.since(*since) < REFUSAL_KEPT);
        }
        if inner.refusing.len() < MAX_STRANGERS {
            inner.refusing.insert(mac, at);
        }
        true
    }

    /// Whether an unsigned loader was not run there.
    #[must_use]
    pub fn wants_signature(&self, mac: MacAddr) -> bool {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .refusing
            .contains_key(&mac)
    }

    /// A loader runs there.
    pub fn loader_runs(&self, mac: MacAddr) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.unheard.remove(&mac);
    }

    /// The machine got past its loader: the next boot starts counting anew.
    pub fn went_on(&self, mac: MacAddr) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.loads.remove(&mac);
        inner.unheard.remove(&mac);
    }
}

impl Inner {
    /// A flood must not cost a walk through the table for each of its packets.
    fn sweep_kinds(&mut self, now: WallTime) {
        if self
            .swept
            .is_some_and(|swept| now.since(swept) < SWEEP_EACH)
        {
            return;
        }
        self.swept = Some(now);
        self.kinds.retain(|_, said| now.since(said.at) < LOADS_KEPT);
    }
}

/// RFC 1350; every path carries it.
pub const SMALL_BLOCK: u16 = 512;
/// The cable or the tunnel may be another one tomorrow.
const STALL_KEPT: Duration = Duration::from_secs(24 * 3600);
const MAX_STRANGERS: usize = 4096;
const MAX_STORY: usize = 32;
const MAX_LOADS: usize = 8;
const SWEEP_EACH: Duration = Duration::from_secs(1);
const LOADS_KEPT: Duration = Duration::from_secs(120);
/// A machine whose Secure Boot was switched off comes back to its usual loader after this, or at a restart.
const REFUSAL_KEPT: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farrier_engine::WallTime;
    use farrier_engine::model::MachineId;
    use farrier_engine::timeline::{Entry, Kind};
    use farrier_proto::MacAddr;

    use super::{MAX_STORY, MAX_STRANGERS, SMALL_BLOCK, STALL_KEPT, Sightings, Takes};

    fn mac(n: usize) -> MacAddr {
        let [.., a, b, c] = n.to_be_bytes();
        MacAddr([2, 0, 0, a, b, c])
    }

    fn seen(n: i64) -> Entry {
        Entry::new(
            MachineId(uuid::Uuid::nil()),
            WallTime(n),
            Kind::Seen,
            n.to_string(),
        )
    }

    #[test]
    fn t10_invented_addresses_push_out_one_another_and_nothing_grows() {
        let sightings = Sightings::default();
        for n in 0..2 * MAX_STRANGERS {
            sightings.note(mac(n), seen(0));
        }
        for n in 0..2 * MAX_STORY {
            sightings.note(mac(MAX_STRANGERS * 2 - 1), seen(i64::try_from(n).unwrap()));
        }
        assert_eq!(sightings.strangers().len(), MAX_STRANGERS);
        assert!(sightings.take(mac(0)).is_empty());
        assert_eq!(sightings.take(mac(MAX_STRANGERS * 2 - 1)).len(), MAX_STORY);
        assert_eq!(sightings.strangers().len(), MAX_STRANGERS - 1);
    }

    #[test]
    fn loads_count_until_the_machine_goes_on() {
        let sightings = Sightings::default();
        let start = WallTime(0);
        for s in [0, 10, 20] {
            sightings.loaded(mac(1), start + Duration::from_secs(s));
        }
        assert_eq!(
            sightings
                .recent_loads(mac(1), start + Duration::from_secs(30))
                .len(),
            3
        );
        assert_eq!(
            sightings
                .recent_loads(mac(1), start + Duration::from_secs(125))
                .len(),
            2
        );
        sightings.went_on(mac(1));
        assert!(
            sightings
                .recent_loads(mac(1), start + Duration::from_secs(30))
                .is_empty()
        );
    }

    #[test]
    fn t9_who_received_no_block_gets_small_ones_for_a_day() {
        let sightings = Sightings::default();
        let (start, next) = (WallTime(0), WallTime(60_000));
        let small = Takes {
            max_blksize: Some(SMALL_BLOCK),
            max_windowsize: Some(1),
        };
        sightings.stalled(mac(1), start);
        assert_eq!(sightings.takes(mac(1), next), small);
        assert_eq!(sightings.takes(mac(2), next), Takes::default());
        let until = |n| sightings.small_blocks_until(mac(n), next);
        assert_eq!((until(1), until(2)), (Some(start + STALL_KEPT), None));
        assert_eq!(
            sightings.takes(mac(1), start + STALL_KEPT),
            Takes::default()
        );
        for n in 0..2 * MAX_STRANGERS {
            sightings.stalled(mac(n), start);
        }
        let remembered = (0..2 * MAX_STRANGERS).filter(|n| sightings.takes(mac(*n), next) == small);
        assert_eq!(remembered.count(), MAX_STRANGERS);
    }

    #[test]
    fn who_does_not_run_an_unsigned_loader_gets_a_signed_one() {
        let sightings = Sightings::default();
        let (first, second) = (WallTime(1_000), WallTime(60_000));
        sightings.sent_unsigned(mac(1), first);
        sightings.went_on(mac(1));
        assert!(
            !sightings.unheard_since(mac(1), first),
            "its script was asked for"
        );
        sightings.sent_unsigned(mac(1), first);
        sightings.sent_unsigned(mac(1), second);
        assert!(
            !sightings.unheard_since(mac(1), first),
            "a later one is under way"
        );
        assert!(!sightings.wants_signature(mac(1)));
        assert!(sightings.unheard_since(mac(1), second));
        assert!(sightings.wants_signature(mac(1)) && !sightings.wants_signature(mac(2)));
    }
}
