//! Protocols that have time in them, as state machines driven by `handle`, `poll_transmit`,
//! `poll_timeout` and `poll_event`.

pub mod multicast;
pub mod tftp_transfer;
