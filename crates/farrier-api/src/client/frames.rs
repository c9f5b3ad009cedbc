//! Chunks in frames, as they leave and as they come.

use std::convert::Infallible;
use std::fmt;

use bytes::{Bytes, BytesMut};
use futures::stream;

use super::agent::ServerAddress;
use super::agent_error::{AgentClientError, transport};
use crate::agent::{ChangedChunk, frames_in_pieces, read_changed, read_frame};

/// Chunks as they come.
#[derive(Debug)]
pub struct ChunkStream(pub(super) Frames);

impl ChunkStream {
    /// The next chunk; none at the end of the answer.
    pub async fn next(&mut self) -> Result<Option<([u8; 32], Bytes)>, AgentClientError> {
        self.0.next(read_frame).await
    }
}

/// What differs of chunks, as it comes.
#[derive(Debug)]
pub struct ChangedStream(pub(super) Frames);

impl ChangedStream {
    /// The next chunk or patch; none at the end of the answer.
    pub async fn next(&mut self) -> Result<Option<ChangedChunk>, AgentClientError> {
        self.0.next(read_changed).await
    }
}

/// An answer that is taken apart while it comes.
#[derive(Debug)]
pub(super) struct Frames {
    pub(super) response: reqwest::Response,
    pub(super) buffer: BytesMut,
    pub(super) max: usize,
    pub(super) server: ServerAddress,
}

impl Frames {
    async fn next<T, E: fmt::Display>(
        &mut self,
        read: impl Fn(&mut BytesMut, usize) -> Result<Option<T>, E>,
    ) -> Result<Option<T>, AgentClientError> {
        loop {
            let frame = read(&mut self.buffer, self.max);
            let frame = frame.map_err(|error| AgentClientError::Nonsense {
                cause: error.to_string(),
            })?;
            if frame.is_some() {
                return Ok(frame);
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(None) if self.buffer.is_empty() => return Ok(None),
                Ok(None) => {
                    let cause = "the answer ended inside a chunk".to_owned();
                    return Err(AgentClientError::Unreachable {
                        server: self.server,
                        cause,
                    });
                }
                Err(error) => return Err(transport(self.server, &error)),
            }
        }
    }
}

/// Gives `request` a body of frames that says how long it is.
pub(super) fn with_frames(
    request: reqwest::RequestBuilder,
    chunks: &[([u8; 32], Bytes)],
) -> reqwest::RequestBuilder {
    let (pieces, len) = frames_in_pieces(chunks);
    let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
    request
        .header(reqwest::header::CONTENT_LENGTH, len)
        .body(reqwest::Body::wrap_stream(pieces))
}
