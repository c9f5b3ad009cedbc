//! The way in for whoever may read the server's data folder: a token in a file that only its owner reads.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use farrier_db::TokenHash;

use super::token::{self, NoRandom};

/// The file's name in the data folder.
pub const FILE: &str = "admin.token";

/// The token file could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LocalTokenError {
    #[error(transparent)]
    Random(#[from] NoRandom),
    #[error("{FILE} cannot be written: check the owner and free space of the data folder")]
    Write(#[from] io::Error),
}

/// Makes a new token for this run of the server and puts it into the data folder.
pub fn create(data_dir: &Path) -> Result<TokenHash, LocalTokenError> {
    let secret = token::new_token("farrier_local_")?;
    let path = data_dir.join(FILE);
    let fresh = data_dir.join(format!("{FILE}.new"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&fresh)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, &path)?;
    Ok(token::hash(&secret))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::{FILE, create};
    use crate::auth::token;

    #[test]
    fn the_file_is_for_its_owner_and_new_at_each_start() {
        let folder = tempfile::tempdir().unwrap();
        let first = create(folder.path()).unwrap();
        let old = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        let second = create(folder.path()).unwrap();
        let new = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(token::is(&old, &first) && token::is(&new, &second) && !token::is(&old, &second));
        let mode = std::fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
