//! Tokens: 256 random bits as text. Only their hash is kept, and a plain hash is enough for that much
//! randomness.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use farrier_db::TokenHash;

/// What API tokens start with, so that scanners for leaked secrets find them.
pub const API_PREFIX: &str = "farrier_";

/// The system gave no random numbers.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gives no random numbers: check /dev/urandom and the kernel log")]
pub struct NoRandom;

/// A new token with `prefix` in front.
pub fn new_token(prefix: &str) -> Result<String, NoRandom> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|_| NoRandom)?;
    Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random)))
}

/// What is stored of a token.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    TokenHash(*blake3::hash(token.as_bytes()).as_bytes())
}

/// Whether `token` is the one with this hash; takes the same time whatever it is.
#[must_use]
pub fn is(token: &str, hash: &TokenHash) -> bool {
    // Comparing with blake3::Hash is constant-time by its documentation.
    blake3::hash(token.as_bytes()) == blake3::Hash::from_bytes(hash.0)
}

/// Whether two texts are equal; takes the same time whatever they are.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    blake3::hash(a.as_bytes()) == blake3::hash(b.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{API_PREFIX, hash, is, new_token, same};

    #[test]
    fn tokens_are_long_distinct_and_known_by_their_hash() {
        let (a, b) = (
            new_token(API_PREFIX).unwrap(),
            new_token(API_PREFIX).unwrap(),
        );
        assert_ne!(a, b);
        assert_eq!(a.len(), API_PREFIX.len() + 43);
        assert!(is(&a, &hash(&a)) && !is(&b, &hash(&a)));
        assert!(same(&a, &a.clone()) && !same(&a, &b));
    }
}
