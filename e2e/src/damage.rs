//! Breaking a disk the way bad luck does, but the same way each time.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
};

use anyhow::{Context, Result};

const BLOCK: usize = 4096;

/// Overwrites `percent` of all 4 KiB blocks that hold anything, boot files included, with noise; which ones is up to
/// `seed`. Returns how many bytes were overwritten.
///
/// # Errors
/// When the disk's file cannot be read or written.
pub fn overwrite_blocks(disk: &Path, percent: u64, seed: u64) -> Result<u64> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(disk)
        .with_context(|| format!("cannot open {}", disk.display()))?;
    let blocks = file.metadata()?.len() / BLOCK as u64;
    let mut noise = Noise(seed);
    let mut broken = 0;
    let mut buffer = vec![0; BLOCK];
    for block in 0..blocks {
        if noise.next() % 100 >= percent {
            continue;
        }
        let offset = SeekFrom::Start(block * BLOCK as u64);
        file.seek(offset)?;
        file.read_exact(&mut buffer)?;
        if buffer.iter().all(|byte| *byte == 0) {
            continue;
        }
        buffer
            .iter_mut()
            .for_each(|byte| *byte = noise.next().to_le_bytes()[0]);
        file.seek(offset)?;
        file.write_all(&buffer)?;
        broken += BLOCK as u64;
    }
    file.sync_all()?;
    Ok(broken)
}

/// A linear congruential generator (Knuth's MMIX constants): good enough to scatter damage.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}
