//! ICMP echo (RFC 792): whether somebody behind a router answers.

use std::net::Ipv4Addr;

/// A question without data; `id` tells our answers from those of others.
#[must_use]
pub fn request(id: u16) -> [u8; 8] {
    let mut bytes = [8, 0, 0, 0, 0, 0, 0, 1];
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    // RFC 1071 over four words, two of which are not zero.
    let sum = 0x0801_u32 + u32::from(id);
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX);
    bytes[2..4].copy_from_slice(&(!folded).to_be_bytes());
    bytes
}

/// Who answered `id`, from an IPv4 packet as a raw socket gets it.
#[must_use]
pub fn answer(packet: &[u8], id: u16) -> Option<Ipv4Addr> {
    let first = *packet.first()?;
    let source = packet.get(12..16)?.first_chunk::<4>()?;
    let message = packet.get(usize::from(first & 0x0f) * 4..)?;
    let [0, 0, _, _, high, low, ..] = message else {
        return None;
    };
    let is_ours = first >> 4 == 4 && u16::from_be_bytes([*high, *low]) == id;
    is_ours.then_some(Ipv4Addr::from(*source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc792_the_checksum_of_every_question_is_right() {
        for id in [0, 1, 0x1234, 0xf7fe, 0xf7ff, 0xffff] {
            let words = request(id);
            let sum: u32 = words
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{id:#x}");
        }
    }

    #[test]
    fn only_an_answer_to_our_question_counts() {
        let mut packet = vec![0x46; 24];
        packet[12..16].copy_from_slice(&[10, 9, 0, 7]);
        packet.extend([0, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert_eq!(answer(&packet, 0x1234), Some(Ipv4Addr::new(10, 9, 0, 7)));
        assert_eq!(answer(&packet, 0x1235), None);
        packet[24] = 8;
        assert_eq!(answer(&packet, 0x1234), None, "a question");
        packet[24] = 0;
        packet[0] = 0x4f;
        assert_eq!(answer(&packet, 0x1234), None, "a header longer than all");
        for len in 0..30 {
            let _ = answer(&packet[..len], 0x1234);
        }
    }
}
