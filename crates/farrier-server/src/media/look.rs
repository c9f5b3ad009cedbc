//! What a disk image is, told by its first sectors and its size. Nothing in it is believed without a limit, and
//! nothing is mounted or run.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use farrier_engine::medium::{Geometry, Medium, MediumKind};

/// Why a file is no medium.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error("the image cannot be read")]
    Read(#[from] io::Error),
    #[error("the image is no file")]
    NotAFile,
    #[error("the image has {0} bytes, which is less than the smallest floppy")]
    TooSmall(u64),
    #[error(
        "the image has {0} bytes, which are no whole sectors of 512: it was cut off, or is compressed (unpack it first)"
    )]
    NotSectors(u64),
    #[error(
        "this is neither a CD (ISO 9660), nor a floppy (160 KB to 2.88 MB), nor a disk with a boot sector or a partition \
         table"
    )]
    Unknown,
    #[error(
        "this is a CD that nothing can be started from: it has no El Torito boot catalogue; make it with one \
         (`xorriso`, `grub-mkrescue`)"
    )]
    CdWithoutBoot,
}

/// Looks at an image.
pub fn look(path: &Path) -> Result<Medium, LookError> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(LookError::NotAFile);
    }
    look_at(&file, about.len())
}

fn look_at(file: &File, size: u64) -> Result<Medium, LookError> {
    if size < FLOPPIES[0] {
        return Err(LookError::TooSmall(size));
    }
    if !size.is_multiple_of(512) {
        return Err(LookError::NotSectors(size));
    }
    if let Some(catalogue) = cd(file, size)? {
        return catalogue;
    }
    let first = sector::<512>(file, 0)?;
    let has_code = first[510..] == [0x55, 0xaa];
    if FLOPPIES.contains(&size) {
        // Floppies of DOS and its kin are started without the signature, too.
        return Ok(Medium {
            kind: MediumKind::Floppy,
            size,
            bios: true,
            uefi: false,
        });
    }
    if !has_code {
        return Err(LookError::Unknown);
    }
    let parts = partitions(&first);
    Ok(Medium {
        kind: MediumKind::Disk(geometry(&parts, size)),
        size,
        // The loader's code stands in front of the table; a disk for UEFI alone has zeros there.
        bios: first[..4] != [0; 4],
        uefi: for_uefi(&first, &parts),
    })
}

/// The sizes that SYSLINUX's MEMDISK takes for floppies, in bytes.
const FLOPPIES: [u64; 9] = [
    163_840, 184_320, 327_680, 368_640, 737_280, 1_228_800, 1_474_560, 1_720_320, 2_949_120,
];

/// ISO 9660 counts in these.
const CD_SECTOR: u64 = 2048;

/// A CD's boot catalogue; none if it is no CD.
fn cd(file: &File, size: u64) -> Result<Option<Result<Medium, LookError>>, LookError> {
    // ECMA-119 section 8.1: volume descriptors begin at sector 16, the primary one first.
    if size < 18 * CD_SECTOR || sector::<2048>(file, 16 * CD_SECTOR)?[1..6] != *b"CD001" {
        return Ok(None);
    }
    for number in 17..17 + MAX_DESCRIPTORS {
        if (number + 1) * CD_SECTOR > size {
            break;
        }
        let descriptor = sector::<2048>(file, number * CD_SECTOR)?;
        if descriptor[1..6] != *b"CD001" || descriptor[0] == 255 {
            break;
        }
        // El Torito 1.0, section 2: a boot record whose system names it; the place of the catalogue at 0x47.
        if descriptor[0] == 0 && descriptor[7..30] == *b"EL TORITO SPECIFICATION" {
            let place = [0x47, 0x48, 0x49, 0x4a].map(|at| descriptor[at]);
            let at = u64::from(u32::from_le_bytes(place)) * CD_SECTOR;
            if at + CD_SECTOR > size {
                break;
            }
            let (bios, uefi) = entries(&sector::<2048>(file, at)?);
            if !bios && !uefi {
                break;
            }
            return Ok(Some(Ok(Medium {
                kind: MediumKind::Cd,
                size,
                bios,
                uefi,
            })));
        }
    }
    Ok(Some(Err(LookError::CdWithoutBoot)))
}

/// Whether the catalogue has a bootable entry for PCs, and one for UEFI (UEFI 2.10 section 13.3.2.1: platform 0xef).
fn entries(catalogue: &[u8; 2048]) -> (bool, bool) {
    let (mut bios, mut uefi) = (false, false);
    if catalogue[0] != 1 {
        return (false, false);
    }
    let mut platform = catalogue[1];
    let mut more = true;
    for entry in catalogue.chunks_exact(32).skip(1) {
        match entry[0] {
            0x88 if platform == 0 => bios = true,
            0x88 if platform == 0xef => uefi = true,
            // A header of a section, and the last one of them.
            0x90 if more => platform = entry[1],
            0x91 if more => {
                platform = entry[1];
                more = false;
            }
            _ => {}
        }
    }
    (bios, uefi)
}

/// A row of an MBR's table.
#[derive(Clone, Copy, Debug)]
struct Row {
    kind: u8,
    /// Heads and sectors of its end, as the maker of the table counted.
    end: (u8, u8),
}

fn partitions(first: &[u8; 512]) -> Vec<Row> {
    let rows = first[446..510].chunks_exact(16);
    let rows = rows.map(|row| Row {
        kind: row[4],
        end: (row[5], row[6] & 0x3f),
    });
    rows.filter(|row| row.kind != 0).collect()
}

