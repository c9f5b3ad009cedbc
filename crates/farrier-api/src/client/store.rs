//! Image content over the interface for people and programs.

use bytes::{Bytes, BytesMut};

use super::admin::{AdminClient, AdminClientError, whole};
use super::frames::with_frames;
use crate::agent::read_frame;

impl AdminClient {
    /// For each id, whether the store lacks it.
    pub async fn missing(&self, ids: &[[u8; 32]]) -> Result<Vec<bool>, AdminClientError> {
        let request = self
            .http
            .post(self.url(&["store", "missing"]))
            .body(ids.concat());
        let answer = whole(self.send(request).await?, ids.len()).await?;
        if answer.len() != ids.len() {
            let cause = format!("{} answers to {} chunk ids", answer.len(), ids.len());
            return Err(AdminClientError::Nonsense { cause });
        }
        Ok(answer.iter().map(|byte| *byte != 0).collect())
    }

    /// Stores chunks; they are durable when this returns.
    pub async fn put_chunks(&self, chunks: &[([u8; 32], Bytes)]) -> Result<(), AdminClientError> {
        let request = self.http.post(self.url(&["store", "chunks"]));
        self.send(with_frames(request, chunks)).await.map(drop)
    }

    /// Publishes an image; the answer is the signed manifest.
    pub async fn commit(&self, manifest: Vec<u8>, max: usize) -> Result<Vec<u8>, AdminClientError> {
        let request = self
            .http
            .post(self.url(&["store", "commit"]))
            .body(manifest);
        whole(self.send(request).await?, max).await.map(Into::into)
    }

    /// The signed manifest of an image's version; `latest` is a version.
    pub async fn manifest(
        &self,
        image: &str,
        version: &str,
        max: usize,
    ) -> Result<Vec<u8>, AdminClientError> {
        let request = self
            .http
            .get(self.url(&["store", "manifests", image, version]));
        whole(self.send(request).await?, max).await.map(Into::into)
    }

    /// Chunks by id, none larger than `max`, in any order.
    pub async fn fetch_chunks(
        &self,
        ids: &[[u8; 32]],
        max: usize,
    ) -> Result<Vec<([u8; 32], Bytes)>, AdminClientError> {
        let request = self
            .http
            .post(self.url(&["store", "fetch"]))
            .body(ids.concat());
        let answer = whole(self.send(request).await?, ids.len() * (36 + max)).await?;
        let mut buffer = BytesMut::from(answer);
        let mut chunks = Vec::with_capacity(ids.len());
        let lying = |cause: String| AdminClientError::Nonsense { cause };
        while let Some(frame) =
            read_frame(&mut buffer, max).map_err(|error| lying(error.to_string()))?
        {
            chunks.push(frame);
        }
        if !buffer.is_empty() {
            return Err(lying("the last chunk is cut short".to_owned()));
        }
        Ok(chunks)
    }
}
