//! The images in the data folder's `media`: what each is, and its bytes, whole or by range.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use farrier_engine::WallTime;
use farrier_engine::medium::{Medium, MediumName};
use tokio::sync::OnceCell;

use super::look::{LookError, look};

/// The folder, what was found in it, and what was read from it lately.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    media: ArcSwap<BTreeMap<MediumName, Medium>>,
    /// How the folder stood when that was found.
    stand: Mutex<Stand>,
    /// What was read of late or is being read.
    kept: Mutex<HashMap<Version, Kept>>,
}

/// A file by name, size and time of change.
type Version = (String, u64, Option<SystemTime>);
type Stand = Vec<Version>;

/// An image in memory, or the room for one that is being read.
#[derive(Debug)]
struct Kept {
    content: Arc<OnceCell<Bytes>>,
    used: WallTime,
}

impl Kept {
    /// Whether somebody waits for it or is sent it: to let go of it would give back nothing then.
    fn is_in_use(&self) -> bool {
        let is_sent = |content: &Bytes| !content.is_empty() && !content.is_unique();
        Arc::strong_count(&self.content) > 1 || self.content.get().is_some_and(is_sent)
    }
}

/// Why an image is not served.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("there is no such image")]
    Missing,
    #[error("the image has {0} bytes, and more than 512 MiB go out by HTTP only")]
    TooLarge(u64),
    #[error("others fill the memory for images; try again when they are sent")]
    Full,
    #[error("the image cannot be read")]
    Read(#[from] io::Error),
}

impl Shelf {
    /// Looks at what there is; a folder that is missing holds nothing.
    #[must_use]
    pub fn open(folder: PathBuf) -> Self {
        let shelf = Self {
            folder,
            media: ArcSwap::default(),
            stand: Mutex::default(),
            kept: Mutex::default(),
        };
        shelf.reload();
        shelf
    }

    /// Looks again if something in the folder has changed; returns whether it has.
    pub fn reload(&self) -> bool {
        let now = stand_of(&self.folder);
        let mut stand = self.stand.lock().unwrap_or_else(PoisonError::into_inner);
        if *stand == now {
            return false;
        }
        let found = found(&self.folder).into_iter();
        let good = found.filter_map(|(name, looked)| match looked {
            Ok(medium) => Some((name, medium)),
            Err(error) => {
                tracing::warn!(%name, %error, "a file among the media is none that machines start");
                None
            }
        });
        self.media.store(Arc::new(good.collect()));
        *stand = now;
        true
    }

    /// Those that machines can start.
    #[must_use]
    pub fn media(&self) -> Arc<BTreeMap<MediumName, Medium>> {
        self.media.load_full()
    }

    /// What an image is, as it is on disk now.
    pub fn medium(&self, name: &str) -> Result<Medium, ShelfError> {
        let (path, _) = self.find(name)?;
        look(&path).map_err(|error| match error {
            LookError::Read(error) => ShelfError::Read(error),
            other => ShelfError::Read(io::Error::other(other)),
        })
    }

    /// How many bytes an image has on disk now.
    pub fn size(&self, name: &str) -> Result<u64, ShelfError> {
        self.find(name).map(|(_, about)| about.len())
    }

    /// The bytes of an image, as they are on disk now. They are read on another thread, once for all who ask meanwhile.
    pub async fn image(&self, name: &str, now: WallTime) -> Result<Bytes, ShelfError> {
        let (path, about) = self.find(name)?;
        if about.len() > MAX_IMAGE {
            return Err(ShelfError::TooLarge(about.len()));
        }
        let len = about.len();
        let content = self.room((name.to_owned(), len, about.modified().ok()), now)?;
        // In a task of its own, or who hangs up would leave a read behind that nobody counts, for the next to repeat.
        let read = tokio::spawn(async move {
            let read = content.get_or_try_init(|| async move {
                let done = tokio::task::spawn_blocking(move || read_whole(&path, len)).await;
                done.map_err(io::Error::other)?
            });
            read.await.cloned()
        });
        Ok(read.await.map_err(io::Error::other)??)
    }

    /// Where this image is or will be in memory. Those that nobody uses make room.
    fn room(&self, version: Version, now: WallTime) -> Result<Arc<OnceCell<Bytes>>, ShelfError> {
        let mut kept = self.kept();
        if let Some(known) = kept.get_mut(&version) {
            known.used = now;
            return Ok(Arc::clone(&known.content));
        }
        let len = version.1;
        if bytes(&kept) + len > MAX_HELD {
            kept.retain(|_, kept| kept.is_in_use());
        }
        // The others are few and small, and loaders fetch them by HTTP too.
        if len > IN_MEMORY && bytes(&kept) + len > MAX_HELD {
            return Err(ShelfError::Full);
        }
        let content = Arc::<OnceCell<Bytes>>::default();
        let room = Kept {
            content: Arc::clone(&content),
            used: now,
        };
        kept.insert(version, room);
        Ok(content)
    }

