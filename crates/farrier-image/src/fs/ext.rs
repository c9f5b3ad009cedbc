//! ext2, ext3 and ext4: block bitmaps by way of the group descriptors.
//!
//! Field positions are those of the kernel's `Documentation/filesystems/ext4/`.

mod superblock;

use superblock::{INCOMPAT_META_BG, MAGIC, Super};

use super::runs::{Bits, for_each_run};
use super::{FsError, FsMap, Verdict, Window};
use crate::field::{le16, le32, le64};
use crate::manifest::VolumeKind;

const SUPERBLOCK_AT: u64 = 1024;

const BLOCK_UNINIT: u16 = 2;

/// What lies behind the file system in its partition is kept up to this size: metadata of a RAID may
/// be there.
const MAX_TAIL: u64 = 1 << 20;

pub(super) fn read(window: Window<'_>) -> Result<Verdict, FsError> {
    if window.len < SUPERBLOCK_AT + 1024 {
        return Ok(Verdict::Other);
    }
    let raw = window.read(SUPERBLOCK_AT, 1024)?;
    if le16(&raw, 56) != MAGIC {
        return Ok(Verdict::Other);
    }
    let sb = match Super::parse(&raw, window.len) {
        Ok(sb) => sb,
        Err(why) => return Ok(Verdict::Unsure(format!("an ext file system {why}"))),
    };
    if let Some(what) = sb.unclean() {
        return Ok(Verdict::Unclean(format!(
            "the ext file system {} {what}",
            name(&sb)
        )));
    }
    match used(window, &sb)? {
        Ok(map) => Ok(Verdict::Known(map)),
        Err(why) => Ok(Verdict::Unsure(format!(
            "the ext file system {} {why}",
            name(&sb)
        ))),
    }
}

fn name(sb: &Super) -> String {
    if sb.label.is_empty() {
        sb.uuid.to_string()
    } else {
        format!("\"{}\"", sb.label)
    }
}

/// One group descriptor.
struct Desc {
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    flags: u16,
}

impl Desc {
    fn parse(raw: &[u8]) -> Self {
        let high = |at| {
            if raw.len() >= 64 {
                u64::from(le32(raw, at)) << 32
            } else {
                0
            }
        };
        Self {
            block_bitmap: u64::from(le32(raw, 0)) | high(32),
            inode_bitmap: u64::from(le32(raw, 4)) | high(36),
            inode_table: u64::from(le32(raw, 8)) | high(40),
            flags: le16(raw, 18),
        }
    }
}

type Used = Result<FsMap, String>;

fn used(window: Window<'_>, sb: &Super) -> Result<Used, FsError> {
    let mut bits = Bits::new(sb.blocks);
    let outside = || Ok(Err("has metadata outside of itself".to_owned()));
    let per_block = sb.block_size / sb.desc_size;
    for index in 0..sb.desc_blocks() {
        let at = sb.desc_block_at(index);
        if at >= sb.blocks {
            return outside();
        }
        let block = window.read(at * sb.block_size, sb.block_size as usize)?;
        let groups = index * per_block..((index + 1) * per_block).min(sb.groups);
        for (raw, group) in block.chunks_exact(sb.desc_size as usize).zip(groups) {
            let desc = Desc::parse(raw);
            if !mark_bitmap(window, sb, &desc, group, &mut bits)?
                || !mark_tables(sb, &desc, group, &mut bits)
            {
                return outside();
            }
        }
    }
    let claimed =
        sb.blocks - sb.first_data_block - sb.free_blocks.min(sb.blocks - sb.first_data_block);
    if bits.count() != claimed {
        return Ok(Err(format!(
            "says {claimed} blocks are used and its bitmaps say {}",
            bits.count()
        )));
    }
    // Block 0 of a file system with 1 KiB blocks is outside the books and may hold a boot sector.
    if !bits.mark(0, 1) {
        return outside();
    }
    Ok(finish(window, sb, &bits))
}

