//! What somebody picked in the menu of a ROM, until the loader that came of it asks for its script.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::policy::MenuEntry;
use farrier_proto::MacAddr;

use crate::notes::Notes;

/// Picked entries by hardware address; bounded, and each for a short while.
#[derive(Debug)]
pub struct Choices {
    picked: Mutex<Notes<MacAddr, Option<MenuEntry>>>,
}

impl Default for Choices {
    fn default() -> Self {
        Self {
            picked: Mutex::new(Notes::new(MAX, FRESH)),
        }
    }
}

impl Choices {
    /// An entry was picked, or what the policy says.
    pub fn pick(&self, mac: MacAddr, entry: Option<MenuEntry>, now: WallTime) {
        self.picked().put(mac, entry, now);
    }

    /// Whether something was picked, so that the next loader must not be asked again.
    #[must_use]
    pub fn is_made(&self, mac: MacAddr, now: WallTime) -> bool {
        self.picked().fresh(&mac, now).is_some()
    }

    /// What was picked, for one script.
    pub fn take(&self, mac: MacAddr, now: WallTime) -> Option<MenuEntry> {
        let mut picked = self.picked();
        let is_fresh = picked.fresh(&mac, now).is_some();
        picked.remove(&mac).filter(|_| is_fresh)?.what
    }

    fn picked(&self) -> MutexGuard<'_, Notes<MacAddr, Option<MenuEntry>>> {
        self.picked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From the menu of the ROM to the script: a loader by slow TFTP, and its own DHCP.
const FRESH: Duration = Duration::from_secs(120);
const MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l11_a_choice_is_used_once_and_soon() {
        let (choices, mac) = (Choices::default(), MacAddr([2; 6]));
        let start = WallTime(1_000_000);
        choices.pick(mac, Some(MenuEntry::Register), start);
        assert!(choices.is_made(mac, start));
        assert_eq!(choices.take(mac, start), Some(MenuEntry::Register));
        assert_eq!(choices.take(mac, start), None);
        choices.pick(mac, Some(MenuEntry::Register), start);
        assert_eq!(choices.take(mac, start + FRESH), None);
        choices.pick(mac, None, start);
        assert!(choices.is_made(mac, start) && choices.take(mac, start).is_none());
    }

    #[test]
    fn t10_invented_addresses_fill_no_more_than_their_table() {
        let choices = Choices::default();
        for n in 0..2 * MAX {
            let [.., a, b, c] = n.to_be_bytes();
            choices.pick(MacAddr([2, 0, 0, a, b, c]), None, WallTime(1));
        }
        assert_eq!(choices.picked().all().count(), MAX);
    }
}
