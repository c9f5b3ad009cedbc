//! ext2, ext3 and ext4: block bitmaps by way of the group descriptors.
//!
//! Field positions are those of the kernel's `Documentation/filesystems/ext4/`.

use uuid::Uuid;

use super::runs::{Bits, for_each_run};
use super::{FsError, FsMap, Verdict, Window, text};
use crate::field::{le16, le32, le64};
use crate::manifest::VolumeKind;

const SUPERBLOCK_AT: u64 = 1024;
const MAGIC: u16 = 0xef53;

const STATE_CLEAN: u16 = 1;
const STATE_ERRORS: u16 = 2;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;

const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
/// filetype, recover, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, dirdata, csum_seed, largedir,
/// inline_data, encrypt, casefold. Compression and journal devices are left out on purpose.
const INCOMPAT_KNOWN: u32 = 0x2
    | 0x4
    | 0x10
    | 0x40
    | 0x80
    | 0x100
    | 0x200
    | 0x400
    | 0x1000
    | 0x2000
    | 0x4000
    | 0x8000
    | 0x1_0000
    | 0x2_0000;

const RO_SPARSE_SUPER: u32 = 0x1;
const RO_GDT_CSUM: u32 = 0x10;
const RO_BIGALLOC: u32 = 0x200;
const RO_METADATA_CSUM: u32 = 0x400;
/// sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink, extra_isize, quota, bigalloc,
/// metadata_csum, project, verity, orphan_present. Snapshots and shared blocks count blocks otherwise.
const RO_KNOWN: u32 =
    0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x8000 | 0x1_0000;

const BLOCK_UNINIT: u16 = 2;

/// What lies behind the file system in its partition is kept up to this size: metadata of a RAID may
/// be there.
const MAX_TAIL: u64 = 1 << 20;

/// The superblock's values that lead to the bitmaps.
#[derive(Debug)]
struct Super {
    block_size: u64,
    blocks: u64,
    free_blocks: u64,
    first_data_block: u64,
    blocks_per_group: u64,
    /// Blocks per bit of a bitmap: 1 without bigalloc.
    cluster: u64,
    inode_table_blocks: u64,
    groups: u64,
    desc_size: u64,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
    state: u16,
    reserved_gdt_blocks: u64,
    first_meta_bg: u64,
    backup_groups: [u64; 2],
    uuid: Uuid,
    label: String,
}

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

