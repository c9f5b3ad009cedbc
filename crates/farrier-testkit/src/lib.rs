//! Test support: what several crates' tests need and no shipped program does.
//!
//! [`capture`] reads packet captures, [`snapshot`] compares text with a file beside them, [`fuzz`] has the
//! bodies of the fuzz targets, so that ordinary tests run them too, [`random`] is the seeded generator
//! behind everything "random" in tests, and [`network`] brings bad weather from it.
#![forbid(unsafe_code)]

pub mod capture;
pub mod fuzz;
pub mod network;
pub mod random;
pub mod snapshot;
