//! Builds run lists from bitmaps.

use crate::manifest::Run;

/// More runs than this are not worth a map (and a hostile volume could ask for billions).
const MAX_RUNS: usize = 4 << 20;

/// A set of blocks as a bitmap, for marking in any order; bounded by the caller's block count.
#[derive(Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: u64,
}

impl Bits {
    pub(super) fn new(len: u64) -> Self {
        Self {
            words: vec![0; len.div_ceil(64) as usize],
            len,
        }
    }

    /// Marks `count` blocks from `first`; false when they are not all inside.
    #[must_use]
    pub(super) fn mark(&mut self, first: u64, count: u64) -> bool {
        let Some(end) = first.checked_add(count).filter(|end| *end <= self.len) else {
            return false;
        };
        let mut at = first;
        while at < end {
            let bit = at % 64;
            let step = (64 - bit).min(end - at);
            let mask = if step == 64 {
                u64::MAX
            } else {
                ((1 << step) - 1) << bit
            };
            self.words[(at / 64) as usize] |= mask;
            at += step;
        }
        true
    }

    pub(super) fn count(&self) -> u64 {
        self.words
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// The marked blocks as runs; none when they are too scattered.
    pub(super) fn runs(&self) -> Option<Vec<Run>> {
        let mut runs: Vec<Run> = vec![];
        for (word, base) in self.words.iter().zip((0..).step_by(64)) {
            for_each_run(*word, |first, count| extend(&mut runs, base + first, count));
            if runs.len() > MAX_RUNS {
                return None;
            }
        }
        Some(runs)
    }
}

/// Calls `f` with each run of ones in `word`.
pub(super) fn for_each_run(word: u64, mut f: impl FnMut(u64, u64)) {
    let mut rest = word;
    let mut at = 0;
    while rest != 0 {
        let zeros = rest.trailing_zeros();
        rest >>= zeros;
        let ones = rest.trailing_ones();
        f(u64::from(at + zeros), u64::from(ones));
        at += zeros + ones;
        rest = rest.checked_shr(ones).unwrap_or(0);
    }
}

/// Adds a run behind the others, joined to the last when they touch.
fn extend(runs: &mut Vec<Run>, first: u64, count: u64) {
    match runs.last_mut() {
        Some(last) if last.first + last.count == first => last.count += count,
        _ => runs.push(Run { first, count }),
    }
}
