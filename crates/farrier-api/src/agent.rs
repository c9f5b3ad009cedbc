//! The interface for agents: enrol, report, fetch work, move chunks. All of it under `/agent/v1`, TLS 1.3
//! with the site's own CA; everything but `enrol` wants the client certificate that `enrol` gave.
//!
//! | method and path | body | answer |
//! | --- | --- | --- |
//! | `POST /agent/v1/enrol` | [`EnrolRequest`] | [`EnrolAnswer`] |
//! | `POST /agent/v1/inventory` | [`Inventory`] | 204 |
//! | `GET /agent/v1/work?wait=20` | | [`Order`], after at most `wait` seconds |
//! | `POST /agent/v1/tasks/{id}/progress` | [`ProgressReport`] | [`ProgressAnswer`] |
//! | `POST /agent/v1/tasks/{id}/result` | [`ResultReport`] | 204 |
//! | `POST /agent/v1/log` | [`LogLines`] | 204 |
//! | `POST /agent/v1/store/missing` | ids, 32 bytes each | one byte per id, 1 when missing |
//! | `POST /agent/v1/store/chunks` | [frames](write_frame) | 204 when durable |
//! | `POST /agent/v1/store/commit?task={id}&fence={n}` | an unsigned manifest, canonical bytes | the signed manifest |
//! | `GET /agent/v1/store/manifests/{image}/{version}` | | the signed manifest; `latest` is a version |
//! | `POST /agent/v1/store/fetch` | ids, 32 bytes each | [frames](write_frame), in any order |
//! | `POST /agent/v1/store/changed` | [what the disk holds](write_held) in the place of chunks | [chunks or patches](write_changed), in any order |
//!
//! Refusals are [`ErrorBody`](crate::error::ErrorBody)s: 401 wrong or missing certificate or token, 403 not
//! this machine's, 409 stale fence or another agent is active, 503 and 507 (store full) may be tried again.

mod changed;
mod disk_choice;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

pub use changed::{
    ChangedChunk, ChangedError, HeldChunk, read_changed, read_held, write_changed, write_held,
};

