//! Bytes to typed message and back. Decoders are lenient where RFC or field practice is, never panic
//! and never allocate from a length field; encoders are exact.
//!
//! Reading order: [`dhcpv4`] is the message, [`dhcp_option`] its options in wire order, [`option`] the
//! registry of their names, [`option_setting`] their values as people write them, [`option_value`] the typed
//! values read from them, [`pxe`] what hides in
//! option 43, [`text`] the rendering for people, [`tftp`] the other protocol. [`dhcpv6`] and
//! [`dhcpv6_option`] are the same for IPv6, [`ndp`] the hint that it is there, [`wake`] what starts a
//! machine. [`rarp`] and [`onc_rpc`] are what diskless machines spoke before BOOTP.
//! [`arp`] and [`echo`] ask whether somebody is there. [`tls`] reads what a boot program says of itself in HTTPS.

pub mod arp;
pub mod dhcp_option;
pub mod dhcpv4;
pub mod dhcpv6;
pub mod dhcpv6_option;
pub mod echo;
mod error;
pub mod ndp;
pub mod onc_rpc;
pub mod option;
pub mod option_setting;
pub mod option_value;
pub mod pxe;
pub mod rarp;
pub mod text;
pub mod tftp;
pub mod tls;
pub mod wake;

pub use error::{DecodeError, MAX_ODDITIES, Oddity};