/// Takes over one group's bitmap.
fn mark_bitmap(
    window: Window<'_>,
    sb: &Super,
    desc: &Desc,
    group: u64,
    bits: &mut Bits,
) -> Result<bool, FsError> {
    if sb.has_uninit_groups() && desc.flags & BLOCK_UNINIT != 0 {
        return Ok(true);
    }
    if desc.block_bitmap >= sb.blocks {
        return Ok(false);
    }
    let start = sb.group_start(group);
    let in_group = sb.blocks_per_group.min(sb.blocks - start);
    let bitmap = window.read(desc.block_bitmap * sb.block_size, sb.block_size as usize)?;
    let mut inside = true;
    let clusters = in_group.div_ceil(sb.cluster);
    for (word, base) in bitmap.chunks_exact(8).zip((0..clusters).step_by(64)) {
        let valid = clusters - base;
        let mask = if valid < 64 {
            (1 << valid) - 1
        } else {
            u64::MAX
        };
        for_each_run(le64(word, 0) & mask, |first, count| {
            let first = (base + first) * sb.cluster;
            let count = (count * sb.cluster).min(in_group - first);
            inside &= bits.mark(start + first, count);
        });
    }
    Ok(inside)
}

/// Marks what every group holds by construction; groups without a written bitmap have nothing else.
fn mark_tables(sb: &Super, desc: &Desc, group: u64, bits: &mut Bits) -> bool {
    let mut mark = |first: u64, count: u64| {
        // An allocation is made of whole clusters.
        let from = first - (first - sb.first_data_block.min(first)) % sb.cluster;
        let end = first
            .saturating_add(count)
            .div_ceil(sb.cluster)
            .saturating_mul(sb.cluster);
        let end = if sb.cluster == 1 {
            first.saturating_add(count)
        } else {
            end.min(sb.blocks)
        };
        end > from && bits.mark(from, end - from)
    };
    if !mark(desc.block_bitmap, 1) || !mark(desc.inode_bitmap, 1) {
        return false;
    }
    if !mark(desc.inode_table, sb.inode_table_blocks) {
        return false;
    }
    let start = if group == 0 {
        sb.super_block()
    } else {
        sb.group_start(group)
    };
    if sb.has_super(group) && !mark(start, 1) {
        return false;
    }
    let classic = sb.classic_desc_blocks();
    let copies = if sb.has_super(group) {
        classic + sb.reserved_gdt_blocks
    } else {
        0
    };
    if copies > 0 && !mark(start + 1, copies.min(sb.blocks.saturating_sub(start + 1))) {
        return false;
    }
    !holds_meta_desc(sb, group) || mark(sb.meta_desc_at(group), 1)
}

/// With meta_bg the first, second and last group of each meta group hold its descriptor block.
fn holds_meta_desc(sb: &Super, group: u64) -> bool {
    let per_block = sb.block_size / sb.desc_size;
    let meta = sb.incompat & INCOMPAT_META_BG != 0 && group / per_block >= sb.first_meta_bg;
    let place = group % per_block;
    meta && (place <= 1 || place == per_block - 1)
}

fn finish(window: Window<'_>, sb: &Super, bits: &Bits) -> Used {
    let mut used = bits.runs().ok_or("is too fragmented for a map")?;
    let fs_len = sb.blocks * sb.block_size;
    let tail = window.len - fs_len;
    let mut note = None;
    if tail > MAX_TAIL {
        note = Some(format!(
            "the file system leaves {tail} bytes of its partition unused; they are not kept"
        ));
    } else if tail > 0 {
        let count = tail.div_ceil(sb.block_size);
        match used.last_mut() {
            Some(last) if last.first + last.count == sb.blocks => last.count += count,
            _ => used.push(crate::manifest::Run {
                first: sb.blocks,
                count,
            }),
        }
    }
    Ok(FsMap {
        kind: VolumeKind::Ext,
        label: sb.label.clone(),
        fs_uuid: sb.uuid.to_string(),
        block_bytes: sb.block_size as u32,
        used,
        note,
    })
}
