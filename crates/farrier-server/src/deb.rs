//! Reading Debian packages without any outside program: an `ar` archive of two compressed tar archives.

use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

/// What the package says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    pub package: String,
    pub version: String,
}

/// The bytes are not a Debian package.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    #[error("cannot be read")]
    Read(#[from] io::Error),
    #[error("is not a Debian package: it has no {0}")]
    Incomplete(&'static str),
}

/// No file that anybody wants from a package is larger; a damaged one must not fill the memory.
pub const MAX_FILE: u64 = 256 << 20;

/// Calls `take` for each regular file of the package with its path (without a leading `./`), its size and
/// its content, which may be left unread.
pub fn each_file(
    package: impl Read,
    mut take: impl FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> Result<Control, DebError> {
    let mut control = None;
    let mut data = false;
    let mut members = ar::Archive::new(BufReader::new(package));
    while let Some(member) = members.next_entry() {
        let member = member?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        let Some((part, compression)) = name.trim_end_matches('/').split_once(".tar") else {
            continue;
        };
        if !matches!(part, "control" | "data") {
            continue;
        }
        let mut archive = tar::Archive::new(unpacked(member, compression)?);
        for entry in archive.entries()? {
            let mut entry = entry?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = plain(&entry.path()?);
            match part {
                "control" if path == "control" => {
                    control = Some(parse_control(&whole(&mut entry)?))
                }
                "data" => take(&path, entry.size(), &mut entry)?,
                _ => {}
            }
        }
        data |= part == "data";
    }
    match (control, data) {
        (Some(control), true) => Ok(control),
        (None, _) => Err(DebError::Incomplete("control file")),
        (_, false) => Err(DebError::Incomplete("data")),
    }
}

/// All of a file, up to [`MAX_FILE`].
pub fn whole(content: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if content.take(MAX_FILE + 1).read_to_end(&mut bytes)? as u64 > MAX_FILE {
        return Err(io::Error::other(
            "a file in the package is larger than any file should be",
        ));
    }
    Ok(bytes)
}

fn unpacked<'a>(member: impl Read + 'a, compression: &str) -> io::Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        "" => Box::new(member),
        ".xz" => Box::new(liblzma::read::XzDecoder::new(member)),
        ".zst" => Box::new(zstd::Decoder::new(member)?),
        other => {
            return Err(io::Error::other(format!(
                "the package is packed with {other}, which is not known"
            )));
        }
    })
}

fn parse_control(bytes: &[u8]) -> Control {
    let text = String::from_utf8_lossy(bytes);
    let field = |name: &str| {
        let mut lines = text.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or("")
            .trim()
            .to_owned()
    };
    Control {
        package: field("Package"),
        version: field("Version"),
    }
}

/// The normal parts of a path, joined: `./boot/x` and `boot/x` are the same.
pub(crate) fn plain(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}