/// The way of counting that the table was written for: partitions end at the end of a cylinder, so the end of one tells
/// heads and sectors. Without a table, what BIOSes take for disks of this size.
fn geometry(rows: &[Row], size: u64) -> Geometry {
    let told = rows
        .iter()
        .filter(|row| row.kind != 0xee && row.end.1 > 0 && row.end.0 < 255)
        .map(|row| (u16::from(row.end.0) + 1, row.end.1))
        .max();
    let small = size <= 1024 * 16 * 63 * 512;
    let (heads, sectors) = told.unwrap_or(if small { (16, 63) } else { (255, 63) });
    let per_cylinder = u64::from(heads) * u64::from(sectors) * 512;
    let cylinders = size.div_ceil(per_cylinder).min(1024);
    Geometry {
        cylinders: u16::try_from(cylinders).unwrap_or(1024),
        heads,
        sectors,
    }
}

/// An EFI system partition, by an MBR's own number or in a GPT, which a protective row announces; or a FAT volume
/// without any table, as makers of boot sticks write them.
fn for_uefi(first: &[u8; 512], rows: &[Row]) -> bool {
    let has_system_partition = rows.iter().any(|row| matches!(row.kind, 0xee | 0xef));
    let is_fat = first[54..57] == *b"FAT" || first[82..85] == *b"FAT";
    has_system_partition || is_fat
}

fn sector<const N: usize>(file: &File, at: u64) -> Result<[u8; N], LookError> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

const MAX_DESCRIPTORS: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(bytes: &[u8]) -> Result<Medium, LookError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        look(file.path())
    }

    fn disk(sectors: usize, rows: &[(u8, u8, u8)]) -> Vec<u8> {
        let mut disk = vec![0; sectors * 512];
        disk[0] = 0xeb;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        for (i, (kind, head, sector)) in rows.iter().enumerate() {
            let row = 446 + 16 * i;
            disk[row + 4..row + 7].copy_from_slice(&[*kind, *head, *sector]);
        }
        disk
    }

    /// With one descriptor behind the primary one, whose catalogue is at sector 20.
    fn cd(catalogue: &[(usize, u8)]) -> Vec<u8> {
        let mut cd = vec![0; 100 * 2048];
        for (number, kind) in [(16, 1), (17, 0), (18, 255)] {
            cd[number * 2048] = kind;
            cd[number * 2048 + 1..number * 2048 + 6].copy_from_slice(b"CD001");
        }
        cd[17 * 2048 + 7..17 * 2048 + 30].copy_from_slice(b"EL TORITO SPECIFICATION");
        cd[17 * 2048 + 0x47] = 20;
        for (at, byte) in catalogue {
            cd[20 * 2048 + at] = *byte;
        }
        cd
    }

    #[test]
    fn r2_floppies_are_known_by_their_size() {
        for size in FLOPPIES {
            let medium = looked(&vec![0; usize::try_from(size).unwrap()]).unwrap();
            assert_eq!(
                (medium.kind, medium.bios, medium.uefi),
                (MediumKind::Floppy, true, false)
            );
        }
    }

    #[test]
    fn r2_disks_keep_the_way_of_counting_of_their_table() {
        let medium = looked(&disk(16 * 63 * 20, &[(6, 15, 63)])).unwrap();
        let expected = Geometry {
            cylinders: 20,
            heads: 16,
            sectors: 63,
        };
        assert_eq!(medium.kind, MediumKind::Disk(expected));
        assert!(medium.bios && !medium.uefi);
        let odd = looked(&disk(8 * 32 * 100, &[(0xef, 7, 32)])).unwrap();
        let expected = Geometry {
            cylinders: 100,
            heads: 8,
            sectors: 32,
        };
        assert_eq!(odd.kind, MediumKind::Disk(expected));
        assert!(odd.uefi, "an EFI system partition");
        let bare = looked(&disk(10_000, &[])).unwrap();
        assert!(matches!(
            bare.kind,
            MediumKind::Disk(Geometry {
                heads: 16,
                sectors: 63,
                ..
            })
        ));
        let gpt = looked(&disk(10_000, &[(0xee, 255, 63)])).unwrap();
        assert!(gpt.uefi, "a protective row announces a GPT");
    }

    #[test]
    fn r3_cds_say_for_whom_they_start() {
        let pc = [(0, 1), (32, 0x88)];
        let medium = looked(&cd(&pc)).unwrap();
        assert_eq!(
            (medium.kind, medium.bios, medium.uefi),
            (MediumKind::Cd, true, false)
        );
        let both = [(0, 1), (32, 0x88), (64, 0x91), (65, 0xef), (96, 0x88)];
        let medium = looked(&cd(&both)).unwrap();
        assert!(medium.bios && medium.uefi);
        let efi_alone = [(0, 1), (1, 0xef), (32, 0x88)];
        let medium = looked(&cd(&efi_alone)).unwrap();
        assert!(!medium.bios && medium.uefi);
    }

    #[test]
    fn what_starts_nothing_is_refused_with_what_to_do() {
        for (bytes, expected) in [
            (vec![0; 100], "smallest floppy"),
            (vec![0; 200_001], "no whole sectors"),
            (vec![0; 1_000_448], "neither a CD"),
            (cd(&[(0, 1), (32, 0)]), "no El Torito"),
            (cd(&[(32, 0x88)]), "no El Torito"),
        ] {
            let told = looked(&bytes).unwrap_err().to_string();
            assert!(told.contains(expected), "{told}");
        }
        // A catalogue beyond the end.
        let mut lying = cd(&[]);
        lying[17 * 2048 + 0x4a] = 0xff;
        assert!(matches!(looked(&lying), Err(LookError::CdWithoutBoot)));
    }
}
