//! Boot entries as UEFI keeps them in `Boot####` variables: `EFI_LOAD_OPTION` (UEFI 2.10 section 3.1.3) and the
//! device paths in them (section 10). Firmware and whoever had this machine before wrote them, so they are
//! read with care.

use farrier_proto::MacAddr;
use uuid::Uuid;

use super::EfiSystemPartition;

const ACTIVE: u32 = 1;
/// `LOAD_OPTION_CATEGORY`: 1 is an application such as a set-up screen, not something to boot.
const CATEGORY: u32 = 0x1f00;

const MEDIA: u8 = 4;
const HARD_DRIVE: u8 = 1;
const FILE_PATH: u8 = 4;
const MESSAGING: u8 = 3;
const END: u8 = 0x7f;

/// One boot entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootOption {
    pub attributes: u32,
    pub description: String,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    kind: u8,
    subkind: u8,
    data: Vec<u8>,
}

/// How firmware starts from the network, in the order of preference where its own says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkWay {
    Pxe4,
    Http4,
    Pxe6,
    Http6,
}

/// The bytes are not a boot entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a boot entry")]
pub struct LoadOptionError;

impl BootOption {
    /// An entry for the fallback loader (section 3.5.1.1) of `partition`.
    #[must_use]
    pub fn fallback_loader(partition: &EfiSystemPartition) -> Self {
        let path = "\\EFI\\BOOT\\BOOTX64.EFI".encode_utf16().chain([0]);
        let file = path.flat_map(u16::to_le_bytes).collect();
        Self {
            attributes: ACTIVE,
            description: "Local disk (Farrier)".to_owned(),
            nodes: vec![
                hard_drive(partition),
                Node {
                    kind: MEDIA,
                    subkind: FILE_PATH,
                    data: file,
                },
            ],
        }
    }

    /// Reads a variable's content, without the attributes that efivarfs puts before it.
    pub fn decode(bytes: &[u8]) -> Result<Self, LoadOptionError> {
        let (head, rest) = bytes.split_first_chunk::<6>().ok_or(LoadOptionError)?;
        let attributes = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let paths_len = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let units: Vec<u16> = rest
            .as_chunks::<2>()
            .0
            .iter()
            .map(|unit| u16::from_le_bytes(*unit))
            .collect();
        let end = units
            .iter()
            .position(|unit| *unit == 0)
            .ok_or(LoadOptionError)?;
        let description = String::from_utf16_lossy(&units[..end]);
        let paths = rest
            .get((end + 1) * 2..)
            .and_then(|after| after.get(..paths_len))
            .ok_or(LoadOptionError)?;
        Ok(Self {
            attributes,
            description,
            nodes: nodes(paths)?,
        })
    }

    /// The variable's content.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut paths = Vec::new();
        for node in &self.nodes {
            node.encode(&mut paths);
        }
        Node {
            kind: END,
            subkind: 0xff,
            data: Vec::new(),
        }
        .encode(&mut paths);
        let mut out = self.attributes.to_le_bytes().to_vec();
        // Ours are a hundred bytes; what was read had its length in 16 bits.
        out.extend_from_slice(&u16::try_from(paths.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend(
            self.description
                .encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes),
        );
        out.extend_from_slice(&paths);
        out
    }

    /// Whether the firmware would boot it by itself.
    #[must_use]
    pub fn is_bootable(&self) -> bool {
        self.attributes & ACTIVE != 0 && self.attributes & CATEGORY == 0
    }

    /// The GPT partition it starts from, if its path names one.
    #[must_use]
    pub fn partition(&self) -> Option<Uuid> {
        let drive = self
            .nodes
            .iter()
            .find(|node| node.kind == MEDIA && node.subkind == HARD_DRIVE)?;
        const SIGNATURE_IS_GUID: u8 = 2;
        (drive.data.get(37) == Some(&SIGNATURE_IS_GUID)).then_some(())?;
        Some(Uuid::from_bytes_le(
            drive.data.get(20..36)?.try_into().ok()?,
        ))
    }

    /// How it starts from the network, if it does so by the card with this address.
    #[must_use]
    pub fn network(&self, card: MacAddr) -> Option<NetworkWay> {
        const MAC: u8 = 11;
        const IPV4: u8 = 12;
        const IPV6: u8 = 13;
        const URI: u8 = 24;
        let has = |kind| {
            let node = |node: &&Node| (node.kind, node.subkind) == (MESSAGING, kind);
            self.nodes.iter().find(node)
        };
        // Section 10.3.4.11: the address in a field of 32 bytes, then the kind of network.
        let of_card = has(MAC)?.data.get(..6)? == card.0;
        of_card.then_some(match (has(URI), has(IPV4), has(IPV6)) {
            (None, _, None) => NetworkWay::Pxe4,
            (Some(_), Some(_), _) => NetworkWay::Http4,
            (None, _, Some(_)) => NetworkWay::Pxe6,
            (Some(_), None, _) => NetworkWay::Http6,
        })
    }

