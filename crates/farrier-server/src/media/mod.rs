//! Disks made of files: floppies that people keep, and RAM disks that firmware starts from. All are FAT volumes,
//! written by the crate `fatfs` in memory; nothing here opens a disk of a client.

pub mod floppy;
pub mod ram_disk;
pub mod shelf;
