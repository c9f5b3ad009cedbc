//! A manifest as bytes: packed, and sealed with a signature.

use std::io::Read;

use super::{FORMAT, InvalidManifest, Manifest, RootHash, SignedManifest};
use crate::chunk::CHUNK_SIZE;
use crate::key::{KeyId, SigningKey, VerifyingKey};

/// No manifest is larger than this before it is packed; one of a full 1 TiB disk has 132 MiB.
pub const MAX_PLAIN: usize = 256 << 20;

const MAGIC: [u8; 8] = *b"FARRMANF";
const CONTEXT: &[u8] = b"farrier manifest signature v1\0";
const HEADER: usize = 128;
/// What the signature covers besides the context: version, plain length, key id, root hash.
const PROVEN: std::ops::Range<usize> = 8..64;
/// Manifests are hashes, which do not shrink, and runs, which do at any level.
const LEVEL: i32 = 3;

/// Why bytes are not a manifest that may be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("this is not a manifest file; it may be cut off or damaged")]
    NotManifest,
    #[error("the manifest file has version {0}, which this program does not know; upgrade Farrier")]
    Version(u16),
    #[error(
        "the manifest is signed by key {0}, which is not trusted here; import with that key if it is right"
    )]
    UnknownKey(KeyId),
    #[error(
        "the manifest's signature is wrong: it was changed after signing; restore it from a backup or another store"
    )]
    Signature,
    #[error("the manifest is larger than allowed")]
    TooLarge,
    #[error(
        "the manifest's content is not what was signed; restore it from a backup or another store"
    )]
    WrongContent,
    #[error("the manifest cannot be decoded: {0}")]
    Decode(String),
    #[error("the manifest cannot be used: {0}")]
    Invalid(#[from] InvalidManifest),
}

/// How large the plain form of an honest manifest of a disk can be; the limit for what an agent sends,
/// so that a small hostile frame cannot become a large allocation.
#[must_use]
pub fn plain_limit(disk_bytes: u64) -> usize {
    // 33 bytes per chunk, at worst every second 4 KiB block a run of its own with 4 bytes, and 1 MiB
    // for tables and texts.
    let chunks = disk_bytes.div_ceil(CHUNK_SIZE as u64).saturating_mul(34);
    let runs = (disk_bytes / 8192).saturating_mul(4);
    let total = chunks.saturating_add(runs).saturating_add(1 << 20);
    usize::try_from(total).unwrap_or(MAX_PLAIN).min(MAX_PLAIN)
}

impl Manifest {
    /// The unsigned form that is sent to be committed: one zstd frame.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        pack_body(&self.to_body()?)
    }

    /// Reads the unsigned form, unpacking at most `max_plain` bytes, and checks its rules.
    pub fn decode(frame: &[u8], max_plain: usize) -> Result<Self, ManifestError> {
        Self::from_body(&unpack_body(frame, max_plain.min(MAX_PLAIN))?)
    }

    /// Its identity.
    pub fn root(&self) -> Result<RootHash, ManifestError> {
        self.to_body().map(|body| root_of(&body))
    }

    /// The plain body, in canonical form.
    pub fn to_body(&self) -> Result<Vec<u8>, ManifestError> {
        let body = postcard::to_allocvec(self).map_err(|e| ManifestError::Decode(e.to_string()))?;
        if body.len() > MAX_PLAIN {
            return Err(ManifestError::TooLarge);
        }
        Ok(body)
    }

    /// Reads the plain body and checks its rules.
    pub fn from_body(body: &[u8]) -> Result<Self, ManifestError> {
        // The format number comes first, so a newer one is named rather than misread.
        let (format, _) = postcard::take_from_bytes::<u16>(body)
            .map_err(|e| ManifestError::Decode(e.to_string()))?;
        if format != FORMAT {
            return Err(InvalidManifest::Format(format).into());
        }
        let manifest: Self =
            postcard::from_bytes(body).map_err(|e| ManifestError::Decode(e.to_string()))?;
        manifest.validate()?;
        if manifest.to_body()? != body {
            return Err(ManifestError::Decode(
                "it is not in canonical form".to_owned(),
            ));
        }
        Ok(manifest)
    }
}

