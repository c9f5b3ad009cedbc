//! The keys that sign manifests: ed25519, from the same provider as TLS.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Signs manifests. It never prints itself.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifyingKey,
}

/// Proves that a manifest comes from the holder of the signing key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey(pub [u8; 32]);

/// A short name for a verifying key; says which key to try, and proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 16]);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a signing key cannot be made: the system gives no random numbers")]
    Generate,
    #[error(
        "this is not an ed25519 private key in PKCS#8 form; restore the key file from a backup"
    )]
    Read,
    #[error("not a public key: it is written as `ed25519:` and 64 hex digits")]
    Parse,
}

impl SigningKey {
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate()
            .map(Self::of)
            .map_err(|_| KeyError::Generate)
    }

    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map(Self::of)
            .map_err(|_| KeyError::Read)
    }

    /// The private key in PKCS#8 DER, for the key file. The caller keeps it from others' eyes.
    pub fn to_pkcs8(&self) -> Result<Vec<u8>, KeyError> {
        self.pair
            .to_pkcs8()
            .map(|der| der.as_ref().to_vec())
            .map_err(|_| KeyError::Generate)
    }

    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair
            .sign(message)
            .as_ref()
            .try_into()
            .expect("an ed25519 signature has 64 bytes")
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .expect("an ed25519 key has 32 bytes");
        Self {
            pair,
            public: VerifyingKey(public),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(for {})", self.public)
    }
}

impl VerifyingKey {
    #[must_use]
    pub fn id(&self) -> KeyId {
        let hash = blake3::derive_key("farrier key id v1", &self.0);
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        KeyId(id)
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let hex = text
            .trim()
            .strip_prefix("ed25519:")
            .ok_or(KeyError::Parse)?;
        blake3::Hash::from_hex(hex)
            .map(|h| Self(*h.as_bytes()))
            .map_err(|_| KeyError::Parse)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file_and_its_text() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(key.verifying_key(), again.verifying_key());
        let text = key.verifying_key().to_string();
        assert_eq!(text.parse(), Ok(key.verifying_key()));
        assert!(again.verifying_key().verify(b"m", &key.sign(b"m")));
        assert!(!again.verifying_key().verify(b"n", &key.sign(b"m")));
    }

    #[test]
    fn a_signing_key_does_not_print_its_secret() {
        let key = SigningKey::generate().unwrap();
        let der = key.to_pkcs8().unwrap();
        // The seed is the 32 bytes after PKCS#8's 16 byte prefix (RFC 8410, section 7).
        let seed: String = der[16..48].iter().map(|b| format!("{b:02x}")).collect();
        assert!(!format!("{key:?}").contains(&seed));
    }

    #[test]
    fn other_text_is_not_a_key() {
        for text in ["", "ed25519:", "ed25519:00", "rsa:00", &"0".repeat(64)] {
            assert_eq!(text.parse::<VerifyingKey>(), Err(KeyError::Parse));
        }
        assert!(matches!(
            SigningKey::from_pkcs8(b"nonsense"),
            Err(KeyError::Read)
        ));
    }
}
