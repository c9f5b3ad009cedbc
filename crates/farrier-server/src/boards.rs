//! The boot folder of boards that have no firmware of their own beyond a ROM: Raspberry Pis.
//!
//! Their ROM fetches by TFTP what would lie on a memory card. `<data>/boards/raspberry-pi` holds that folder as on the
//! card. A folder in it that is named by a board's serial number or hardware address is for that board alone, and
//! goes before what is there for all: the ROM's own convention (`protocols.md` 10).

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

/// The folder, and what was asked for of late.
#[derive(Debug)]
pub struct Boards {
    folder: PathBuf,
    cache: Mutex<HashMap<PathBuf, Read>>,
}

/// A file as it was when it was read.
#[derive(Debug)]
struct Read {
    modified: SystemTime,
    content: Bytes,
}

/// What was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    pub files: usize,
    pub bytes: u64,
}

/// Nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    #[error(
        "{} holds none of {}: name the folder whose content would be on the board's memory card",
        .0.display(), FIRST_FILES.join(", ")
    )]
    NoBoard(PathBuf),
    #[error("{} is no file: put the file itself there", .0.display())]
    NoFile(PathBuf),
    #[error("{}: no board asks for such a name; letters, digits and . _ - + are allowed", .0.display())]
    Name(PathBuf),
    #[error("{} is larger than {} MiB, or the folder holds more than {} MiB", .0.display(), MAX_FILE >> 20, MAX_ALL >> 20)]
    TooLarge(PathBuf),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl Boards {
    /// The folder below a server's data folder. It need not exist.
    #[must_use]
    pub fn below(data: &Path) -> Self {
        Self {
            folder: data.join("boards").join("raspberry-pi"),
            cache: Mutex::default(),
        }
    }

    /// Whether there is such a folder.
    #[must_use]
    pub fn are_served(&self) -> bool {
        self.folder.is_dir()
    }

    /// A file by its cleaned name; that of the board's own folder first.
    pub fn file(&self, board: Option<&str>, name: &str) -> io::Result<Option<Bytes>> {
        if !name.split('/').all(is_allowed) {
            return Ok(None);
        }
        if let Some(board) = board {
            let own = self.folder.join(board.to_ascii_lowercase()).join(name);
            if let Some(content) = self.read(own)? {
                return Ok(Some(content));
            }
        }
        self.read(self.folder.join(name))
    }

    fn read(&self, path: PathBuf) -> io::Result<Option<Bytes>> {
        let found = match fs::metadata(&path) {
            Ok(found) if found.is_file() => found,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
            Err(error) => return Err(error),
        };
        if found.len() > MAX_FILE {
            return Err(io::Error::other("it is too large to be served"));
        }
        let modified = found.modified()?;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = cache.get(&path)
            && (read.modified, read.content.len() as u64) == (modified, found.len())
        {
            return Ok(Some(read.content.clone()));
        }
        let content = Bytes::from(fs::read(&path)?);
        let held: usize = cache.values().map(|read| read.content.len()).sum();
        if held as u64 + found.len() > MAX_ALL {
            cache.clear();
        }
        let read = Read {
            modified,
            content: content.clone(),
        };
        cache.insert(path, read);
        Ok(Some(content))
    }

    /// Takes a folder over, in the place of the one before. A server may be serving it meanwhile.
    ///
    /// # Errors
    /// When it is no board's folder; then the one before stays.
    pub fn import(&self, from: &Path) -> Result<Imported, BoardError> {
        if !FIRST_FILES.iter().any(|name| from.join(name).is_file()) {
            return Err(BoardError::NoBoard(from.to_owned()));
        }
        let [new, old] = ["new", "old"].map(|end| self.folder.with_extension(end));
        // An import that was killed half way had moved it.
        if old.exists() && !self.folder.exists() {
            fs::rename(&old, &self.folder).map_err(at(&old))?;
        }
        for left in [&new, &old] {
            if left.exists() {
                fs::remove_dir_all(left).map_err(at(left))?;
            }
        }
        let mut imported = Imported { files: 0, bytes: 0 };
        copy(from, &new, &mut imported)?;
        if self.folder.exists() {
            fs::rename(&self.folder, &old).map_err(at(&self.folder))?;
        }
        fs::rename(&new, &self.folder).map_err(at(&new))?;
        if old.exists() {
            fs::remove_dir_all(&old).map_err(at(&old))?;
        }
        Ok(imported)
    }
}

/// What a board asks for first. Without one of them nothing else is ever asked for.
pub const FIRST_FILES: [&str; 4] = ["bootcode.bin", "start.elf", "start4.elf", "config.txt"];

fn copy(from: &Path, to: &Path, imported: &mut Imported) -> Result<(), BoardError> {
    fs::create_dir_all(to).map_err(at(to))?;
    for entry in fs::read_dir(from).map_err(at(from))? {
        let path = entry.map_err(at(from))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // What a desktop leaves in every folder is no reason to stop.
        if name.is_some_and(|name| name.starts_with('.')) {
            continue;
        }
        let Some(name) = name.filter(|name| is_allowed(name)) else {
            return Err(BoardError::Name(path));
        };
        let kind = fs::symlink_metadata(&path).map_err(at(&path))?;
        if kind.is_dir() {
            copy(&path, &to.join(board_folder(name)), imported)?;
            continue;
        }
        if !kind.is_file() {
            return Err(BoardError::NoFile(path));
        }
        imported.files += 1;
        imported.bytes += kind.len();
        if kind.len() > MAX_FILE || imported.bytes > MAX_ALL {
            return Err(BoardError::TooLarge(path));
        }
        let copied = to.join(name);
        fs::copy(&path, &copied).map_err(at(&path))?;
        let written = fs::File::open(&copied).and_then(|file| file.sync_all());
        written.map_err(at(&copied))?;
    }
    Ok(())
}

