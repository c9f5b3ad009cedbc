//! Devices that behave in their own way: one table, so that an oddity is a row and not an `if`
//! somewhere. What can be told from a packet only; `docs/hardware.md` lists the rest.

use std::time::Duration;

use farrier_proto::MacAddr;

use crate::facts::BootFacts;

/// One row.
#[derive(Debug, PartialEq)]
pub struct Quirk {
    pub name: &'static str,
    pub device: &'static str,
    pub symptom: &'static str,
    pub remedy: &'static str,
    /// Issue thread, measurement or document it comes from.
    pub source: &'static str,
    /// All of these must hold.
    pub when: &'static [Matcher],
    pub effects: &'static [Effect],
}

/// What a client must show for a row to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// Option 93 holds this code.
    ArchCode(u16),
    /// Option 93 holds one of these.
    ArchCodes(&'static [u16]),
    Mac([u8; 6]),
    /// It does not send option 97.
    NoMachineIdentifier,
    /// The hardware address begins with one of these.
    Oui(&'static [[u8; 3]]),
    VendorClassStarts(&'static str),
}

/// What to do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Never offer a larger TFTP block.
    MaxBlksize(u16),
    /// The offer must carry the menu "Raspberry Pi Boot" in option 43.
    RaspberryPiMenu,
    /// Answer no sooner than this after the request.
    ReplyDelay(Duration),
    /// iPXE starts and does not come back, so it gets another loader.
    StopsInIpxe,
    /// Many machines have this hardware address: it is no evidence of anything.
    SharedMac,
}

/// The rows that fit.
#[must_use]
pub fn matching(facts: &BootFacts) -> Vec<&'static Quirk> {
    QUIRKS
        .iter()
        .filter(|quirk| quirk.when.iter().all(|matcher| matcher.fits(facts)))
        .collect()
}

/// Whether the address is of a Raspberry Pi. Their ROM says it is an x86 BIOS.
#[must_use]
pub fn is_raspberry_pi(mac: MacAddr) -> bool {
    has_oui(mac, RASPBERRY_PI)
}

/// Whether many machines are known to have this address.
#[must_use]
pub fn is_shared(mac: MacAddr) -> bool {
    QUIRKS.iter().any(|quirk| {
        quirk.effects.contains(&Effect::SharedMac) && quirk.when.contains(&Matcher::Mac(mac.0))
    })
}

impl Matcher {
    fn fits(self, facts: &BootFacts) -> bool {
        match self {
            Self::ArchCode(code) => facts.arch_codes.contains(&code),
            Self::ArchCodes(list) => facts.arch_codes.iter().any(|code| list.contains(code)),
            Self::Mac(mac) => facts.mac.0 == mac,
            Self::NoMachineIdentifier => facts.uuid.is_none(),
            Self::Oui(list) => has_oui(facts.mac, list),
            Self::VendorClassStarts(start) => facts
                .vendor_class
                .as_ref()
                .is_some_and(|class| class.as_str().starts_with(start)),
        }
    }
}

fn has_oui(mac: MacAddr, list: &[[u8; 3]]) -> bool {
    mac.0.first_chunk().is_some_and(|oui| list.contains(oui))
}

/// The first three bytes of the boards' own network cards.
const RASPBERRY_PI: &[[u8; 3]] = &[
    [0xb8, 0x27, 0xeb],
    [0xdc, 0xa6, 0x32],
    [0xe4, 0x5f, 0x01],
    [0x28, 0xcd, 0xc1],
    [0xd8, 0x3a, 0xdd],
    [0x2c, 0xcf, 0x67],
];
/// Boards of generation 2 and 3; later ones have other prefixes.
const RASPBERRY_PI_3: &[[u8; 3]] = &[[0xb8, 0x27, 0xeb]];

/// The table.
pub const QUIRKS: &[Quirk] = &[
    Quirk {
        name: "pi-rom-menu",
        device: "Raspberry Pi boot ROM",
        symptom: "ignores every offer that has no boot menu in option 43",
        remedy: "send the one-item menu \"Raspberry Pi Boot\"",
        source: "maker's capture; tinkerbell",
        when: &[
            Matcher::Oui(RASPBERRY_PI),
            Matcher::VendorClassStarts("PXEClient:Arch:00000:UNDI:002001"),
        ],
        effects: &[Effect::RaspberryPiMenu],
    },
    Quirk {
        name: "pi3-rom-haste",
        device: "Raspberry Pi 2B v1.2, 3",
        symptom: "hangs when the DHCP and TFTP answers come within about 2 s of each other",
        remedy: "answer a second and a half late",
        source: "raspberrypi/firmware#934, #862",
        when: &[
            Matcher::Oui(RASPBERRY_PI_3),
            Matcher::VendorClassStarts("PXEClient:Arch:00000:UNDI:002001"),
        ],
        effects: &[
            Effect::ReplyDelay(Duration::from_millis(1500)),
            Effect::MaxBlksize(512),
        ],
    },
    Quirk {
        name: "pi4-eeprom-blocks",
        device: "Raspberry Pi 4, 5 EEPROM",
        symptom: "loses TFTP blocks larger than 1024 bytes",
        remedy: "offer blocks of 1024 bytes at most",
        source: "field reports",
        when: &[Matcher::Oui(RASPBERRY_PI), Matcher::ArchCode(41)],
        effects: &[Effect::MaxBlksize(1024)],
    },
    Quirk {
        name: "uboot-virtio-mac",
        device: "U-Boot 2023.01 with virtio-net-pci on arm",
        symptom: "reads its hardware address as 52:52:52:52:52:52, on every machine",
        remedy: "use virtio-net-device; the address is not taken for evidence",
        source: "measured under QEMU 7.2",
        when: &[Matcher::Mac([0x52; 6])],
        effects: &[Effect::SharedMac],
    },
    Quirk {
        name: "uboot-efi-sleep",
        device: "U-Boot that starts EFI programs, on Arm and RISC-V",
        symptom: "iPXE stops at its first wait: it sleeps until an interrupt, and U-Boot has none",
        remedy: "start GRUB; or an iPXE built without NAP_EFIARM",
        source: "measured with iPXE 2.0; sidero#806",
        when: &[
            Matcher::VendorClassStarts("PXEClient:Arch:"),
            Matcher::ArchCodes(&[10, 11, 27]),
            Matcher::NoMachineIdentifier,
        ],
        effects: &[Effect::StopsInIpxe],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_whole() {
        let names: BTreeSet<_> = QUIRKS.iter().map(|quirk| quirk.name).collect();
        assert_eq!(names.len(), QUIRKS.len(), "names are distinct");
        for quirk in QUIRKS {
            for text in [quirk.device, quirk.symptom, quirk.remedy, quirk.source] {
                assert!(!text.is_empty(), "{}", quirk.name);
            }
            assert!(
                !quirk.when.is_empty() && !quirk.effects.is_empty(),
                "{}",
                quirk.name
            );
        }
    }

    #[test]
    fn the_hardware_page_lists_every_row() {
        let page = include_str!("../../../docs/hardware.md");
        for quirk in QUIRKS {
            assert!(
                page.contains(&format!("| {} |", quirk.name)),
                "docs/hardware.md lacks {}",
                quirk.name
            );
        }
    }

    #[test]
    fn t9_the_shared_address_is_known() {
        assert!(is_shared(MacAddr([0x52; 6])));
        assert!(!is_shared(MacAddr([0x52, 0x54, 0, 0, 0, 1])));
    }
}