impl Super {
    /// Checks every value that later code divides by, multiplies with or counts to.
    fn parse(raw: &[u8], volume_len: u64) -> Result<Self, String> {
        let incompat = le32(raw, 96);
        let ro_compat = le32(raw, 100);
        if incompat & !INCOMPAT_KNOWN != 0 || ro_compat & !RO_KNOWN != 0 {
            return Err(format!(
                "has unknown features ({incompat:#x}, {ro_compat:#x})"
            ));
        }
        let (block_log, cluster_log) = (le32(raw, 24), le32(raw, 28));
        let bigalloc = ro_compat & RO_BIGALLOC != 0;
        if block_log > 6 || (bigalloc && !(block_log..=18).contains(&cluster_log)) {
            return Err("has an impossible block size".to_owned());
        }
        let wide = incompat & INCOMPAT_64BIT != 0;
        let high = |at| {
            if wide {
                u64::from(le32(raw, at)) << 32
            } else {
                0
            }
        };
        let block_size = 1024 << block_log;
        let blocks = u64::from(le32(raw, 4)) | high(336);
        let first_data_block = u64::from(le32(raw, 20));
        let blocks_per_group = u64::from(le32(raw, 32));
        let cluster = if bigalloc {
            1 << (cluster_log - block_log)
        } else {
            1
        };
        if blocks
            .checked_mul(block_size)
            .is_none_or(|len| len > volume_len)
        {
            return Err("is larger than its partition".to_owned());
        }
        if blocks <= first_data_block || first_data_block > 1 {
            return Err("has an impossible first block".to_owned());
        }
        let bits = blocks_per_group / cluster;
        if blocks_per_group < 256 || blocks_per_group % (8 * cluster) != 0 || bits > block_size * 8
        {
            return Err("has an impossible group size".to_owned());
        }
        let desc_size = if wide { u64::from(le16(raw, 254)) } else { 32 };
        if !desc_size.is_power_of_two()
            || !(32..=1024).contains(&desc_size)
            || (wide && desc_size < 64)
        {
            return Err("has an impossible group descriptor size".to_owned());
        }
        let revision_0 = le32(raw, 76) == 0;
        let inode_size = if revision_0 {
            128
        } else {
            u64::from(le16(raw, 88))
        };
        let inode_table_blocks = (u64::from(le32(raw, 40)) * inode_size).div_ceil(block_size);
        Ok(Self {
            block_size,
            blocks,
            free_blocks: u64::from(le32(raw, 12)) | high(344),
            first_data_block,
            blocks_per_group,
            cluster,
            inode_table_blocks,
            groups: (blocks - first_data_block).div_ceil(blocks_per_group),
            desc_size,
            compat: le32(raw, 92),
            incompat,
            ro_compat,
            state: le16(raw, 58),
            reserved_gdt_blocks: u64::from(le16(raw, 206)),
            first_meta_bg: u64::from(le32(raw, 260)),
            backup_groups: [u64::from(le32(raw, 588)), u64::from(le32(raw, 592))],
            uuid: Uuid::from_u64_pair(le64(raw, 104).swap_bytes(), le64(raw, 112).swap_bytes()),
            label: text(&raw[120..136]),
        })
    }

    fn unclean(&self) -> Option<&'static str> {
        if self.incompat & INCOMPAT_RECOVER != 0 {
            return Some("has a journal that was not replayed");
        }
        if self.state & STATE_ERRORS != 0 {
            return Some("has recorded errors");
        }
        let journal = self.compat & COMPAT_HAS_JOURNAL != 0;
        (self.state & STATE_CLEAN == 0 && !journal).then_some("was not unmounted cleanly")
    }

    fn group_start(&self, group: u64) -> u64 {
        self.first_data_block + group * self.blocks_per_group
    }

    /// Whether a group holds a copy of the superblock.
    fn has_super(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            return self.backup_groups.contains(&group);
        }
        if self.ro_compat & RO_SPARSE_SUPER == 0 || group == 1 {
            return true;
        }
        [3, 5, 7].into_iter().any(|base| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        })
    }

    /// Blocks of group descriptors, of which those before `first_meta_bg` follow the superblock.
    fn desc_blocks(&self) -> u64 {
        (self.groups * self.desc_size).div_ceil(self.block_size)
    }

    fn classic_desc_blocks(&self) -> u64 {
        let all = self.desc_blocks();
        if self.incompat & INCOMPAT_META_BG != 0 {
            all.min(self.first_meta_bg)
        } else {
            all
        }
    }

    /// The block that holds the primary superblock. With 1 KiB blocks and bigalloc the first data block
    /// is 0 while the superblock lies in block 1.
    fn super_block(&self) -> u64 {
        if self.block_size == 1024 { 1 } else { 0 }
    }

    /// Where the descriptor block `index` is.
    fn desc_block_at(&self, index: u64) -> u64 {
        if index < self.classic_desc_blocks() {
            return self.super_block() + 1 + index;
        }
        self.meta_desc_at(index * (self.block_size / self.desc_size))
    }

    /// Where `group` keeps a descriptor block of its meta group.
    fn meta_desc_at(&self, group: u64) -> u64 {
        if group == 0 {
            return self.super_block() + 1;
        }
        self.group_start(group) + u64::from(self.has_super(group))
    }

    fn has_uninit_groups(&self) -> bool {
        self.ro_compat & (RO_GDT_CSUM | RO_METADATA_CSUM) != 0
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
