//! The images that people put into the data folder's `media`, served whole or by range.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

/// The folder, and what was read from it lately.
#[derive(Debug)]
pub struct Shelf {
    folder: PathBuf,
    read: Mutex<HashMap<String, Kept>>,
}

#[derive(Debug)]
struct Kept {
    changed: SystemTime,
    content: Bytes,
}

/// Why an image is not served.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("there is no such image")]
    Missing,
    #[error(
        "the image has {0} bytes; at most 512 MiB are served, since machines hold it in memory"
    )]
    TooLarge(u64),
    #[error("the image cannot be read")]
    Read(#[from] io::Error),
}

impl Shelf {
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            read: Mutex::default(),
        }
    }

    /// The bytes of an image, as they are on disk now. The name is compared with those in the folder, never
    /// joined to a path.
    pub fn image(&self, name: &str) -> Result<Bytes, ShelfError> {
        let entries = std::fs::read_dir(&self.folder).map_err(|_| ShelfError::Missing)?;
        let entry = entries
            .flatten()
            .find(|entry| entry.file_name().to_str() == Some(name))
            .ok_or(ShelfError::Missing)?;
        let about = entry.metadata()?;
        if !about.is_file() {
            return Err(ShelfError::Missing);
        }
        if about.len() > MAX_IMAGE {
            return Err(ShelfError::TooLarge(about.len()));
        }
        let changed = about.modified()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = read.get(name).filter(|kept| kept.changed == changed) {
            return Ok(kept.content.clone());
        }
        let content = Bytes::from(std::fs::read(entry.path())?);
        let held: usize = read.values().map(|kept| kept.content.len()).sum();
        if held + content.len() > MAX_HELD {
            read.clear();
        }
        let kept = Kept {
            changed,
            content: content.clone(),
        };
        read.insert(name.to_owned(), kept);
        Ok(content)
    }
}

const MAX_IMAGE: u64 = 512 << 20;
const MAX_HELD: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t7_only_files_of_the_folder_are_images() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("media");
        std::fs::create_dir_all(folder.join("inside")).unwrap();
        std::fs::write(data.path().join("secret"), b"x").unwrap();
        std::fs::write(folder.join("dos.img"), b"one").unwrap();
        let shelf = Shelf::new(folder.clone());
        assert_eq!(shelf.image("dos.img").unwrap(), b"one".as_slice());
        for name in ["../secret", "secret", "inside", "", ".", "/etc/passwd"] {
            assert!(
                matches!(shelf.image(name), Err(ShelfError::Missing)),
                "{name}"
            );
        }
        std::fs::write(folder.join("dos.img"), b"two!").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(2);
        let file = std::fs::File::options()
            .write(true)
            .open(folder.join("dos.img"))
            .unwrap();
        file.set_modified(later).unwrap();
        assert_eq!(shelf.image("dos.img").unwrap(), b"two!".as_slice());
    }
}
