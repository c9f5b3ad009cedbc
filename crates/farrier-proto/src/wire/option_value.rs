//! Typed views of the option values that tell who a client is. Each keeps the raw bytes, since
//! what is out of form must still be echoed byte for byte.

use std::net::Ipv4Addr;

/// `VendorClassIdentifier` (60).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorClass<'a>(pub &'a [u8]);

impl VendorClass<'_> {
    /// PXE 2.1 and, with `UNDI` left out, iPXE on port 4011.
    #[must_use]
    pub fn is_pxe_client(&self) -> bool {
        self.0.starts_with(b"PXEClient")
    }

    /// UEFI HTTP Boot.
    #[must_use]
    pub fn is_http_client(&self) -> bool {
        self.0.starts_with(b"HTTPClient")
    }

    /// The five decimal digits after `Arch:`. ROMs older than RFC 4578 say their architecture only here.
    #[must_use]
    pub fn arch(&self) -> Option<u16> {
        let text = std::str::from_utf8(self.0).ok()?;
        let (_, rest) = text.split_once(":Arch:")?;
        rest.split(':').next()?.parse().ok()
    }
}

/// `UserClass` (77).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserClass<'a>(pub &'a [u8]);

impl<'a> UserClass<'a> {
    /// The classes: RFC 3004 instances if the value is exactly a run of them, else the value itself,
    /// since iPXE and gPXE send bare text.
    #[must_use]
    pub fn classes(&self) -> Vec<&'a [u8]> {
        instances(self.0).unwrap_or_else(|| vec![self.0])
    }

    /// Whether one of the classes is `name`.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.classes().contains(&name)
    }
}

fn instances(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while let Some((&length, tail)) = rest.split_first() {
        let length = usize::from(length);
        if length == 0 || length > tail.len() {
            return None;
        }
        let (instance, after) = tail.split_at(length);
        found.push(instance);
        rest = after;
    }
    if found.is_empty() { None } else { Some(found) }
}

/// A list of `code, length, value`, as in options 43, 82 and 175. Stops at what does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubOptions<'a> {
    rest: &'a [u8],
    /// Options 43 and 175 use 0 and 255 as PAD and END; in option 82 they are ordinary codes.
    framed: bool,
}

impl<'a> SubOptions<'a> {
    /// Sub-options with PAD and END (43, 175).
    #[must_use]
    pub fn framed(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            framed: true,
        }
    }

    /// Sub-options without PAD and END (82, RFC 3046 section 2.0).
    #[must_use]
    pub fn bare(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            framed: false,
        }
    }
}

impl<'a> Iterator for SubOptions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&code, rest) = self.rest.split_first()?;
            if self.framed && code == 0 {
                self.rest = rest;
                continue;
            }
            let (&length, rest) = rest.split_first()?;
            if (self.framed && code == 255) || usize::from(length) > rest.len() {
                self.rest = &[];
                return None;
            }
            let (value, rest) = rest.split_at(usize::from(length));
            self.rest = rest;
            return Some((code, value));
        }
    }
}

/// `RelayAgentInformation` (82, RFC 3046).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayAgentInformation<'a>(pub &'a [u8]);

impl<'a> RelayAgentInformation<'a> {
    /// All sub-options in order.
    #[must_use]
    pub fn sub_options(&self) -> SubOptions<'a> {
        SubOptions::bare(self.0)
    }

    /// Agent Circuit ID (1).
    #[must_use]
    pub fn circuit_id(&self) -> Option<&'a [u8]> {
        self.sub_option(1)
    }

    /// Agent Remote ID (2).
    #[must_use]
    pub fn remote_id(&self) -> Option<&'a [u8]> {
        self.sub_option(2)
    }

    /// Link Selection (5, RFC 3527): the subnet to choose from, in place of giaddr.
    #[must_use]
    pub fn link_selection(&self) -> Option<Ipv4Addr> {
        address(self.sub_option(5)?)
    }

    /// Server Identifier Override (11, RFC 5107): what option 54 must say.
    #[must_use]
    pub fn server_identifier_override(&self) -> Option<Ipv4Addr> {
        address(self.sub_option(11)?)
    }

    fn sub_option(&self, code: u8) -> Option<&'a [u8]> {
        self.sub_options()
            .find(|(c, _)| *c == code)
            .map(|(_, value)| value)
    }
}

/// `ClientNetworkInterface` (94, RFC 4578 section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNetworkInterface {
    /// 1 is UNDI, the only one in use.
    pub kind: u8,
    pub major: u8,
    pub minor: u8,
}

/// `ClientMachineIdentifier` (97, RFC 4578 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientMachineIdentifier<'a>(pub &'a [u8]);

