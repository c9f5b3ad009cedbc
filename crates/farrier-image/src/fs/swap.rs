//! Linux swap: only the header is worth keeping.

use uuid::Uuid;

use super::{FsError, FsMap, Verdict, Window, text};
use crate::field::le32;
use crate::manifest::{Run, VolumeKind};

/// Page sizes of the architectures that write swap headers; the signature ends the first page.
const PAGES: [u64; 4] = [4096, 8192, 16_384, 65_536];

/// Signatures of a system that sleeps in the swap.
const ASLEEP: [&[u8]; 4] = [
    b"S1SUSPEND\0",
    b"S2SUSPEND\0",
    b"ULSUSPEND\0",
    b"LINHIB0001",
];

pub(super) fn read(window: Window<'_>) -> Result<Verdict, FsError> {
    for page in PAGES {
        if window.len < page {
            break;
        }
        let signature = window.read(page - 10, 10)?;
        if ASLEEP.contains(&signature.as_slice()) {
            return Ok(Verdict::Unclean(
                "the swap volume holds a hibernated system".to_owned(),
            ));
        }
        if signature == b"SWAPSPACE2" {
            return Ok(Verdict::Known(header_only(window, page)?));
        }
    }
    Ok(Verdict::Other)
}

fn header_only(window: Window<'_>, page: u64) -> Result<FsMap, FsError> {
    let header = window.read(1024, 128)?;
    let known = le32(&header, 0) == 1;
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&header[12..28]);
    Ok(FsMap {
        kind: VolumeKind::Swap,
        label: if known {
            text(&header[28..44])
        } else {
            String::new()
        },
        fs_uuid: if known {
            Uuid::from_bytes(uuid).to_string()
        } else {
            String::new()
        },
        block_bytes: 4096,
        used: vec![Run {
            first: 0,
            count: page / 4096,
        }],
        note: None,
    })
}
