//! What Farrier knows and decides: machines, boot facts, policy, leases, tasks.
//!
//! Reading order: [`model`] has the words; [`facts`] turns a request into what it tells of a client
//! and [`identity`] finds whose it is; [`policy`] decides what the client gets from the
//! [`catalogue`] and explains why; [`script`] writes it down for the loader; [`lease`] and [`task`]
//! are the two state machines with a life longer than a packet ([`address6`] has none); [`parameter`] has the DHCP
//! options that people set, [`medium_value`] what machines have of their own in [`medium`]; [`timeline`] is how all of
//! it is told to people; [`silence`] tells what did not come, [`tls`] why HTTPS did not come about, [`router_wait`] who waits for IPv6 in vain, [`strategy`] what is tried then, [`boot_story`] what was different this time. Every
//! silence of ours has a [`Reason`].
//!
//! Nothing here waits, reads a clock, touches a socket or a file. Time comes in as [`WallTime`].
#![forbid(unsafe_code)]

pub mod address6;
pub mod boot_story;
pub mod catalogue;
pub mod facts;
pub mod identity;
pub mod lease;
pub mod medium;
pub mod medium_value;
pub mod model;
pub mod parameter;
pub mod policy;
pub mod quirk;
mod reason;
pub mod rom_menu;
pub mod router_wait;
pub mod script;
pub mod silence;
pub mod strategy;
pub mod task;
mod time;
pub mod timeline;
pub mod tls;

pub use farrier_proto::MacAddr;
pub use reason::Reason;
pub use time::WallTime;
