//! Floppies as files: made of a folder, changed file by file, and given each machine's own values on the way out.

use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use fatfs::{Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions, ReadWriteSeek};

/// What can be made, and gets each machine's own values: 1.44 MB (80 tracks, two sides, 18 sectors) and 2.88 MB (36).
pub const SIZES: [usize; 2] = [2880 * 512, 5760 * 512];

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Density {
    /// 1.44 MB.
    High,
    /// 2.88 MB.
    Extended,
}

/// If a floppy has this file, each machine gets it with its own values as `SET` lines.
pub const VARIABLES: &str = "FARRIER.BAT";

/// What could not be done with a floppy.
#[derive(Debug, thiserror::Error)]
pub enum FloppyError {
    #[error("{0} cannot be read")]
    Read(String, #[source] io::Error),
    #[error("{0} cannot be written to the floppy; it may be full, or the name no DOS name")]
    Write(String, #[source] io::Error),
    #[error("the floppy has no {0}")]
    Missing(String),
    #[error("this is no floppy that can be read")]
    NotAFloppy(#[source] io::Error),
}

/// A floppy in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floppy(Vec<u8>);

type Volume<'a> = FileSystem<&'a mut Cursor<Vec<u8>>>;

impl Floppy {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// Never with memory at hand; the formatter says it could.
    pub fn blank(density: Density) -> Result<Self, FloppyError> {
        // As DOS formats them.
        let (size, cluster, root, sectors) = match density {
            Density::High => (SIZES[0], 512, 224, 18),
            Density::Extended => (SIZES[1], 1024, 240, 36),
        };
        let mut disk = Cursor::new(vec![0; size]);
        let geometry = FormatVolumeOptions::new()
            .fat_type(FatType::Fat12)
            .bytes_per_cluster(cluster)
            .max_root_dir_entries(root)
            .media(0xf0)
            .sectors_per_track(sectors)
            .heads(2)
            .drive_num(0)
            .volume_label(*b"FARRIER    ");
        fatfs::format_volume(&mut disk, geometry).map_err(FloppyError::NotAFloppy)?;
        Ok(Self(disk.into_inner()))
    }

    /// One with the files of a folder and of those in it.
    pub fn of_folder(folder: &Path, density: Density) -> Result<Self, FloppyError> {
        let mut floppy = Self::blank(density)?;
        floppy.change(|volume| copy_folder(&volume.root_dir(), folder))?;
        Ok(floppy)
    }

    /// Takes the bytes of an image; its file system is looked at on use.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Writes a file, over an older one of the same name. Folders of the path are made.
    pub fn put(&mut self, path: &str, content: &[u8]) -> Result<(), FloppyError> {
        let wrong = |e| FloppyError::Write(path.to_owned(), e);
        self.change(|volume| {
            let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
            let mut folder = volume.root_dir();
            for part in folders.split('/').filter(|part| !part.is_empty()) {
                folder = folder.create_dir(part).map_err(wrong)?;
            }
            let mut file = folder.create_file(name).map_err(wrong)?;
            file.truncate().map_err(wrong)?;
            file.write_all(content).map_err(wrong)
        })
    }

    /// The bytes of a file.
    pub fn file(&self, path: &str) -> Result<Vec<u8>, FloppyError> {
        let mut copy = self.clone();
        let mut bytes = Vec::new();
        copy.change(|volume| {
            let missing = |_| FloppyError::Missing(path.to_owned());
            let file = volume.root_dir().open_file(path).map_err(missing)?;
            let read = file.take(SIZES[1] as u64).read_to_end(&mut bytes);
            read.map(drop)
                .map_err(|e| FloppyError::Read(path.to_owned(), e))
        })?;
        Ok(bytes)
    }

    /// Takes a file or an empty folder away.
    pub fn remove(&mut self, path: &str) -> Result<(), FloppyError> {
        self.change(|volume| match volume.root_dir().remove(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(FloppyError::Missing(path.to_owned()))
            }
            result => result.map_err(|e| FloppyError::Write(path.to_owned(), e)),
        })
    }

    /// Paths and sizes, folder by folder.
    pub fn list(&self) -> Result<Vec<(String, u64)>, FloppyError> {
        let mut copy = self.clone();
        let mut found = Vec::new();
        copy.change(|volume| list_folder(&volume.root_dir(), "", &mut found, 0))?;
        Ok(found)
    }

    /// A copy with a machine's own values in [`VARIABLES`], if the floppy has that file; this one stays as it is.
    /// The values are of types that hold nothing a batch file would take for syntax.
    pub fn for_machine(&self, values: &[(&str, String)]) -> Result<Self, FloppyError> {
        let mut own = self.clone();
        if own.file(VARIABLES).is_err() {
            return Ok(own);
        }
        let lines: String = values
            .iter()
            .filter(|(_, value)| is_plain(value))
            .map(|(name, value)| format!("SET {name}={value}\r\n"))
            .collect();
        own.put(VARIABLES, format!("@ECHO OFF\r\n{lines}").as_bytes())?;
        Ok(own)
    }

    fn change<T>(
        &mut self,
        work: impl FnOnce(&Volume<'_>) -> Result<T, FloppyError>,
    ) -> Result<T, FloppyError> {
        let mut disk = Cursor::new(std::mem::take(&mut self.0));
        let done = {
            let opened = FileSystem::new(&mut disk, FsOptions::new());
            opened
                .map_err(FloppyError::NotAFloppy)
                .and_then(|volume| work(&volume))
        };
        self.0 = disk.into_inner();
        done
    }
}

/// What `SET` takes as it is.
fn is_plain(value: &str) -> bool {
    value
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b".:-_".contains(&b))
}

fn copy_folder<T: ReadWriteSeek>(to: &Dir<'_, T>, from: &Path) -> Result<(), FloppyError> {
    let shown = from.display().to_string();
    let read = |e| FloppyError::Read(shown.clone(), e);
    let mut entries: Vec<_> = fs::read_dir(from)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(read)?;
    // The same folder makes the same bytes.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let write = |e| FloppyError::Write(name.clone(), e);
        if entry.file_type().map_err(read)?.is_dir() {
            copy_folder(&to.create_dir(&name).map_err(write)?, &entry.path())?;
        } else {
            let bytes = fs::read(entry.path()).map_err(|e| FloppyError::Read(name.clone(), e))?;
            let mut file = to.create_file(&name).map_err(write)?;
            file.write_all(&bytes).map_err(write)?;
        }
    }
    Ok(())
}

fn list_folder<T: ReadWriteSeek>(
    folder: &Dir<'_, T>,
    path: &str,
    found: &mut Vec<(String, u64)>,
    depth: usize,
) -> Result<(), FloppyError> {
    for entry in folder.iter().take(MAX_ENTRIES) {
        let entry = entry.map_err(FloppyError::NotAFloppy)?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{path}{name}");
        // A damaged volume may hold a folder within itself.
        if entry.is_dir() && depth < MAX_DEPTH && found.len() < MAX_ENTRIES {
            list_folder(&entry.to_dir(), &format!("{path}/"), found, depth + 1)?;
        } else {
            found.push((path, entry.len()));
        }
    }
    Ok(())
}

const MAX_DEPTH: usize = 8;
const MAX_ENTRIES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_added_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("DRIVERS")).unwrap();
        fs::write(folder.path().join("AUTOEXEC.BAT"), b"CALL FARRIER.BAT\r\n").unwrap();
        fs::write(folder.path().join("DRIVERS/NET.SYS"), vec![7; 5000]).unwrap();
        let mut floppy = Floppy::of_folder(folder.path(), Density::High).unwrap();
        assert_eq!(floppy.as_bytes().len(), SIZES[0]);
        assert_eq!(
            floppy,
            Floppy::of_folder(folder.path(), Density::High).unwrap(),
            "the same bytes"
        );
        floppy.put("AUTOEXEC.BAT", b"REM\r\n").unwrap();
        floppy.put("NEW/README.TXT", b"hello").unwrap();
        floppy.remove("DRIVERS/NET.SYS").unwrap();
        assert_eq!(
            floppy.list().unwrap(),
            [
                ("AUTOEXEC.BAT".to_owned(), 5),
                ("NEW/README.TXT".to_owned(), 5)
            ]
        );
        assert_eq!(floppy.file("AUTOEXEC.BAT").unwrap(), b"REM\r\n");
        assert!(matches!(
            floppy.remove("NOT.HERE"),
            Err(FloppyError::Missing(_))
        ));
        assert!(matches!(
            floppy.put("BIG.BIN", &vec![0; SIZES[0]]),
            Err(FloppyError::Write(..))
        ));
    }

    #[test]
    fn r2_a_floppy_of_2_88_mb_holds_twice_as_much() {
        let mut floppy = Floppy::blank(Density::Extended).unwrap();
        assert_eq!(floppy.as_bytes().len(), 2_949_120);
        let large = vec![7; 2_000_000];
        floppy.put("BIG.BIN", &large).unwrap();
        assert_eq!(floppy.file("BIG.BIN").unwrap(), large);
        // Sectors on a track, as a BIOS reads them.
        assert_eq!(floppy.as_bytes()[24], 36);
    }

    #[test]
    fn each_machine_gets_its_own_values_and_the_original_stays() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        let values = [
            ("FARRIER_NAME", "pc-17".to_owned()),
            ("FARRIER_EVIL", "x & DEL C:".to_owned()),
        ];
        assert_eq!(
            floppy.for_machine(&values).unwrap(),
            floppy,
            "it did not ask for them"
        );
        floppy.put(VARIABLES, b"").unwrap();
        let before = floppy.clone();
        let own = floppy.for_machine(&values).unwrap();
        assert_eq!(
            own.file(VARIABLES).unwrap(),
            b"@ECHO OFF\r\nSET FARRIER_NAME=pc-17\r\n"
        );
        assert_eq!(floppy, before);
    }

    #[test]
    fn damaged_floppies_are_refused() {
        let mut bytes = Floppy::blank(Density::High).unwrap().into_bytes();
        bytes[11..64].fill(0xff);
        assert!(Floppy::from_bytes(bytes).list().is_err());
        assert!(Floppy::from_bytes(Vec::new()).list().is_err());
    }
}
