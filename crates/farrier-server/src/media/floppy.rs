//! Floppies as files: made of a folder, changed file by file, and given each machine's own values on the way out.

mod search;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

use farrier_engine::medium_value::ValueName;
use fatfs::{Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions, ReadWriteSeek};

use super::bounded::Bounded;
use super::places::{self, TooNarrow};
use super::values::Values;
use search::Search;

pub use search::Fault;

/// What can be made, and gets each machine's own values: 1.44 MB (80 tracks, two sides, 18 sectors) and 2.88 MB (36).
pub const SIZES: [usize; 2] = [2880 * 512, 5760 * 512];

/// How many different values a floppy can ask for: those that Farrier knows, the most that people can set for a machine,
/// and some that nobody has set.
pub const MAX_NAMES: usize = 64;

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
    #[error(transparent)]
    TooNarrow(#[from] TooNarrow),
    #[error("it asks for more than {} different values", MAX_NAMES)]
    TooManyNames,
}

/// A floppy in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floppy(Vec<u8>);

/// One machine's copy of a floppy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFloppy {
    pub floppy: Floppy,
    /// What it asks for and nobody knows of this machine: empty in its copy.
    pub unknown: BTreeSet<ValueName>,
    /// The first of what cannot be read.
    pub fault: Option<Fault>,
}

/// What a floppy asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// How many characters the places of each value hold.
    pub widths: BTreeMap<ValueName, BTreeSet<u32>>,
    /// The first of what cannot be read.
    pub fault: Option<Fault>,
}

type Volume<'a> = FileSystem<Bounded<'a>>;

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
        // A volume of ours is sound, and thousands of files take a while.
        let disk = Bounded::new(&mut floppy.0, u64::MAX);
        in_volume(disk, |volume| copy_folder(&volume.root_dir(), folder))?;
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

    /// Whether each machine gets a [`VARIABLES`] of its own.
    #[must_use]
    pub fn has_variables(&self) -> bool {
        let mut copy = self.clone();
        let found = copy.change(|volume| Ok(volume.root_dir().open_file(VARIABLES).is_ok()));
        found.unwrap_or(false)
    }

    /// Its places for values.
    pub fn asked(&self) -> Result<Asked, FloppyError> {
        let mut widths = BTreeMap::<_, BTreeSet<_>>::new();
        let fault = self.clone().each_place(|name, place| {
            let width = u32::try_from(place.len()).unwrap_or(u32::MAX);
            widths.entry(name).or_default().insert(width);
            Ok(())
        })?;
        Ok(Asked { widths, fault })
    }

    /// A copy with a machine's own values in its places and, if the floppy has that file, in [`VARIABLES`]; this one
    /// stays as it is. Names and values are of types that hold nothing a batch file would take for syntax.
    pub fn for_machine(&self, values: &Values) -> Result<OwnFloppy, FloppyError> {
        let (mut floppy, mut unknown) = (self.clone(), BTreeSet::new());
        let fault = floppy.each_place(|name, place| {
            let text = values.find(&name).and_then(|value| value.text.as_ref());
            places::fill(place, &name, text)?;
            if text.is_none() {
                unknown.insert(name);
            }
            Ok(())
        })?;
        if floppy.has_variables() {
            let mut batch = "@ECHO OFF\r\n".to_owned();
            for value in values.iter() {
                if let Some(text) = &value.text {
                    batch += &format!("SET {}={text}\r\n", value.name.variable());
                } else {
                    unknown.insert(value.name.clone());
                }
            }
            floppy.put(VARIABLES, batch.as_bytes())?;
        }
        Ok(OwnFloppy {
            floppy,
            unknown,
            fault,
        })
    }

    /// Shows `work` each place: on a FAT volume in front of its tables, where the boot sector is, and in its files,
    /// since what is left of deleted ones asks for nothing; on any other floppy wherever it is. What cannot be read is
    /// passed over, and the first of it returned.
    fn each_place(
        &mut self,
        mut work: impl FnMut(ValueName, &mut [u8]) -> Result<(), FloppyError>,
    ) -> Result<Option<Fault>, FloppyError> {
        let mut names = BTreeSet::new();
        let mut work = |name: ValueName, place: &mut [u8]| {
            if !names.contains(&name) {
                if names.len() == MAX_NAMES {
                    return Err(FloppyError::TooManyNames);
                }
                names.insert(name.clone());
            }
            work(name, place)
        };
        if self.change(|_| Ok(())).is_err() {
            places::each(&mut self.0, work)?;
            return Ok(None);
        }
        // BPB_BytsPerSec and BPB_RsvdSecCnt.
        let [sector, reserved] =
            [11, 14].map(|at| u16::from_le_bytes([self.0[at], self.0[at + 1]]));
        let front = (usize::from(sector) * usize::from(reserved)).min(self.0.len());
        places::each(&mut self.0[..front], &mut work)?;
        let mut search = Search::new(work, self.0.len());
        self.change(|volume| search.folder(&volume.root_dir(), "", 0))?;
        Ok(search.fault())
    }

    fn change<T>(
        &mut self,
        work: impl FnOnce(&Volume<'_>) -> Result<T, FloppyError>,
    ) -> Result<T, FloppyError> {
        in_volume(Bounded::sound(&mut self.0), work)
    }
}

