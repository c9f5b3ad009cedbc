//! `~/.config/farrier/credentials`: the servers that were signed in to, with the pinned authority of each.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use farrier_api::admin::Millis;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// The whole file; the last server is the one signed in to last.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    servers: Vec<Entry>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) server: String,
    /// SHA-256 of the authority's certificate.
    pub(crate) ca: String,
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) expires: Millis,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("server", &self.server)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the file; one that is not there holds nothing.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.with_context(|| format!("{} cannot be read", path.display()))?,
        };
        let readers = fs::metadata(path)?.permissions().mode() & 0o077;
        if readers != 0 {
            let message = format!(
                "others may read {}, which holds your session",
                path.display()
            );
            return Err(Failure::usage(message)
                .hint(format!("chmod 600 {}", path.display()))
                .into());
        }
        serde_json::from_str(&text).map_err(|error| {
            let message = format!("{} is damaged: {error}", path.display());
            Failure::usage(message)
                .hint("remove it and sign in again: farrier login")
                .into()
        })
    }

    /// Writes the file for its owner alone; a crash leaves the old or the new one.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        let written = || -> io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let fresh = path.with_extension("new");
            match fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&fresh, path)
        };
        written().with_context(|| format!("{} cannot be written", path.display()))
    }

    pub(crate) fn of(&self, server: &str) -> Option<&Entry> {
        self.servers.iter().find(|entry| entry.server == server)
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        self.servers.last()
    }

    pub(crate) fn put(&mut self, entry: Entry) {
        self.remove(&entry.server);
        self.servers.push(entry);
    }

    /// Whether there was something to forget.
    pub(crate) fn remove(&mut self, server: &str) -> bool {
        let before = self.servers.len();
        self.servers.retain(|entry| entry.server != server);
        self.servers.len() < before
    }
}

/// Where the file is for this user.
pub(crate) fn path() -> anyhow::Result<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    match folder {
        Some(folder) => Ok(folder.join("farrier/credentials")),
        None => Err(Failure::usage("neither HOME nor XDG_CONFIG_HOME is set")
            .hint("set one, or give a token in FARRIER_TOKEN")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::{Credentials, Entry};

    pub(crate) fn entry(server: &str, token: &str) -> Entry {
        Entry {
            server: server.to_owned(),
            ca: "a5".repeat(32),
            name: "ada".to_owned(),
            token: token.to_owned(),
            expires: 1_000,
        }
    }

    #[test]
    fn what_is_saved_is_private_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("farrier/credentials");
        assert_eq!(Credentials::load(&path).unwrap(), Credentials::default());
        let mut credentials = Credentials::default();
        credentials.put(entry("https://a:1", "one"));
        credentials.put(entry("https://b:1", "two"));
        credentials.put(entry("https://a:1", "three"));
        credentials.save(&path).unwrap();
        credentials.save(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let mut read = Credentials::load(&path).unwrap();
        assert_eq!(read, credentials);
        assert_eq!(read.of("https://a:1").unwrap().token, "three");
        assert_eq!(read.last().unwrap().server, "https://a:1");
        assert!(read.remove("https://a:1") && !read.remove("https://a:1"));
    }

    #[test]
    fn a_file_that_others_may_read_or_that_is_damaged_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        Credentials::default().save(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            Credentials::load(&path)
                .unwrap_err()
                .to_string()
                .contains("others may read")
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(
            Credentials::load(&path)
                .unwrap_err()
                .to_string()
                .contains("damaged")
        );
    }

    #[test]
    fn t14_the_token_is_not_shown() {
        assert!(!format!("{:?}", entry("https://a:1", "canary")).contains("canary"));
    }
}
