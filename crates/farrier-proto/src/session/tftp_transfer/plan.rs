//! What was agreed for a transfer, and where each block lies in the file.

use super::{Limits, MAX_WINDOWSIZE, Transmit};
use crate::wire::tftp::{BLKSIZE_RANGE, TransferOptions};

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) content_len: u64,
    /// What the OACK says.
    pub(super) options: TransferOptions,
    pub(super) blksize: u16,
    pub(super) windowsize: u16,
    first_block_after_wrap: u16,
}

/// RFC 1350.
const DEFAULT_BLKSIZE: u16 = 512;

impl Plan {
    /// Answers the options offered and no others, each with at most what was offered.
    pub(super) fn negotiate(offered: TransferOptions, content_len: u64, limits: Limits) -> Self {
        let max_blksize = limits
            .max_blksize
            .clamp(*BLKSIZE_RANGE.start(), *BLKSIZE_RANGE.end());
        let max_windowsize = limits.max_windowsize.clamp(1, MAX_WINDOWSIZE);
        let options = TransferOptions {
            blksize: offered
                .blksize
                .map(|size| size.clamp(*BLKSIZE_RANGE.start(), max_blksize)),
            tsize: offered.tsize.map(|_| content_len),
            timeout: offered.timeout,
            windowsize: offered
                .windowsize
                .map(|blocks| blocks.clamp(1, max_windowsize)),
            // One client, one copy: whoever wants more is told to ask again, or not answered on it.
            multicast: None,
        };
        Self {
            content_len,
            options,
            blksize: options.blksize.unwrap_or(DEFAULT_BLKSIZE),
            windowsize: options.windowsize.unwrap_or(1),
            first_block_after_wrap: limits.first_block_after_wrap.min(1),
        }
    }

    /// The last block is the one that is not full, so a file of whole blocks ends with an empty one.
    pub(super) fn last_block(&self) -> u64 {
        self.content_len / u64::from(self.blksize) + 1
    }

    /// Where block `position` starts.
    pub(super) fn offset(&self, position: u64) -> u64 {
        (position - 1) * u64::from(self.blksize)
    }

    /// The number of block `position` on the wire.
    pub(super) fn block_number(&self, position: u64) -> u16 {
        let number = match self.first_block_after_wrap {
            0 => position % 0x1_0000,
            _ if position == 0 => 0,
            _ => (position - 1) % 0xffff + 1,
        };
        u16::try_from(number).expect("both remainders are below 65536")
    }

    /// How many of `count` blocks from `first` have consecutive numbers.
    pub(super) fn run_length(&self, first: u64, count: u64) -> u64 {
        let until_wrap = u64::from(u16::MAX - self.block_number(first)) + 1;
        count.min(until_wrap)
    }

    /// A run of blocks to send; `count` is within one window and [`Self::run_length`].
    pub(super) fn blocks(&self, first: u64, count: u64) -> Transmit {
        let offset = self.offset(first);
        let last_offset = self.offset(first + count - 1);
        let left = self.content_len - last_offset;
        Transmit::Blocks {
            first_block: self.block_number(first),
            offset,
            blksize: self.blksize,
            count: u16::try_from(count).expect("a window is at most 64 blocks"),
            last_len: u16::try_from(left).unwrap_or(u16::MAX).min(self.blksize),
        }
    }
}
