//! The program that runs in the memory of a machine being worked on, as its first and only process.
//!
//! Reading order: [`machine`] is the story from the kernel's hand-over to leaving. [`init`] makes a Linux
//! system of nothing; [`modules`] loads drivers; [`net`] brings up the boot NIC; [`enrol`] gets a
//! certificate; [`inventory`] looks around; [`work`] does what the server wants; [`leave`] ends it.
//! [`screen`] is what a person in front of the machine sees of all this.
//!
//! Nothing here trusts the network: the server proves itself against the pinned authority, images by their
//! signature and root hash, chunks by their names. Nothing here writes to a disk on a guess.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod enrol;
pub mod init;
pub mod inventory;
pub mod leave;
pub mod machine;
pub mod modules;
pub mod net;
pub mod screen;
pub mod work;
