//! Classes of clients, as far as addresses go: numbers, and who may have which range.

use super::AddressRange;

/// The classes a client is in, or those a range is for. What makes a client one of a class is judged elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u64);

impl Classes {
    /// How many there can be.
    pub const MAX: usize = 64;

    /// With the class of this number too; one from [`Self::MAX`] on is none.
    #[must_use]
    pub fn with(self, number: usize) -> Self {
        let bit = u32::try_from(number)
            .ok()
            .and_then(|n| 1_u64.checked_shl(n));
        Self(self.0 | bit.unwrap_or(0))
    }

    #[must_use]
    pub fn contains(self, number: usize) -> bool {
        self.0 & Self::default().with(number).0 != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn shares(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Who may have an address of a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admits {
    /// Only who is in one of these; everybody where there is none.
    pub allow: Classes,
    /// Nobody who is in one of these.
    pub deny: Classes,
}

impl Admits {
    #[must_use]
    pub fn admits(self, client: Classes) -> bool {
        (self.allow.is_empty() || self.allow.shares(client)) && !self.deny.shares(client)
    }
}

/// A range that is not for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRange {
    pub range: AddressRange,
    pub admits: Admits,
}
