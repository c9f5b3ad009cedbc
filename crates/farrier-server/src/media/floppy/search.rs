//! The search for places through the files of a volume that may be damaged.

use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};

use farrier_engine::medium_value::ValueName;
use fatfs::{Dir, File, ReadWriteSeek};

use super::super::places;
use super::{FloppyError, MAX_DEPTH, VARIABLES};

/// What of a damaged volume cannot be read. Places in it, and in what lies behind it, may stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Such as `the file NET/SYSTEM.INI`.
    what: String,
    why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, why } = self;
        write!(f, "{what} cannot be read ({why})")
    }
}

/// A search for places through the files of a volume.
pub(super) struct Search<W> {
    work: W,
    /// What the volume can still hold: a damaged one may promise more.
    left: usize,
    /// The first, since others follow from it.
    fault: Option<Fault>,
}

impl<W: FnMut(ValueName, &mut [u8]) -> Result<(), FloppyError>> Search<W> {
    pub(super) fn new(work: W, size: usize) -> Self {
        Self {
            work,
            left: size,
            fault: None,
        }
    }

    pub(super) fn fault(self) -> Option<Fault> {
        self.fault
    }

    /// Goes through a folder, whose path ends with a slash unless it is the root.
    pub(super) fn folder<T: ReadWriteSeek>(
        &mut self,
        folder: &Dir<'_, T>,
        path: &str,
        depth: usize,
    ) -> Result<(), FloppyError> {
        let shown = || match path.trim_end_matches('/') {
            "" => "the root folder".to_owned(),
            path => format!("the folder {path}"),
        };
        if depth > MAX_DEPTH {
            self.note(shown(), "it lies too deep");
            return Ok(());
        }
        for entry in folder.iter() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(why) => {
                    self.note(shown(), why);
                    return Ok(());
                }
            };
            let Some(left) = self.left.checked_sub(ENTRY) else {
                self.note(shown(), "it is larger than the volume");
                return Ok(());
            };
            self.left = left;
            // The short one, which no damage makes long.
            let name = entry.short_file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = format!("{path}{name}");
            if entry.is_dir() {
                self.folder(&entry.to_dir(), &format!("{path}/"), depth + 1)?;
                continue;
            }
            let is_variables = |name: &str| name.eq_ignore_ascii_case(VARIABLES);
            if depth == 0 && (is_variables(&name) || is_variables(&entry.file_name())) {
                // Each machine gets another one.
                continue;
            }
            self.file(entry.to_file(), entry.len(), &path)?;
        }
        Ok(())
    }

    fn file<T: ReadWriteSeek>(
        &mut self,
        mut file: File<'_, T>,
        len: u64,
        path: &str,
    ) -> Result<(), FloppyError> {
        let shown = || format!("the file {path}");
        let size = usize::try_from(len).unwrap_or(usize::MAX);
        let Some(left) = self.left.checked_sub(size) else {
            self.note(shown(), "it is larger than the volume");
            return Ok(());
        };
        self.left = left;
        let mut content = Vec::new();
        match file.read_to_end(&mut content) {
            Err(why) => {
                self.note(shown(), why);
                return Ok(());
            }
            Ok(read) if read < size => self.note(shown(), "its end is missing"),
            Ok(_) => {}
        }
        if places::each(&mut content, &mut self.work)? {
            file.seek(SeekFrom::Start(0))
                .and_then(|_| file.write_all(&content))
                .map_err(|e| FloppyError::Write(path.to_owned(), e))?;
        }
        Ok(())
    }

    fn note(&mut self, what: String, why: impl fmt::Display) {
        self.fault.get_or_insert_with(|| Fault {
            what: what.replace(char::is_control, "?"),
            why: why.to_string(),
        });
    }
}