/// Boards write their serial number in either case.
fn board_folder(name: &str) -> String {
    let is_board = farrier_engine::facts::without_board_folder(&format!("{name}/x")).is_some();
    if is_board {
        name.to_ascii_lowercase()
    } else {
        name.to_owned()
    }
}

fn is_allowed(part: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-+".contains(&b);
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(fits)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BoardError {
    let path = path.to_owned();
    move |source| BoardError::Io { path, source }
}

/// A kernel with everything in it is a third of that.
const MAX_FILE: u64 = 96 << 20;
const MAX_ALL: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn card(files: &[(&str, &str)]) -> tempfile::TempDir {
        let card = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = card.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        card
    }

    fn text(boards: &Boards, board: Option<&str>, name: &str) -> Option<String> {
        let content = boards.file(board, name).unwrap()?;
        Some(String::from_utf8(content.to_vec()).unwrap())
    }

    #[test]
    fn a_board_gets_its_own_file_before_that_of_all() {
        let data = tempfile::tempdir().unwrap();
        let boards = Boards::below(data.path());
        assert!(!boards.are_served());
        let card = card(&[
            ("start4.elf", "firmware"),
            ("config.txt", "of all"),
            ("overlays/miniuart-bt.dtbo", "overlay"),
            ("9FFEFDEF/config.txt", "of one"),
            (".Trash/leftover", "no"),
        ]);
        let imported = boards.import(card.path()).unwrap();
        assert_eq!((imported.files, imported.bytes), (4, 27));
        let one = Some("9ffefdef");
        assert_eq!(text(&boards, one, "config.txt").unwrap(), "of one");
        assert_eq!(
            text(&boards, Some("9FFEFDEF"), "config.txt").unwrap(),
            "of one"
        );
        assert_eq!(
            text(&boards, Some("00000001"), "config.txt").unwrap(),
            "of all"
        );
        assert_eq!(text(&boards, one, "start4.elf").unwrap(), "firmware");
        assert_eq!(
            text(&boards, None, "overlays/miniuart-bt.dtbo").unwrap(),
            "overlay"
        );
        for name in [
            "overlays",
            "start.elf",
            "start4.elf/x",
            "../farrier.db",
            ".Trash/leftover",
            "",
        ] {
            assert_eq!(text(&boards, one, name), None, "{name}");
        }
    }

    #[test]
    fn a_new_folder_takes_the_place_of_the_old_one_whole() {
        let data = tempfile::tempdir().unwrap();
        let boards = Boards::below(data.path());
        boards
            .import(card(&[("start4.elf", "one"), ("gone", "x")]).path())
            .unwrap();
        assert_eq!(text(&boards, None, "start4.elf").unwrap(), "one");
        boards
            .import(card(&[("start4.elf", "two")]).path())
            .unwrap();
        assert_eq!(text(&boards, None, "start4.elf").unwrap(), "two");
        assert_eq!(text(&boards, None, "gone"), None);
    }

    #[test]
    fn an_import_that_was_killed_half_way_has_lost_nothing() {
        let data = tempfile::tempdir().unwrap();
        let boards = Boards::below(data.path());
        boards
            .import(card(&[("start4.elf", "one")]).path())
            .unwrap();
        let beside = |end| boards.folder.with_extension(end);
        fs::rename(&boards.folder, beside("old")).unwrap();
        fs::create_dir(beside("new")).unwrap();
        let linked = card(&[("start4.elf", "two")]);
        std::os::unix::fs::symlink("x", linked.path().join("link")).unwrap();
        boards.import(linked.path()).unwrap_err();
        assert_eq!(text(&boards, None, "start4.elf").unwrap(), "one");
        boards
            .import(card(&[("start4.elf", "two")]).path())
            .unwrap();
        assert_eq!(text(&boards, None, "start4.elf").unwrap(), "two");
        assert!(!beside("old").exists() && !beside("new").exists());
    }

    #[test]
    fn what_is_no_card_is_refused_and_the_folder_before_stays() {
        let data = tempfile::tempdir().unwrap();
        let boards = Boards::below(data.path());
        boards
            .import(card(&[("start4.elf", "one")]).path())
            .unwrap();
        let refused = |files: &[(&str, &str)]| boards.import(card(files).path()).unwrap_err();
        let none = refused(&[("kernel.img", "x")]).to_string();
        assert!(
            none.contains("holds none of bootcode.bin, start.elf"),
            "{none}"
        );
        assert!(matches!(
            refused(&[("start.elf", "x"), ("a b", "x")]),
            BoardError::Name(_)
        ));
        let linked = card(&[("start.elf", "x")]);
        std::os::unix::fs::symlink("/etc/passwd", linked.path().join("link")).unwrap();
        let error = boards.import(linked.path()).unwrap_err();
        assert!(matches!(error, BoardError::NoFile(_)), "{error}");
        assert_eq!(text(&boards, None, "start4.elf").unwrap(), "one");
    }
}
