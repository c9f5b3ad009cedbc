//! Building the answer to a request. Plain functions: the request and a decision-shaped input in, the
//! reply message out, and [`destination()`] for where it must travel.
//!
//! Reading order: [`dhcp`] is the server that lends addresses, [`proxy_dhcp`] speaks beside a foreign
//! one, [`boot_server`] is port 4011, [`bootp`] is for what came before DHCP. All of them say how to
//! boot through [`BootFile`]; [`dhcpv6`] has a URL instead.
//!
//! What each firmware needs was measured; the rules that came of it are: siaddr, the file field and
//! options 54, 1, 51 and 3 always; 66 and 67 where asked; option 60 never without either discovery
//! control 8 in option 43 or a live port 4011; options 61, 82 and 97 byte for byte.

mod boot_file;
pub mod boot_server;
pub mod bootp;
mod destination;
pub mod dhcp;
pub mod dhcpv6;
pub mod proxy_dhcp;
mod skeleton;

pub use boot_file::{BootFile, BootStyle};
pub use destination::{ReplyTo, destination};

use std::net::Ipv4Addr;

/// An address and what goes with it, for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lend<'a> {
    /// Our own address as this client must use it. A relay's server identifier override (option 82,
    /// sub-option 11) wins over it.
    pub server_id: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub subnet_mask: Ipv4Addr,
    pub lease_s: u32,
    pub t1_s: u32,
    pub t2_s: u32,
    /// Further options, in the order given; routers and name servers come first by custom. They never replace
    /// those the reply sets by itself, and are left out from the last on where the client's message size ends.
    pub options: Vec<(u8, &'a [u8])>,
}
