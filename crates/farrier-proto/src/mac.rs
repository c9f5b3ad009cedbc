//! Ethernet hardware addresses.

use std::fmt;
use std::str::FromStr;

/// A 48-bit hardware address. Shown as `52:54:00:12:34:56`; parsed from that form, from `-`
/// separators and from twelve bare digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// The text is not a hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hardware address: write six hex bytes such as 52:54:00:12:34:56")]
pub struct ParseMacError;

impl MacAddr {
    /// `52-54-00-12-34-56`, the form loaders use in paths.
    #[must_use]
    pub fn hyphened(self) -> String {
        self.joined('-')
    }

    /// True for group addresses and the all-zero address, which name no machine.
    #[must_use]
    pub fn is_unusable(self) -> bool {
        self.0[0] & 1 == 1 || self.0 == [0; 6]
    }

    fn joined(self, separator: char) -> String {
        let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
        let mut text = String::with_capacity(17);
        for (i, byte) in self.0.iter().enumerate() {
            if i > 0 {
                text.push(separator);
            }
            text.push(digit(byte >> 4));
            text.push(digit(byte & 0xf));
        }
        text
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined(':'))
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let digits: Vec<u8> = match text.len() {
            12 => text.bytes().collect(),
            17 => {
                let separator = text.as_bytes()[2];
                if separator != b':' && separator != b'-' {
                    return Err(ParseMacError);
                }
                let mut digits = Vec::with_capacity(12);
                for (i, byte) in text.bytes().enumerate() {
                    if i % 3 == 2 {
                        if byte != separator {
                            return Err(ParseMacError);
                        }
                    } else {
                        digits.push(byte);
                    }
                }
                digits
            }
            _ => return Err(ParseMacError),
        };
        let mut mac = [0; 6];
        for (byte, pair) in mac.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(Self(mac))
    }
}

fn hex_digit(byte: u8) -> Result<u8, ParseMacError> {
    char::from(byte)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
        .ok_or(ParseMacError)
}

#[cfg(test)]
mod tests {
    use super::MacAddr;

    #[test]
    fn reads_the_three_written_forms() {
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0xab, 0xff]);
        for text in ["52:54:00:12:AB:ff", "52-54-00-12-ab-ff", "52540012abff"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
        assert_eq!(mac.to_string(), "52:54:00:12:ab:ff");
        assert_eq!(mac.hyphened(), "52-54-00-12-ab-ff");
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "52:54:00:12:ab",
            "52:54-00:12:ab:ff",
            "5254001é3abf",
            "zz:54:00:12:ab:ff",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