/// Kernel arguments that the boot script gives the agent. None of them is a secret worth more than one
/// enrolment of this machine.
pub mod argument {
    /// Base URL of the agent plane: `https://192.0.2.1:8444`. Always with a literal address.
    pub const SERVER: &str = "farrier.server";
    /// SHA-256 of the site CA's certificate (DER), hex.
    pub const CA: &str = "farrier.ca";
    /// The one-time boot token.
    pub const TOKEN: &str = "farrier.token";
    /// The hardware address that booted.
    pub const MAC: &str = "farrier.mac";
    /// `address/prefix,gateway` of the boot NIC; without it the agent asks DHCP, or a router where the server is
    /// reached by IPv6.
    pub const ADDRESS: &str = "farrier.address";
    /// The server's clock at script time, seconds since 1970: for machines with a dead clock.
    pub const TIME: &str = "farrier.time";
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    pub token: String,
    /// PKCS#10 request for the key the agent made in memory, PEM.
    pub csr: String,
    pub mac: String,
    pub smbios_uuid: Option<Uuid>,
    pub serial: String,
    pub agent_version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum EnrolAnswer {
    Enrolled {
        machine: Uuid,
        name: Option<String>,
        /// Client certificate chain, PEM.
        certificate: String,
        /// Keys that may sign images, hex, 32 bytes each.
        image_keys: Vec<String>,
    },
    /// A person has to compare `code` and approve. Ask again with the same key and token.
    Pending { code: String, retry_s: u32 },
}

/// What the agent found in the machine; field meanings are those of the inventory the server shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Inventory {
    pub system: System,
    pub cpu: Cpu,
    pub memory_bytes: u64,
    pub nics: Vec<Nic>,
    pub disks: Vec<Disk>,
    pub uefi: bool,
    pub secure_boot: Option<bool>,
    pub tpm: Option<String>,
    pub pci_without_driver: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct System {
    pub manufacturer: String,
    pub product: String,
    pub family: String,
    pub sku: String,
    pub serial: String,
    pub uuid: Option<Uuid>,
    pub board_serial: String,
    pub chassis_asset: String,
    pub bios_vendor: String,
    pub bios_version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Cpu {
    pub model: String,
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nic {
    pub name: String,
    pub mac: String,
    pub pci_id: String,
    pub driver: String,
    pub link_up: bool,
    pub boot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    pub name: String,
    pub size_bytes: u64,
    pub logical_sector: u32,
    pub physical_sector: u32,
    pub model: String,
    pub serial: String,
    pub wwn: String,
    pub bus: String,
    pub rotational: bool,
    pub removable: bool,
    pub table: Option<String>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
pub enum Order {
    /// Nothing yet; ask again.
    Wait,
    Run {
        task: Uuid,
        fence: u64,
        work: Work,
    },
    /// No more work: leave the machine so.
    Leave {
        how: Leave,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leave {
    LocalBoot,
    NetworkBoot,
    PowerOff,
    Reboot,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Work {
    Inventory,
    Capture {
        image: String,
        disk: DiskSelector,
    },
    Deploy {
        image: String,
        version: u32,
        root: String,
        disk: DiskSelector,
    },
    Repair {
        image: String,
        version: u32,
        root: String,
        disk: DiskSelector,
    },
}

/// All that is set must match, and exactly one disk must. Mounted disks never match; removable ones only
/// when allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct DiskSelector {
    pub serial: Option<String>,
    pub wwn: Option<String>,
    pub bus: Option<String>,
    pub min_bytes: Option<u64>,
    pub max_bytes: Option<u64>,
    pub model: Option<String>,
    pub allow_removable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressReport {
    pub fence: u64,
    pub phase: String,
    pub done_bytes: u64,
    pub total_bytes: u64,
    pub bytes_per_second: u64,
    pub bottleneck: Option<Bottleneck>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    Cpu,
    Disk,
    Network,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressAnswer {
    /// A reason to stop: the task was cancelled.
    pub stop: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultReport {
    pub fence: u64,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    Done {
        /// For deploy and repair: the root hash that the disk was proven to hold. For capture: that of
        /// the committed version.
        root: Option<String>,
        disk: Option<String>,
        read_bytes: u64,
        written_bytes: u64,
        moved_bytes: u64,
        /// What most of the time was spent on.
        #[serde(default)]
        bottleneck: Option<Bottleneck>,
    },
    Failed {
        reason: String,
        /// Whether trying again without a person may help.
        retry: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLines {
    /// What the agent showed on the machine's console since the last report, oldest first.
    pub lines: Vec<String>,
}

/// Appends one chunk to a stream of frames: its id, the frame's length as a big-endian u32, the frame.
pub fn write_frame(out: &mut BytesMut, id: &[u8; 32], frame: &[u8]) {
    out.put_slice(id);
    out.put_u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
    out.put_slice(frame);
}

/// The same as pieces for a request's body, so that no chunk is copied on its way out; and their length.
#[must_use]
pub fn frames_in_pieces(chunks: &[([u8; 32], Bytes)]) -> (Vec<Bytes>, usize) {
    let mut pieces = Vec::with_capacity(2 * chunks.len());
    let mut heads = BytesMut::with_capacity(36 * chunks.len());
    for (id, frame) in chunks {
        heads.put_slice(id);
        heads.put_u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
        pieces.push(heads.split().freeze());
        pieces.push(frame.clone());
    }
    let len = pieces.iter().map(Bytes::len).sum();
    (pieces, len)
}

/// A stream of frames was cut short or claims a chunk larger than a chunk may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of {0} bytes was announced, more than a chunk may have")]
pub struct FrameTooLarge(pub usize);

/// Takes the next whole chunk off the front of `buffer`, or nothing until more bytes came.
pub fn read_frame(
    buffer: &mut BytesMut,
    max: usize,
) -> Result<Option<([u8; 32], Bytes)>, FrameTooLarge> {
    let Some(head) = buffer.first_chunk::<36>() else {
        return Ok(None);
    };
    let mut id = [0; 32];
    id.copy_from_slice(&head[..32]);
    let len = u32::from_be_bytes([head[32], head[33], head[34], head[35]]) as usize;
    if len > max {
        return Err(FrameTooLarge(len));
    }
    if buffer.len() < 36 + len {
        return Ok(None);
    }
    let mut whole = buffer.split_to(36 + len);
    Ok(Some((id, whole.split_off(36).freeze())))
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::{FrameTooLarge, frames_in_pieces, read_frame, write_frame};

    #[test]
    fn frames_come_back_whole_whatever_the_pieces() {
        let mut wire = BytesMut::new();
        write_frame(&mut wire, &[1; 32], b"one");
        write_frame(&mut wire, &[2; 32], b"");
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in wire {
            buffer.extend_from_slice(&[byte]);
            while let Some((id, frame)) = read_frame(&mut buffer, 10).unwrap() {
                seen.push((id[0], frame.to_vec()));
            }
        }
        assert_eq!(seen, [(1, b"one".to_vec()), (2, Vec::new())]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn pieces_are_the_frames() {
        let chunks = [
            ([1; 32], Bytes::from_static(b"one")),
            ([2; 32], Bytes::new()),
        ];
        let mut wire = BytesMut::new();
        for (id, frame) in &chunks {
            write_frame(&mut wire, id, frame);
        }
        let (pieces, len) = frames_in_pieces(&chunks);
        assert_eq!(pieces.concat(), wire);
        assert_eq!(len, wire.len());
    }

    #[test]
    fn a_lying_length_is_refused_before_anything_is_kept() {
        let mut wire = BytesMut::from(&[0u8; 32][..]);
        wire.extend_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            read_frame(&mut wire, 1 << 18),
            Err(FrameTooLarge(u32::MAX as usize))
        );
    }
}
