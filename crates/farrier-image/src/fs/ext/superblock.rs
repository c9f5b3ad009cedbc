//! The superblock: which features there are, and where each group keeps what.

use uuid::Uuid;

use crate::field::{le16, le32, le64};
use crate::fs::text;

pub(super) const MAGIC: u16 = 0xef53;

const STATE_CLEAN: u16 = 1;
const STATE_ERRORS: u16 = 2;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
pub(super) const COMPAT_SPARSE_SUPER2: u32 = 0x200;

const INCOMPAT_RECOVER: u32 = 0x4;
pub(super) const INCOMPAT_META_BG: u32 = 0x10;
pub(super) const INCOMPAT_64BIT: u32 = 0x80;
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

pub(super) const RO_SPARSE_SUPER: u32 = 0x1;
const RO_GDT_CSUM: u32 = 0x10;
pub(super) const RO_BIGALLOC: u32 = 0x200;
const RO_METADATA_CSUM: u32 = 0x400;
/// sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink, extra_isize, quota, bigalloc,
/// metadata_csum, project, verity, orphan_present. Snapshots and shared blocks count blocks otherwise.
const RO_KNOWN: u32 =
    0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x8000 | 0x1_0000;

/// The superblock's values that lead to the bitmaps.
#[derive(Debug)]
pub(super) struct Super {
    pub(super) block_size: u64,
    pub(super) blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) first_data_block: u64,
    pub(super) blocks_per_group: u64,
    /// Blocks per bit of a bitmap: 1 without bigalloc.
    pub(super) cluster: u64,
    pub(super) inode_table_blocks: u64,
    pub(super) groups: u64,
    pub(super) desc_size: u64,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) state: u16,
    pub(super) reserved_gdt_blocks: u64,
    pub(super) first_meta_bg: u64,
    pub(super) backup_groups: [u64; 2],
    pub(super) uuid: Uuid,
    pub(super) label: String,
}

impl Super {
    /// Checks every value that later code divides by, multiplies with or counts to.
    pub(super) fn parse(raw: &[u8], volume_len: u64) -> Result<Self, String> {
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

    pub(super) fn unclean(&self) -> Option<&'static str> {
        if self.incompat & INCOMPAT_RECOVER != 0 {
            return Some("has a journal that was not replayed");
        }
        if self.state & STATE_ERRORS != 0 {
            return Some("has recorded errors");
        }
        let journal = self.compat & COMPAT_HAS_JOURNAL != 0;
        (self.state & STATE_CLEAN == 0 && !journal).then_some("was not unmounted cleanly")
    }

    pub(super) fn group_start(&self, group: u64) -> u64 {
        self.first_data_block + group * self.blocks_per_group
    }

    /// Whether a group holds a copy of the superblock.
    pub(super) fn has_super(&self, group: u64) -> bool {
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
    pub(super) fn desc_blocks(&self) -> u64 {
        (self.groups * self.desc_size).div_ceil(self.block_size)
    }

    pub(super) fn classic_desc_blocks(&self) -> u64 {
        let all = self.desc_blocks();
        if self.incompat & INCOMPAT_META_BG != 0 {
            all.min(self.first_meta_bg)
        } else {
            all
        }
    }

    /// The block that holds the primary superblock. With 1 KiB blocks and bigalloc the first data block
    /// is 0 while the superblock lies in block 1.
    pub(super) fn super_block(&self) -> u64 {
        if self.block_size == 1024 { 1 } else { 0 }
    }

    /// Where the descriptor block `index` is.
    pub(super) fn desc_block_at(&self, index: u64) -> u64 {
        if index < self.classic_desc_blocks() {
            return self.super_block() + 1 + index;
        }
        self.meta_desc_at(index * (self.block_size / self.desc_size))
    }

    /// Where `group` keeps a descriptor block of its meta group.
    pub(super) fn meta_desc_at(&self, group: u64) -> u64 {
        if group == 0 {
            return self.super_block() + 1;
        }
        self.group_start(group) + u64::from(self.has_super(group))
    }

    pub(super) fn has_uninit_groups(&self) -> bool {
        self.ro_compat & (RO_GDT_CSUM | RO_METADATA_CSUM) != 0
    }
}
