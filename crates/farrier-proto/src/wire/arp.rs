//! ARP (RFC 826) as far as it is needed to ask whether somebody uses an address (RFC 5227).

use std::net::Ipv4Addr;

use crate::MacAddr;

/// The EtherType of its frames.
pub const ETHERTYPE: u16 = 0x0806;
/// For Ethernet and IPv4; frames are padded behind it.
pub const LEN: usize = 28;

/// The question who has `ip`, from `mac`. It names no address of ours, so that nobody's table is touched
/// (RFC 5227 section 2.1.1).
#[must_use]
pub fn probe(mac: MacAddr, ip: Ipv4Addr) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    bytes[8..14].copy_from_slice(&mac.0);
    bytes[24..].copy_from_slice(&ip.octets());
    bytes
}

/// Who says by this packet that which address is its own: any sender that names one, in a request too (RFC 5227
/// section 2.1.1).
#[must_use]
pub fn claim(packet: &[u8]) -> Option<(Ipv4Addr, MacAddr)> {
    let packet = packet.first_chunk::<LEN>()?;
    let [0, 1, 8, 0, 6, 4, 0, 1 | 2, rest @ ..] = packet else {
        return None;
    };
    let mac = MacAddr(*rest.first_chunk()?);
    let ip = Ipv4Addr::from(*rest[6..].first_chunk::<4>()?);
    (!ip.is_unspecified() && !mac.is_unusable()).then_some((ip, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 9]);
    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);

    #[test]
    fn rfc5227_2_1_1_a_probe_claims_nothing_and_an_answer_does() {
        let asked = probe(MAC, IP);
        assert_eq!(claim(&asked), None, "its own address is not told");
        let mut answer = asked;
        answer[7] = 2;
        answer[14..18].copy_from_slice(&IP.octets());
        assert_eq!(claim(&answer), Some((IP, MAC)));
        let mut padded = answer.to_vec();
        padded.resize(46, 0);
        assert_eq!(claim(&padded), Some((IP, MAC)), "frames are padded");
        answer[7] = 1;
        assert_eq!(claim(&answer), Some((IP, MAC)), "an announcement");
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (8, 1)] {
            let mut other = answer;
            other[at] = value;
            assert_eq!(claim(&other), None, "byte {at}");
        }
        assert_eq!(claim(&answer[..27]), None);
    }
}
