//! DHCPv6 messages, relayed or not (RFC 8415 sections 7 to 9).

use std::net::Ipv6Addr;

use super::DecodeError;
use super::dhcpv6_option::{
    BOOT_FILE_URL, CLIENT_ARCHITECTURE, CLIENT_ID, CLIENT_LINK_LAYER_ADDRESS, Duid,
    ENTERPRISE_INTEL, IA_NA, IaNa, OPTION_REQUEST, Options, RELAY_MESSAGE, SERVER_ID, USER_CLASS,
    VENDOR_CLASS, counted_texts,
};
use crate::MacAddr;

/// What a client or server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    Solicit = 1,
    Advertise = 2,
    Request = 3,
    Confirm = 4,
    Renew = 5,
    Rebind = 6,
    Reply = 7,
    Release = 8,
    Decline = 9,
    Reconfigure = 10,
    InformationRequest = 11,
}

const RELAY_FORWARD: u8 = 12;
const RELAY_REPLY: u8 = 13;

/// A message without the relays it came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageType,
    /// Three bytes.
    pub xid: [u8; 3],
    pub options: Options,
    /// The last option was cut off and is not in `options`.
    pub cut_off: bool,
}

/// One relay on the way (RFC 8415 section 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    pub hop_count: u8,
    /// An address of the link the client is on; unspecified from relays that only mark the port.
    pub link: Ipv6Addr,
    /// Who the relay got the message from.
    pub peer: Ipv6Addr,
    /// Everything but the relayed message.
    pub options: Options,
}

/// A datagram: a message, and the relays it came through, the one nearest to us first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub relays: Vec<Relay>,
    pub message: Message,
}

/// RFC 8415 section 19.1.1: a relay drops what came over eight others.
const MAX_RELAYS: usize = 9;

impl MessageType {
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Solicit,
            2 => Self::Advertise,
            3 => Self::Request,
            4 => Self::Confirm,
            5 => Self::Renew,
            6 => Self::Rebind,
            7 => Self::Reply,
            8 => Self::Release,
            9 => Self::Decline,
            10 => Self::Reconfigure,
            11 => Self::InformationRequest,
            _ => return None,
        })
    }

    /// As people know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Solicit => "SOLICIT",
            Self::Advertise => "ADVERTISE",
            Self::Request => "REQUEST (DHCPv6)",
            Self::Confirm => "CONFIRM",
            Self::Renew => "RENEW",
            Self::Rebind => "REBIND",
            Self::Reply => "REPLY",
            Self::Release => "RELEASE (DHCPv6)",
            Self::Decline => "DECLINE (DHCPv6)",
            Self::Reconfigure => "RECONFIGURE",
            Self::InformationRequest => "INFORMATION-REQUEST",
        }
    }
}

impl Packet {
    /// Reads a datagram.
    ///
    /// # Errors
    ///
    /// When it is neither a message nor a relayed one. Damaged options are passed over.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut relays = Vec::new();
        let mut inner = bytes.to_vec();
        while inner.first() == Some(&RELAY_FORWARD) || inner.first() == Some(&RELAY_REPLY) {
            if relays.len() == MAX_RELAYS {
                return Err(fault("relays", "at most 9", relays.len() + 1));
            }
            let (relay, relayed) = Relay::decode(&inner)?;
            relays.push(relay);
            inner = relayed;
        }
        Ok(Self {
            relays,
            message: Message::decode(&inner)?,
        })
    }

    /// Bytes of an answer: what the relays brought goes back through them (RFC 8415 section 19.3).
    #[must_use]
    pub fn encode_reply(&self) -> Vec<u8> {
        self.encode_as(RELAY_REPLY)
    }

    /// Bytes as a client and its relays send them.
    #[must_use]
    pub fn encode_forward(&self) -> Vec<u8> {
        self.encode_as(RELAY_FORWARD)
    }

    fn encode_as(&self, kind: u8) -> Vec<u8> {
        let message = self.message.encode();
        self.relays.iter().rev().fold(message, |inner, relay| {
            let mut bytes = vec![kind, relay.hop_count];
            bytes.extend_from_slice(&relay.link.octets());
            bytes.extend_from_slice(&relay.peer.octets());
            let mut options = relay.options.clone();
            options.push(RELAY_MESSAGE, inner);
            options.encode_into(&mut bytes);
            bytes
        })
    }

    /// An address of the client's link, if a relay told one: the relay nearest to the client knows.
    #[must_use]
    pub fn link(&self) -> Option<Ipv6Addr> {
        self.relays
            .iter()
            .rev()
            .map(|relay| relay.link)
            .find(|link| !link.is_unspecified())
    }

    /// The client's hardware address, as far as the way it came tells: RFC 6939 of the relay next to it,
    /// else the interface identifier of the link-local address it sends from.
    #[must_use]
    pub fn client_mac(&self, source: Ipv6Addr) -> Option<MacAddr> {
        let nearest = self.relays.last();
        let told = nearest
            .and_then(|relay| relay.options.get(CLIENT_LINK_LAYER_ADDRESS))
            .and_then(|value| value.strip_prefix(&[0, 1]))
            .and_then(|address| address.try_into().ok().map(MacAddr));
        told.or_else(|| mac_of_link_local(nearest.map_or(source, |relay| relay.peer)))
    }
}

