//! Facts from a DHCPv6 request (RFC 5970).

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv6::Message;
use farrier_proto::wire::dhcpv6_option::Duid;
use uuid::Uuid;

use super::{
    BootFacts, ClientText, IpxeFeatures, MachineUuid, NoMachine, Oddity, Protocol, Stage,
    architecture,
};
use crate::model::FirmwareKind;
use crate::quirk;

impl BootFacts {
    /// Reads a request of the machine with this hardware address, which DHCPv6 does not carry itself:
    /// it is in the link-local source address or comes from the relay.
    ///
    /// # Errors
    ///
    /// When no hardware address is known, or it is none.
    pub fn from_dhcpv6(message: &Message, mac: Option<MacAddr>) -> Result<Self, NoMachine> {
        let duid = message.client_id();
        let told = || duid.and_then(Duid::mac);
        let mac = mac.or_else(told).ok_or(NoMachine::NoMac)?;
        if mac.is_unusable() {
            return Err(NoMachine::UnusableMac);
        }
        let mut oddities = Vec::new();
        let arch_codes = message.architectures();
        let found = arch_codes.iter().find_map(|&code| architecture(code));
        if found.is_none() && !arch_codes.is_empty() {
            oddities.push(Oddity::ArchitectureUnknown);
        }
        let class = message.pxe_vendor_class();
        let vendor_class = class.and_then(ClientText::new);
        if vendor_class.is_none() && class.is_some() {
            oddities.push(Oddity::Text);
        }
        let is_ipxe = message.user_classes().contains(&&b"iPXE"[..]);
        let uuid = duid.and_then(Duid::uuid).map(|bytes| {
            // The same machine, two byte orders (`firmware.md` T7).
            if is_ipxe {
                MachineUuid::from_canonical(Uuid::from_bytes(bytes))
            } else {
                MachineUuid::from_wire(bytes)
            }
        });
        if uuid.is_some_and(|uuid| uuid.constant) {
            oddities.push(Oddity::MachineIdentifierConstant);
        }
        let mut facts = Self {
            mac,
            arch: found.map(|a| a.arch),
            firmware: found.and_then(|a| a.firmware),
            arch_codes,
            stage: stage_of(message, is_ipxe, found.and_then(|a| a.firmware)),
            protocol: protocol_of(message, found.is_some_and(|a| a.http)),
            uuid,
            client_id: duid.map(|duid| duid.0.to_vec()),
            hostname: None,
            vendor_class,
            serial: None,
            manufacturer: None,
            product: None,
            relay: None,
            secs: 0,
            quirks: Vec::new(),
            oddities,
        };
        facts.quirks = quirk::matching(&facts);
        Ok(facts)
    }
}

fn stage_of(message: &Message, is_ipxe: bool, firmware: Option<FirmwareKind>) -> Stage {
    if is_ipxe {
        // It lists no features over DHCPv6. Every build that speaks IPv6 has HTTP, and starts
        // kernels in the way of its firmware.
        let features = IpxeFeatures {
            http: true,
            https: false,
            bzimage: firmware == Some(FirmwareKind::Bios),
            efi: firmware == Some(FirmwareKind::Uefi),
            menu: true,
        };
        return Stage::Ipxe {
            features,
            version: None,
        };
    }
    if message.wants_boot_file() {
        Stage::Firmware
    } else {
        Stage::Os
    }
}

fn protocol_of(message: &Message, http_code: bool) -> Protocol {
    let class = message.pxe_vendor_class().unwrap_or_default();
    if class.starts_with(b"HTTPClient") {
        Protocol::Http
    } else if class.starts_with(b"PXEClient") {
        Protocol::Pxe
    } else if http_code {
        Protocol::Http
    } else {
        Protocol::PlainDhcp
    }
}

#[cfg(test)]
mod tests {
    use farrier_proto::MacAddr;
    use farrier_proto::wire::dhcpv6::{Message, MessageType};
    use farrier_proto::wire::dhcpv6_option::{self as option, Duid, Options, encode_counted_texts};

    use super::*;
    use crate::model::Arch;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x15]);
    const CANONICAL: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_5254_0077_0015);

    fn message(class: &[u8], arch: u16, uuid: [u8; 16], user: Option<&[u8]>) -> Message {
        let mut options = Options::default();
        options.push(option::CLIENT_ID, Duid::from_uuid(uuid));
        options.push(option::OPTION_REQUEST, [0, 59]);
        options.push(option::CLIENT_ARCHITECTURE, arch.to_be_bytes());
        let mut value = option::ENTERPRISE_INTEL.to_be_bytes().to_vec();
        value.extend(encode_counted_texts(&[class]));
        options.push(option::VENDOR_CLASS, value);
        if let Some(user) = user {
            options.push(option::USER_CLASS, encode_counted_texts(&[user]));
        }
        Message {
            kind: MessageType::Solicit,
            xid: [0; 3],
            options,
            cut_off: false,
        }
    }

    #[test]
    fn rfc5970_firmware_and_ipxe_of_one_machine() {
        let wire = MachineUuid::from_canonical(CANONICAL).wire;
        let pxe = message(b"PXEClient:Arch:00007:UNDI:003000", 7, wire, None);
        let http = message(b"HTTPClient:Arch:00016:UNDI:003000", 16, wire, None);
        let textual = *CANONICAL.as_bytes();
        let ipxe = message(
            b"PXEClient:Arch:00007:UNDI:003010",
            7,
            textual,
            Some(b"iPXE"),
        );
        for (message, protocol, is_firmware) in [
            (pxe, Protocol::Pxe, true),
            (http, Protocol::Http, true),
            (ipxe, Protocol::Pxe, false),
        ] {
            let facts = BootFacts::from_dhcpv6(&message, Some(MAC)).unwrap();
            assert_eq!(
                (facts.arch, facts.firmware),
                (Some(Arch::X86_64), Some(FirmwareKind::Uefi))
            );
            assert_eq!(facts.protocol, protocol);
            assert_eq!(
                facts.stage == Stage::Firmware,
                is_firmware,
                "{:?}",
                facts.stage
            );
            assert_eq!(facts.usable_uuid(), Some(CANONICAL), "T7");
            if let Stage::Ipxe { features, .. } = facts.stage {
                assert!(features.is_enough(), "or it would be sent itself for ever");
            }
        }
    }

    #[test]
    fn t10_without_architecture_nothing_is_booted() {
        let mut message = message(b"x", 7, [1; 16], None);
        message.options = Options::default();
        message.options.push(option::OPTION_REQUEST, [0, 59]);
        let facts = BootFacts::from_dhcpv6(&message, Some(MAC)).unwrap();
        assert!(!facts.wants_boot());
        let nobody = BootFacts::from_dhcpv6(&message, None);
        assert_eq!(nobody, Err(NoMachine::NoMac));
    }
}
