//! What Farrier knows and decides: machines, boot facts, policy, leases, tasks.
//!
//! Reading order: [`model`] has the words; [`facts`] turns a request into what it tells of a client;
//! [`policy`] decides what the client gets and explains why; [`lease`] and [`task`] are the two state
//! machines with a life longer than a packet; [`timeline`] is how all of it is told to people.
//!
//! Nothing here waits, reads a clock, touches a socket or a file. Time comes in as [`WallTime`].
#![forbid(unsafe_code)]

pub mod lease;
pub mod model;
pub mod policy;
pub mod task;
mod time;
pub mod timeline;

pub use time::WallTime;
