//! Content that goes to TCP sockets without being copied.
//!
//! What [`hold`] takes lies in a sealed file of memory and is read through a map of it. When such bytes are written by
//! [`poll_write`], the kernel puts the file's own pages on the wire (sendfile), which takes less CPU than a copy.
//! Everything else is written as usual, so nobody who handles the bytes on their way has to know.
//!
//! A file on a disk would do without memory of ours, but whoever made it shorter would end transfers, and a map of it
//! would end the server (SIGBUS). Nothing can change a sealed one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create, sendfile};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use socket2::SockRef;
use tokio::io::{AsyncWrite as _, Interest};
use tokio::net::TcpStream;

/// Shorter content is copied: its share of a packet's cost is small.
pub const LEAST: usize = 64 << 10;

/// The same bytes, where they can be sent from without a copy if they are many. If the kernel refuses, they stay what
/// they are. `Bytes::is_unique` is never true of held ones, so what is counted by it cannot be held.
#[must_use]
pub fn hold(content: Vec<u8>) -> Bytes {
    if content.len() < LEAST {
        return content.into();
    }
    match Map::of(&content) {
        Ok(map) => Bytes::from_owner(map),
        Err(error) => {
            tracing::debug!(%error, "content is kept in ordinary memory");
            content.into()
        }
    }
}

/// Writes like `poll_write_vectored` of the stream, without a copy where the bytes are from [`hold`].
pub fn poll_write(
    mut stream: Pin<&mut TcpStream>,
    context: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    // Before content there is at most one head.
    let (head, part) = match bufs {
        [content, ..] if content.len() >= LEAST => (None, Part::of(content)),
        [head, content, ..] if content.len() >= LEAST => (Some(head), Part::of(content)),
        _ => (None, None),
    };
    let Some(part) = part else {
        return stream.as_mut().poll_write_vectored(context, bufs);
    };
    loop {
        ready!(stream.poll_write_ready(context))?;
        match stream.try_io(Interest::WRITABLE, || part.send(&stream, head)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            sent => return Poll::Ready(sent),
        }
    }
}

/// Bytes that are about to be sent, as a part of a file.
struct Part {
    file: Arc<File>,
    offset: u64,
    len: usize,
}

impl Part {
    /// Where these bytes lie, if they are from [`hold`].
    fn of(content: &[u8]) -> Option<Self> {
        let at = content.as_ptr().addr();
        let held = HELD.read().unwrap_or_else(PoisonError::into_inner);
        let (start, (file, len)) = held.range(..=at).next_back()?;
        let offset = at - start;
        (offset + content.len() <= *len).then(|| Self {
            file: Arc::clone(file),
            offset: offset as u64,
            len: content.len(),
        })
    }

    fn send(&self, stream: &TcpStream, head: Option<&IoSlice<'_>>) -> io::Result<usize> {
        let mut sent = 0;
        if let Some(head) = head {
            // The content follows in the same packet.
            let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
            sent = SockRef::from(stream).send_with_flags(head, flags)?;
            if sent < head.len() {
                return Ok(sent);
            }
        }
        let mut offset = self.offset;
        match sendfile(stream, &*self.file, Some(&mut offset), self.len) {
            Ok(more) => Ok(sent + more),
            // The head has left all the same.
            Err(_) if sent > 0 => Ok(sent),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is held: the first address of each map, its file and its length.
static HELD: RwLock<BTreeMap<usize, (Arc<File>, usize)>> = RwLock::new(BTreeMap::new());

/// A map of a sealed file.
struct Map {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: nobody can write to what it points to, which is what makes a map more than two addresses.
#[allow(unsafe_code, reason = "a pointer is neither Send nor Sync by itself")]
unsafe impl Send for Map {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "a pointer is neither Send nor Sync by itself")]
unsafe impl Sync for Map {}

impl Map {
    #[allow(unsafe_code, reason = "mapping a file has no safe form")]
    fn of(content: &[u8]) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"farrier", flags)?);
        file.write_all(content)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        let len = content.len();
        // SAFETY: a new map at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::SHARED,
                &file,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
        held.insert(start.addr().get(), (Arc::new(file), len));
        Ok(Self { start, len })
    }
}

impl AsRef<[u8]> for Map {
    #[allow(unsafe_code, reason = "the bytes of a map are reached by its address")]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the map has so many bytes and lives as long as `self`; the file is sealed, so that they neither
        // change nor vanish.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Map {
    #[allow(unsafe_code, reason = "unmapping has no safe form")]
    fn drop(&mut self) {
        // First, so that no new map at this address is taken for this one.
        let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.start.addr().get());
        drop(held);
        // SAFETY: the map is ours alone, and whoever borrowed its bytes did so from `self`.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        if let Err(error) = unmapped {
            tracing::debug!(%error, "content could not be unmapped");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::pin::Pin;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::{LEAST, Part, hold, poll_write};

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 7 % 251) as u8).collect()
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap());
        let (ours, theirs) = tokio::join!(ours, listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    /// Writes a head and content as an HTTP server does, until all of it has left.
    async fn write(stream: &mut TcpStream, head: &[u8], content: &Bytes) {
        let (mut head, mut content) = (head, &content[..]);
        while !head.is_empty() || !content.is_empty() {
            let both = [IoSlice::new(head), IoSlice::new(content)];
            let bufs = if head.is_empty() { &both[1..] } else { &both };
            let sent = poll_fn(|context| poll_write(Pin::new(&mut *stream), context, bufs)).await;
            let sent = sent.unwrap();
            let of_head = sent.min(head.len());
            head = &head[of_head..];
            content = &content[sent - of_head..];
        }
    }

    #[tokio::test]
    async fn what_is_held_arrives_as_it_is_whole_and_in_parts() {
        let plain = sample(5 << 20);
        let whole = hold(plain.clone());
        assert_eq!(whole, plain);
        for (content, held) in [
            (whole.clone(), true),
            (whole.slice(4097..4097 + LEAST), true),
            (whole.slice(1_000_001..), true),
            (whole.slice(77..78), true),
            (Bytes::from(plain.clone()), false),
            (hold(sample(LEAST - 1)), false),
        ] {
            assert_eq!(Part::of(&content).is_some(), held);
            let (mut ours, mut theirs) = pair().await;
            let expected = [&b"the head"[..], &content].concat();
            let reading = tokio::spawn(async move {
                let mut read = Vec::new();
                theirs.read_to_end(&mut read).await.unwrap();
                read
            });
            write(&mut ours, b"the head", &content).await;
            drop(ours);
            assert!(reading.await.unwrap() == expected, "{}", content.len());
        }
    }

    #[tokio::test]
    async fn a_client_that_has_gone_is_an_error() {
        let content = hold(sample(8 << 20));
        let (mut ours, theirs) = pair().await;
        drop(theirs);
        let bufs = [IoSlice::new(&content)];
        let mut ended = Ok(0);
        for _ in 0..100 {
            ended = poll_fn(|context| poll_write(Pin::new(&mut ours), context, &bufs)).await;
            if ended.is_err() {
                break;
            }
        }
        assert!(ended.is_err(), "{ended:?}");
    }

    #[test]
    fn what_is_given_back_is_forgotten() {
        let content = hold(sample(LEAST));
        let part = content.slice(1..);
        drop(content);
        assert!(Part::of(&part).is_some(), "a part keeps the whole");
        let at = part.as_ptr();
        drop(part);
        let held = super::HELD.read().unwrap();
        assert!(!held.contains_key(&(at.addr() - 1)));
    }
}
