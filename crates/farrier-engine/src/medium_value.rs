//! Values of one machine in a disk image that many start: what each is called, and which texts they may be.
//!
//! They end up in batch files, so they hold nothing that a `SET` line takes for syntax. To a shell or an `.INI` file
//! signs such as `$`, `;` and `#` mean something: there, quoting a place is up to whoever makes the image.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a value is called: 1 to 16 lower-case letters, digits and underscores, a letter in front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ValueName(String);

/// The text is not such a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a name of a value: use 1 to 16 lower-case letters, digits and underscores, a letter in front"
)]
pub struct ValueNameError;

/// In front of a name where an image asks for its value.
const PREFIX: &str = "FARRIER_";

impl ValueName {
    /// The longest, in bytes.
    pub const MAX: usize = 16;

    /// # Errors
    ///
    /// When the text has other characters, does not begin with a letter, is empty or too long.
    pub fn new(text: impl Into<String>) -> Result<Self, ValueNameError> {
        let text = text.into();
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if text.len() > Self::MAX
            || !text.starts_with(|c: char| c.is_ascii_lowercase())
            || !text.bytes().all(good)
        {
            return Err(ValueNameError);
        }
        Ok(Self(text))
    }

    /// The name in an image's words: `FARRIER_HOME` is that of `home`.
    #[must_use]
    pub fn of_variable(variable: &str) -> Option<Self> {
        let name = variable.strip_prefix(PREFIX)?;
        let upper = !name.bytes().any(|b| b.is_ascii_lowercase());
        upper.then(|| Self::new(name.to_ascii_lowercase()).ok())?
    }

    /// As an image writes it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.0.to_ascii_uppercase())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ValueName {
    type Error = ValueNameError;

    fn try_from(text: String) -> Result<Self, ValueNameError> {
        Self::new(text)
    }
}

impl From<ValueName> for String {
    fn from(name: ValueName) -> Self {
        name.0
    }
}

impl fmt::Display for ValueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value itself: 1 to 80 printable characters of ASCII, none of them a quote or a sign of a batch file's
/// syntax, and no space at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ValueText(String);

/// The text is not such a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a value: use 1 to 80 letters without accents, digits, spaces within, and signs other than \" ' ` % & < > ^ | ! {{ }}"
)]
pub struct ValueTextError;

impl ValueText {
    /// With `SET` and its name within the 127 characters of a line of DOS.
    pub const MAX: usize = 80;

    /// # Errors
    ///
    /// When the text has other characters, a space at an end, is empty or too long.
    pub fn new(text: impl Into<String>) -> Result<Self, ValueTextError> {
        let text = text.into();
        // Quotes, what COMMAND.COM and CMD.EXE act on in a `SET` line, and the braces of a place.
        let good = |b: u8| (b' '..=b'~').contains(&b) && !b"\"'`%&<>^|!{}".contains(&b);
        if !(1..=Self::MAX).contains(&text.len()) || text.trim() != text || !text.bytes().all(good)
        {
            return Err(ValueTextError);
        }
        Ok(Self(text))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ValueText {
    type Error = ValueTextError;

    fn try_from(text: String) -> Result<Self, ValueTextError> {
        Self::new(text)
    }
}

impl From<ValueText> for String {
    fn from(text: ValueText) -> Self {
        text.0
    }
}

impl fmt::Display for ValueText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ValueName, ValueText};

    #[test]
    fn names_are_variables_in_upper_case() {
        for (name, variable) in [("home", "FARRIER_HOME"), ("drive_2", "FARRIER_DRIVE_2")] {
            assert_eq!(ValueName::new(name).unwrap().variable(), variable);
            assert_eq!(ValueName::of_variable(variable).unwrap().as_str(), name);
        }
        for bad in ["", "Home", "2nd", "_x", "a-b", "a b", "ä", &"x".repeat(17)] {
            assert!(ValueName::new(bad).is_err(), "{bad:?}");
        }
        for bad in [
            "HOME",
            "FARRIER_",
            "FARRIER_home",
            "FARRIER_A-B",
            "farrier_HOME",
        ] {
            assert_eq!(ValueName::of_variable(bad), None, "{bad}");
        }
    }

    #[test]
    fn t4_values_hold_nothing_that_a_batch_file_or_a_place_takes_for_syntax() {
        for good in [
            r"\\srv\home$\pc17",
            "10.0.0.7",
            "lab 12, desk 3",
            "a=b",
            &"x".repeat(80),
        ] {
            let text = ValueText::new(good).unwrap();
            let stored = serde_json::to_string(&text).unwrap();
            assert_eq!(serde_json::from_str::<ValueText>(&stored).unwrap(), text);
        }
        for bad in [
            "",
            " ",
            " a",
            "a ",
            "a\r\nDEL C:",
            "a\0",
            "ä",
            "%PATH%",
            "a & b",
            "a|b",
            "a>b",
            "a<b",
            "a^b",
            "\"a",
            "it's",
            "`a`",
            "{{FARRIER_X}}",
            "}}",
            "a\tb",
            "a\u{7f}",
            &"x".repeat(81),
        ] {
            assert!(ValueText::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_line_of_dos_holds_every_value(name in "[a-z][a-z0-9_]{0,15}", text in "[!-~]{1,80}") {
            let name = ValueName::new(name).unwrap();
            if let Ok(text) = ValueText::new(text) {
                let line = format!("SET {}={text}", name.variable());
                prop_assert!(line.len() <= 127, "{line}");
            }
        }
    }
}
