//! Router advertisements (RFC 4861), as far as a boot server without routing has something to say:
//! "there is IPv6 here, ask DHCPv6". Without one iPXE waits some 13 s before it boots over IPv4
//! (`firmware.md` T8) and never asks over IPv6.

use std::net::Ipv6Addr;

use crate::MacAddr;

const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// Managed addresses, and other configuration, by DHCPv6.
const MANAGED_AND_OTHER: u8 = 0xc0;
/// On this link; not for making addresses of one's own.
const ON_LINK: u8 = 0x80;

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
            bytes.extend_from_slice(&[1, 1]);
            bytes.extend_from_slice(&mac);
        }
        bytes
    }
}

/// Whether an ICMPv6 message asks for an advertisement (RFC 4861 section 6.1.1).
#[must_use]
pub fn is_solicitation(message: &[u8]) -> bool {
    message.len() >= 8 && message[..2] == [ROUTER_SOLICITATION, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4861_4_2_bytes_of_an_advertisement() {
        let bytes = Advertisement {
            network: "fd77:0:0:a::1".parse().unwrap(),
            lifetime_s: 3600,
            source: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        }
        .encode();
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
    }

    #[test]
    fn rfc4861_6_1_1_solicitations() {
        assert!(is_solicitation(&[133, 0, 1, 2, 0, 0, 0, 0]));
        for other in [
            &[133, 0, 0, 0][..],
            &[133, 1, 0, 0, 0, 0, 0, 0],
            &[135, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(!is_solicitation(other));
        }
    }
}
