//! What goes over the wire before an operating system runs: DHCP, BOOTP, PXE, TFTP.
//!
//! Reading order: [`wire`] turns bytes into typed messages and back; [`reply`] builds the answer to a
//! message from a small decision-shaped input; [`session`] holds the protocols that have time in them.
//!
//! Nothing here waits, reads a clock, touches a socket or a file. Time comes in as [`Instant`].
#![forbid(unsafe_code)]

mod mac;
pub mod reply;
pub mod session;
mod time;
pub mod wire;

pub use mac::{MacAddr, ParseMacError};
pub use time::Instant;
