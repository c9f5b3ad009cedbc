//! SMBIOS UUIDs as boot clients send them.

use farrier_proto::wire::option_value::swap_smbios_order;
use uuid::Uuid;

/// The UUID of option 97 or of a script parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineUuid {
    /// As on the wire of option 97 (SMBIOS order), which is also the order in PXELINUX paths.
    pub wire: [u8; 16],
    /// In textual order.
    pub canonical: Uuid,
    /// Many machines share it, so that it tells nothing.
    pub constant: bool,
}

impl MachineUuid {
    #[must_use]
    pub fn from_wire(wire: [u8; 16]) -> Self {
        Self::new(wire, Uuid::from_bytes(swap_smbios_order(wire)))
    }

    #[must_use]
    pub fn from_canonical(canonical: Uuid) -> Self {
        Self::new(swap_smbios_order(canonical.into_bytes()), canonical)
    }

    fn new(wire: [u8; 16], canonical: Uuid) -> Self {
        Self {
            wire,
            canonical,
            constant: is_constant(canonical),
        }
    }
}

/// Whether `uuid`, in either byte order, is one that boards carry in masses.
#[must_use]
pub fn is_constant(uuid: Uuid) -> bool {
    let bytes = uuid.into_bytes();
    let swapped = Uuid::from_bytes(swap_smbios_order(bytes));
    // All bytes alike covers all zero and all ones, which mean "absent" and "not set" (SMBIOS 7.2.1).
    bytes.iter().all(|b| *b == bytes[0])
        || CONSTANTS
            .iter()
            .any(|constant| *constant == uuid || *constant == swapped)
}

/// Placeholders that board makers ship.
const CONSTANTS: [Uuid; 5] = [
    // "To be filled": the counting pattern of reference firmware.
    Uuid::from_u128(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
    Uuid::from_u128(0x0304_0506_0708_090a_0b0c_0d0e_0f10_1112),
    Uuid::from_u128(0x0300_0200_0400_0500_0006_0007_0008_0009),
    Uuid::from_u128(0x1234_5678_1234_5678_90ab_cdda_bcda_bcda),
    // Raspberry Pi 3 ROM: the same serial-less value on every board.
    Uuid::from_u128(0x4444_4444_4444_4444_4444_4444_4444_4444),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_known_in_both_orders() {
        let twin = |uuid: Uuid| Uuid::from_bytes(swap_smbios_order(uuid.into_bytes()));
        for uuid in CONSTANTS.into_iter().chain([Uuid::nil(), Uuid::max()]) {
            assert!(is_constant(uuid) && is_constant(twin(uuid)), "{uuid}");
        }
        let good: Uuid = "4c4c4544-0035-3910-8051-b4c04f4b4e32".parse().unwrap();
        assert!(!is_constant(good) && !is_constant(twin(good)));
    }

    #[test]
    fn t7_wire_and_textual_order() {
        let canonical: Uuid = "00112233-4455-6677-8899-525400770001".parse().unwrap();
        let id = MachineUuid::from_canonical(canonical);
        assert_eq!(id.wire[..8], [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66]);
        assert_eq!(MachineUuid::from_wire(id.wire), id);
    }
}
