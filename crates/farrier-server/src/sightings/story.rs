//! What one stranger did, in one piece of memory.
//!
//! Thousands of stories are kept, and each new stranger pushes out the oldest. Kept as entries with their texts, that
//! was forty small pieces to give back for one packet: a fifth of what a DHCP exchange cost.

use farrier_engine::timeline::Entry;

/// Entries one after the other, in the form of `postcard`. Never leaves this process.
#[derive(Debug)]
pub(super) struct Story {
    written: Vec<u8>,
    entries: usize,
    /// Where the last one begins.
    last: usize,
}

impl Story {
    pub(super) fn new() -> Self {
        Self {
            written: Vec::with_capacity(USUAL_BYTES),
            entries: 0,
            last: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        let start = self.written.len();
        match postcard::to_extend(entry, std::mem::take(&mut self.written)) {
            Ok(written) => {
                self.written = written;
                self.last = start;
                self.entries += 1;
            }
            // Only a serialiser of ours that refuses its own type could be the cause.
            Err(error) => {
                tracing::error!(%error, "what a stranger did cannot be kept");
                *self = Self::new();
            }
        }
    }

    pub(super) fn last(&self) -> Option<Entry> {
        read(&self.written[self.last..]).map(|(entry, _)| entry)
    }

    /// All of them, oldest first.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut rest = &self.written[..];
        let next = || {
            let (entry, behind) = read(rest)?;
            rest = behind;
            Some(entry)
        };
        std::iter::from_fn(next).collect()
    }
}

fn read(written: &[u8]) -> Option<(Entry, &[u8])> {
    if written.is_empty() {
        return None;
    }
    match postcard::take_from_bytes(written) {
        Ok(read) => Some(read),
        Err(error) => {
            tracing::error!(%error, "what a stranger did cannot be read back");
            None
        }
    }
}

/// An exchange by DHCP: two packets and their answers.
const USUAL_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use farrier_engine::WallTime;
    use farrier_engine::model::MachineId;
    use farrier_engine::timeline::{Entry, Kind};
    use uuid::Uuid;

    use super::Story;

    #[test]
    fn a_story_comes_back_as_it_was_told() {
        let entry = |n: i64| {
            let kind = if n == 2 { Kind::Warning } else { Kind::Seen };
            Entry::new(MachineId(Uuid::nil()), WallTime(n), kind, format!("{n} ä"))
                .with("message", "DHCPDISCOVER")
                .with("number", n)
        };
        let mut story = Story::new();
        assert_eq!((story.last(), story.entries()), (None, Vec::new()));
        for n in 1..=3 {
            story.add(&entry(n));
            assert_eq!(story.last(), Some(entry(n)));
        }
        assert_eq!(story.entries(), [entry(1), entry(2), entry(3)]);
        assert_eq!(story.len(), 3);
    }
}
