//! What somebody picked in the menu of a ROM, until the loader that came of it asks for its script.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::policy::MenuEntry;
use farrier_proto::MacAddr;

/// Picked entries by hardware address; bounded, and each for a short while.
#[derive(Debug, Default)]
pub struct Choices {
    picked: Mutex<HashMap<MacAddr, (Option<MenuEntry>, WallTime)>>,
}

impl Choices {
    /// An entry was picked, or what the policy says.
    pub fn pick(&self, mac: MacAddr, entry: Option<MenuEntry>, now: WallTime) {
        let mut picked = self.picked.lock().unwrap_or_else(PoisonError::into_inner);
        if picked.len() >= MAX {
            picked.retain(|_, (_, at)| is_fresh(*at, now));
        }
        if picked.len() < MAX || picked.contains_key(&mac) {
            picked.insert(mac, (entry, now));
        }
    }

    /// Whether something was picked, so that the next loader must not be asked again.
    #[must_use]
    pub fn is_made(&self, mac: MacAddr, now: WallTime) -> bool {
        let picked = self.picked.lock().unwrap_or_else(PoisonError::into_inner);
        picked.get(&mac).is_some_and(|(_, at)| is_fresh(*at, now))
    }

    /// What was picked, for one script.
    pub fn take(&self, mac: MacAddr, now: WallTime) -> Option<MenuEntry> {
        let mut picked = self.picked.lock().unwrap_or_else(PoisonError::into_inner);
        let (entry, at) = picked.remove(&mac)?;
        entry.filter(|_| is_fresh(at, now))
    }
}

fn is_fresh(at: WallTime, now: WallTime) -> bool {
    now >= at && now.since(at) < FRESH
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
        assert_eq!(choices.picked.lock().unwrap().len(), MAX);
    }
}