impl Relay {
    fn decode(bytes: &[u8]) -> Result<(Self, Vec<u8>), DecodeError> {
        let short = || fault("relay header", "34 bytes", bytes.len());
        let (head, options) = bytes.split_first_chunk::<34>().ok_or_else(short)?;
        let address = |at: usize| {
            head[at..]
                .first_chunk::<16>()
                .map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
        };
        let (all, _) = Options::decode(options);
        let relayed = all
            .get(RELAY_MESSAGE)
            .ok_or_else(|| fault("relay", "a relayed message", 0))?
            .to_vec();
        let mut options = Options::default();
        for (code, value) in all.iter().filter(|(code, _)| *code != RELAY_MESSAGE) {
            options.push(code, value);
        }
        let relay = Self {
            hop_count: head[1],
            link: address(2),
            peer: address(18),
            options,
        };
        Ok((relay, relayed))
    }
}

impl Message {
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let ([kind, a, b, c], options) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| fault("message", "4 bytes", bytes.len()))?;
        let kind = MessageType::from_number(*kind)
            .ok_or_else(|| fault("message type", "1 to 11", usize::from(*kind)))?;
        let (options, cut_off) = Options::decode(options);
        Ok(Self {
            kind,
            xid: [*a, *b, *c],
            options,
            cut_off,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(&self.xid);
        self.options.encode_into(&mut bytes);
        bytes
    }

    #[must_use]
    pub fn client_id(&self) -> Option<Duid<'_>> {
        self.options.get(CLIENT_ID).and_then(Duid::new)
    }

    #[must_use]
    pub fn server_id(&self) -> Option<&[u8]> {
        self.options.get(SERVER_ID)
    }

    pub fn ia_nas(&self) -> impl Iterator<Item = IaNa> {
        self.options.all(IA_NA).filter_map(IaNa::decode)
    }

    /// Whether the client wants `code`.
    #[must_use]
    pub fn requests(&self, code: u16) -> bool {
        let wanted = self.options.get(OPTION_REQUEST).unwrap_or_default();
        wanted.as_chunks::<2>().0.contains(&code.to_be_bytes())
    }

    /// Option 61.
    #[must_use]
    pub fn architectures(&self) -> Vec<u16> {
        let codes = self.options.get(CLIENT_ARCHITECTURE).unwrap_or_default();
        codes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|pair| u16::from_be_bytes(*pair))
            .collect()
    }

    /// The first text of the vendor class under Intel's number: `PXEClient:Arch:...`.
    #[must_use]
    pub fn pxe_vendor_class(&self) -> Option<&[u8]> {
        self.options.all(VENDOR_CLASS).find_map(|value| {
            let (enterprise, texts) = value.split_first_chunk::<4>()?;
            (u32::from_be_bytes(*enterprise) == ENTERPRISE_INTEL)
                .then(|| counted_texts(texts).first().copied())?
        })
    }

    /// Option 15.
    #[must_use]
    pub fn user_classes(&self) -> Vec<&[u8]> {
        counted_texts(self.options.get(USER_CLASS).unwrap_or_default())
    }

    /// Whether it is about booting: it tells an architecture and wants a boot file. s390x wants one
    /// without telling what it is, and then starts over IPv6 with a broken stack (`firmware.md` T10).
    #[must_use]
    pub fn wants_boot_file(&self) -> bool {
        self.requests(BOOT_FILE_URL) && self.options.contains(CLIENT_ARCHITECTURE)
    }
}

/// The hardware address in a link-local address that was made from one (RFC 4291 appendix A).
#[must_use]
pub fn mac_of_link_local(address: Ipv6Addr) -> Option<MacAddr> {
    match address.octets() {
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => {
            Some(MacAddr([a ^ 2, b, c, d, e, f]))
        }
        _ => None,
    }
}

fn fault(what: &'static str, expected: &'static str, found: usize) -> DecodeError {
    DecodeError {
        what,
        offset: 0,
        expected,
        found,
    }
}

#[cfg(test)]
mod tests;
