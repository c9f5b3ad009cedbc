//! RARP (RFC 903): a diskless machine knows its hardware address and asks for its IP address. The packet is ARP's,
//! with two operations of its own, in frames of another EtherType.

use std::net::Ipv4Addr;

use super::DecodeError;
use crate::MacAddr;

/// The EtherType of its frames.
pub const ETHERTYPE: u16 = 0x8035;
/// For Ethernet and IPv4; frames are padded behind it.
pub const LEN: usize = 28;

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rarp {
    pub operation: Operation,
    pub sender_mac: MacAddr,
    /// Undefined in a request.
    pub sender_ip: Ipv4Addr,
    /// Whose address is wanted: as a rule the sender's own.
    pub target_mac: MacAddr,
    /// The answer; undefined in a request.
    pub target_ip: Ipv4Addr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

impl Rarp {
    /// Reads what follows the frame's header.
    ///
    /// # Errors
    ///
    /// When it is cut short, of another network than Ethernet and IPv4, or no RARP operation.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Some(bytes) = bytes.first_chunk::<LEN>() else {
            return Err(DecodeError {
                what: "RARP packet",
                offset: 0,
                expected: "28 bytes",
                found: bytes.len(),
            });
        };
        let [
            h0,
            h1,
            p0,
            p1,
            hardware_len,
            protocol_len,
            o0,
            o1,
            rest @ ..,
        ] = *bytes;
        let fault = |what, offset, expected, found: u16| DecodeError {
            what,
            offset,
            expected,
            found: found.into(),
        };
        let (hardware, protocol) = (u16::from_be_bytes([h0, h1]), u16::from_be_bytes([p0, p1]));
        if hardware != ETHERNET {
            return Err(fault("hardware", 0, "1 (Ethernet)", hardware));
        }
        if protocol != IPV4 {
            return Err(fault("protocol", 2, "0x0800 (IPv4)", protocol));
        }
        if (hardware_len, protocol_len) != (6, 4) {
            let found = u16::from_be_bytes([hardware_len, protocol_len]);
            return Err(fault("address lengths", 4, "6 and 4", found));
        }
        let operation = match u16::from_be_bytes([o0, o1]) {
            REQUEST => Operation::Request,
            REPLY => Operation::Reply,
            other => return Err(fault("operation", 6, "3 or 4", other)),
        };
        let mac = |at: usize| MacAddr(std::array::from_fn(|i| rest[at + i]));
        let ip = |at: usize| Ipv4Addr::from(std::array::from_fn(|i| rest[at + i]));
        Ok(Self {
            operation,
            sender_mac: mac(0),
            sender_ip: ip(6),
            target_mac: mac(10),
            target_ip: ip(16),
        })
    }

    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let operation = match self.operation {
            Operation::Request => REQUEST,
            Operation::Reply => REPLY,
        };
        let mut bytes = [0; LEN];
        bytes[0..2].copy_from_slice(&ETHERNET.to_be_bytes());
        bytes[2..4].copy_from_slice(&IPV4.to_be_bytes());
        bytes[4..6].copy_from_slice(&[6, 4]);
        bytes[6..8].copy_from_slice(&operation.to_be_bytes());
        bytes[8..14].copy_from_slice(&self.sender_mac.0);
        bytes[14..18].copy_from_slice(&self.sender_ip.octets());
        bytes[18..24].copy_from_slice(&self.target_mac.0);
        bytes[24..28].copy_from_slice(&self.target_ip.octets());
        bytes
    }

    /// The answer to a request: `ip` is the address, `mac` and `server` are ours. SunOS takes the sender of the
    /// first answer for its boot server.
    #[must_use]
    pub fn answer(&self, ip: Ipv4Addr, mac: MacAddr, server: Ipv4Addr) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: server,
            target_mac: self.target_mac,
            target_ip: ip,
        }
    }
}

const ETHERNET: u16 = 1;
const IPV4: u16 = 0x0800;
const REQUEST: u16 = 3;
const REPLY: u16 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr = MacAddr([8, 0, 0x20, 1, 2, 3]);

    fn request() -> Rarp {
        Rarp {
            operation: Operation::Request,
            sender_mac: MAC,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: MAC,
            target_ip: Ipv4Addr::UNSPECIFIED,
        }
    }

    #[test]
    fn rfc903_a_request_and_its_answer() {
        let bytes = request().encode();
        assert_eq!(bytes[..8], [0, 1, 8, 0, 6, 4, 0, 3]);
        assert_eq!(Rarp::decode(&bytes), Ok(request()));
        let ours = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
        let (ip, server) = (Ipv4Addr::new(192, 168, 0, 7), Ipv4Addr::new(192, 168, 0, 1));
        let answer = request().answer(ip, ours, server).encode();
        assert_eq!(answer[6..8], [0, 4]);
        assert_eq!(answer[8..14], ours.0);
        assert_eq!(answer[14..18], [192, 168, 0, 1]);
        assert_eq!(answer[18..24], MAC.0);
        assert_eq!(answer[24..28], [192, 168, 0, 7]);
    }

    #[test]
    fn what_is_no_rarp_is_refused() {
        let whole = request().encode();
        for len in 0..LEN {
            assert!(Rarp::decode(&whole[..len]).is_err(), "{len} bytes");
        }
        // Token Ring, AppleTalk, long addresses, ARP itself.
        for (at, byte) in [(1, 6), (2, 0x80), (4, 8), (5, 16), (7, 1), (7, 2), (6, 1)] {
            let mut bytes = whole;
            bytes[at] = byte;
            assert!(Rarp::decode(&bytes).is_err(), "byte {at} is {byte}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(rarp) = Rarp::decode(&bytes) {
                prop_assert_eq!(&rarp.encode()[..], &bytes[..LEN]);
            }
        }
    }
}
