//! What a machine is to do at its next boots, said once by a person and then forgotten.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MenuEntry;
use crate::WallTime;
use crate::model::{Machine, Registration};

/// A wish for the next boots. It ends by itself, so that no machine comes back to it in a year.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootIntent {
    pub entry: MenuEntry,
    /// For so many boots more.
    pub boots_left: u16,
    pub expires: WallTime,
    #[serde(default)]
    pub until: Until,
    pub set_at: WallTime,
    /// Who wished it, for the timeline.
    pub set_by: String,
    /// When a boot was last counted. That boot may ask for its script again and gets the same, also the last one.
    #[serde(default)]
    pub counted: Option<WallTime>,
}

/// Whether what happened at `then` belongs to the boot that is under way. Loaders fetch their script more than once:
/// GRUB asks for its size first. A boot begins when firmware asks how to boot, at `began`; where that is not heard,
/// a few seconds are one boot.
#[must_use]
pub fn is_of_this_boot(then: WallTime, began: Option<WallTime>, now: WallTime) -> bool {
    let age = now.since(then);
    match began {
        Some(began) => then >= began && age < ONE_BOOT,
        None => age < ONE_BOOT_UNHEARD,
    }
}

/// From the first fetch of a script to the last in one boot, over a slow line.
const ONE_BOOT: Duration = Duration::from_secs(60);
/// Shorter than any machine takes from a script to its next one.
const ONE_BOOT_UNHEARD: Duration = Duration::from_secs(5);

/// What ends an intent before its boots are used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Nothing but the count and the time.
    #[default]
    Used,
    /// Somebody has approved the machine.
    Approved,
    /// The agent has told what the machine is made of.
    Inventoried,
}

/// Why an intent does not count any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentEnd {
    Expired,
    Reached,
    UsedUp,
}

impl IntentEnd {
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Expired => "The wish for its next boots has expired.",
            Self::Reached => "What the wish for its next boots waited for has come.",
            Self::UsedUp => "The wish for its next boots is used up.",
        }
    }
}

impl BootIntent {
    /// Why it does not count for `machine` now; none while it does.
    #[must_use]
    pub fn end(&self, machine: &Machine, now: WallTime) -> Option<IntentEnd> {
        let reached = match self.until {
            Until::Used => false,
            Until::Approved => machine.registration == Registration::Approved,
            Until::Inventoried => machine.inventory.is_some(),
        };
        if reached {
            Some(IntentEnd::Reached)
        } else if now >= self.expires {
            Some(IntentEnd::Expired)
        } else if self.boots_left == 0 {
            Some(IntentEnd::UsedUp)
        } else {
            None
        }
    }

    /// Whether this boot was counted already.
    #[must_use]
    pub fn is_counted(&self, began: Option<WallTime>, now: WallTime) -> bool {
        self.counted
            .is_some_and(|counted| is_of_this_boot(counted, began, now))
    }

    /// The same, with the boot that is under way counted.
    #[must_use]
    pub fn used(&self, now: WallTime) -> Self {
        Self {
            boots_left: self.boots_left.saturating_sub(1),
            counted: Some(now),
            ..self.clone()
        }
    }
}
