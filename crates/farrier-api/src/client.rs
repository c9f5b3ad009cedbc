//! A client over TLS with a pinned certificate authority.

mod admin;
mod agent;
mod first_sight;
mod pin;
mod store;

pub use admin::{AdminAddress, AdminAddressError, AdminClient, AdminClientError, Answer};
pub use agent::{
    AgentClient, AgentClientError, ChangedStream, ChunkStream, Patience, ServerAddress,
    ServerAddressError,
};
pub use first_sight::authority_of;
pub use pin::{CaPin, CaPinError, Identity, client_config};
