//! What strangers did, until they become machines.
//!
//! Anybody can send packets under invented hardware addresses, so a stranger costs no database row before
//! it has fetched something from us. What it did until then is kept here, bounded, and moved to its
//! timeline when it gets one.

mod story;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::facts::BootFacts;
use farrier_engine::model::{Arch, FirmwareKind};
use farrier_engine::timeline::Entry;
use farrier_proto::MacAddr;

use crate::notes::Notes;
use story::Story;

/// Stories of hardware addresses that are no machine yet, and what firmware and loaders of all did of late.
#[derive(Debug, Default)]
pub struct Sightings {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    stories: HashMap<MacAddr, Story>,
    /// Oldest first; the order in which stories are forgotten.
    order: VecDeque<MacAddr>,
    loads: Notes<MacAddr, VecDeque<WallTime>>,
    /// Who was sent a UEFI loader that is refused under Secure Boot, and has not been heard of since.
    unheard: Notes<MacAddr, ()>,
    /// Who did not run one.
    refusing: Notes<MacAddr, ()>,
    /// Who got nothing of a transfer with large blocks or a window.
    stalled: Notes<MacAddr, ()>,
    /// What firmware last said of itself by DHCP.
    kinds: Notes<MacAddr, Said>,
    /// Who asked how to boot.
    boots: Notes<MacAddr, ()>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            stories: HashMap::new(),
            order: VecDeque::new(),
            loads: Notes::new(MAX_BOOTING, LOADS_KEPT),
            unheard: Notes::new(MAX_STRANGERS, LOADS_KEPT),
            refusing: Notes::new(MAX_STRANGERS, REFUSAL_KEPT),
            stalled: Notes::new(MAX_STRANGERS, STALL_KEPT),
            kinds: Notes::new(MAX_BOOTING, LOADS_KEPT),
            boots: Notes::new(MAX_BOOTING, LOADS_KEPT),
        }
    }
}

/// What firmware says of itself only by DHCP.
#[derive(Debug)]
struct Said {
    arch: Option<Arch>,
    firmware: Option<FirmwareKind>,
    max_blksize: Option<u16>,
}

/// The largest blocks and windows of TFTP that reach a device; none where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    pub max_blksize: Option<u16>,
    pub max_windowsize: Option<u16>,
}

