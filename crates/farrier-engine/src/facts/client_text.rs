//! Text a client sent: short, on one line, and not to be believed.

use std::fmt;

/// At most 128 characters without control characters. It may still hold anything that is special
/// to a script, a page or a shell: whoever renders it escapes it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientText(String);

impl ClientText {
    pub const MAX_CHARS: usize = 128;

    /// None if the text is empty, too long, not UTF-8 or holds control characters.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        // Several ROMs count the closing NUL of a C string as part of the option.
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        if bytes.is_empty() || bytes.len() > Self::MAX_CHARS * 4 {
            return None;
        }
        let text = std::str::from_utf8(bytes).ok()?;
        let good = text.chars().count() <= Self::MAX_CHARS && !text.chars().any(char::is_control);
        good.then(|| Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClientText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::ClientText;

    #[test]
    fn only_short_single_lines_are_taken() {
        let long = "x".repeat(129);
        let limit = "é".repeat(128);
        let rows: [(&[u8], Option<&str>); 9] = [
            (b"pc-17", Some("pc-17")),
            (b"iPXE\0", Some("iPXE")),
            (limit.as_bytes(), Some(&limit)),
            (b"", None),
            (b"\0", None),
            (b"a\nb", None),
            (b"a\0b", None),
            (b"\xff\xfe", None),
            (long.as_bytes(), None),
        ];
        for (bytes, expected) in rows {
            assert_eq!(
                ClientText::new(bytes).as_ref().map(ClientText::as_str),
                expected,
                "{bytes:?}"
            );
        }
    }
}
