//! TFTP packets (RFC 1350, 2090, 2347, 2348, 2349, 7440), and the cleaning of the names in them.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::DecodeError;

/// Any TFTP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ, opcode 1.
    ReadRequest(ReadRequest),
    /// WRQ, opcode 2. Nobody may write here; it is decoded so that it can be refused in words.
    WriteRequest(ReadRequest),
    /// DATA, opcode 3.
    Data { block: u16, data: &'a [u8] },
    /// ACK, opcode 4.
    Ack { block: u16 },
    /// ERROR, opcode 5.
    Error { code: ErrorCode, text: &'a [u8] },
    /// OACK, opcode 6.
    OptionAck(TransferOptions),
}

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRequest {
    /// As on the wire, up to the NUL. See [`clean_name`].
    pub name: Vec<u8>,
    pub mode: Mode,
    pub options: TransferOptions,
}

/// Transfer mode, any case on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    Netascii,
    #[default]
    Octet,
    /// `mail` and everything unknown.
    Unsupported,
}

/// The options of RFC 2090, 2348, 2349 and 7440, in a request or in an OACK. Unknown ones are ignored
/// (RFC 2347), as are values outside what their RFC allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferOptions {
    /// 8 to 65464 bytes.
    pub blksize: Option<u16>,
    /// Zero in a read request, the file's size in the answer.
    pub tsize: Option<u64>,
    /// Seconds, 1 to 255.
    pub timeout: Option<u8>,
    /// Blocks, from 1.
    pub windowsize: Option<u16>,
    pub multicast: Option<Multicast>,
}

/// The option of RFC 2090.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multicast {
    /// In a request, where its value is empty.
    Asked,
    /// In an OACK.
    Joined {
        /// Where the blocks go to; none in an OACK that only changes who acknowledges.
        group: Option<SocketAddrV4>,
        /// This client acknowledges, and thereby chooses the blocks.
        master: bool,
    },
}

/// The number in an ERROR packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    pub const NOT_DEFINED: Self = Self(0);
    pub const FILE_NOT_FOUND: Self = Self(1);
    pub const ACCESS_VIOLATION: Self = Self(2);
    pub const DISK_FULL: Self = Self(3);
    pub const ILLEGAL_OPERATION: Self = Self(4);
    pub const UNKNOWN_TRANSFER_ID: Self = Self(5);
    pub const FILE_EXISTS: Self = Self(6);
    pub const NO_SUCH_USER: Self = Self(7);
    /// RFC 2347; what edk2 sends when it only wanted the size.
    pub const OPTION_REFUSED: Self = Self(8);
}

const RRQ: u16 = 1;
const WRQ: u16 = 2;
const DATA: u16 = 3;
const ACK: u16 = 4;
const ERROR: u16 = 5;
const OACK: u16 = 6;

/// RFC 2348 section 3.
pub const BLKSIZE_RANGE: std::ops::RangeInclusive<u16> = 8..=65464;

impl<'a> Packet<'a> {
    /// Reads a packet. A last string without its NUL is taken as it is, since some clients forget it.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let opcode = word(bytes, 0, "opcode")?;
        let body = &bytes[2..];
        Ok(match opcode {
            RRQ => Self::ReadRequest(decode_request(body)),
            WRQ => Self::WriteRequest(decode_request(body)),
            DATA => Self::Data {
                block: word(bytes, 2, "block")?,
                data: &bytes[4..],
            },
            ACK => Self::Ack {
                block: word(bytes, 2, "block")?,
            },
            ERROR => {
                let code = ErrorCode(word(bytes, 2, "error code")?);
                Self::Error {
                    code,
                    text: Strings(&bytes[4..]).next().unwrap_or_default(),
                }
            }
            OACK => Self::OptionAck(decode_options(Strings(body))),
            other => {
                return Err(DecodeError {
                    what: "opcode",
                    offset: 0,
                    expected: "1 to 6",
                    found: usize::from(other),
                });
            }
        })
    }

    /// Writes the packet. NULs inside names and texts would end them early and are left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Most packets are shorter; what a block needs is asked for at once.
        let mut bytes = Vec::with_capacity(64);
        match self {
            Self::ReadRequest(request) => encode_request(RRQ, request, &mut bytes),
            Self::WriteRequest(request) => encode_request(WRQ, request, &mut bytes),
            Self::Data { block, data } => {
                bytes.extend(data_header(*block));
                bytes.extend_from_slice(data);
            }
            Self::Ack { block } => {
                bytes.extend(ACK.to_be_bytes());
                bytes.extend(block.to_be_bytes());
            }
            Self::Error { code, text } => {
                bytes.extend(ERROR.to_be_bytes());
                bytes.extend(code.0.to_be_bytes());
                put_string(&mut bytes, text);
            }
            Self::OptionAck(options) => {
                bytes.extend(OACK.to_be_bytes());
                encode_options(options, &mut bytes);
            }
        }
        bytes
    }
}

/// The four bytes before the content of a block.
#[must_use]
pub fn data_header(block: u16) -> [u8; 4] {
    let [a, b] = DATA.to_be_bytes();
    let [c, d] = block.to_be_bytes();
    [a, b, c, d]
}

impl TransferOptions {
    /// Whether there is anything to acknowledge.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Why a name cannot be one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the name is empty")]
    Empty,
    #[error("the name is not text")]
    NotText,
    #[error("the name has a `..` in it")]
    ParentFolder,
    #[error("the name is longer than {MAX_NAME} bytes")]
    TooLong,
}

