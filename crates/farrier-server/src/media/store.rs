//! Putting media into the data folder: looked at first, visible only when whole.

use std::fs::File;
use std::io;
use std::path::Path;

use farrier_engine::medium::{Medium, MediumName};

use super::look::{LookError, look};

/// Why an image was not taken.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("there is a medium {0} already: remove it first, or give another name with --name")]
    Exists(MediumName),
    #[error("there is no medium {0}: `farrier media list` shows those that there are")]
    Missing(MediumName),
    #[error("the medium cannot be written")]
    Write(#[source] io::Error),
}

/// Copies an image into the folder.
pub fn add(folder: &Path, image: &Path, name: MediumName) -> Result<Medium, StoreError> {
    let medium = look(image)?;
    let place = folder.join(name.as_str());
    if place.exists() {
        return Err(StoreError::Exists(name));
    }
    std::fs::create_dir_all(folder).map_err(StoreError::Write)?;
    // No medium's name begins with a dot, so a server does not see what is not whole.
    let partial = folder.join(format!(".{name}.new"));
    copy(image, &partial)
        .and_then(|()| std::fs::rename(&partial, &place))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| {
            let _ = std::fs::remove_file(&partial);
            StoreError::Write(error)
        })?;
    Ok(medium)
}

/// Takes one out of the folder.
pub fn remove(folder: &Path, name: MediumName) -> Result<(), StoreError> {
    std::fs::remove_file(folder.join(name.as_str())).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Missing(name),
        _ => StoreError::Write(error),
    })
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut written = File::create(to)?;
    io::copy(&mut File::open(from)?, &mut written)?;
    written.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_looked_at_first_and_never_replaced_by_the_way() {
        let data = tempfile::tempdir().unwrap();
        let (folder, image) = (data.path().join("media"), data.path().join("some.img"));
        let name = MediumName::new("dos.img").unwrap();
        std::fs::write(&image, b"too short").unwrap();
        assert!(matches!(
            add(&folder, &image, name),
            Err(StoreError::Look(LookError::TooSmall(9)))
        ));
        assert!(!folder.exists());
        std::fs::write(&image, vec![0; 1_474_560]).unwrap();
        assert_eq!(add(&folder, &image, name).unwrap().size, 1_474_560);
        assert!(matches!(
            add(&folder, &image, name),
            Err(StoreError::Exists(_))
        ));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        remove(&folder, name).unwrap();
        assert!(matches!(remove(&folder, name), Err(StoreError::Missing(_))));
    }
}
