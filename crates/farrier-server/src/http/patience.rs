//! Clients that stop in the middle of something: their state must not stay (`T9`).
//!
//! hyper bounds how long a head may take; here the rest is bounded: a body that does not go on, and an
//! answer that nobody takes. Waiting for a slow handler is not a fault of the client and costs nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Runs while the other side makes no progress.
#[derive(Debug, Default)]
struct Stall {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Passes `polled` on, unless it has been pending for too long.
    fn bound<T>(
        &mut self,
        polled: Poll<T>,
        context: &mut Context<'_>,
        late: impl FnOnce(io::Error) -> T,
    ) -> Poll<T> {
        if polled.is_ready() {
            self.timer = None;
            return polled;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(late(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client does not go on",
            ))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A connection on which writing may not stand still.
#[derive(Debug)]
pub(super) struct PatientStream {
    stream: TcpStream,
    writing: Stall,
}

impl PatientStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            writing: Stall::default(),
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
        this.writing.bound(polled, context, Err)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, bufs);
        this.writing.bound(polled, context, Err)
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

/// A request's body that may not stand still.
#[derive(Debug)]
pub(super) struct PatientBody {
    body: Incoming,
    reading: Stall,
}

impl PatientBody {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            reading: Stall::default(),
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
        this.reading
            .bound(polled, context, |late| Some(Err(late.into())))
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