    /// Whether it is a whole disk as the firmware itself found it: the path ends at a SATA, SCSI, NVMe, USB
    /// or eMMC device (section 10.3.4) or a virtio block device, which edk2 shows as plain PCI.
    #[must_use]
    pub fn is_disk(&self) -> bool {
        const ATAPI: u8 = 1;
        const SCSI: u8 = 2;
        const SATA: u8 = 18;
        const NVME: u8 = 23;
        const SD: u8 = 26;
        const EMMC: u8 = 29;
        let on_disk = |node: &Node| {
            node.kind == MESSAGING && matches!(node.subkind, ATAPI | SCSI | SATA | NVME | SD | EMMC)
        };
        self.nodes.last().is_some_and(on_disk)
    }
}

/// Section 10.3.5.1: partition number, start, size, signature, table kind (2 = GPT), signature kind (2 = GUID).
fn hard_drive(partition: &EfiSystemPartition) -> Node {
    let mut data = partition.number.to_le_bytes().to_vec();
    data.extend_from_slice(&partition.first_sector.to_le_bytes());
    data.extend_from_slice(&partition.sectors.to_le_bytes());
    data.extend_from_slice(&partition.guid.to_bytes_le());
    data.extend_from_slice(&[2, 2]);
    Node {
        kind: MEDIA,
        subkind: HARD_DRIVE,
        data,
    }
}

/// The nodes of the first path.
fn nodes(mut rest: &[u8]) -> Result<Vec<Node>, LoadOptionError> {
    let mut nodes = Vec::new();
    loop {
        let (head, after) = rest.split_first_chunk::<4>().ok_or(LoadOptionError)?;
        let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (data, after) = len
            .checked_sub(4)
            .and_then(|len| after.split_at_checked(len))
            .ok_or(LoadOptionError)?;
        if head[0] == END {
            return Ok(nodes);
        }
        nodes.push(Node {
            kind: head[0],
            subkind: head[1],
            data: data.to_vec(),
        });
        rest = after;
    }
}

impl Node {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.kind, self.subkind]);
        out.extend_from_slice(
            &u16::try_from(self.data.len() + 4)
                .unwrap_or(u16::MAX)
                .to_le_bytes(),
        );
        out.extend_from_slice(&self.data);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::EfiSystemPartition;
    use super::{BootOption, LoadOptionError};

    fn partition() -> EfiSystemPartition {
        EfiSystemPartition {
            number: 1,
            first_sector: 2048,
            sectors: 524_288,
            guid: Uuid::from_u128(0x1234_5678),
        }
    }

    #[test]
    fn an_entry_reads_back() {
        let entry = BootOption::fallback_loader(&partition());
        let bytes = entry.encode();
        // HD(1,GPT,...,0x800,0x80000): type 4, subtype 1, length 42.
        assert!(bytes.windows(8).any(|w| w == [4, 1, 42, 0, 1, 0, 0, 0]));
        let back = BootOption::decode(&bytes).unwrap();
        assert_eq!(back, entry);
        assert_eq!(back.partition(), Some(partition().guid));
        assert!(back.is_bootable() && !back.is_disk());
    }

    #[test]
    fn the_firmwares_own_disk_entry_is_known() {
        // edk2's "UEFI QEMU NVMe Ctrl": ACPI root, PCI, NVMe namespace.
        let mut bytes = vec![1, 0, 0, 0, 38, 0, b'N', 0, 0, 0];
        bytes.extend_from_slice(&[2, 1, 12, 0, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[1, 1, 6, 0, 0, 4]);
        bytes.extend_from_slice(&[3, 23, 16, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&[0x7f, 0xff, 4, 0]);
        let entry = BootOption::decode(&bytes).unwrap();
        assert_eq!(
            (
                entry.description.as_str(),
                entry.is_disk(),
                entry.partition()
            ),
            ("N", true, None)
        );
    }

    #[test]
    fn every_cut_is_refused_without_panic() {
        let bytes = BootOption::fallback_loader(&partition()).encode();
        for len in 0..bytes.len() {
            assert_eq!(
                BootOption::decode(&bytes[..len]),
                Err(LoadOptionError),
                "{len}"
            );
        }
        let mut lying = bytes;
        let at = lying.windows(4).position(|w| w == [4, 1, 42, 0]).unwrap();
        for len in [0u8, 3, 255] {
            lying[at + 2] = len;
            assert_eq!(BootOption::decode(&lying), Err(LoadOptionError), "{len}");
        }
    }
}