fn in_volume<T>(
    disk: Bounded<'_>,
    work: impl FnOnce(&Volume<'_>) -> Result<T, FloppyError>,
) -> Result<T, FloppyError> {
    let volume = FileSystem::new(disk, FsOptions::new()).map_err(FloppyError::NotAFloppy)?;
    work(&volume)
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
    use farrier_engine::medium_value::ValueText;
    use proptest::prelude::*;

    use super::super::values::OwnValue;
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

    pub(super) fn values(rows: &[(&str, Option<&str>)]) -> Values {
        let mut values = Values::default();
        for (name, text) in rows {
            values.put(OwnValue {
                name: ValueName::new(*name).unwrap(),
                text: text.map(|text| ValueText::new(text).unwrap()),
                origin: "test".into(),
            });
        }
        values
    }

    fn names(found: &BTreeSet<ValueName>) -> Vec<&str> {
        found.iter().map(ValueName::as_str).collect()
    }

    #[test]
    fn each_machine_gets_its_own_values_and_the_original_stays() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        let values = values(&[("name", Some("pc-17")), ("router", None)]);
        let own = floppy.for_machine(&values).unwrap();
        assert_eq!(own.floppy, floppy, "it did not ask for them");
        assert!(own.unknown.is_empty());
        floppy.put(VARIABLES, b"").unwrap();
        let before = floppy.clone();
        let own = floppy.for_machine(&values).unwrap();
        assert_eq!(
            own.floppy.file(VARIABLES).unwrap(),
            b"@ECHO OFF\r\nSET FARRIER_NAME=pc-17\r\n"
        );
        assert_eq!(names(&own.unknown), ["router"]);
        assert_eq!(floppy, before);
    }

    pub(super) const SYSTEM: &[u8] =
        b"[network]\r\ncomputername={{FARRIER_NAME}}\r\nhome={{FARRIER_HOME}}\r\n";

    #[test]
    fn r9_places_in_files_and_in_the_boot_sector_are_filled() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        floppy.put("NET/SYSTEM.INI", SYSTEM).unwrap();
        floppy.0[0x80..0x90].copy_from_slice(b"{{FARRIER_NAME}}");
        let expected =
            ["home", "name"].map(|name| (ValueName::new(name).unwrap(), BTreeSet::from([16])));
        assert_eq!(floppy.asked().unwrap().widths, BTreeMap::from(expected));
        let before = floppy.clone();
        let own = floppy
            .for_machine(&values(&[("name", Some("pc-17"))]))
            .unwrap();
        assert_eq!(
            own.floppy.file("NET/SYSTEM.INI").unwrap(),
            b"[network]\r\ncomputername=pc-17           \r\nhome=                \r\n"
        );
        assert_eq!(own.floppy.as_bytes()[0x80..0x90], *b"pc-17           ");
        assert_eq!(names(&own.unknown), ["home"]);
        assert_eq!(own.floppy.list().unwrap(), floppy.list().unwrap());
        assert_eq!(floppy, before);
        let long = values(&[("home", Some("12345678901234567"))]);
        let refused = floppy.for_machine(&long).unwrap_err();
        assert!(matches!(refused, FloppyError::TooNarrow(_)), "{refused}");
        assert_eq!(floppy, before);
    }

    #[test]
    fn r9_what_is_left_of_deleted_files_asks_for_nothing() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        floppy.put("OLD.INI", SYSTEM).unwrap();
        floppy.remove("OLD.INI").unwrap();
        let is_there = |floppy: &Floppy| {
            let mut parts = floppy.0.windows(SYSTEM.len());
            parts.any(|part| part == SYSTEM)
        };
        assert!(is_there(&floppy), "the sectors still hold it");
        assert_eq!(floppy.asked().unwrap(), Asked::default());
        let long = values(&[("home", Some("12345678901234567"))]);
        assert_eq!(floppy.for_machine(&long).unwrap().floppy, floppy);
    }

    #[test]
    fn r9_a_place_on_clusters_that_are_not_in_a_row_is_filled() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        for number in 0..20 {
            let path = format!("D/F{number}.TXT");
            floppy.put(&path, &[b'.'; 512]).unwrap();
        }
        // Two clusters are left, and the next file has to take both.
        assert!(floppy.put("REST.BIN", &vec![b'.'; SIZES[0]]).is_err());
        floppy.remove("D/F5.TXT").unwrap();
        floppy.remove("D/F15.TXT").unwrap();
        let mut text = vec![b'x'; 505];
        text.extend(b"{{FARRIER_NAME}}");
        floppy.put("SPLIT.TXT", &text).unwrap();
        let whole = |floppy: &Floppy, wanted: &[u8]| {
            let mut parts = floppy.0.windows(wanted.len());
            parts.any(|part| part == wanted)
        };
        assert!(!whole(&floppy, b"{{FARRIER_NAME}}"), "it is in two pieces");
        let own = floppy
            .for_machine(&values(&[("name", Some("pc-number-17"))]))
            .unwrap();
        let split = own.floppy.file("SPLIT.TXT").unwrap();
        assert_eq!(split[505..], *b"pc-number-17    ");
        assert_eq!(own.floppy.file("D/F6.TXT").unwrap(), [b'.'; 512]);
    }

    #[test]
    fn r9_a_floppy_without_files_is_searched_whole() {
        let mut floppy = Floppy::from_bytes(vec![0; SIZES[0]]);
        floppy.0[700_000..700_016].copy_from_slice(b"{{FARRIER_NAME}}");
        assert!(!floppy.has_variables());
        let own = floppy
            .for_machine(&values(&[("name", Some("pc-17"))]))
            .unwrap();
        assert_eq!(own.floppy.0[700_000..700_016], *b"pc-17           ");
    }

    proptest! {
        /// Values change bytes of places and nothing else: neither the size nor any file's length, and every other file
        /// reads as before.
        #[test]
        fn t4_values_change_nothing_but_their_places(
            name in "[a-z0-9-]{1,40}",
            home in r"\\\\[a-z]{1,8}\\[a-z$]{1,30}",
            gap in 0_usize..1200,
        ) {
            let mut floppy = Floppy::blank(Density::Extended).unwrap();
            let text = [&vec![b'.'; gap], SYSTEM].concat();
            floppy.put("SYSTEM.INI", &text).unwrap();
            floppy.put("OTHER.TXT", b"computername=").unwrap();
            let known = values(&[("name", Some(&name)), ("home", Some(&home))]);
            match floppy.for_machine(&known) {
                Err(FloppyError::TooNarrow(_)) => prop_assert!(name.len() > 16 || home.len() > 16),
                Err(other) => prop_assert!(false, "{other}"),
                Ok(OwnFloppy { floppy: own, unknown, fault }) => {
                    prop_assert!(unknown.is_empty());
                    prop_assert_eq!(fault, None);
                    prop_assert_eq!(own.0.len(), floppy.0.len());
                    prop_assert_eq!(own.list().unwrap(), floppy.list().unwrap());
                    prop_assert_eq!(own.file("OTHER.TXT").unwrap(), b"computername=");
                    let expected = format!("[network]\r\ncomputername={name:16}\r\nhome={home:16}\r\n");
                    let system = own.file("SYSTEM.INI").unwrap();
                    prop_assert_eq!(&system[gap..], expected.as_bytes());
                }
            }
        }
    }

    #[test]
    fn r9_a_place_in_the_batch_file_that_is_replaced_counts_for_nothing() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        floppy.put(VARIABLES, b"SET X={{FARRIER_HOME}}").unwrap();
        let long = values(&[("home", Some("12345678901234567"))]);
        let own = floppy.for_machine(&long).unwrap();
        assert_eq!(
            own.floppy.file(VARIABLES).unwrap(),
            b"@ECHO OFF\r\nSET FARRIER_HOME=12345678901234567\r\n"
        );
        assert_eq!(floppy.asked().unwrap(), Asked::default());
        // In a folder it is a file as any other.
        floppy.put("OLD/FARRIER.BAT", b"{{FARRIER_HOME}}").unwrap();
        let refused = floppy.for_machine(&long).unwrap_err();
        assert!(matches!(refused, FloppyError::TooNarrow(_)), "{refused}");
    }

    #[test]
    fn t16_more_names_than_anybody_sets_are_refused() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        let text = |count: usize| {
            let places = (0..count).map(|number| format!("{{{{FARRIER_X{number}}}}}\r\n"));
            places.collect::<String>().repeat(2)
        };
        floppy.put("MANY.INI", text(MAX_NAMES).as_bytes()).unwrap();
        assert_eq!(floppy.asked().unwrap().widths.len(), MAX_NAMES);
        let own = floppy.for_machine(&Values::default()).unwrap();
        assert_eq!(own.unknown.len(), MAX_NAMES);
        floppy
            .put("MANY.INI", text(MAX_NAMES + 1).as_bytes())
            .unwrap();
        for refused in [
            floppy.asked().map(drop),
            floppy.for_machine(&Values::default()).map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(
                refused.to_string(),
                "it asks for more than 64 different values"
            );
        }
    }

    #[test]
    fn damaged_floppies_are_refused() {
        let mut bytes = Floppy::blank(Density::High).unwrap().into_bytes();
        bytes[11..64].fill(0xff);
        assert!(Floppy::from_bytes(bytes).list().is_err());
        assert!(Floppy::from_bytes(Vec::new()).list().is_err());
    }
}