    /// Gives the memory of images back that nobody uses: of those that have gone from the folder or were replaced
    /// there at once, of the others after some minutes.
    pub fn let_go(&self, now: WallTime) {
        let stand = self.stand.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = self.kept();
        let is_over = |version: &Version, kept: &mut Kept| {
            if kept.is_in_use() {
                kept.used = now;
                return false;
            }
            stand.binary_search(version).is_err() || now.since(kept.used) >= KEPT
        };
        let over: Vec<_> = kept.extract_if(is_over).collect();
        drop(kept);
        // Hundreds of MiB take the kernel a while, and nobody needs to wait for that.
        drop(over);
    }

    /// Bytes of images in memory, or for which there is room.
    #[must_use]
    pub fn held(&self) -> u64 {
        bytes(&self.kept())
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Version, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An image that is too large to be held in memory for everybody: open, with its size.
    #[must_use]
    pub fn large(&self, name: &str) -> Option<(File, u64)> {
        let (path, about) = self.find(name).ok()?;
        let file = (about.len() > IN_MEMORY).then(|| File::open(path))?.ok()?;
        // Another one may have come in its place.
        let len = file.metadata().ok()?.len();
        Some((file, len))
    }

    /// The name is compared with those in the folder, never joined to a path.
    fn find(&self, name: &str) -> Result<(PathBuf, std::fs::Metadata), ShelfError> {
        MediumName::new(name).map_err(|_| ShelfError::Missing)?;
        let entries = std::fs::read_dir(&self.folder).map_err(|_| ShelfError::Missing)?;
        let entry = entries
            .flatten()
            .find(|entry| entry.file_name().to_str() == Some(name))
            .ok_or(ShelfError::Missing)?;
        let about = entry.metadata()?;
        if !about.is_file() {
            return Err(ShelfError::Missing);
        }
        Ok((entry.path(), about))
    }
}

/// What is in the folder under a name that media can have, and what each is.
#[must_use]
pub fn found(folder: &Path) -> Vec<(MediumName, Result<Medium, LookError>)> {
    let names = stand_of(folder).into_iter();
    let names = names.filter_map(|(name, ..)| MediumName::new(&name).ok());
    names
        .map(|name| (name, look(&folder.join(name.as_str()))))
        .collect()
}

fn bytes(kept: &HashMap<Version, Kept>) -> u64 {
    kept.keys().map(|(_, len, _)| len).sum()
}

/// No more than there was room made for, should the file grow meanwhile.
fn read_whole(path: &Path, len: u64) -> io::Result<Bytes> {
    let mut content = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    File::open(path)?.take(len).read_to_end(&mut content)?;
    if content.len() as u64 != len {
        return Err(io::Error::other("it was changed while it was read"));
    }
    Ok(Bytes::from(content))
}

fn stand_of(folder: &Path) -> Stand {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| {
        let about = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let name = entry.file_name().into_string().ok()?;
        Some((name, about.len(), about.modified().ok()))
    });
    let mut stand: Stand = files.take(MAX_FILES).collect();
    stand.sort();
    stand
}

/// More than anybody shows in menus.
const MAX_FILES: usize = 1024;
const MAX_IMAGE: u64 = 512 << 20;
/// Two of the largest.
const MAX_HELD: u64 = 1 << 30;
/// From one machine of a room to the next.
const KEPT: Duration = Duration::from_secs(300);
/// What is larger is read from the disk for each request.
const IN_MEMORY: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(0);

    #[tokio::test]
    async fn t7_only_files_of_the_folder_are_images() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("media");
        std::fs::create_dir_all(folder.join("inside")).unwrap();
        std::fs::write(data.path().join("secret"), b"x").unwrap();
        std::fs::write(folder.join("dos.img"), b"one").unwrap();
        let shelf = Shelf::open(folder.clone());
        assert_eq!(
            shelf.image("dos.img", NOW).await.unwrap(),
            b"one".as_slice()
        );
        for name in ["../secret", "secret", "inside", "", ".", "/etc/passwd"] {
            assert!(
                matches!(shelf.image(name, NOW).await, Err(ShelfError::Missing)),
                "{name}"
            );
        }
        std::fs::write(folder.join("dos.img"), b"two!").unwrap();
        let later = SystemTime::now() + Duration::from_secs(2);
        let file = File::options()
            .write(true)
            .open(folder.join("dos.img"))
            .unwrap();
        file.set_modified(later).unwrap();
        assert_eq!(
            shelf.image("dos.img", NOW).await.unwrap(),
            b"two!".as_slice()
        );
    }

    #[test]
    fn r2_what_comes_and_goes_is_noticed() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("media");
        let shelf = Shelf::open(folder.clone());
        assert!(shelf.media().is_empty());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("dos.img"), vec![0; 1_474_560]).unwrap();
        std::fs::write(folder.join("notes.txt"), b"no medium").unwrap();
        assert!(shelf.reload());
        let names: Vec<_> = shelf.media().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["dos.img"]);
        assert!(!shelf.reload(), "nothing is new");
        std::fs::remove_file(folder.join("dos.img")).unwrap();
        assert!(shelf.reload() && shelf.media().is_empty());
    }
}
