//! Writes cpio archives of the "newc" kind, which the kernel unpacks into its first root
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! The same entries always give the same bytes: entries are sorted, times are zero, everything belongs to
//! root, and inode numbers count up from one.

use std::collections::BTreeMap;

/// What an archive will hold, by path without a leading slash.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Vec<u8>,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// The archive would not be readable: a 32-bit field of the format overflowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is too large for a cpio archive; leave it out")]
pub struct TooLarge(String);

impl Archive {
    /// Adds a file, and the folders above it.
    pub(super) fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        self.insert(
            path,
            Entry {
                mode: FILE | permissions,
                device: (0, 0),
                content,
            },
        );
    }

    /// Adds an empty folder, and the folders above it.
    pub(super) fn folder(&mut self, path: &str) {
        self.insert(
            path,
            Entry {
                mode: FOLDER | 0o755,
                device: (0, 0),
                content: Vec::new(),
            },
        );
    }

    /// Adds a character device.
    pub(super) fn character_device(&mut self, path: &str, permissions: u32, device: (u32, u32)) {
        self.insert(
            path,
            Entry {
                mode: CHARACTER_DEVICE | permissions,
                device,
                content: Vec::new(),
            },
        );
    }

    fn insert(&mut self, path: &str, entry: Entry) {
        let above = path
            .char_indices()
            .filter(|(_, c)| *c == '/')
            .map(|(at, _)| &path[..at]);
        for folder in above {
            let entry = Entry {
                mode: FOLDER | 0o755,
                device: (0, 0),
                content: Vec::new(),
            };
            self.entries.entry(folder.to_owned()).or_insert(entry);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// The archive's bytes.
    pub(super) fn encode(&self) -> Result<Vec<u8>, TooLarge> {
        let mut out = Vec::new();
        for (number, (path, entry)) in (1u32..).zip(&self.entries) {
            push(&mut out, number, path, entry)?;
        }
        push(
            &mut out,
            0,
            "TRAILER!!!",
            &Entry {
                mode: 0,
                device: (0, 0),
                content: Vec::new(),
            },
        )?;
        Ok(out)
    }
}

fn push(out: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) -> Result<(), TooLarge> {
    let too_large = |_| TooLarge(path.to_owned());
    let size = u32::try_from(entry.content.len()).map_err(too_large)?;
    let name_size = u32::try_from(path.len() + 1).map_err(too_large)?;
    let links = if entry.mode & FOLDER == FOLDER { 2 } else { 1 };
    let (major, minor) = entry.device;
    out.extend_from_slice(b"070701");
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    for field in [
        inode, entry.mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0,
    ] {
        out.extend_from_slice(format!("{field:08X}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(&entry.content);
    pad(out);
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::Archive;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.file("lib/modules/b.ko", 0o644, b"12345".to_vec());
        archive.file("init", 0o755, b"#!".to_vec());
        archive.character_device("dev/console", 0o600, (5, 1));
        archive.folder("proc");
        archive
    }

    /// Reads the archive back as the kernel does, by the header's own lengths.
    fn listed(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut at = 0;
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let start = at + 6 + n * 8;
                u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16)
                    .unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name =
                String::from_utf8(bytes[at + 110..at + 110 + name_size - 1].to_vec()).unwrap();
            let content_at = (at + 110 + name_size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(bytes.len(), content_at);
                return found;
            }
            found.push((name, mode, bytes[content_at..content_at + size].to_vec()));
            at = (content_at + size).next_multiple_of(4);
        }
    }

    #[test]
    fn entries_are_sorted_and_have_their_folders() {
        let found = listed(&sample().encode().unwrap());
        let names: Vec<_> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "dev",
                "dev/console",
                "init",
                "lib",
                "lib/modules",
                "lib/modules/b.ko",
                "proc"
            ]
        );
        assert_eq!(found[1].1, 0o020_600);
        assert_eq!(
            (found[2].1, found[2].2.as_slice()),
            (0o100_755, b"#!".as_slice())
        );
        assert_eq!(
            (found[5].1, found[5].2.as_slice()),
            (0o100_644, b"12345".as_slice())
        );
    }

    #[test]
    fn the_order_of_adding_does_not_show() {
        let mut other = Archive::default();
        other.folder("proc");
        other.character_device("dev/console", 0o600, (5, 1));
        other.file("init", 0o755, b"#!".to_vec());
        other.file("lib/modules/b.ko", 0o644, b"12345".to_vec());
        assert_eq!(sample().encode(), other.encode());
    }

    #[test]
    fn cpio_reads_what_we_write() {
        use std::io::Write;
        use std::process::{Command, Stdio};

        let spawned = Command::new("cpio")
            .arg("-t")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut cpio) = spawned else { return };
        cpio.stdin
            .take()
            .unwrap()
            .write_all(&sample().encode().unwrap())
            .unwrap();
        let output = cpio.wait_with_output().unwrap();
        assert!(output.status.success());
        let listing = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            listing.lines().collect::<Vec<_>>(),
            [
                "dev",
                "dev/console",
                "init",
                "lib",
                "lib/modules",
                "lib/modules/b.ko",
                "proc",
            ]
        );
    }
}
