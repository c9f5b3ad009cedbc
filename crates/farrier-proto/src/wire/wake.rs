//! The magic packet that wakes a machine (Wake-on-LAN; AMD's white paper 20213).

use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::MacAddr;

/// The EtherType of a magic packet in a frame of its own.
pub const ETHERTYPE: u16 = 0x0842;
/// "Discard": customary, and nobody answers there.
pub const PORT: u16 = 9;

/// The password some cards want behind the magic: six bytes or four. It travels in plain text, so that it
/// keeps out mistakes and no attacker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SecureOn {
    Six([u8; 6]),
    Four([u8; 4]),
}

/// The text is no such password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a SecureOn password: write six hex bytes such as 00:11:22:33:44:55, or four numbers such as 1.2.3.4"
)]
pub struct ParseSecureOnError;

/// Six times ff, sixteen times the address, the password.
#[must_use]
pub fn magic_packet(mac: MacAddr, password: Option<SecureOn>) -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend(mac.0.repeat(16));
    match password {
        Some(SecureOn::Six(password)) => bytes.extend_from_slice(&password),
        Some(SecureOn::Four(password)) => bytes.extend_from_slice(&password),
        None => {}
    }
    bytes
}

impl FromStr for SecureOn {
    type Err = ParseSecureOnError;

    fn from_str(text: &str) -> Result<Self, ParseSecureOnError> {
        if let Ok(MacAddr(password)) = text.parse() {
            return Ok(Self::Six(password));
        }
        let password: Ipv4Addr = text.parse().map_err(|_| ParseSecureOnError)?;
        Ok(Self::Four(password.octets()))
    }
}

impl std::fmt::Debug for SecureOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecureOn(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn t4_bytes_of_a_magic_packet() {
        let plain = magic_packet(MAC, None);
        assert_eq!(plain.len(), 102);
        assert_eq!(plain[..6], [0xff; 6]);
        assert!(plain[6..].chunks(6).all(|copy| copy == MAC.0));
        for (text, tail) in [
            ("00:11:22:33:44:55", &[0, 0x11, 0x22, 0x33, 0x44, 0x55][..]),
            ("1.2.3.4", &[1, 2, 3, 4]),
        ] {
            let with = magic_packet(MAC, Some(text.parse().unwrap()));
            assert_eq!((&with[..102], &with[102..]), (&plain[..], tail), "{text}");
        }
    }

    #[test]
    fn passwords_are_checked_and_not_shown() {
        for text in ["", "00:11", "1.2.3", "secret"] {
            assert_eq!(text.parse::<SecureOn>(), Err(ParseSecureOnError), "{text}");
        }
        assert!(!format!("{:?}", SecureOn::Four([9; 4])).contains('9'));
    }
}
