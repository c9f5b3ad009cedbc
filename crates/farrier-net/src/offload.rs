//! Sending many datagrams with one call (UDP generic segmentation offload, Linux 4.18).
//!
//! For windowed TFTP this is the whole gain over a plain loop: 5x less CPU on the sending side
//! (`figures.md` 6). Lock-step transfers gain nothing and send plainly.

use std::io;
use std::os::fd::AsRawFd;

use tokio::net::UdpSocket;

/// Most datagrams the kernel cuts one buffer into.
pub const MAX_SEGMENTS: usize = 64;

/// Makes the kernel cut every send on `socket` into datagrams of `segment` bytes, the last one shorter.
/// A send of no more than `segment` bytes stays one datagram.
#[allow(unsafe_code, reason = "UDP_SEGMENT has no safe wrapper in socket2")]
pub fn cut_sends(socket: &UdpSocket, segment: u16) -> io::Result<()> {
    let value = libc::c_int::from(segment);
    let len = libc::socklen_t::try_from(size_of_val(&value)).expect("an int is small");
    // SAFETY: the pointer and length describe `value`, which lives across the call; the descriptor is
    // open because `socket` is borrowed.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const value).cast(),
            len,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