/// Longer names are nobody's. Firmware keeps them below 128 bytes.
pub const MAX_NAME: usize = 512;

/// Makes the name a client asked for comparable: cut at the first NUL or 0xFF (ROMs that run past the
/// end of option 67 send it), `\` to `/`, no empty and no `.` folders, no leading slash.
/// `..` is refused rather than resolved.
pub fn clean_name(raw: &[u8]) -> Result<String, NameError> {
    let end = raw
        .iter()
        .position(|byte| matches!(byte, 0 | 0xff))
        .unwrap_or(raw.len());
    let raw = &raw[..end];
    if raw.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    let text = std::str::from_utf8(raw).map_err(|_| NameError::NotText)?;
    let mut name = String::with_capacity(text.len());
    for part in text.split(['/', '\\']) {
        match part {
            "" | "." => continue,
            ".." => return Err(NameError::ParentFolder),
            _ => {}
        }
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(part);
    }
    if name.is_empty() {
        Err(NameError::Empty)
    } else {
        Ok(name)
    }
}

fn word(bytes: &[u8], at: usize, what: &'static str) -> Result<u16, DecodeError> {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => Ok(u16::from_be_bytes([high, low])),
        _ => Err(DecodeError {
            what,
            offset: at,
            expected: "2 bytes",
            found: bytes.len().saturating_sub(at),
        }),
    }
}

/// NUL-terminated strings; the last one may lack its NUL.
struct Strings<'a>(&'a [u8]);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let end = self
            .0
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(self.0.len());
        let string = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or_default();
        Some(string)
    }
}

fn decode_request(body: &[u8]) -> ReadRequest {
    let mut strings = Strings(body);
    let name = strings.next().unwrap_or_default().to_vec();
    let mode = match strings.next() {
        Some(mode) if mode.eq_ignore_ascii_case(b"octet") => Mode::Octet,
        Some(mode) if mode.eq_ignore_ascii_case(b"netascii") => Mode::Netascii,
        _ => Mode::Unsupported,
    };
    ReadRequest {
        name,
        mode,
        options: decode_options(strings),
    }
}

/// An option given twice counts by its first value (RFC 2347 allows it only once).
fn decode_options(mut strings: Strings<'_>) -> TransferOptions {
    let mut options = TransferOptions::default();
    while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
        let is = |keyword: &str| name.eq_ignore_ascii_case(keyword.as_bytes());
        if is("multicast") {
            options.multicast = options.multicast.or_else(|| decode_multicast(value));
        }
        let Some(value) = number(value) else { continue };
        if is("blksize") {
            let blksize = u16::try_from(value)
                .ok()
                .filter(|size| BLKSIZE_RANGE.contains(size));
            options.blksize = options.blksize.or(blksize);
        } else if is("tsize") {
            options.tsize = options.tsize.or(Some(value));
        } else if is("timeout") {
            let timeout = u8::try_from(value).ok().filter(|&seconds| seconds > 0);
            options.timeout = options.timeout.or(timeout);
        } else if is("windowsize") {
            let windowsize = u16::try_from(value).ok().filter(|&blocks| blocks > 0);
            options.windowsize = options.windowsize.or(windowsize);
        }
    }
    options
}

/// `addr,port,mc`, of which the first two may be empty; or nothing at all, in a request.
fn decode_multicast(value: &[u8]) -> Option<Multicast> {
    if value.is_empty() {
        return Some(Multicast::Asked);
    }
    let text = std::str::from_utf8(value).ok()?;
    let (addr, rest) = text.split_once(',')?;
    let (port, mc) = rest.split_once(',')?;
    let master = match mc {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let group = if addr.is_empty() && port.is_empty() {
        None
    } else {
        let addr = addr.parse().ok().filter(Ipv4Addr::is_multicast)?;
        let port = number(port.as_bytes())?;
        Some(SocketAddrV4::new(addr, u16::try_from(port).ok()?))
    };
    Some(Multicast::Joined { group, master })
}

fn encode_multicast(multicast: Multicast) -> String {
    match multicast {
        Multicast::Asked => String::new(),
        Multicast::Joined { group, master } => {
            let mc = u8::from(master);
            match group {
                Some(group) => format!("{},{},{mc}", group.ip(), group.port()),
                None => format!(",,{mc}"),
            }
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn encode_request(opcode: u16, request: &ReadRequest, bytes: &mut Vec<u8>) {
    bytes.extend(opcode.to_be_bytes());
    put_string(bytes, &request.name);
    put_string(
        bytes,
        match request.mode {
            Mode::Netascii => b"netascii",
            Mode::Octet => b"octet",
            Mode::Unsupported => b"mail",
        },
    );
    encode_options(&request.options, bytes);
}

fn encode_options(options: &TransferOptions, bytes: &mut Vec<u8>) {
    let values = [
        ("tsize", options.tsize),
        ("blksize", options.blksize.map(u64::from)),
        ("timeout", options.timeout.map(u64::from)),
        ("windowsize", options.windowsize.map(u64::from)),
    ];
    for (keyword, value) in values {
        if let Some(value) = value {
            put_string(bytes, keyword.as_bytes());
            put_string(bytes, value.to_string().as_bytes());
        }
    }
    if let Some(multicast) = options.multicast {
        put_string(bytes, b"multicast");
        put_string(bytes, encode_multicast(multicast).as_bytes());
    }
}

fn put_string(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.reserve(text.len() + 1);
    bytes.extend(text.iter().filter(|&&byte| byte != 0));
    bytes.push(0);
}

#[cfg(test)]
mod tests;