impl Sightings {
    /// Keeps what a stranger did; the entry's machine is not looked at.
    pub fn note(&self, mac: MacAddr, entry: &Entry) {
        let mut inner = self.inner();
        if !inner.stories.contains_key(&mac) {
            if inner.order.len() >= MAX_STRANGERS
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.stories.remove(&oldest);
            }
            inner.order.push_back(mac);
        }
        let story = inner.stories.entry(mac).or_insert_with(Story::new);
        if story.len() < MAX_STORY {
            story.add(entry);
        }
    }

    /// Takes what is known of a stranger that is one no longer.
    pub fn take(&self, mac: MacAddr) -> Vec<Entry> {
        let mut inner = self.inner();
        inner.order.retain(|other| *other != mac);
        let story = inner.stories.remove(&mac);
        story.map_or_else(Vec::new, |story| story.entries())
    }

    /// Addresses seen of late that are no machine, with the last thing each did.
    #[must_use]
    pub fn strangers(&self) -> Vec<(MacAddr, Entry)> {
        let inner = self.inner();
        let newest_first = inner.order.iter().rev();
        newest_first
            .filter_map(|mac| Some((*mac, inner.stories.get(mac)?.last()?)))
            .collect()
    }

    /// Firmware said by DHCP what it is. Loaders that ask for a script by name only do not say it again.
    pub fn said(&self, mac: MacAddr, facts: &BootFacts, now: WallTime) {
        if facts.arch.is_none() && facts.firmware.is_none() {
            return;
        }
        let said = Said {
            arch: facts.arch,
            firmware: facts.firmware,
            max_blksize: facts.max_blksize(),
        };
        self.inner().kinds.put(mac, said, now);
    }

    /// Firmware or a loader asks how to boot: what follows is one boot, until the next time.
    pub fn boot_began(&self, mac: MacAddr, now: WallTime) {
        self.inner().boots.put(mac, (), now);
    }

    /// When that was.
    #[must_use]
    pub fn began(&self, mac: MacAddr) -> Option<WallTime> {
        self.inner().boots.get(&mac).map(|boot| boot.at)
    }

    /// What firmware of this address last said of itself.
    #[must_use]
    pub fn kind(&self, mac: MacAddr) -> Option<(Option<Arch>, Option<FirmwareKind>)> {
        let inner = self.inner();
        let said = &inner.kinds.get(&mac)?.what;
        Some((said.arch, said.firmware))
    }

    /// Every kind of firmware that has asked to boot.
    #[must_use]
    pub fn kinds(&self) -> BTreeSet<(Arch, FirmwareKind)> {
        let inner = self.inner();
        let said = inner.kinds.all().map(|(_, note)| &note.what);
        said.filter_map(|said| Some((said.arch?, said.firmware?)))
            .collect()
    }

    /// What this address takes by TFTP: by what its firmware is, and by what did not arrive.
    #[must_use]
    pub fn takes(&self, mac: MacAddr, now: WallTime) -> Takes {
        let inner = self.inner();
        if inner.stalled.fresh(&mac, now).is_some() {
            return Takes {
                max_blksize: Some(SMALL_BLOCK),
                max_windowsize: Some(1),
            };
        }
        let said = inner.kinds.get(&mac);
        Takes {
            max_blksize: said.and_then(|said| said.what.max_blksize),
            max_windowsize: None,
        }
    }

    /// Until when it gets small blocks because of that.
    #[must_use]
    pub fn small_blocks_until(&self, mac: MacAddr, now: WallTime) -> Option<WallTime> {
        let inner = self.inner();
        inner.stalled.fresh(&mac, now)?;
        inner.stalled.get(&mac).map(|stall| stall.at + STALL_KEPT)
    }

    /// Not one block of a transfer arrived there.
    pub fn stalled(&self, mac: MacAddr, now: WallTime) {
        self.inner().stalled.put(mac, (), now);
    }

    /// A loader went out whole to this address.
    pub fn loaded(&self, mac: MacAddr, now: WallTime) {
        self.inner().loads.update(mac, now, |times| {
            times.push_back(now);
            if times.len() > MAX_LOADS {
                times.pop_front();
            }
        });
    }

    /// When loaders went out to this address of late, oldest first: what the loop detector looks at.
    #[must_use]
    pub fn recent_loads(&self, mac: MacAddr, now: WallTime) -> Vec<WallTime> {
        let inner = self.inner();
        let times = inner.loads.fresh(&mac, now).into_iter().flatten();
        times
            .copied()
            .filter(|at| now.since(*at) < LOADS_KEPT)
            .collect()
    }

    /// A loader went out whole that firmware with Secure Boot, or the shim before it, refuses without a word to us.
    pub fn sent_refused(&self, mac: MacAddr, now: WallTime) {
        self.inner().unheard.put(mac, (), now);
    }

    /// Whether nothing was heard since the loader that was sent at `at`; asked once.
    pub fn unheard_since(&self, mac: MacAddr, at: WallTime) -> bool {
        let mut inner = self.inner();
        if inner.unheard.get(&mac).is_none_or(|sent| sent.at != at) {
            return false;
        }
        inner.unheard.remove(&mac);
        true
    }

    /// An unsigned loader that was sent at `at` was not run: the next one has to be signed.
    pub fn refused_unsigned(&self, mac: MacAddr, at: WallTime) {
        self.inner().refusing.put(mac, (), at);
    }

    /// Whether an unsigned loader was not run there.
    #[must_use]
    pub fn wants_signature(&self, mac: MacAddr, now: WallTime) -> bool {
        self.inner().refusing.fresh(&mac, now).is_some()
    }

    /// A loader runs there.
    pub fn loader_runs(&self, mac: MacAddr) {
        self.inner().unheard.remove(&mac);
    }

    /// The machine got past its loader: the next boot starts counting anew.
    pub fn went_on(&self, mac: MacAddr) {
        let mut inner = self.inner();
        inner.loads.remove(&mac);
        inner.unheard.remove(&mac);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 1350; every path carries it.
pub const SMALL_BLOCK: u16 = 512;
/// The cable or the tunnel may be another one tomorrow.
const STALL_KEPT: Duration = Duration::from_secs(24 * 3600);
const MAX_STRANGERS: usize = 4096;
/// More than a storm of ten thousand machines.
const MAX_BOOTING: usize = 16_384;
const MAX_STORY: usize = 32;
const MAX_LOADS: usize = 8;
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

    use super::{
        MAX_STORY, MAX_STRANGERS, REFUSAL_KEPT, SMALL_BLOCK, STALL_KEPT, Sightings, Takes,
    };

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
            sightings.note(mac(n), &seen(0));
        }
        for n in 0..2 * MAX_STORY {
            let entry = seen(i64::try_from(n).unwrap());
            sightings.note(mac(MAX_STRANGERS * 2 - 1), &entry);
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
        sightings.sent_refused(mac(1), first);
        sightings.went_on(mac(1));
        assert!(
            !sightings.unheard_since(mac(1), first),
            "its script was asked for"
        );
        sightings.sent_refused(mac(1), first);
        sightings.sent_refused(mac(1), second);
        assert!(
            !sightings.unheard_since(mac(1), first),
            "a later one is under way"
        );
        assert!(sightings.unheard_since(mac(1), second));
        assert!(!sightings.unheard_since(mac(1), second), "it is told once");
        assert!(!sightings.wants_signature(mac(1), second));
        sightings.refused_unsigned(mac(1), second);
        assert!(sightings.wants_signature(mac(1), second));
        assert!(!sightings.wants_signature(mac(2), second));
        assert!(
            !sightings.wants_signature(mac(1), second + REFUSAL_KEPT),
            "it may have been switched off since"
        );
    }
}
