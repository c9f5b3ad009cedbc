//! The BOOTP/DHCP message (RFC 951, RFC 2131 section 2), with the header fields by their RFC names.
//!
//! ```text
//!   0  op htype hlen hops    4  xid    8  secs flags   12  ciaddr   16  yiaddr   20  siaddr
//!  24  giaddr   28  chaddr (16)   44  sname (64)   108  file (128)   236  cookie   240  options
//! ```

mod by_name;

use std::fmt;
use std::net::Ipv4Addr;

use super::dhcp_option::{Options, RunEnd};
use super::option;
use super::{DecodeError, MAX_ODDITIES, Oddity};
use crate::MacAddr;

/// BOOTP operation, the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// BOOTREQUEST, client to server.
    Request,
    /// BOOTREPLY, server to client.
    Reply,
}

/// Transaction id chosen by the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xid(pub u32);

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// DHCP message type, option 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl MessageType {
    /// The type with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "DHCPDISCOVER",
            Self::Offer => "DHCPOFFER",
            Self::Request => "DHCPREQUEST",
            Self::Decline => "DHCPDECLINE",
            Self::Ack => "DHCPACK",
            Self::Nak => "DHCPNAK",
            Self::Release => "DHCPRELEASE",
            Self::Inform => "DHCPINFORM",
        })
    }
}

/// A decoded BOOTP or DHCP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub op: Op,
    pub htype: u8,
    pub hlen: u8,
    pub hops: u8,
    pub xid: Xid,
    pub secs: u16,
    /// All sixteen bits; only the first (broadcast) has a meaning.
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: [u8; 16],
    /// Up to the first NUL; empty when it held overloaded options.
    pub sname: Vec<u8>,
    /// Up to the first NUL; empty when it held overloaded options.
    pub file: Vec<u8>,
    /// Whether the magic cookie was there. Without it there are no options (plain RFC 951).
    pub cookie: bool,
    pub options: Options,
    /// What was out of order and read all the same, at most [`MAX_ODDITIES`]. Not encoded.
    pub oddities: Vec<Oddity>,
}

/// The broadcast flag (RFC 2131 section 2, figure 2).
pub const BROADCAST: u16 = 0x8000;

/// RFC 951 has messages of exactly this size, and some ROMs and relays drop shorter ones.
pub const MIN_LEN: usize = 300;

/// What every client must take when it names no size (RFC 2131 section 2): an IP datagram of 576
/// bytes, less the IP and UDP headers.
const DEFAULT_LIMIT: usize = 576 - HEADERS;
/// We never fragment. edk2 says 65280 in its requests and cannot mean it on Ethernet.
const ETHERNET_LIMIT: usize = 1500 - HEADERS;
const HEADERS: usize = 28;

const MAGIC_COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: usize = 44;
const FILE: usize = 108;
const VENDOR: usize = 236;
const OPTIONS: usize = VENDOR + MAGIC_COOKIE.len();

