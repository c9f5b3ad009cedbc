//! Values that can stand in a script without becoming a part of it.

use std::fmt::{self, Write};

/// The script language has no way to carry this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRepresentable {
    #[error("the value is empty or too long")]
    Length,
    #[error("the value holds a character that scripts cannot carry")]
    Character,
    #[error("the value holds what a script takes for syntax")]
    Syntax,
    #[error("the value is not a URL of http, https or tftp")]
    NotAUrl,
}

/// Words for people to read, separated by single spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    const MAX: usize = 256;

    /// # Errors
    ///
    /// When the text is not printable ASCII, or iPXE would read a part of it as syntax.
    pub fn new(text: &str) -> Result<Self, NotRepresentable> {
        if text.is_empty() || text.len() > Self::MAX {
            return Err(NotRepresentable::Length);
        }
        if !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(NotRepresentable::Character);
        }
        // An option of the command it stands behind, and a line that goes on.
        if text.starts_with('-') || text.ends_with('\\') || text.contains("${") {
            return Err(NotRepresentable::Syntax);
        }
        // An empty word is a double space, which iPXE would show as one.
        let is_syntax = |word: &str| {
            word.is_empty() || word.starts_with('#') || ["||", "&&", ";"].contains(&word)
        };
        if text.split(' ').any(is_syntax) {
            return Err(NotRepresentable::Syntax);
        }
        Ok(Self(text.to_owned()))
    }

    /// The same words, changed where no loader's language could carry them: for lines that somebody reads and
    /// nobody acts on.
    #[must_use]
    pub fn readable(text: &str) -> Self {
        let plain: String = text
            .chars()
            .map(|c| match c {
                '\\' => '/',
                ' ' | '!'..='~' => c,
                c if c.is_whitespace() => ' ',
                _ => '?',
            })
            .take(Self::MAX)
            .collect();
        let plain = plain.replace("${", "$(");
        let words = plain.split_ascii_whitespace().map(|word| match word {
            "||" => "or",
            "&&" => "and",
            ";" => ",",
            word => word.trim_start_matches('#'),
        });
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let joined = words.join(" ");
        // Trimming may have laid bare another word of syntax.
        Self::new(joined.trim_start_matches(['-', ' ']))
            .unwrap_or_else(|_| Self("(cannot be shown here)".to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An absolute URL of http, https or tftp without fragment. iPXE keeps `#` for parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    const MAX: usize = 1024;

    /// # Errors
    ///
    /// When the text is not such a URL by RFC 3986.
    pub fn new(url: &str) -> Result<Self, NotRepresentable> {
        if url.len() > Self::MAX {
            return Err(NotRepresentable::Length);
        }
        let schemes = ["http://", "https://", "tftp://"];
        let rest = schemes
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or(NotRepresentable::NotAUrl)?;
        if rest.is_empty() || rest.starts_with('/') {
            return Err(NotRepresentable::NotAUrl);
        }
        if !url
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&b))
        {
            return Err(NotRepresentable::Character);
        }
        Ok(Self(url.to_owned()))
    }

    /// Adds one segment to the path. Any text can be a segment.
    ///
    /// # Errors
    ///
    /// When the URL becomes too long.
    pub fn with_segment(&self, segment: &str) -> Result<Self, NotRepresentable> {
        let slash = if self.0.ends_with('/') { "" } else { "/" };
        self.extended(format!("{slash}{}", PercentEncoded(segment)))
    }

    /// Adds one name and value to the query. Any text can be the value.
    ///
    /// # Errors
    ///
    /// When the URL becomes too long.
    pub fn with_query(&self, name: &'static str, value: &str) -> Result<Self, NotRepresentable> {
        let mark = if self.0.contains('?') { '&' } else { '?' };
        self.extended(format!(
            "{mark}{}={}",
            PercentEncoded(name),
            PercentEncoded(value)
        ))
    }

    fn extended(&self, tail: String) -> Result<Self, NotRepresentable> {
        if self.0.len() + tail.len() > Self::MAX {
            return Err(NotRepresentable::Length);
        }
        Ok(Self(format!("{}{tail}", self.0)))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// RFC 3986 section 2.1, with everything encoded that is not unreserved.
struct PercentEncoded<'a>(&'a str);

impl fmt::Display for PercentEncoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                f.write_char(byte.into())?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// One argument of the kernel command line, `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument(String);

impl Argument {
    const MAX: usize = 512;

    /// # Errors
    ///
    /// When the value holds white space, quotes (Linux has them, iPXE has not), non-ASCII or `${`.
    pub fn new(name: &'static str, value: &str) -> Result<Self, NotRepresentable> {
        if value.is_empty() || value.len() > Self::MAX {
            return Err(NotRepresentable::Length);
        }
        if !value
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\'')
        {
            return Err(NotRepresentable::Character);
        }
        if value.contains("${") || value.ends_with('\\') {
            return Err(NotRepresentable::Syntax);
        }
        Ok(Self(format!("{name}={value}")))
    }

    /// An argument without value, such as `quiet`.
    #[must_use]
    pub fn flag(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
