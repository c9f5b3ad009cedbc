//! Router discovery (RFC 4861), as far as a boot server without routing has something to say: "there is IPv6 here,
//! ask DHCPv6", or "there is none". Without any answer iPXE waits some 13 s before it boots over IPv4
//! (`firmware.md` T8) and never asks over IPv6.

use std::net::Ipv6Addr;

use super::DecodeError;
use crate::MacAddr;

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// The types of the two messages.
pub const TYPES: [u8; 2] = [ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT];
/// Before the options of a solicitation.
const SOLICITATION_LEN: usize = 8;
/// Before the options of an advertisement.
const ADVERTISEMENT_LEN: usize = 16;
/// Managed addresses, and other configuration, by DHCPv6.
const MANAGED_AND_OTHER: u8 = 0xc0;
/// On this link; not for making addresses of one's own.
const ON_LINK: u8 = 0x80;
/// Option: the sender's hardware address.
const SOURCE_LINK_LAYER: u8 = 1;

/// Asks every router of the link to advertise itself. The kernel fills in the checksum, which covers the IP header.
pub const SOLICITATION: [u8; SOLICITATION_LEN] = [ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];

/// An advertisement that says: no router, no network, no DHCPv6. Whoever waits for one has its answer.
pub const NOTHING: [u8; ADVERTISEMENT_LEN] = {
    let mut bytes = [0; ADVERTISEMENT_LEN];
    bytes[0] = ROUTER_ADVERTISEMENT;
    bytes
};

/// An advertisement of no router: its lifetime is zero, so nobody takes us for a way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// A network of 64 bits; the host part is not looked at.
    pub network: Ipv6Addr,
    /// How long the network is said to be on this link.
    pub lifetime_s: u32,
    /// Our hardware address, which saves the client a question.
    pub source: Option<MacAddr>,
}

impl Advertisement {
    /// The ICMPv6 message. The kernel fills in the checksum, which covers the IP header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 0, MANAGED_AND_OTHER];
        // Hop limit unspecified (above); lifetime, reachable time and retransmission timer zero.
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(&[3, 4, 64, ON_LINK]);
        bytes.extend_from_slice(&self.lifetime_s.to_be_bytes());
        bytes.extend_from_slice(&self.lifetime_s.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.network.octets()[..8]);
        bytes.extend_from_slice(&[0; 8]);
        if let Some(MacAddr(mac)) = self.source {
            bytes.extend_from_slice(&[SOURCE_LINK_LAYER, 1]);
            bytes.extend_from_slice(&mac);
        }
        bytes
    }
}

/// What hosts and routers say to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// Somebody asks for routers, and may tell its hardware address.
    Solicitation { source: Option<MacAddr> },
    /// Somebody says that it is one, or speaks for one.
    Advertisement,
}

impl Discovery {
    /// Reads an ICMPv6 message whose checksum was verified by the kernel; nothing for those of other types.
    ///
    /// # Errors
    ///
    /// When a message of these types is none by RFC 4861 sections 6.1.1 and 6.1.2. What an advertisement tells in its
    /// options is not looked at.
    pub fn decode(message: &[u8]) -> Result<Option<Self>, DecodeError> {
        let (what, len, expected) = match message.first() {
            Some(&ROUTER_SOLICITATION) => ("router solicitation", SOLICITATION_LEN, "8 bytes"),
            Some(&ROUTER_ADVERTISEMENT) => ("router advertisement", ADVERTISEMENT_LEN, "16 bytes"),
            _ => return Ok(None),
        };
        let fault = |offset, expected, found| DecodeError {
            what,
            offset,
            expected,
            found,
        };
        let Some((head, mut options)) = message.split_at_checked(len) else {
            return Err(fault(0, expected, message.len()));
        };
        if head[1] != 0 {
            return Err(fault(1, "code 0", head[1].into()));
        }
        if head[0] == ROUTER_ADVERTISEMENT {
            return Ok(Some(Self::Advertisement));
        }
        let mut source = None;
        while !options.is_empty() {
            let offset = message.len() - options.len();
            // In units of eight bytes, with these two.
            let len = options.get(1).map_or(0, |units| usize::from(*units) * 8);
            let Some((option, rest)) = options.split_at_checked(len).filter(|_| len > 0) else {
                return Err(fault(offset, "a whole option", len));
            };
            if let [SOURCE_LINK_LAYER, 1, mac @ ..] = option
                && let Some(mac) = mac.first_chunk()
            {
                source = Some(MacAddr(*mac));
            }
            options = rest;
        }
        Ok(Some(Self::Solicitation { source }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn advertisement() -> Vec<u8> {
        Advertisement {
            network: "fd77:0:0:a::1".parse().unwrap(),
            lifetime_s: 3600,
            source: Some(MAC),
        }
        .encode()
    }

    #[test]
    fn rfc4861_4_2_bytes_of_an_advertisement() {
        let bytes = advertisement();
        assert_eq!(bytes.len(), 16 + 32 + 8);
        assert_eq!(
            bytes[..16],
            [134, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes[16..24], [3, 4, 64, 0x80, 0, 0, 0x0e, 0x10]);
        assert_eq!(
            bytes[32..48],
            [0xfd, 0x77, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(bytes[48..], [1, 1, 2, 0, 0, 0, 0, 1]);
        for ours in [&bytes, &NOTHING[..]] {
            let read = Discovery::decode(ours);
            assert_eq!(read, Ok(Some(Discovery::Advertisement)));
        }
    }

    #[test]
    fn rfc4861_6_1_1_solicitations() {
        let read = |tail: &[u8]| Discovery::decode(&[&SOLICITATION[..], tail].concat());
        let of = |source| Ok(Some(Discovery::Solicitation { source }));
        assert_eq!(read(&[]), of(None));
        // As iPXE sends it.
        assert_eq!(read(&[1, 1, 2, 0, 0, 0, 0, 1]), of(Some(MAC)));
        let nonce = [14, 1, 9, 9, 9, 9, 9, 9];
        assert_eq!(
            read(&[nonce, [1, 1, 2, 0, 0, 0, 0, 1]].concat()),
            of(Some(MAC))
        );
        for broken in [
            &[1][..],
            &[1, 1, 2],
            &[1, 0, 2, 0, 0, 0, 0, 1],
            &[1, 2, 2, 0, 0, 0, 0, 1],
        ] {
            assert!(read(broken).is_err(), "{broken:?}");
        }
        assert!(Discovery::decode(&[133, 0, 0, 0]).is_err());
        assert!(Discovery::decode(&[133, 1, 0, 0, 0, 0, 0, 0]).is_err());
        assert!(Discovery::decode(&[134, 0, 0, 0, 0, 0, 0, 0]).is_err());
        for other in [&[][..], &[135, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(Discovery::decode(other), Ok(None));
        }
    }

    #[test]
    fn rfc4861_6_1_2_advertisements_whatever_they_tell() {
        let whole = advertisement();
        for len in 1..whole.len() {
            assert_eq!(
                Discovery::decode(&whole[..len]).is_ok(),
                len >= 16,
                "{len} bytes"
            );
        }
        let mut other = whole;
        other[1] = 1;
        assert!(Discovery::decode(&other).is_err());
    }
}
