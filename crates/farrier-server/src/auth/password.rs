//! Passwords, kept as argon2id hashes.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use farrier_db::Secret;
use tokio::sync::Semaphore;

/// A password cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("the password is too short: use at least {MIN_LENGTH} characters")]
    TooShort,
    #[error("the password is too long: use at most {MAX_LENGTH} bytes")]
    TooLong,
    #[error("the password could not be hashed: {0}")]
    Hash(String),
}

/// Hashes a new password, on a thread of its own.
pub async fn hash(password: &str) -> Result<Secret, PasswordError> {
    if password.chars().count() < MIN_LENGTH {
        return Err(PasswordError::TooShort);
    }
    if password.len() > MAX_LENGTH {
        return Err(PasswordError::TooLong);
    }
    let password = password.to_owned();
    blocking(
        move || match Argon2::default().hash_password(password.as_bytes()) {
            Ok(hash) => Ok(Secret(hash.to_string())),
            Err(error) => Err(PasswordError::Hash(error.to_string())),
        },
    )
    .await
    .unwrap_or_else(|| Err(PasswordError::Hash("the server is stopping".to_owned())))
}

/// Whether `password` fits `stored`. Without a user, a hash that fits nothing is checked, so that the time
/// does not tell whether the name exists.
pub async fn verify(password: &str, stored: Option<&Secret>) -> bool {
    if password.len() > MAX_LENGTH {
        return false;
    }
    let known = stored.is_some();
    let stored = stored.map_or_else(|| NOBODY.to_owned(), |s| s.0.clone());
    let password = password.to_owned();
    let fits = blocking(move || match PasswordHash::new(&stored) {
        Ok(hash) => Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok(),
        Err(_) => false,
    });
    fits.await.unwrap_or(false) && known
}

/// Each hash takes 19 MiB and some tens of milliseconds: a flood of sign-ins waits in line instead of
/// filling memory.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    static AT_ONCE: Semaphore = Semaphore::const_new(2);
    let _permit = AT_ONCE.acquire().await.ok()?;
    tokio::task::spawn_blocking(work).await.ok()
}

/// NIST SP 800-63B asks for at least eight; an administrator of boot servers can bear ten.
pub const MIN_LENGTH: usize = 10;
/// Nobody types more, and hashing must not become a way to keep the server busy.
const MAX_LENGTH: usize = 1024;
/// The hash of a password that nobody knows, with today's parameters.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGtub3dzIGl0$Rk5o0mS3m9vYl7iTjGk4c1Jr5gq0b6xXo4yqM2c4rXQ";

#[cfg(test)]
mod tests {
    use argon2::password_hash::phc::PasswordHash;

    use super::{NOBODY, PasswordError, hash, verify};

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let stored = hash("correct horse").await.unwrap();
        assert!(
            stored.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            stored.0
        );
        assert!(verify("correct horse", Some(&stored)).await);
        assert!(!verify("correct horsf", Some(&stored)).await);
        assert!(!verify("correct horse", None).await);
        assert!(!format!("{stored:?}").contains("argon2"));
    }

    #[tokio::test]
    async fn short_and_endless_passwords_are_refused() {
        assert_eq!(hash("short").await, Err(PasswordError::TooShort));
        assert_eq!(hash(&"x".repeat(5000)).await, Err(PasswordError::TooLong));
    }

    /// Otherwise an unknown name would be answered without the work that a known one takes.
    #[test]
    fn the_hash_of_nobody_can_be_parsed() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        assert_eq!(nobody.algorithm.as_str(), "argon2id");
        assert!(nobody.salt.is_some() && nobody.hash.is_some());
    }
}
