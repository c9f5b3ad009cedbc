//! DHCPv6 options in wire order (RFC 8415 section 21) and the values network boot reads from them.

use std::net::Ipv6Addr;

use crate::MacAddr;

pub const CLIENT_ID: u16 = 1;
pub const SERVER_ID: u16 = 2;
pub const IA_NA: u16 = 3;
pub const IA_TA: u16 = 4;
pub const IA_ADDRESS: u16 = 5;
pub const OPTION_REQUEST: u16 = 6;
pub const PREFERENCE: u16 = 7;
pub const ELAPSED_TIME: u16 = 8;
pub const RELAY_MESSAGE: u16 = 9;
pub const STATUS_CODE: u16 = 13;
pub const RAPID_COMMIT: u16 = 14;
pub const USER_CLASS: u16 = 15;
pub const VENDOR_CLASS: u16 = 16;
pub const INTERFACE_ID: u16 = 18;
/// RFC 3646.
pub const DNS_SERVERS: u16 = 23;
pub const IA_PD: u16 = 25;
/// RFC 5970, as are the next three.
pub const BOOT_FILE_URL: u16 = 59;
pub const BOOT_FILE_PARAMETERS: u16 = 60;
pub const CLIENT_ARCHITECTURE: u16 = 61;
pub const NETWORK_INTERFACE: u16 = 62;
/// RFC 6939, added by relays.
pub const CLIENT_LINK_LAYER_ADDRESS: u16 = 79;

/// Intel's enterprise number: the vendor class of PXE and HTTP Boot stands under it.
pub const ENTERPRISE_INTEL: u32 = 343;

/// Options in the order they came or will be sent. A code may come several times, as IA_NA does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<(u16, Vec<u8>)>);

impl Options {
    /// The value of the first `code`.
    #[must_use]
    pub fn get(&self, code: u16) -> Option<&[u8]> {
        self.all(code).next()
    }

    /// The values of every `code`.
    pub fn all(&self, code: u16) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter_map(move |(c, value)| (c == code).then_some(value))
    }

    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.get(code).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u16, &[u8])> {
        self.0.iter().map(|(code, value)| (*code, value.as_slice()))
    }

    /// Adds at the end. A value that no option can hold is left out.
    pub fn push(&mut self, code: u16, value: impl Into<Vec<u8>>) {
        let value = value.into();
        if u16::try_from(value.len()).is_ok() {
            self.0.push((code, value));
        }
    }

    /// Reads options to the end of `bytes`. The second value is true if the last one is cut off; what
    /// came before it is kept, since a machine with a strange option must still boot.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> (Self, bool) {
        let mut options = Self::default();
        while !bytes.is_empty() {
            let Some(([c0, c1, l0, l1], rest)) = bytes.split_first_chunk::<4>() else {
                return (options, true);
            };
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let Some((value, rest)) = rest.split_at_checked(length) else {
                return (options, true);
            };
            options.push(u16::from_be_bytes([*c0, *c1]), value);
            bytes = rest;
        }
        (options, false)
    }

    pub fn encode_into(&self, bytes: &mut Vec<u8>) {
        for (code, value) in &self.0 {
            // `push` lets nothing longer in.
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&code.to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(value);
        }
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_into(&mut bytes);
        bytes
    }
}

/// Who somebody is, in DHCPv6 (RFC 8415 section 11): opaque, except for what is read out of it here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Duid<'a>(pub &'a [u8]);

impl<'a> Duid<'a> {
    /// RFC 8415 section 11.1: two bytes of type and at most 128 behind them.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        (3..=130).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The Ethernet address in a DUID-LLT or DUID-LL. It may be that of another card of the machine.
    #[must_use]
    pub fn mac(self) -> Option<MacAddr> {
        let (kind, rest) = self.0.split_first_chunk::<2>()?;
        match (kind, rest) {
            ([0, 1], [0, 1, _, _, _, _, address @ ..]) | ([0, 3], [0, 1, address @ ..]) => {
                address.try_into().ok().map(MacAddr)
            }
            _ => None,
        }
    }

    /// The sixteen bytes of a DUID-UUID (RFC 6355), in whichever order the sender has: edk2 writes
    /// them as SMBIOS does, iPXE as text is written (`firmware.md` T7).
    #[must_use]
    pub fn uuid(self) -> Option<[u8; 16]> {
        match self.0 {
            [0, 4, uuid @ ..] => uuid.try_into().ok(),
            _ => None,
        }
    }

