//! Reads SMBIOS tables (DMTF DSP0134). Firmware writes them, so every length in them may lie: nothing is read
//! outside the table, and what does not fit ends the walk.

use uuid::Uuid;

/// What we use of the tables; texts are empty where the table has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Smbios {
    pub bios_vendor: String,
    pub bios_version: String,
    pub manufacturer: String,
    pub product: String,
    pub serial: String,
    pub uuid: Option<Uuid>,
    pub sku: String,
    pub family: String,
    pub board_serial: String,
    pub chassis_asset: String,
    memory: Option<u64>,
}

/// Texts that vendors leave in place of a value.
const PLACEHOLDERS: &[&str] = &[
    "0",
    "default string",
    "n/a",
    "na",
    "none",
    "not applicable",
    "not available",
    "not specified",
    "null",
    "o.e.m.",
    "system serial number",
    "to be filled by o.e.m.",
    "unknown",
];

/// More structures than any machine has; the bound is for tables made to waste our time.
const MOST_STRUCTURES: usize = 4096;

impl Smbios {
    /// Parses `table`, whose version `entry_point` tells.
    #[must_use]
    pub fn parse(entry_point: &[u8], table: &[u8]) -> Self {
        let mut found = Self::default();
        let mut seen = [false; 4];
        for structure in structures(table).take(MOST_STRUCTURES) {
            // Only the first of each kind describes the machine; docks and blades add more.
            let first = seen
                .get_mut(usize::from(structure.kind))
                .is_none_or(|seen| !std::mem::replace(seen, true));
            if first {
                found.take(&structure, version(entry_point));
            }
        }
        found
    }

    /// Sizes of all memory modules together, if the table lists any.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory
    }

    fn take(&mut self, structure: &Structure<'_>, version: (u8, u8)) {
        match structure.kind {
            0 => {
                self.bios_vendor = structure.text(0x04);
                self.bios_version = structure.text(0x05);
            }
            1 => {
                self.manufacturer = structure.text(0x04);
                self.product = structure.text(0x05);
                self.serial = structure.text(0x07);
                self.uuid = structure
                    .formatted
                    .get(0x08..0x18)
                    .and_then(|bytes| uuid(bytes, version));
                self.sku = structure.text(0x19);
                self.family = structure.text(0x1a);
            }
            2 => self.board_serial = structure.text(0x07),
            3 => self.chassis_asset = structure.text(0x08),
            17 => {
                let size = structure.memory_size().unwrap_or(0);
                self.memory = Some(self.memory.unwrap_or(0).saturating_add(size));
            }
            _ => {}
        }
    }
}

/// One structure: its fixed part with header, and the texts after it.
struct Structure<'a> {
    kind: u8,
    formatted: &'a [u8],
    texts: &'a [u8],
}

impl Structure<'_> {
    /// The text whose number is at `offset`; placeholders count as none.
    fn text(&self, offset: usize) -> String {
        let number = usize::from(self.formatted.get(offset).copied().unwrap_or(0));
        let Some(index) = number.checked_sub(1) else {
            return String::new();
        };
        let text = self
            .texts
            .split(|b| *b == 0)
            .nth(index)
            .map(super::clean)
            .unwrap_or_default();
        if PLACEHOLDERS.contains(&text.to_ascii_lowercase().as_str()) {
            String::new()
        } else {
            text
        }
    }

    /// Section 7.18.5: 0xFFFF is unknown, 0x7FFF refers to the extended size, bit 15 chooses the unit.
    fn memory_size(&self) -> Option<u64> {
        const KILOBYTE: u64 = 1 << 10;
        const MEGABYTE: u64 = 1 << 20;
        let size = u16::from_le_bytes(*self.formatted.get(0x0c..)?.first_chunk()?);
        match size {
            0xffff => None,
            0x7fff => {
                let extended = u32::from_le_bytes(*self.formatted.get(0x1c..)?.first_chunk()?);
                Some(u64::from(extended & 0x7fff_ffff) * MEGABYTE)
            }
            size if size & 0x8000 != 0 => Some(u64::from(size & 0x7fff) * KILOBYTE),
            size => Some(u64::from(size) * MEGABYTE),
        }
    }
}

/// Walks the table. Ends at the end-of-table structure, or at the first that does not fit.
fn structures(mut rest: &[u8]) -> impl Iterator<Item = Structure<'_>> {
    const END_OF_TABLE: u8 = 127;
    std::iter::from_fn(move || {
        let (&kind, &len) = (rest.first()?, rest.get(1)?);
        if len < 4 || kind == END_OF_TABLE {
            return None;
        }
        let (formatted, after) = rest.split_at_checked(usize::from(len))?;
        // Texts end with an empty one; a structure without texts has two zeros.
        let end = after.windows(2).position(|pair| pair == [0, 0])?;
        rest = &after[end + 2..];
        Some(Structure {
            kind,
            formatted,
            texts: &after[..end],
        })
    })
}

