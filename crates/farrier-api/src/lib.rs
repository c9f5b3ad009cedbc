//! What Farrier's HTTP interfaces say: request and response types, the error body, and the client that the
//! command, the agent and the tests share.
//!
//! [`admin`] is the interface for people and programs under `/api/v1`; [`agent`] is the one for agents under
//! `/agent/v1`, on a listener of its own; [`client`] speaks both. No type of this crate is stored.
#![forbid(unsafe_code)]

pub mod admin;
pub mod agent;
pub mod client;
pub mod error;
