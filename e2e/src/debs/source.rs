//! Where this machine's own packages come from, read from its apt configuration.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};

/// One archive of the machine's package sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Mirror.
    pub uri: String,
    /// Suite of the installed release.
    pub suite: String,
    /// Keyring that signs it, if the source names one.
    pub keyring: Option<String>,
}

impl Source {
    /// The source that this machine's own release comes from.
    ///
    /// # Errors
    /// When no source has the main component of the release that `/etc/os-release` names.
    pub fn of_this_machine() -> Result<Self> {
        let release =
            fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        let suite = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .context("/etc/os-release names no release; the lab knows Debian only")?
            .trim_matches('"')
            .to_owned();
        let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
        let parts = fs::read_dir("/etc/apt/sources.list.d")
            .into_iter()
            .flatten()
            .flatten();
        files.extend(parts.map(|entry| entry.path()));
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if let Some(source) = Self::find(&text, &suite) {
                return Ok(source);
            }
        }
        bail!(
            "apt's sources do not name the main component of {suite}; add it, or install the packages by hand"
        );
    }

    /// Looks for `suite` with the component `main` in the text of one file, in either of apt's two styles.
    fn find(text: &str, suite: &str) -> Option<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        let clean = lines.collect::<Vec<_>>().join("\n");
        clean
            .split("\n\n")
            .find_map(|stanza| Self::from_stanza(stanza, suite))
            .or_else(|| clean.lines().find_map(|line| Self::from_line(line, suite)))
    }

    fn from_stanza(stanza: &str, suite: &str) -> Option<Self> {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let has = |name: &str, wanted: &str| {
            field(name).is_some_and(|value| value.split(' ').any(|word| word == wanted))
        };
        if !(has("Types", "deb") && has("Suites", suite) && has("Components", "main")) {
            return None;
        }
        Some(Self {
            uri: field("URIs")?.split(' ').next()?.to_owned(),
            suite: suite.to_owned(),
            keyring: field("Signed-By")
                .filter(|value| value.starts_with('/'))
                .map(str::to_owned),
        })
    }

    fn from_line(line: &str, suite: &str) -> Option<Self> {
        let rest = line.trim().strip_prefix("deb ")?.trim_start();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let uri = words.next()?.to_owned();
        if words.next()? != suite || !words.any(|word| word == "main") {
            return None;
        }
        let keyring = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="));
        Some(Self {
            uri,
            suite: suite.to_owned(),
            keyring: keyring.map(str::to_owned),
        })
    }

    pub(super) fn render(&self, suite: &str) -> String {
        let keyring = self
            .keyring
            .as_deref()
            .unwrap_or("/usr/share/keyrings/debian-archive-keyring.gpg");
        format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nSigned-By: {keyring}\n",
            self.uri
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_is_found_in_both_styles() {
        let stanza = "Types: deb\n# a remark\nURIs: http://mirror.example/security\nSuites: bookworm-security\nComponents: main\n\n\
                      Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\n\
                      Signed-By: /keys/a.gpg\n";
        let found = Source::find(stanza, "bookworm").unwrap();
        assert_eq!(
            (found.uri.as_str(), found.keyring.as_deref()),
            ("http://mirror.example/debian", Some("/keys/a.gpg"))
        );

        let lines = "# deb http://no.example/ bookworm main\ndeb-src http://no.example/ bookworm main\n\
                     deb [arch=amd64 signed-by=/keys/b.gpg] http://mirror.example/d bookworm contrib main\n";
        let found = Source::find(lines, "bookworm").unwrap();
        assert_eq!(
            (found.uri.as_str(), found.keyring.as_deref()),
            ("http://mirror.example/d", Some("/keys/b.gpg"))
        );
        assert_eq!(Source::find(lines, "trixie"), None);
    }
}
