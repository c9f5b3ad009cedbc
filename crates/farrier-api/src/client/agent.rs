//! The agent's side of the agent plane: one method per route, no retries. Whoever calls knows what waiting means.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::agent_error::{AgentClientError, chain, transport};
use super::frames::{ChangedStream, ChunkStream, Frames, with_frames};
use super::pin::{CaPin, Identity, client_config};
use crate::agent::{
    EnrolAnswer, EnrolRequest, HeldChunk, Inventory, LogLines, Order, ProgressAnswer,
    ProgressReport, ResultReport, write_held,
};
use crate::error::ErrorBody;

/// Where the agent plane listens: an address and a port, never a name, since nobody resolves names at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerAddress(pub SocketAddr);

/// The text is not `https://address:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a server: write https:// with a literal address and a port")]
pub struct ServerAddressError;

impl FromStr for ServerAddress {
    type Err = ServerAddressError;

    fn from_str(text: &str) -> Result<Self, ServerAddressError> {
        let rest = text.strip_prefix("https://").ok_or(ServerAddressError)?;
        rest.strip_suffix('/')
            .unwrap_or(rest)
            .parse()
            .map(Self)
            .map_err(|_| ServerAddressError)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.0)
    }
}

/// Speaks to one server as one agent.
#[derive(Clone, Debug)]
pub struct AgentClient {
    http: reqwest::Client,
    /// For the one call whose answer may take as long as the store's disk does.
    slow: reqwest::Client,
    server: ServerAddress,
}

/// How long silence is borne before the server counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub answer: Duration,
    pub commit: Duration,
}

impl Default for Patience {
    /// Longer than the longest poll; and for a commit, what flushing a full spool to a slow disk may take.
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(60),
            commit: Duration::from_secs(600),
        }
    }
}

/// No answer but chunks and manifests is larger.
const MAX_ANSWER: usize = 1 << 20;

impl AgentClient {
    /// A client that trusts the pinned authority; `identity` is missing only before enrolment.
    pub fn new(
        server: ServerAddress,
        ca: CaPin,
        identity: Option<Identity>,
    ) -> Result<Self, AgentClientError> {
        Self::with_patience(server, ca, identity, Patience::default())
    }

