//! Content that goes to TCP sockets without being copied.
//!
//! What [`hold`] takes stays in memory and is written to a file without a name as well. When such bytes are written by
//! [`poll_write`], the kernel puts pages of the file on the wire (sendfile), which takes less CPU than a copy.
//! Everything else is written as usual, so nobody who handles the bytes on their way has to know.
//!
//! The file is on a disk because the kernel takes many pages at once out of the disk's cache and one by one out of a
//! file of memory: sendfile takes half the CPU. The cache is given back when memory is short; then the thread that sends
//! waits for the disk. If the disk fails, the bytes in memory are sent; what it gives back wrong without an error goes
//! out, as from any server of files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::{Mode, OFlags, sendfile};
use socket2::SockRef;
use tokio::io::{AsyncWrite as _, Interest};
use tokio::net::TcpStream;

/// Shorter content is copied: its share of a packet's cost is small.
pub const LEAST: usize = 64 << 10;

/// The same bytes, which can be sent without a copy if they are many. `folder` says on which disk the file is; where
/// none can be made (no space, a file system without `O_TMPFILE`) the bytes stay what they are. `Bytes::is_unique` is
/// never true of held ones, so what is counted by it cannot be held.
#[must_use]
pub fn hold(content: Vec<u8>, folder: &Path) -> Bytes {
    if content.len() < LEAST {
        return content.into();
    }
    match nameless(folder, &content) {
        Ok(file) => Bytes::from_owner(Held::new(content, file)),
        Err(error) => {
            tracing::debug!(%error, folder = %folder.display(), "content will be sent as a copy");
            content.into()
        }
    }
}

fn nameless(folder: &Path, content: &[u8]) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(folder, flags, Mode::RUSR)?);
    file.write_all(content)?;
    Ok(file)
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
            Err(error) if is_no_failure(&error) => {}
            Err(error) => {
                // The file's fault if the same bytes leave from memory; else the connection's.
                let sent = ready!(stream.as_mut().poll_write_vectored(context, bufs));
                if sent.is_ok() {
                    tracing::warn!(%error, "content cannot be sent from its file any more: from memory now");
                    forget(part.start);
                }
                return Poll::Ready(sent);
            }
            sent => return Poll::Ready(sent),
        }
    }
}

fn is_no_failure(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted)
}

/// Bytes that are about to be sent, as a part of a file.
struct Part {
    /// Its name in [`HELD`].
    start: usize,
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
            start: *start,
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
            Ok(0) if sent == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => Ok(sent + more),
            // The head has left all the same.
            Err(_) if sent > 0 => Ok(sent),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is held: its first address in memory, its file and its length.
static HELD: RwLock<BTreeMap<usize, (Arc<File>, usize)>> = RwLock::new(BTreeMap::new());

/// Bytes that are in a file too.
struct Held(Vec<u8>);

impl Held {
    fn new(content: Vec<u8>, file: File) -> Self {
        let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
        held.insert(content.as_ptr().addr(), (Arc::new(file), content.len()));
        Self(content)
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Before the memory goes, so that nothing that comes to lie there is taken for this.
        forget(self.0.as_ptr().addr());
    }
}

fn forget(start: usize) {
    let mut held = HELD.write().unwrap_or_else(PoisonError::into_inner);
    held.remove(&start);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::path::Path;
    use std::pin::Pin;

    use bytes::Bytes;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::{LEAST, Part, hold, poll_write};

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 7 % 251) as u8).collect()
    }

    /// Where the tests run, a disk.
    fn here() -> &'static Path {
        Path::new(".")
    }

    fn held(len: usize) -> Bytes {
        hold(sample(len), here())
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
    async fn a_disk_that_fails_ends_no_transfer() {
        let content = held(3 << 20);
        let part = Part::of(&content).unwrap();
        rustix::fs::ftruncate(&part.file, 1 << 20).unwrap();
        let (mut ours, mut theirs) = pair().await;
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.unwrap();
            read
        });
        write(&mut ours, b"", &content).await;
        drop(ours);
        assert!(reading.await.unwrap() == content);
        assert!(Part::of(&content).is_none(), "the disk is asked no more");
    }

    #[test]
    fn content_without_a_disk_is_kept_all_the_same() {
        for folder in ["/proc", "/nowhere"] {
            let content = hold(sample(LEAST), Path::new(folder));
            assert_eq!(content, sample(LEAST));
            assert!(Part::of(&content).is_none());
        }
    }

    #[tokio::test]
    async fn what_is_held_arrives_as_it_is_whole_and_in_parts() {
        let plain = sample(5 << 20);
        let whole = hold(plain.clone(), here());
        assert_eq!(whole, plain);
        for (content, held) in [
            (whole.clone(), true),
            (whole.slice(4097..4097 + LEAST), true),
            (whole.slice(1_000_001..), true),
            (whole.slice(77..78), true),
            (Bytes::from(plain.clone()), false),
            (held(LEAST - 1), false),
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
        let content = held(8 << 20);
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
        let content = held(LEAST);
        let part = content.slice(1..);
        drop(content);
        assert!(Part::of(&part).is_some(), "a part keeps the whole");
        let at = part.as_ptr();
        drop(part);
        let held = super::HELD.read().unwrap();
        assert!(!held.contains_key(&(at.addr() - 1)));
    }
}
