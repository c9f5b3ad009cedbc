//! Sockets that know their interface.
//!
//! [`interface`] tells what the machine has; [`datagram`] opens UDP sockets tied to one interface; [`link`] sends a UDP
//! datagram to a hardware address without ARP, which is how clients that have no address yet must be answered;
//! [`neighbour`] asks the kernel who has an address; [`offload`] lets the kernel cut one buffer into many datagrams;
//! [`zero_copy`] keeps content so that the kernel sends it by TCP from where it lies.
//!
//! [`router`] hears router solicitations and sends advertisements; [`ping`] asks hosts behind routers whether they are
//! there; [`wake`] starts machines.
//!
//! The server's unsafe code is here and nowhere else; each site says why it is sound.

pub mod datagram;
pub mod interface;
pub mod link;
pub mod neighbour;
pub mod offload;
pub mod ping;
pub mod router;
pub mod wake;
pub mod zero_copy;
