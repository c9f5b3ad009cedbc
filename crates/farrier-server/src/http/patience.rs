//! Clients that stop in the middle of something: their state must not stay (`T9`).
//!
//! hyper bounds how long a head may take; here the rest is bounded: a body that does not go on, an answer that
//! nobody takes, both also where it happens in drips, and what all bodies take together. Waiting for a slow
//! handler is not a fault of the client and costs nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farrier_net::zero_copy;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// How long the other side may make us wait. Waiting uses the time up, and what moves earns some back, so that
/// whoever takes or gives a byte now and then is let go as well as whoever stands still.
#[derive(Debug)]
struct Pace {
    left: Duration,
    /// Runs while we wait.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            left: PATIENCE,
            waiting: None,
        }
    }
}

impl Pace {
    /// Passes `polled` on, which moved so many bytes, unless it took too long.
    fn bound<T>(
        &mut self,
        polled: Poll<T>,
        moved: impl FnOnce(&T) -> u64,
        context: &mut Context<'_>,
        late: impl FnOnce(io::Error) -> T,
    ) -> Poll<T> {
        if let Poll::Ready(done) = &polled {
            if let Some((since, _)) = self.waiting.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            let earned = Duration::from_millis(moved(done).saturating_mul(1000) / SLOWEST);
            self.left = self.left.saturating_add(earned).min(PATIENCE);
            return polled;
        }
        let left = self.left;
        let (_, timer) = self
            .waiting
            .get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(left))));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(late(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not go on, or too slowly",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A connection on which writing may not stand still.
#[derive(Debug)]
pub(super) struct PatientStream {
    stream: TcpStream,
    writing: Pace,
}

impl PatientStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            writing: Pace::default(),
        }
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buf)
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, buf);
        this.writing.bound(polled, written, context, Err)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = zero_copy::poll_write(Pin::new(&mut this.stream), context, bufs);
        this.writing.bound(polled, written, context, Err)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// A TCP stream has nothing to flush.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

fn written(result: &io::Result<usize>) -> u64 {
    result
        .as_ref()
        .map_or(0, |bytes| u64::try_from(*bytes).unwrap_or(u64::MAX))
}

/// What the bodies of all open requests of a listener may take.
#[derive(Debug)]
pub(super) struct Room {
    left: AtomicUsize,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: AtomicUsize::new(bytes),
        }
    }
}

/// What the body of one request takes, until the request was answered.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    bytes: AtomicUsize,
    refused: AtomicBool,
}

impl Held {
    pub(super) fn none(room: &Arc<Room>) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::clone(room),
            bytes: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
        })
    }

    /// Whether the body was cut off for want of room.
    pub(super) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> io::Result<()> {
        let enough = |left: usize| left.checked_sub(bytes);
        let room = &self.room.left;
        if room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough)
            .is_err()
        {
            self.refused.store(true, Ordering::Relaxed);
            return Err(io::Error::other("too much is being sent at once"));
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.room.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A request's body that may not stand still, and that takes its part of the room there is.
#[derive(Debug)]
pub(super) struct PatientBody {
    body: Incoming,
    reading: Pace,
    held: Arc<Held>,
}

impl PatientBody {
    pub(super) fn new(body: Incoming, held: Arc<Held>) -> Self {
        Self {
            body,
            reading: Pace::default(),
            held,
        }
    }
}

impl Body for PatientBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body)
            .poll_frame(context)
            .map_err(Into::into);
        let size = |frame: &Option<Result<Frame<Bytes>, Self::Error>>| {
            let data = frame.as_ref().and_then(|f| f.as_ref().ok()?.data_ref());
            data.map_or(0, Bytes::len)
        };
        if let Poll::Ready(frame) = &polled
            && let Err(full) = this.held.take(size(frame))
        {
            return Poll::Ready(Some(Err(full.into())));
        }
        let moved = |frame: &_| u64::try_from(size(frame)).unwrap_or(u64::MAX);
        this.reading
            .bound(polled, moved, context, |late| Some(Err(late.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Longer than a spanning tree takes after a cable was plugged in again, shorter than a minute.
const PATIENCE: Duration = Duration::from_secs(45);
/// Bytes a second; a modem does better.
const SLOWEST: u64 = 1024;
