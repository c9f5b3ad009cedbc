//! Disk images as signed manifests over content-addressed chunks.
//!
//! Reading order: [`chunk`] is the unit; [`manifest`] says which chunks make a disk and [`key`] signs it;
//! [`pack`] and [`store`] keep them; [`disk`] reads and writes partition tables; [`fs`] knows which blocks
//! of a volume are in use; [`capture`] and [`apply`] move a disk into a store and back, [`patch`] what of a
//! chunk differs; [`import`] and [`export`] speak other people's formats. `docs/formats/image.md` has the bytes.
//!
//! The engine itself is blocking and threaded (it is bound by CPU and disk); only [`store`] is async.
#![forbid(unsafe_code)]

pub mod apply;
pub mod capture;
pub mod chunk;
pub mod device;
pub mod disk;
pub mod export;
mod field;
pub mod fs;
pub mod import;
pub mod key;
pub mod manifest;
mod masked;
pub mod pack;
pub mod patch;
mod retry;
pub mod store;
mod tally;
#[cfg(test)]
mod testing;
pub mod transport;