/// Bytes of one entry of a folder.
const ENTRY: usize = 32;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use fatfs::{FatType, FormatVolumeOptions};

    use super::super::tests::{SYSTEM, values};
    use super::super::{Density, Floppy, SIZES};
    use super::*;

    /// Where the tables and cluster 2 of a volume begin.
    fn layout(floppy: &Floppy) -> (usize, usize) {
        let word = |at: usize| usize::from(u16::from_le_bytes([floppy.0[at], floppy.0[at + 1]]));
        let long = u32::from_le_bytes([36, 37, 38, 39].map(|at| floppy.0[at]));
        let table = match word(22) {
            0 => usize::try_from(long).unwrap(),
            sectors => sectors,
        };
        let root = (word(17) * 32).div_ceil(word(11));
        let data = word(14) + usize::from(floppy.0[16]) * table + root;
        (word(14) * word(11), data * word(11))
    }

    /// A volume of FAT32 that claims 40 MB, cut to a floppy's size, and asks for its next clusters far behind that.
    fn lying() -> Floppy {
        let mut disk = Cursor::new(vec![0; 40 << 20]);
        let geometry = FormatVolumeOptions::new()
            .fat_type(FatType::Fat32)
            .bytes_per_cluster(512);
        fatfs::format_volume(&mut disk, geometry).unwrap();
        let mut floppy = Floppy(disk.into_inner());
        floppy.put(VARIABLES, b"").unwrap();
        // FSI_Nxt_Free.
        floppy.0[512 + 492..512 + 496].copy_from_slice(&60_000_u32.to_le_bytes());
        floppy.0.truncate(SIZES[0]);
        floppy
    }

    /// Puts values into a damaged floppy; returns what is said of the damage.
    fn patched(floppy: &Floppy) -> (Floppy, String) {
        let own = floppy
            .for_machine(&values(&[("name", Some("pc-17"))]))
            .unwrap();
        let fault = own.fault.expect("the damage is told");
        assert_eq!(floppy.asked().unwrap().fault, Some(fault.clone()));
        (own.floppy, fault.to_string())
    }

    const PATCHED: &[u8] =
        b"[network]\r\ncomputername=pc-17           \r\nhome=                \r\n";

    #[test]
    fn t16_a_folder_that_leads_in_a_circle_is_told_and_the_rest_gets_its_values() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        floppy.put("A.INI", SYSTEM).unwrap();
        floppy.put(VARIABLES, b"").unwrap();
        floppy.put("LOOP/X.INI", SYSTEM).unwrap();
        let (tables, data) = layout(&floppy);
        // A file has cluster 2, and the folder cluster 3: the odd entry of a table of 12 bits.
        floppy.0[tables + 4] = 0x30 | floppy.0[tables + 4] & 0x0f;
        floppy.0[tables + 5] = 0;
        floppy.0[data + 512..data + 1024].fill(0xe5);
        let (own, fault) = patched(&floppy);
        assert_eq!(
            fault,
            "the folder LOOP cannot be read (its tables lead in circles)"
        );
        assert_eq!(own.file("A.INI").unwrap(), PATCHED);
        assert_eq!(
            own.file(VARIABLES).unwrap(),
            b"@ECHO OFF\r\nSET FARRIER_NAME=pc-17\r\n"
        );
        assert!(floppy.list().is_err());
    }

    #[test]
    fn t16_a_file_on_clusters_in_a_circle_is_no_longer_than_it_says() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        let text = [vec![b'.'; 2000], SYSTEM.to_vec()].concat();
        floppy.put("LOOP.INI", &text).unwrap();
        floppy.put("B.INI", SYSTEM).unwrap();
        let (tables, _) = layout(&floppy);
        // The entry of cluster 2 names itself.
        floppy.0[tables + 3] = 2;
        floppy.0[tables + 4] &= 0xf0;
        let own = floppy
            .for_machine(&values(&[("name", Some("pc-17"))]))
            .unwrap();
        assert_eq!(own.floppy.file("B.INI").unwrap(), PATCHED);
        assert_eq!(own.floppy.file("LOOP.INI").unwrap().len(), text.len());
    }

    #[test]
    fn t16_a_root_folder_of_fat32_that_leads_in_a_circle_is_told() {
        let mut floppy = lying();
        let (tables, data) = layout(&floppy);
        floppy.0[tables + 8..tables + 12].copy_from_slice(&2_u32.to_le_bytes());
        floppy.0[data..data + 512].fill(0xe5);
        let own = floppy
            .for_machine(&values(&[("name", Some("pc-17"))]))
            .unwrap();
        assert_eq!(
            own.fault.unwrap().to_string(),
            "the root folder cannot be read (its tables lead in circles)"
        );
        assert_eq!(own.floppy, floppy);
    }

    #[test]
    fn t16_a_volume_that_claims_more_than_is_there_does_not_grow() {
        let mut floppy = lying();
        let refused = floppy
            .for_machine(&values(&[("name", Some("pc-17"))]))
            .unwrap_err();
        assert!(matches!(refused, FloppyError::Write(..)), "{refused}");
        assert!(floppy.put("NEW.TXT", b"hello").is_err());
        assert_eq!(floppy.0.len(), SIZES[0]);
    }

    #[test]
    fn r9_entries_that_cannot_be_true_are_told_and_the_rest_gets_its_values() {
        let mut sound = Floppy::blank(Density::High).unwrap();
        sound.put("ODD.INI", SYSTEM).unwrap();
        sound.put("B.INI", SYSTEM).unwrap();
        let mut entries = sound.0.windows(11);
        let at = entries.position(|name| name == b"ODD     INI").unwrap();
        let with = |offset: usize, bytes: &[u8]| {
            let mut floppy = sound.clone();
            floppy.0[at + offset..at + offset + bytes.len()].copy_from_slice(bytes);
            floppy
        };
        // Attributes and what stands behind them, up to the cluster.
        let folder = |cluster: u16| [&[0x10][..], &[0; 14], &cluster.to_le_bytes()].concat();
        for (floppy, expected) in [
            // The size, the first cluster, and a folder in place of a file.
            (
                with(28, &[0xff; 4]),
                "the file ODD.INI cannot be read (it is larger than the volume)",
            ),
            (
                with(28, &4000_u32.to_le_bytes()),
                "the file ODD.INI cannot be read (its end is missing)",
            ),
            (
                with(26, &3900_u16.to_le_bytes()),
                "the file ODD.INI cannot be read (it lies behind the end of the image)",
            ),
            (
                with(11, &folder(3900)),
                "the folder ODD.INI cannot be read (it lies behind the end of the image)",
            ),
            (
                with(11, &folder(0)),
                "the folder ODD.INI/ODD.INI/ODD.INI/ODD.INI/ODD.INI/ODD.INI/ODD.INI/ODD.INI/ODD.INI cannot be read \
                 (it lies too deep)",
            ),
        ] {
            let (own, fault) = patched(&floppy);
            assert_eq!(fault, expected);
            assert_eq!(own.file("B.INI").unwrap(), PATCHED, "{expected}");
        }
        assert!(sound.asked().unwrap().fault.is_none());
    }
}