/// Sections 5.2.1 and 5.2.2: where the two kinds of entry point keep the version.
fn version(entry_point: &[u8]) -> (u8, u8) {
    let at = |offset: usize| entry_point.get(offset).copied().unwrap_or(0);
    if entry_point.starts_with(b"_SM3_") {
        (at(7), at(8))
    } else {
        (at(6), at(7))
    }
}

/// Section 7.2.1: all zeros and all ones mean "none"; since 2.6 the first three fields are little-endian.
fn uuid(bytes: &[u8], version: (u8, u8)) -> Option<Uuid> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    if bytes == [0; 16] || bytes == [0xff; 16] {
        return None;
    }
    let old = version != (0, 0) && version < (2, 6);
    Some(if old {
        Uuid::from_bytes(bytes)
    } else {
        Uuid::from_bytes_le(bytes)
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::Smbios;

    fn structure(kind: u8, fields: &[(usize, &[u8])], texts: &[&str]) -> Vec<u8> {
        let len = fields
            .iter()
            .map(|(at, value)| at + value.len())
            .max()
            .unwrap_or(4);
        let mut out = vec![0; len];
        out[0] = kind;
        out[1] = u8::try_from(len).unwrap();
        for (at, value) in fields {
            out[*at..at + value.len()].copy_from_slice(value);
        }
        for text in texts {
            out.extend_from_slice(text.as_bytes());
            out.push(0);
        }
        out.push(0);
        if texts.is_empty() {
            out.push(0);
        }
        out
    }

    fn table() -> Vec<u8> {
        let uuid: Vec<u8> = (1..=16).collect();
        let mut table = structure(0, &[(4, &[1, 2])], &["SeaBIOS", "1.16"]);
        table.extend(structure(
            1,
            &[(4, &[1, 2, 0, 3]), (8, &uuid), (0x19, &[0, 4])],
            &["QEMU", "Standard PC", " S-42 ", "Family"],
        ));
        table.extend(structure(2, &[(7, &[1])], &["To be filled by O.E.M."]));
        table.extend(structure(3, &[(8, &[1])], &["asset\u{1b}[1m"]));
        table.extend(structure(1, &[(4, &[1])], &["a dock"]));
        table.extend(structure(17, &[(0x0c, &256u16.to_le_bytes())], &[]));
        table.extend(structure(
            17,
            &[
                (0x0c, &0x7fffu16.to_le_bytes()),
                (0x1c, &65536u32.to_le_bytes()),
            ],
            &[],
        ));
        table.extend(structure(17, &[(0x0c, &0xffffu16.to_le_bytes())], &[]));
        table.extend(structure(127, &[(2, &[0, 0])], &[]));
        table
    }

    #[test]
    fn t20_the_system_is_read() {
        let found = Smbios::parse(b"_SM3_\0\0\x03\x00", &table());
        assert_eq!(
            (found.manufacturer.as_str(), found.serial.as_str()),
            ("QEMU", "S-42")
        );
        assert_eq!(
            (found.bios_vendor.as_str(), found.family.as_str()),
            ("SeaBIOS", "Family")
        );
        assert_eq!(
            (found.board_serial.as_str(), found.chassis_asset.as_str()),
            ("", "asset[1m")
        );
        assert_eq!(
            found.uuid,
            Some(
                "04030201-0605-0807-090a-0b0c0d0e0f10"
                    .parse::<Uuid>()
                    .unwrap()
            )
        );
        assert_eq!(found.memory_bytes(), Some((256 + 65536) << 20));
    }

    #[test]
    fn old_tables_have_the_uuid_in_network_order() {
        let found = Smbios::parse(b"_SM_\0\0\x02\x04", &table());
        assert_eq!(
            found.uuid,
            Some(
                "01020304-0506-0708-090a-0b0c0d0e0f10"
                    .parse::<Uuid>()
                    .unwrap()
            )
        );
    }

    #[test]
    fn every_cut_and_every_wrong_length_is_survived() {
        let table = table();
        for len in 0..table.len() {
            let _ = Smbios::parse(b"", &table[..len]);
        }
        for at in 0..table.len() {
            for value in [0, 1, 4, 0x7f, 0xff] {
                let mut bent = table.clone();
                bent[at] = value;
                let _ = Smbios::parse(b"_SM3_", &bent);
            }
        }
        assert_eq!(Smbios::parse(b"", b""), Smbios::default());
    }

    #[test]
    fn a_uuid_of_all_ones_is_none() {
        let table = structure(1, &[(8, &[0xff; 16])], &[]);
        assert_eq!(Smbios::parse(b"", &table).uuid, None);
    }
}