impl SignedManifest {
    /// Checks, packs and signs.
    pub fn seal(manifest: &Manifest, key: &SigningKey) -> Result<Self, ManifestError> {
        manifest.validate()?;
        let body = manifest.to_body()?;
        let mut bytes = Vec::with_capacity(HEADER + body.len() / 2);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(
            &u32::try_from(body.len())
                .map_err(|_| ManifestError::TooLarge)?
                .to_le_bytes(),
        );
        bytes.extend_from_slice(&key.verifying_key().id().0);
        bytes.extend_from_slice(&root_of(&body).0);
        let signature = key.sign(&signed_text(&bytes[PROVEN]));
        bytes.extend_from_slice(&signature);
        bytes.extend_from_slice(&pack_body(&body)?);
        Ok(Self { bytes })
    }

    /// Proves that one of `trusted` signed it, then unpacks and checks it. Nothing is unpacked for an
    /// unknown key or a wrong signature.
    pub fn open(&self, trusted: &[VerifyingKey]) -> Result<(Manifest, RootHash), ManifestError> {
        let (header, frame) = self
            .bytes
            .split_at_checked(HEADER)
            .ok_or(ManifestError::NotManifest)?;
        if header[..8] != MAGIC || header[10..12] != [0; 2] {
            return Err(ManifestError::NotManifest);
        }
        let version = u16::from_le_bytes([header[8], header[9]]);
        if version != FORMAT {
            return Err(ManifestError::Version(version));
        }
        let key_id = KeyId(fixed(&header[16..32]));
        let key = trusted
            .iter()
            .find(|k| k.id() == key_id)
            .ok_or(ManifestError::UnknownKey(key_id))?;
        if !key.verify(&signed_text(&header[PROVEN]), &header[64..HEADER]) {
            return Err(ManifestError::Signature);
        }
        let root = RootHash(fixed(&header[32..64]));
        let plain = u32::from_le_bytes(fixed(&header[12..16])) as usize;
        if plain > MAX_PLAIN {
            return Err(ManifestError::TooLarge);
        }
        let body = unpack_body(frame, plain).map_err(|_| ManifestError::WrongContent)?;
        if body.len() != plain || root_of(&body) != root {
            return Err(ManifestError::WrongContent);
        }
        Ok((Manifest::from_body(&body)?, root))
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

fn signed_text(proven: &[u8]) -> Vec<u8> {
    [CONTEXT, proven].concat()
}

fn root_of(body: &[u8]) -> RootHash {
    RootHash(blake3::derive_key("farrier manifest root v1", body))
}

fn pack_body(body: &[u8]) -> Result<Vec<u8>, ManifestError> {
    zstd::bulk::compress(body, LEVEL).map_err(|e| ManifestError::Decode(e.to_string()))
}

/// Grows with what really comes out, never with what the frame claims.
fn unpack_body(frame: &[u8], limit: usize) -> Result<Vec<u8>, ManifestError> {
    let decode = |e: std::io::Error| ManifestError::Decode(e.to_string());
    if zstd::zstd_safe::find_frame_compressed_size(frame) != Ok(frame.len()) {
        return Err(ManifestError::Decode(
            "it is not exactly one zstd frame".to_owned(),
        ));
    }
    let mut body = Vec::new();
    let reader = zstd::stream::read::Decoder::with_buffer(frame).map_err(decode)?;
    reader
        .single_frame()
        .take(limit as u64 + 1)
        .read_to_end(&mut body)
        .map_err(decode)?;
    if body.len() > limit {
        return Err(ManifestError::TooLarge);
    }
    Ok(body)
}
