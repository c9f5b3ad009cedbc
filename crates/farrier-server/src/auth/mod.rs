//! Who is asking, and what they may do.
//!
//! [`Principal`] is a person or program that was recognised; [`authorize`] is the one table that says what
//! each role may do; [`password`], [`token`] and [`limit`] are what recognition is made of.

pub mod limit;
pub mod local;
pub mod password;
pub mod rights;
pub mod token;

use std::net::IpAddr;

use farrier_db::{Secret, TokenHash};
use farrier_engine::model::{Role, UserId};

pub use rights::{Action, Forbidden, authorize};

/// Somebody we know.
#[derive(Clone, Debug)]
pub struct Principal {
    pub name: String,
    pub role: Role,
    pub via: Via,
    /// Where the request came from, if from outside this program.
    pub from: Option<IpAddr>,
}

/// How they proved it.
#[derive(Clone, Debug)]
pub enum Via {
    /// The token file of the server's own host.
    Local,
    Session {
        user: UserId,
        hash: TokenHash,
        csrf: Secret,
    },
    Token,
}

impl Via {
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Session { .. } => "session",
            Self::Token => "token",
        }
    }
}
