//! The bytes of pack files: many frames, and an index at the end. A spool is a pack without the index, so
//! a crash costs a replay and no copy. `docs/formats/image.md` draws both.

use std::fmt;
use std::str::FromStr;

use crate::chunk::{ChunkId, MAX_STORED_CHUNK, StoredChunk};

/// A pack is sealed when it has reached this.
pub const SEAL_AT: u64 = 48 << 20;
/// Records of one pack never go beyond this.
pub const MAX_PACK: u64 = 64 << 20;
/// Bounds the footer: tiny chunks would make a pack of a million.
pub const MAX_ENTRIES: usize = 65_536;

pub const HEADER: [u8; 16] = *b"FARRPACK\x01\0\0\0\0\0\0\0";
pub const RECORD_HEADER: usize = 40;
pub const ENTRY: usize = 40;
pub const TRAILER: usize = 48;
const TRAILER_MAGIC: [u8; 8] = *b"FARRFOOT";

/// The name of a pack: random, and the same from its first spooled byte on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(pub [u8; 16]);

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    pub pack: PackId,
    pub offset: u64,
    pub len: u32,
}

/// A line of a pack's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    pub id: ChunkId,
    pub offset: u32,
    pub len: u32,
}

/// Why bytes are not a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    #[error("it is too short or too long to be a pack")]
    Size,
    #[error("it does not begin like a pack of a version this program knows")]
    Header,
    #[error("it does not end like a pack; it may be cut off")]
    Trailer,
    #[error("its index was changed or damaged")]
    Hash,
    #[error("its index points to impossible places")]
    Entries,
}

/// What precedes `chunk`'s frame in a pack.
#[must_use]
pub fn record_header(chunk: &StoredChunk) -> [u8; RECORD_HEADER] {
    let mut header = [0; RECORD_HEADER];
    let len =
        u32::try_from(chunk.frame.len()).expect("no stored chunk is longer than MAX_STORED_CHUNK");
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4..8].copy_from_slice(&checksum(&chunk.id, &chunk.frame).to_le_bytes());
    header[8..].copy_from_slice(&chunk.id.0);
    header
}

/// What seals a pack of `entries`.
#[must_use]
pub fn footer(entries: &[PackEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY + TRAILER);
    for entry in entries {
        out.extend_from_slice(&entry.id.0);
        out.extend_from_slice(&entry.offset.to_le_bytes());
        out.extend_from_slice(&entry.len.to_le_bytes());
    }
    let count = u32::try_from(entries.len()).expect("a pack has at most MAX_ENTRIES");
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let hash = footer_hash(&out);
    out.extend_from_slice(&hash);
    out.extend_from_slice(&TRAILER_MAGIC);
    out
}

/// How long the footer is that ends in `trailer`, the last [`TRAILER`] bytes of a pack.
pub fn footer_len(trailer: &[u8]) -> Result<usize, PackError> {
    let Ok(trailer) = <&[u8; TRAILER]>::try_from(trailer) else {
        return Err(PackError::Size);
    };
    if trailer[40..] != TRAILER_MAGIC || trailer[4..8] != [0; 4] {
        return Err(PackError::Trailer);
    }
    let count = read_u32(trailer, 0) as usize;
    if count > MAX_ENTRIES {
        return Err(PackError::Entries);
    }
    Ok(count * ENTRY + TRAILER)
}

/// Reads and proves the index of a pack that is `pack_len` bytes long and ends in `footer`.
pub fn read_footer(footer: &[u8], pack_len: u64) -> Result<Vec<PackEntry>, PackError> {
    let trailer_at = footer.len().checked_sub(TRAILER).ok_or(PackError::Size)?;
    if footer_len(&footer[trailer_at..])? != footer.len() {
        return Err(PackError::Size);
    }
    let hashed = trailer_at + 8;
    if footer_hash(&footer[..hashed]) != footer[hashed..hashed + 32] {
        return Err(PackError::Hash);
    }
    let records_end = pack_len
        .checked_sub(footer.len() as u64)
        .ok_or(PackError::Size)?;
    let entries: Vec<PackEntry> = footer[..trailer_at]
        .as_chunks::<ENTRY>()
        .0
        .iter()
        .map(read_entry)
        .collect();
    let mut free_from = HEADER.len() as u64;
    for entry in &entries {
        let record = u64::from(entry.offset)
            .checked_sub(RECORD_HEADER as u64)
            .ok_or(PackError::Entries)?;
        if record != free_from || entry.len as usize > MAX_STORED_CHUNK {
            return Err(PackError::Entries);
        }
        free_from = u64::from(entry.offset) + u64::from(entry.len);
    }
    if free_from == records_end {
        Ok(entries)
    } else {
        Err(PackError::Entries)
    }
}

/// Finds the whole records of a spool, or of a pack whose footer is lost, and where they end. What follows
/// is a torn write or a footer.
pub fn replay(bytes: &[u8]) -> Result<(Vec<PackEntry>, u64), PackError> {
    if !bytes.starts_with(&HEADER) {
        return Err(PackError::Header);
    }
    let mut entries = Vec::new();
    let mut at = HEADER.len();
    while let Some(entry) = read_record(bytes, at) {
        at = entry.offset as usize + entry.len as usize;
        entries.push(entry);
        if entries.len() == MAX_ENTRIES {
            break;
        }
    }
    Ok((entries, at as u64))
}