    /// A DUID-UUID.
    #[must_use]
    pub fn from_uuid(uuid: [u8; 16]) -> [u8; 18] {
        let mut duid = [0; 18];
        duid[1] = 4;
        duid[2..].copy_from_slice(&uuid);
        duid
    }
}

/// A set of addresses that belong together (IA_NA, RFC 8415 section 21.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IaNa {
    pub iaid: u32,
    pub t1: u32,
    pub t2: u32,
    pub options: Options,
}

impl IaNa {
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (iaid, rest) = value.split_first_chunk::<4>()?;
        let (t1, rest) = rest.split_first_chunk::<4>()?;
        let (t2, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            iaid: u32::from_be_bytes(*iaid),
            t1: u32::from_be_bytes(*t1),
            t2: u32::from_be_bytes(*t2),
            options: Options::decode(rest).0,
        })
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(44);
        for number in [self.iaid, self.t1, self.t2] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        self.options.encode_into(&mut bytes);
        bytes
    }

    /// The addresses in it.
    pub fn addresses(&self) -> impl Iterator<Item = IaAddress> {
        self.options.all(IA_ADDRESS).filter_map(IaAddress::decode)
    }
}

/// One address of a set, with its lifetimes in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IaAddress {
    pub address: Ipv6Addr,
    pub preferred: u32,
    pub valid: u32,
}

impl IaAddress {
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (address, rest) = value.split_first_chunk::<16>()?;
        let (preferred, rest) = rest.split_first_chunk::<4>()?;
        let valid = rest.first_chunk::<4>()?;
        Some(Self {
            address: Ipv6Addr::from(*address),
            preferred: u32::from_be_bytes(*preferred),
            valid: u32::from_be_bytes(*valid),
        })
    }

    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.address.octets().to_vec();
        bytes.extend_from_slice(&self.preferred.to_be_bytes());
        bytes.extend_from_slice(&self.valid.to_be_bytes());
        bytes
    }
}

/// Texts that each have two bytes of length before them (RFC 8415 sections 21.15 and 21.16). A cut-off
/// last one is left out.
#[must_use]
pub fn counted_texts(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let Some((text, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        else {
            break;
        };
        texts.push(text);
        bytes = rest;
    }
    texts
}

/// The same, written.
#[must_use]
pub fn encode_counted_texts(texts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for text in texts {
        if let Ok(length) = u16::try_from(text.len()) {
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, Vec<u8>, Option<MacAddr>, Option<[u8; 16]>);

    #[test]
    fn rfc8415_11_what_a_duid_tells() {
        let mac = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x15]);
        let uuid = [7; 16];
        let rows: [Row; 6] = [
            (
                "LLT",
                [&[0, 1, 0, 1, 9, 9, 9, 9][..], &mac.0].concat(),
                Some(mac),
                None,
            ),
            ("LL", [&[0, 3, 0, 1][..], &mac.0].concat(), Some(mac), None),
            (
                "LL of Infiniband",
                [&[0, 3, 0, 32][..], &mac.0].concat(),
                None,
                None,
            ),
            (
                "LL too long",
                [&[0, 3, 0, 1, 0][..], &mac.0].concat(),
                None,
                None,
            ),
            ("UUID", Duid::from_uuid(uuid).to_vec(), None, Some(uuid)),
            ("enterprise", vec![0, 2, 0, 0, 1, 87, 1], None, None),
        ];
        for (name, bytes, mac, uuid) in rows {
            let duid = Duid::new(&bytes).unwrap();
            assert_eq!((duid.mac(), duid.uuid()), (mac, uuid), "{name}");
        }
        assert_eq!(Duid::new(&[0, 4]), None);
        assert_eq!(Duid::new(&[0; 131]), None);
    }

    #[test]
    fn cut_off_options_keep_what_came_before() {
        let (options, cut_off) = Options::decode(&[0, 8, 0, 2, 0, 1, 0, 6, 0, 9, 1]);
        assert!(cut_off);
        assert_eq!(options.iter().collect::<Vec<_>>(), [(8, &[0, 1][..])]);
        assert_eq!(Options::decode(&[0, 8, 0]), (Options::default(), true));
    }

    #[test]
    fn counted_texts_stop_at_a_lie() {
        let bytes = encode_counted_texts(&[b"iPXE", b""]);
        assert_eq!(counted_texts(&bytes), [&b"iPXE"[..], b""]);
        assert_eq!(counted_texts(&[0, 1, b'a', 0, 9, b'b']), [b"a"]);
    }
}
