//! What decoders say of bytes that are not what they should be.

use std::fmt;

/// Bytes that cannot be read as the message they should be. Only a damaged *fixed* part ends here;
/// damaged options become an [`Oddity`], since a machine with a strange option must still boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}: expected {expected}, found {found}")]
pub struct DecodeError {
    /// The field.
    pub what: &'static str,
    /// Where it starts.
    pub offset: usize,
    pub expected: &'static str,
    /// The value found, or the number of bytes when too few were left.
    pub found: usize,
}

/// Something out of order in a message that was read all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// The vendor area holds data without the magic cookie.
    CookieUnknown,
    /// `hlen` is more than the sixteen bytes of `chaddr`.
    HardwareLength { hlen: u8 },
    /// The options stop without an end option.
    NoEnd,
    /// An option has a length its definition forbids.
    OptionLength { code: u8, length: usize },
    /// An option says it is longer than what is left; what is left was dropped.
    OptionTruncated { code: u8, offset: usize },
    /// Option 52 has a value other than 1, 2 and 3; `sname` and `file` were read as text.
    OverloadInvalid { value: u8 },
}

/// No message keeps more oddities than this; further ones are dropped.
pub const MAX_ODDITIES: usize = 8;

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CookieUnknown => f.write_str("vendor data without the magic cookie"),
            Self::HardwareLength { hlen } => {
                write!(f, "hardware address length {hlen} is above 16")
            }
            Self::NoEnd => f.write_str("options without an end"),
            Self::OptionLength { code, length } => {
                write!(
                    f,
                    "option {code} has {length} bytes, which its definition forbids"
                )
            }
            Self::OptionTruncated { code, offset } => {
                write!(f, "option {code} at byte {offset} is cut off")
            }
            Self::OverloadInvalid { value } => write!(f, "option 52 has the value {value}"),
        }
    }
}
