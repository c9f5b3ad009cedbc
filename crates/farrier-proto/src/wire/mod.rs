//! Bytes to typed message and back. Decoders are lenient where RFC or field practice is, never panic
//! and never allocate from a length field; encoders are exact.

pub mod dhcp_option;
pub mod dhcpv4;
pub mod pxe;
pub mod tftp;