fn read_record(bytes: &[u8], at: usize) -> Option<PackEntry> {
    let header = bytes.get(at..at + RECORD_HEADER)?;
    let len = read_u32(header, 0);
    if len as usize > MAX_STORED_CHUNK {
        return None;
    }
    let offset = at + RECORD_HEADER;
    let frame = bytes.get(offset..offset + len as usize)?;
    let id = read_id(&header[8..]);
    let entry = PackEntry {
        id,
        offset: u32::try_from(offset).ok()?,
        len,
    };
    (checksum(&id, frame) == read_u32(header, 4)).then_some(entry)
}

fn read_entry(bytes: &[u8; ENTRY]) -> PackEntry {
    PackEntry {
        id: read_id(&bytes[..32]),
        offset: read_u32(bytes, 32),
        len: read_u32(bytes, 36),
    }
}

fn read_id(bytes: &[u8]) -> ChunkId {
    let mut id = [0; 32];
    id.copy_from_slice(&bytes[..32]);
    ChunkId(id)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum(id: &ChunkId, frame: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&id.0);
    crc.update(frame);
    crc.finalize()
}

fn footer_hash(entries_and_count: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("farrier pack footer v1");
    hasher.update(&HEADER);
    hasher.update(entries_and_count);
    *hasher.finalize().as_bytes()
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not the name of a pack: 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a pack: 32 lower-case hex digits")]
pub struct PackIdError;

impl FromStr for PackId {
    type Err = PackIdError;

    fn from_str(text: &str) -> Result<Self, PackIdError> {
        if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(PackIdError);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| PackIdError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pack(contents: &[&[u8]]) -> (Vec<u8>, Vec<PackEntry>, usize) {
        let mut bytes = HEADER.to_vec();
        let mut entries = Vec::new();
        for content in contents {
            let chunk = StoredChunk::pack(content, 3);
            bytes.extend_from_slice(&record_header(&chunk));
            let offset = bytes.len() as u32;
            bytes.extend_from_slice(&chunk.frame);
            entries.push(PackEntry {
                id: chunk.id,
                offset,
                len: chunk.frame.len() as u32,
            });
        }
        let records = bytes.len();
        bytes.extend_from_slice(&footer(&entries));
        (bytes, entries, records)
    }

    fn index(bytes: &[u8]) -> Result<Vec<PackEntry>, PackError> {
        let trailer = bytes.len().checked_sub(TRAILER).ok_or(PackError::Size)?;
        let footer_at = bytes
            .len()
            .checked_sub(footer_len(&bytes[trailer..])?)
            .ok_or(PackError::Size)?;
        read_footer(&bytes[footer_at..], bytes.len() as u64)
    }

    #[test]
    fn the_index_and_the_replay_agree() {
        let cases: [&[&[u8]]; 3] = [&[], &[b"one"], &[b"one", b"two", &[7; 5000]]];
        for contents in cases {
            let (bytes, entries, records) = pack(contents);
            assert_eq!(index(&bytes).unwrap(), entries);
            assert_eq!(replay(&bytes).unwrap(), (entries.clone(), records as u64));
            assert_eq!(
                replay(&bytes[..records]).unwrap(),
                (entries, records as u64)
            );
        }
    }

    #[test]
    fn t14_any_flipped_bit_of_the_footer_is_refused() {
        let (bytes, _, records) = pack(&[b"one", b"two"]);
        for bit in records * 8..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(index(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_torn_tail_keeps_the_records_before_it() {
        let (bytes, entries, records) = pack(&[b"one", b"two"]);
        let second = entries[1].offset as usize - RECORD_HEADER;
        for len in second..records {
            assert_eq!(
                replay(&bytes[..len]).unwrap(),
                (entries[..1].to_vec(), second as u64)
            );
        }
        let mut flipped = bytes.clone();
        flipped[records - 1] ^= 1;
        assert_eq!(replay(&flipped).unwrap().0.len(), 1);
    }

    #[test]
    fn a_pack_with_a_proper_hash_and_wrong_places_is_refused() {
        let (bytes, entries, records) = pack(&[b"one", b"two"]);
        let changes: [fn(&mut Vec<PackEntry>); 5] = [
            |e| e[0].offset = 3,
            |e| e[1].offset += 1,
            |e| e[1].len = u32::MAX,
            |e| e.swap(0, 1),
            |e| e.truncate(1),
        ];
        for change in changes {
            let mut entries = entries.clone();
            change(&mut entries);
            let bytes = [&bytes[..records], &footer(&entries)].concat();
            assert_eq!(index(&bytes), Err(PackError::Entries));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), len: u64) {
            let _ = index(&bytes);
            let _ = read_footer(&bytes, len);
            let _ = replay(&bytes);
            let _ = replay(&[&HEADER[..], &bytes].concat());
            let _ = read_footer(&[&bytes[..], &TRAILER_MAGIC].concat(), len);
        }
    }
}
