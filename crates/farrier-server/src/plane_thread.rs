//! Threads of the boot plane: one for DHCP and one for TFTP, each with an event loop of its own.
//!
//! Their work is many small packets, and on the shared threads each packet woke another thread: as much CPU
//! again as the answer itself. It also keeps answers quick while images are moved and pages are rendered.

use std::io;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// A socket on its way to another event loop.
#[derive(Debug)]
pub(crate) struct Moved(std::net::UdpSocket);

impl Moved {
    /// Takes a socket out of the event loop it was opened in.
    pub(crate) fn out(socket: UdpSocket) -> io::Result<Self> {
        socket.into_std().map(Self)
    }

    /// Puts it into the event loop that runs here.
    pub(crate) fn arrive(self) -> io::Result<UdpSocket> {
        UdpSocket::from_std(self.0)
    }
}

/// Runs `work` on a thread of its own, as one of `tasks`.
pub(crate) fn start<F>(
    tasks: &mut JoinSet<()>,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<()>
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tasks.spawn_blocking(move || {
        // What is still under way when the listeners end is given up, as with the process.
        runtime.block_on(async { work().await });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;
    use tokio::task::JoinSet;

    use super::{Moved, start};

    #[tokio::test]
    async fn a_socket_goes_on_in_its_new_event_loop_with_what_waited_in_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"early", at).await.unwrap();
        let moved = Moved::out(socket).unwrap();
        let mut tasks = JoinSet::new();
        start(&mut tasks, || async {
            let socket = moved.arrive().unwrap();
            let mut buffer = [0; 16];
            let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&buffer[..len], peer).await.unwrap();
        })
        .unwrap();
        let mut buffer = [0; 16];
        let len = client.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"early");
        tasks.join_next().await.unwrap().unwrap();
    }
}
