//! Disks made of files: media that people keep, and RAM disks that firmware starts from. FAT volumes are written by
//! the crate `fatfs` in memory; nothing here opens a disk of a client.

mod bounded;
pub mod floppy;
pub mod look;
pub mod places;
pub mod ram_disk;
pub mod shelf;
pub mod store;
pub mod values;

pub use farrier_engine::medium::{Medium, MediumKind, MediumName};
