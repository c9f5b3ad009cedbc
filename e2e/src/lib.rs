//! The lab: a private LAN with real firmware on it.
//!
//! Everything that needs a network, an emulator or a foreign program lives here, so that `cargo xtask up`, the
//! end-to-end tests and a curious reader use the same parts. In reading order:
//!
//! - [`lab`]: where the lab keeps its files, and whether this machine can run it at all.
//! - [`packages`]: what is installed from the distribution; [`debs`]: what is fetched from it without installing.
//! - [`net`]: a switch and hosts, each a network namespace. Nothing is added to the machine's own network.
//! - [`relay`]: a second LAN behind a relay agent.
//! - [`qemu`]: a machine with SeaBIOS or OVMF, its disks and its serial console.
//! - [`golden`]: a Debian disk that boots on both firmwares, made without mounting anything.
//! - [`damage`]: breaking a disk on purpose.
//! - [`matrix`]: every firmware against the real server, row by row; and many kinds at once.
//! - [`capture`]: what went over the LAN.
//! - [`server`], [`clients`]: foreign programs that run on a host of the LAN; [`mtftp`]: a scripted old boot ROM;
//!   [`site`]: Farrier itself; [`scene`]: it on a LAN of its own.
//!
//! Whatever is started is ended when its value is dropped, by process id and namespace name.
#![forbid(unsafe_code)]

pub mod capture;
pub mod clients;
pub mod command;
pub mod damage;
pub mod debs;
pub mod golden;
pub mod lab;
pub mod matrix;
pub mod mtftp;
pub mod net;
pub mod packages;
pub mod qemu;
pub mod relay;
pub mod report;
pub mod scene;
pub mod server;
pub mod site;

pub use capture::Capture;
pub use debs::{Debs, Suite};
pub use lab::Lab;
pub use net::{Host, Lan, Recording};
pub use qemu::{Bus, Disk, Firmware, Machine, Vm};
pub use relay::Relay;
pub use report::Steps;
pub use scene::Scene;
pub use server::Program;
pub use site::{Mode, Site};
