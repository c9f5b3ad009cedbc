//! A chunk as the image sees it: what is in use as it is on the disk, everything else zero.

use std::io;
use std::ops::Range;

use crate::chunk::CHUNK_SIZE;
use crate::device::BlockDevice;
use crate::manifest::Run;

/// Unused gaps up to this size are read along and zeroed, which is cheaper than another read.
const READ_ALONG: u64 = 64 * 1024;

/// A volume's place and map, wherever they come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masked<'a> {
    pub(crate) start_bytes: u64,
    pub(crate) len_bytes: u64,
    pub(crate) block_bytes: u32,
    pub(crate) used: &'a [Run],
}

impl Masked<'_> {
    pub(crate) fn chunks(&self) -> u64 {
        self.len_bytes.div_ceil(CHUNK_SIZE as u64)
    }

    /// Plain length of a chunk: only the last is shorter.
    pub(crate) fn chunk_len(&self, chunk: u64) -> usize {
        let start = chunk * CHUNK_SIZE as u64;
        (self.len_bytes - start).min(CHUNK_SIZE as u64) as usize
    }

    /// Where a chunk starts on the disk.
    pub(crate) fn chunk_at(&self, chunk: u64) -> u64 {
        self.start_bytes + chunk * CHUNK_SIZE as u64
    }

    /// The used parts of a chunk, as byte ranges within it, ascending.
    pub(crate) fn used_ranges(&self, chunk: u64, out: &mut Vec<Range<usize>>) {
        out.clear();
        let block = u64::from(self.block_bytes);
        let start = chunk * CHUNK_SIZE as u64;
        let end = start + self.chunk_len(chunk) as u64;
        let after = |run: &Run| (run.first + run.count) * block <= start;
        for run in &self.used[self.used.partition_point(after)..] {
            let first = (run.first * block).max(start);
            if first >= end {
                break;
            }
            let last = ((run.first + run.count) * block).min(end);
            out.push((first - start) as usize..(last - start) as usize);
        }
    }

    /// Chunks that hold anything in use, ascending.
    pub(crate) fn used_chunks(&self) -> Vec<u64> {
        let block = u64::from(self.block_bytes);
        let size = CHUNK_SIZE as u64;
        let mut chunks: Vec<u64> = vec![];
        for run in self.used {
            let first = run.first * block / size;
            let last = (((run.first + run.count) * block).min(self.len_bytes) - 1) / size;
            let from = chunks.last().map_or(first, |known| first.max(known + 1));
            chunks.extend(from..=last);
        }
        chunks
    }

    /// Reads a chunk, unused parts zeroed. `ranges` are its [`used_ranges`](Self::used_ranges). Returns
    /// how many bytes were read from the device.
    pub(crate) fn read(
        &self,
        device: &dyn BlockDevice,
        chunk: u64,
        ranges: &[Range<usize>],
        content: &mut Vec<u8>,
    ) -> io::Result<u64> {
        let at = self.chunk_at(chunk);
        content.resize(self.chunk_len(chunk), 0);
        let mut read = 0;
        let mut zeroed_to = 0;
        let mut next = 0;
        while next < ranges.len() {
            let first = next;
            while next + 1 < ranges.len()
                && (ranges[next + 1].start - ranges[next].end) as u64 <= READ_ALONG
            {
                next += 1;
            }
            let span = ranges[first].start..ranges[next].end;
            device.read_at(at + span.start as u64, &mut content[span.clone()])?;
            read += span.len() as u64;
            for range in &ranges[first..=next] {
                content[zeroed_to..range.start].fill(0);
                zeroed_to = range.end;
            }
            next += 1;
        }
        content[zeroed_to..].fill(0);
        Ok(read)
    }
}

/// Total length of ranges.
pub(crate) fn len_of(ranges: &[Range<usize>]) -> u64 {
    ranges.iter().map(|range| range.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemDevice;

    #[test]
    fn unused_parts_read_as_zeros_and_far_ones_are_not_read() {
        let device = MemDevice::with_content(&vec![7; 3 * CHUNK_SIZE]);
        let used = [
            Run { first: 1, count: 1 },
            Run { first: 3, count: 1 },
            Run {
                first: 63,
                count: 2,
            },
        ];
        let volume = Masked {
            start_bytes: 4096,
            len_bytes: CHUNK_SIZE as u64 + 8192,
            block_bytes: 4096,
            used: &used,
        };
        let (mut ranges, mut content) = (vec![], vec![9; 17]);
        volume.used_ranges(0, &mut ranges);
        assert_eq!(ranges, [4096..8192, 12_288..16_384, 63 * 4096..64 * 4096]);
        let read = volume.read(&device, 0, &ranges, &mut content).unwrap();
        assert_eq!(read, 3 * 4096 + 4096);
        assert_eq!(content.len(), CHUNK_SIZE);
        let expected = |at: usize| {
            if ranges.iter().any(|r| r.contains(&at)) {
                7
            } else {
                0
            }
        };
        assert!(
            content
                .iter()
                .enumerate()
                .all(|(at, byte)| *byte == expected(at))
        );
        volume.used_ranges(1, &mut ranges);
        assert_eq!((ranges.len(), ranges[0].clone()), (1, 0..4096));
        assert_eq!(volume.used_chunks(), [0, 1]);
        assert_eq!(volume.chunk_len(1), 8192);
    }
}