impl ClientMachineIdentifier<'_> {
    /// The sixteen bytes as they are on the wire, which is also the order in PXELINUX paths.
    #[must_use]
    pub fn wire_uuid(&self) -> Option<[u8; 16]> {
        match self.0.split_first() {
            Some((0, uuid)) => uuid.try_into().ok(),
            _ => None,
        }
    }

    /// The UUID in its textual order. The wire has SMBIOS order: the first three fields are
    /// little-endian.
    #[must_use]
    pub fn uuid(&self) -> Option<[u8; 16]> {
        self.wire_uuid().map(swap_smbios_order)
    }
}

/// Turns a UUID from SMBIOS order to textual order and back.
#[must_use]
pub fn swap_smbios_order(mut uuid: [u8; 16]) -> [u8; 16] {
    uuid[..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    uuid
}

/// What iPXE and gPXE tell of themselves in option 175.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpxeEncapsulated<'a>(pub &'a [u8]);

impl<'a> IpxeEncapsulated<'a> {
    /// All sub-options in order.
    #[must_use]
    pub fn sub_options(&self) -> SubOptions<'a> {
        SubOptions::framed(self.0)
    }

    /// Whether this build has a feature: it is listed with a version other than zero.
    #[must_use]
    pub fn has(&self, feature: IpxeFeature) -> bool {
        self.sub_options()
            .any(|(code, value)| code == feature as u8 && value.iter().any(|&b| b != 0))
    }
}

/// Features iPXE lists in option 175, by sub-option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum IpxeFeature {
    Iscsi = 17,
    Aoe = 18,
    Http = 19,
    Https = 20,
    Tftp = 21,
    Dns = 23,
    BzImage = 24,
    Multiboot = 25,
    Slam = 26,
    Srp = 27,
    NbiImage = 32,
    Pxe = 33,
    Elf = 34,
    ComBoot = 35,
    Efi = 36,
    FcoE = 37,
    Vlan = 38,
    Menu = 39,
    Sdi = 40,
    Nfs = 41,
}

pub(crate) fn address(value: &[u8]) -> Option<Ipv4Addr> {
    value.first_chunk::<4>().copied().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3004_user_class_and_the_bare_text_of_ipxe() {
        let rows: [(&[u8], &[&[u8]]); 5] = [
            (b"iPXE", &[b"iPXE"]),
            (b"\x04iPXE", &[b"iPXE"]),
            (b"\x01a\x02bc", &[b"a", b"bc"]),
            (b"\x05iPXE", &[b"\x05iPXE"]),
            (b"", &[b""]),
        ];
        for (raw, classes) in rows {
            assert_eq!(UserClass(raw).classes(), classes, "{raw:?}");
        }
        assert!(UserClass(b"iPXE").contains(b"iPXE"));
    }

    #[test]
    fn rfc4578_uuid_is_mixed_endian() {
        let raw = [
            0, 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd,
            0xee, 0xff,
        ];
        let id = ClientMachineIdentifier(&raw);
        let textual: [u8; 16] = std::array::from_fn(|i| (i * 0x11).try_into().unwrap());
        assert_eq!(id.uuid(), Some(textual));
        assert_eq!(swap_smbios_order(textual), raw[1..]);
        assert_eq!(ClientMachineIdentifier(&raw[..16]).uuid(), None);
        assert_eq!(ClientMachineIdentifier(&[1; 17]).uuid(), None);
        assert_eq!(ClientMachineIdentifier(&[]).uuid(), None);
    }

    #[test]
    fn vendor_class_tells_the_architecture() {
        let rows: [(&[u8], Option<u16>); 5] = [
            (b"PXEClient:Arch:00007:UNDI:003016", Some(7)),
            (b"HTTPClient:Arch:00016:UNDI:003001", Some(16)),
            (b"PXEClient", None),
            (b"PXEClient:Arch:xyz", None),
            (b"\xff:Arch:00001", None),
        ];
        for (raw, arch) in rows {
            assert_eq!(VendorClass(raw).arch(), arch, "{raw:?}");
        }
    }

    #[test]
    fn rfc3046_sub_options() {
        let raw = [
            1, 2, 0xaa, 0xbb, 2, 1, 0xcc, 5, 4, 10, 0, 0, 0, 11, 4, 10, 0, 0, 1, 9, 200,
        ];
        let info = RelayAgentInformation(&raw);
        assert_eq!(info.circuit_id(), Some(&[0xaa, 0xbb][..]));
        assert_eq!(info.remote_id(), Some(&[0xcc][..]));
        assert_eq!(info.link_selection(), Some(Ipv4Addr::new(10, 0, 0, 0)));
        assert_eq!(
            info.server_identifier_override(),
            Some(Ipv4Addr::new(10, 0, 0, 1))
        );
        assert_eq!(info.sub_options().count(), 4);
    }

    #[test]
    fn ipxe_features_count_only_with_a_version() {
        let info = IpxeEncapsulated(&[19, 1, 1, 24, 1, 0, 33, 1, 2]);
        assert!(info.has(IpxeFeature::Http) && info.has(IpxeFeature::Pxe));
        assert!(!info.has(IpxeFeature::BzImage) && !info.has(IpxeFeature::Efi));
    }
}