impl Message {
    /// An empty BOOTREQUEST from an Ethernet client, with the cookie and without options.
    #[must_use]
    pub fn request(xid: Xid, mac: MacAddr) -> Self {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac.0);
        Self {
            op: Op::Request,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: Vec::new(),
            file: Vec::new(),
            cookie: true,
            options: Options::default(),
            oddities: Vec::new(),
        }
    }

    /// Reads a message. Only a damaged fixed header is an error; see [`Oddity`] for the rest.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() < VENDOR {
            return Err(DecodeError {
                what: "BOOTP header",
                offset: 0,
                expected: "236 bytes",
                found: bytes.len(),
            });
        }
        let op = match bytes[0] {
            1 => Op::Request,
            2 => Op::Reply,
            other => {
                return Err(DecodeError {
                    what: "op",
                    offset: 0,
                    expected: "1 or 2",
                    found: usize::from(other),
                });
            }
        };
        let mut message = Self {
            op,
            htype: bytes[1],
            hlen: bytes[2],
            hops: bytes[3],
            xid: Xid(u32::from_be_bytes(array(bytes, 4))),
            secs: u16::from_be_bytes(array(bytes, 8)),
            flags: u16::from_be_bytes(array(bytes, 10)),
            ciaddr: Ipv4Addr::from(array::<4>(bytes, 12)),
            yiaddr: Ipv4Addr::from(array::<4>(bytes, 16)),
            siaddr: Ipv4Addr::from(array::<4>(bytes, 20)),
            giaddr: Ipv4Addr::from(array::<4>(bytes, 24)),
            chaddr: array(bytes, 28),
            sname: Vec::new(),
            file: Vec::new(),
            cookie: false,
            options: Options::default(),
            oddities: Vec::new(),
        };
        if usize::from(message.hlen) > message.chaddr.len() {
            message.note(Oddity::HardwareLength { hlen: message.hlen });
        }
        message.decode_variable(bytes);
        Ok(message)
    }

    /// Writes the message: at least [`MIN_LEN`] bytes, long options split, never with overload.
    /// `sname` and `file` are cut to their fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.push(match self.op {
            Op::Request => 1,
            Op::Reply => 2,
        });
        bytes.extend([self.htype, self.hlen, self.hops]);
        bytes.extend(self.xid.0.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        for addr in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            bytes.extend(addr.octets());
        }
        bytes.extend(self.chaddr);
        put_text(&mut bytes, &self.sname, FILE);
        put_text(&mut bytes, &self.file, VENDOR);
        if self.cookie {
            bytes.extend(MAGIC_COOKIE);
            self.options.encode_into(&mut bytes);
            bytes.push(option::END);
        }
        if bytes.len() < MIN_LEN {
            bytes.resize(MIN_LEN, 0);
        }
        bytes
    }

    /// How many bytes [`Self::encode`] gives.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let variable = if self.cookie {
            MAGIC_COOKIE.len() + self.options.encoded_len() + 1
        } else {
            0
        };
        (VENDOR + variable).max(MIN_LEN)
    }

    /// The largest reply, in bytes of UDP payload, that the sender of this request takes: option 57
    /// if it is sensible, never more than fits one Ethernet frame.
    #[must_use]
    pub fn reply_limit(&self) -> usize {
        let Some(size) = self.max_message_size() else {
            return DEFAULT_LIMIT;
        };
        usize::from(size)
            .saturating_sub(HEADERS)
            .clamp(DEFAULT_LIMIT, ETHERNET_LIMIT)
    }

    /// The client's Ethernet address, if `htype`/`hlen` say it has one.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddr> {
        if self.htype != 1 || self.hlen != 6 {
            return None;
        }
        self.chaddr.first_chunk().copied().map(MacAddr)
    }

    /// The broadcast flag (RFC 2131 section 2, figure 2).
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.flags & BROADCAST != 0
    }

    /// Whether this is plain BOOTP: no message type. An unknown type is DHCP all the same.
    #[must_use]
    pub fn is_bootp(&self) -> bool {
        !self.options.contains(option::DHCP_MESSAGE_TYPE)
    }

    fn note(&mut self, oddity: Oddity) {
        if self.oddities.len() < MAX_ODDITIES {
            self.oddities.push(oddity);
        }
    }

    /// Reads `sname`, `file` and the options, which may have spilled over into the two (RFC 2131
    /// section 4.1, RFC 3396 section 5: options, then `file`, then `sname`).
    fn decode_variable(&mut self, bytes: &[u8]) {
        self.cookie = bytes.get(VENDOR..OPTIONS) == Some(&MAGIC_COOKIE);
        let mut overload = None;
        if self.cookie {
            overload = self.decode_run(&bytes[OPTIONS..], OPTIONS);
        } else if bytes[VENDOR..].iter().any(|&byte| byte != 0) {
            self.note(Oddity::CookieUnknown);
        }
        let overload = match overload {
            Some(value @ 1..=3) => value,
            Some(value) => {
                self.note(Oddity::OverloadInvalid { value });
                0
            }
            None => 0,
        };
        let (sname, file) = (&bytes[SNAME..FILE], &bytes[FILE..VENDOR]);
        if overload & 1 == 0 {
            self.file = until_nul(file).to_vec();
        } else {
            self.decode_run(file, FILE);
        }
        if overload & 2 == 0 {
            self.sname = until_nul(sname).to_vec();
        } else {
            self.decode_run(sname, SNAME);
        }
        self.note_lengths();
    }

    fn decode_run(&mut self, bytes: &[u8], offset: usize) -> Option<u8> {
        let (end, overload) = self.options.decode_from(bytes, offset);
        match end {
            RunEnd::End => {}
            RunEnd::Exhausted => self.note(Oddity::NoEnd),
            RunEnd::Truncated { code, offset } => {
                self.note(Oddity::OptionTruncated { code, offset })
            }
        }
        overload
    }

    fn note_lengths(&mut self) {
        let wrong: Vec<Oddity> = self
            .options
            .iter()
            .filter(|(code, value)| {
                option::describe(*code).is_some_and(|(_, form)| !form.allows(value.len()))
            })
            .map(|(code, value)| Oddity::OptionLength {
                code,
                length: value.len(),
            })
            .take(MAX_ODDITIES)
            .collect();
        for oddity in wrong {
            self.note(oddity);
        }
    }
}

/// The caller has checked that the fixed header is there.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(field.len());
    &field[..end]
}

/// Appends `text`, cut or padded so that `bytes` is `end` long.
fn put_text(bytes: &mut Vec<u8>, text: &[u8], end: usize) {
    let room = end - bytes.len();
    bytes.extend_from_slice(&text[..text.len().min(room)]);
    bytes.resize(end, 0);
}

#[cfg(test)]
#[path = "dhcpv4_tests.rs"]
mod tests;
