//! People and programs that may enter: users, their web sessions, API tokens, the first administrator.

mod api_token;
mod setup;
mod user;
mod web_session;

use std::fmt;

pub use api_token::ApiToken;
pub use user::User;
pub use web_session::WebSession;

/// A text that is never printed: password hashes, CSRF tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The hash of a token that was handed out. Tokens are random and long, so a plain hash is enough;
/// the tokens themselves are not stored.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}
