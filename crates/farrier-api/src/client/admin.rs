//! The side of people and programs: `/api/v1` with a bearer token, from an authority that is pinned.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{RequestBuilder, Response, Url};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::pin::{CaPin, client_config};
use crate::admin::Page;
use crate::error::ErrorBody;

/// Where the admin plane listens: `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress(Url);

/// The text is not `https://host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a server: write https:// with a host and a port")]
pub struct AdminAddressError;

impl FromStr for AdminAddress {
    type Err = AdminAddressError;

    fn from_str(text: &str) -> Result<Self, AdminAddressError> {
        let url: Url = text.parse().map_err(|_| AdminAddressError)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if url.scheme() == "https" && url.has_host() && bare && anonymous { Ok(Self(url)) } else { Err(AdminAddressError) }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    #[error("cannot prepare TLS: {source}")]
    Prepare { source: Box<dyn std::error::Error + Send + Sync> },
    /// The other side is not who it must be.
    #[error("{server} is not the server that was pinned: {cause}")]
    Untrusted { server: AdminAddress, cause: String },
    #[error("cannot reach the server {server}: {cause}")]
    Unreachable { server: AdminAddress, cause: String },
    #[error("{}", body.message)]
    Refused { status: u16, body: ErrorBody },
    #[error("the server's answer makes no sense: {cause}")]
    Nonsense { cause: String },
}

impl AdminClientError {
    /// Whether the same call may work later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { body, .. } => body.retry,
            Self::Prepare { .. } | Self::Untrusted { .. } | Self::Nonsense { .. } => false,
        }
    }
}

/// An answer as it came, and what it means.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    pub body: Bytes,
    means: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Answer<T> {
    /// An empty answer reads as `null`.
    pub fn read(&self) -> Result<T, AdminClientError> {
        let body: &[u8] = if self.body.is_empty() { b"null" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| AdminClientError::Nonsense { cause: error.to_string() })
    }
}

/// Speaks to one server as one person or program.
#[derive(Clone)]
pub struct AdminClient {
    pub(super) http: reqwest::Client,
    server: AdminAddress,
    token: Option<String>,
}

impl fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminClient").field("server", &self.server).finish_non_exhaustive()
    }
}

impl AdminClient {
    pub fn new(server: AdminAddress, ca: CaPin, token: Option<String>) -> Result<Self, AdminClientError> {
        let tls = client_config(ca, None).map_err(prepare)?;
        Ok(Self { http: http(tls)?, server, token })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, AdminClientError> {
        self.answer(self.http.get(self.url(path))).await
    }

    /// [`AdminClient::get`] with a query; what is unset is left out.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<Answer<T>, AdminClientError> {
        self.answer(self.http.get(with_query(self.url(path), query))).await
    }

    /// All pages of a list as one.
    pub async fn every<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<Answer<Vec<T>>, AdminClientError> {
        let nonsense = |error: serde_json::Error| AdminClientError::Nonsense { cause: error.to_string() };
        let mut query = serde_json::to_value(query).map_err(nonsense)?;
        let mut items: Vec<Value> = Vec::new();
        loop {
            let page: Page<Value> = self.ask(path, &query).await?.read()?;
            items.extend(page.items);
            let Some(next) = page.next else { break };
            query["after"] = Value::String(next);
        }
        let body = serde_json::to_vec_pretty(&items).map_err(nonsense)?.into();
        Ok(Answer { body, means: PhantomData })
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, AdminClientError> {
        self.answer(self.http.post(self.url(path)).json(body)).await
    }

    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, AdminClientError> {
        self.answer(self.http.put(self.url(path)).json(body)).await
    }

    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, AdminClientError> {
        self.answer(self.http.patch(self.url(path)).json(body)).await
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Answer<T>, AdminClientError> {
        self.answer(self.http.delete(self.url(path))).await
    }

    /// The URL of a route; each part of the path is escaped by itself.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.server.0.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.clear().extend(["api", "v1"]).extend(path);
        }
        url
    }

    /// Sends a request and turns refusals into errors.
    pub(super) async fn send(&self, mut request: RequestBuilder) -> Result<Response, AdminClientError> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| transport(&self.server, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = whole(response, MAX_REFUSAL).await?;
        match serde_json::from_slice(&body) {
            Ok(body) => Err(AdminClientError::Refused { status: status.as_u16(), body }),
            Err(_) => Err(AdminClientError::Nonsense { cause: format!("it said {status}") }),
        }
    }

    async fn answer<T>(&self, request: RequestBuilder) -> Result<Answer<T>, AdminClientError> {
        let body = whole(self.send(request).await?, MAX_ANSWER).await?;
        Ok(Answer { body, means: PhantomData })
    }
}

/// The body of an answer, if it is no longer than `max`.
pub(super) async fn whole(mut response: Response, max: usize) -> Result<Bytes, AdminClientError> {
    let mut body = BytesMut::new();
    let broken = |error: reqwest::Error| AdminClientError::Nonsense { cause: format!("it was cut short: {error}") };
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len() + piece.len() > max {
            return Err(AdminClientError::Nonsense { cause: format!("it is longer than {max} bytes") });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// An HTTP client that goes where it is told and nowhere else.
pub(super) fn http(tls: ClientConfig) -> Result<reqwest::Client, AdminClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .build()
        .map_err(prepare)
}

pub(super) fn prepare(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AdminClientError {
    AdminClientError::Prepare { source: source.into() }
}

/// A request that got no answer: nobody is there, or somebody else is.
pub(super) fn transport(server: &AdminAddress, error: &reqwest::Error) -> AdminClientError {
    let server = server.clone();
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(why)) = cause.downcast_ref() {
            return AdminClientError::Untrusted { server, cause: format!("{why:?}") };
        }
        // The source of an I/O error skips the error it wraps, so that one is looked at by itself.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| cause.source()) {
            Some(inner) => cause = inner,
            None => return AdminClientError::Unreachable { server, cause: cause.to_string() },
        }
    }
}

fn with_query(mut url: Url, query: &impl Serialize) -> Url {
    if let Ok(Value::Object(fields)) = serde_json::to_value(query) {
        for (name, value) in fields {
            match value {
                Value::Null => {}
                Value::String(text) => drop(url.query_pairs_mut().append_pair(&name, &text)),
                other => drop(url.query_pairs_mut().append_pair(&name, &other.to_string())),
            }
        }
    }
    url
}

/// Ten thousand machines with all that is known of them.
const MAX_ANSWER: usize = 64 << 20;
const MAX_REFUSAL: usize = 64 << 10;
