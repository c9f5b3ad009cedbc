//! A client over TLS with a pinned certificate authority.

mod admin;
mod agent;
mod agent_error;
mod first_sight;
mod frames;
mod pin;
mod store;

pub use admin::{AdminAddress, AdminAddressError, AdminClient, AdminClientError, Answer};
pub use agent::{AgentClient, Patience, ServerAddress, ServerAddressError};
pub use agent_error::AgentClientError;
pub use first_sight::authority_of;
pub use frames::{ChangedStream, ChunkStream};
pub use pin::{CaPin, CaPinError, Identity, client_config};