    /// The same, with time limits of one's own.
    pub fn with_patience(
        server: ServerAddress,
        ca: CaPin,
        identity: Option<Identity>,
        patience: Patience,
    ) -> Result<Self, AgentClientError> {
        let tls = client_config(ca, identity).map_err(|source| AgentClientError::Prepare {
            source: source.into(),
        })?;
        let client = |read_timeout| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                // HTTP/1.1: the bulk is chunks, and its framing costs least.
                .http1_only()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(10))
                .read_timeout(read_timeout)
                .tcp_nodelay(true)
                // A server that vanished is noticed even while a long answer is due.
                .tcp_keepalive(Duration::from_secs(15))
                .build()
                .map_err(|source| AgentClientError::Prepare {
                    source: source.into(),
                })
        };
        Ok(Self {
            http: client(patience.answer)?,
            slow: client(patience.commit)?,
            server,
        })
    }

    /// Asks for a certificate, or for how long to wait for a person.
    pub async fn enrol(&self, request: &EnrolRequest) -> Result<EnrolAnswer, AgentClientError> {
        json(self.post("enrol", request).await?).await
    }

    pub async fn inventory(&self, inventory: &Inventory) -> Result<(), AgentClientError> {
        self.post("inventory", inventory).await.map(drop)
    }

    /// Waits up to `wait` for something to do.
    pub async fn work(&self, wait: Duration) -> Result<Order, AgentClientError> {
        let path = format!("work?wait={}", wait.as_secs());
        json(self.send(self.http.get(self.url(&path))).await?).await
    }

    pub async fn progress(
        &self,
        task: Uuid,
        report: &ProgressReport,
    ) -> Result<ProgressAnswer, AgentClientError> {
        json(self.post(&format!("tasks/{task}/progress"), report).await?).await
    }

    pub async fn result(&self, task: Uuid, report: &ResultReport) -> Result<(), AgentClientError> {
        self.post(&format!("tasks/{task}/result"), report)
            .await
            .map(drop)
    }

    pub async fn log(&self, lines: &LogLines) -> Result<(), AgentClientError> {
        self.post("log", lines).await.map(drop)
    }

    /// For each id, whether the store lacks it.
    pub async fn missing(&self, ids: &[[u8; 32]]) -> Result<Vec<bool>, AgentClientError> {
        let request = self.http.post(self.url("store/missing")).body(ids.concat());
        let answer = whole(self.send(request).await?, ids.len()).await?;
        if answer.len() != ids.len() {
            let cause = format!("{} answers to {} chunk ids", answer.len(), ids.len());
            return Err(AgentClientError::Nonsense { cause });
        }
        Ok(answer.iter().map(|byte| *byte != 0).collect())
    }

    /// Stores chunks; they are durable when this returns.
    pub async fn put_chunks(&self, chunks: &[([u8; 32], Bytes)]) -> Result<(), AgentClientError> {
        let request = self.http.post(self.url("store/chunks"));
        self.send(with_frames(request, chunks)).await.map(drop)
    }

    /// Publishes an image; the answer is the signed manifest.
    pub async fn commit(
        &self,
        task: Uuid,
        fence: u64,
        manifest: Vec<u8>,
        max: usize,
    ) -> Result<Vec<u8>, AgentClientError> {
        let path = format!("store/commit?task={task}&fence={fence}");
        // Signing waits for every pack to be durable, and nothing is said meanwhile.
        let request = self.slow.post(self.url(&path)).body(manifest);
        whole(self.send(request).await?, max).await.map(Into::into)
    }

    /// The signed manifest of an image's version.
    pub async fn manifest(
        &self,
        image: &str,
        version: u32,
        max: usize,
    ) -> Result<Vec<u8>, AgentClientError> {
        let path = format!("store/manifests/{image}/{version}");
        whole(self.send(self.http.get(self.url(&path))).await?, max)
            .await
            .map(Into::into)
    }

    /// Asks for chunks; they come as a stream of frames, none larger than `max`.
    pub async fn fetch_chunks(
        &self,
        ids: &[[u8; 32]],
        max: usize,
    ) -> Result<ChunkStream, AgentClientError> {
        let request = self.http.post(self.url("store/fetch")).body(ids.concat());
        self.stream(request, max).await.map(ChunkStream)
    }

    /// Asks for what differs from what is held. Servers before this route refuse with status 404.
    pub async fn fetch_changed(
        &self,
        held: &[HeldChunk],
        max: usize,
    ) -> Result<ChangedStream, AgentClientError> {
        let mut body = BytesMut::new();
        for chunk in held {
            write_held(&mut body, chunk);
        }
        let request = self
            .http
            .post(self.url("store/changed"))
            .body(body.freeze());
        self.stream(request, max).await.map(ChangedStream)
    }

    async fn stream(
        &self,
        request: reqwest::RequestBuilder,
        max: usize,
    ) -> Result<Frames, AgentClientError> {
        Ok(Frames {
            response: self.send(request).await?,
            buffer: BytesMut::new(),
            max,
            server: self.server,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/agent/v1/{path}", self.server)
    }

    async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<reqwest::Response, AgentClientError> {
        self.send(self.http.post(self.url(path)).json(body)).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, AgentClientError> {
        let response = request
            .send()
            .await
            .map_err(|error| transport(self.server, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = whole(response, MAX_ANSWER).await.unwrap_or_default();
        let (code, message) = match serde_json::from_slice::<ErrorBody>(&text) {
            Ok(body) => (body.code.clone(), body.to_string()),
            Err(_) => (
                String::new(),
                status
                    .canonical_reason()
                    .unwrap_or("no reason given")
                    .to_owned(),
            ),
        };
        Err(AgentClientError::Refused {
            status: status.as_u16(),
            code,
            message,
        })
    }
}

async fn json<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, AgentClientError> {
    let body = whole(response, MAX_ANSWER).await?;
    serde_json::from_slice(&body).map_err(|error| AgentClientError::Nonsense {
        cause: error.to_string(),
    })
}

async fn whole(mut response: reqwest::Response, max: usize) -> Result<Bytes, AgentClientError> {
    let mut body = BytesMut::new();
    loop {
        let piece = response.chunk().await;
        match piece.map_err(|error| AgentClientError::Nonsense {
            cause: chain(&error),
        })? {
            None => return Ok(body.freeze()),
            Some(bytes) if body.len() + bytes.len() <= max => body.extend_from_slice(&bytes),
            Some(_) => {
                return Err(AgentClientError::Nonsense {
                    cause: format!("more than {max} bytes"),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AgentClientError, ServerAddress};

    #[test]
    fn only_literal_addresses_are_servers() {
        for (text, good) in [
            ("https://192.0.2.1:8444", true),
            ("https://192.0.2.1:8444/", true),
            ("https://[2001:db8::1]:8444", true),
            ("http://192.0.2.1:8444", false),
            ("https://192.0.2.1", false),
            ("https://boot.example:8444", false),
            ("https://192.0.2.1:8444/x", false),
        ] {
            assert_eq!(text.parse::<ServerAddress>().is_ok(), good, "{text}");
        }
    }

    #[test]
    fn r2_what_may_be_tried_again() {
        let refused = |status| AgentClientError::Refused {
            status,
            code: String::new(),
            message: String::new(),
        };
        for (status, expected) in [
            (401, false),
            (403, false),
            (409, false),
            (503, true),
            (507, true),
        ] {
            assert_eq!(refused(status).may_retry(), expected, "{status}");
        }
    }
}
