//! A client over TLS with a pinned certificate authority.

mod agent;
mod pin;

pub use agent::{AgentClient, AgentClientError, ChunkStream, ServerAddress, ServerAddressError};
pub use pin::{CaPin, CaPinError, Identity, client_config};
