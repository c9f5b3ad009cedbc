//! The side of people and programs: asks for a path of `/api/v1` and reads the answer.
//!
//! The paths are the documentation; wrapping each in a method would say everything twice. What has a form
//! of its own, chunks and manifests, has methods in `store.rs`.

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

/// Where the server of people and programs is: `https://` with a name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAddress(Url);

/// The text is not an address of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a server: write https:// with its name or address and port, as in https://127.0.0.1:8443"
)]
pub struct AdminAddressError;

impl FromStr for AdminAddress {
    type Err = AdminAddressError;

    fn from_str(text: &str) -> Result<Self, AdminAddressError> {
        let url: Url = text.trim().parse().map_err(|_| AdminAddressError)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        if url.scheme() == "https" && url.has_host() && bare && anonymous {
            Ok(Self(url))
        } else {
            Err(AdminAddressError)
        }
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
    #[error("cannot prepare TLS")]
    Prepare {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The other side is not who it must be.
    #[error("{server} is not the server this command was told to trust: {cause}")]
    Untrusted { server: AdminAddress, cause: String },
    #[error("cannot reach the server {server}: {cause}")]
    Unreachable { server: AdminAddress, cause: String },
    /// The server answered, with a refusal.
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

/// What the server said: its body as it came, and what it means.
#[derive(Clone)]
pub struct Answer<T> {
    pub body: Bytes,
    means: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("len", &self.body.len())
            .finish()
    }
}

impl<T: Serialize> Answer<T> {
    /// What the server said, with what was found out on this side added.
    pub fn of(value: &T) -> Result<Self, AdminClientError> {
        let body = serde_json::to_vec(value).map_err(|error| nonsense(&error))?;
        Ok(Self {
            body: body.into(),
            means: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> Answer<T> {
    /// Reads the body. An empty one reads as `null`.
    pub fn read(&self) -> Result<T, AdminClientError> {
        let body: &[u8] = if self.body.is_empty() {
            b"null"
        } else {
            &self.body
        };
        serde_json::from_slice(body).map_err(|error| nonsense(&error))
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
        f.debug_struct("AdminClient")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl AdminClient {
    /// A client that trusts the pinned authority; `token` is missing only for signing in.
    pub fn new(
        server: AdminAddress,
        ca: CaPin,
        token: Option<String>,
    ) -> Result<Self, AdminClientError> {
        let tls = client_config(ca, None).map_err(prepare)?;
        Ok(Self {
            http: http(tls)?,
            server,
            token,
        })
    }

    /// Reads what is at `path`, a list of segments below `/api/v1`.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<Answer<T>, AdminClientError> {
        self.answer(self.http.get(self.url(path))).await
    }

    /// [`AdminClient::get`] with a query; what is unset is left out.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<Answer<T>, AdminClientError> {
        let mut url = self.url(path);
        add_query(&mut url, query)?;
        self.answer(self.http.get(url)).await
    }

    /// All pages of a list, as one. A list of one page keeps the body as it came.
    pub async fn every<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
    ) -> Result<Answer<Page<T>>, AdminClientError> {
        let mut query = serde_json::to_value(query).map_err(|error| nonsense(&error))?;
        let first: Answer<Page<Value>> = self.ask(path, &query).await?;
        let mut all = first.read()?;
        if all.next.is_none() {
            return Ok(Answer {
                body: first.body,
                means: PhantomData,
            });
        }
        while let Some(after) = all.next.take() {
            query["after"] = Value::String(after);
            let more: Page<Value> = self.ask(path, &query).await?.read()?;
            // A place that leads back to itself would never end.
            if more.items.is_empty() {
                break;
            }
            all.items.extend(more.items);
            all.next = more.next;
        }
        all.total = all.total.max(all.items.len() as u64);
        let body = serde_json::to_vec(&all)
            .map_err(|error| nonsense(&error))?
            .into();
        Ok(Answer {
            body,
            means: PhantomData,
        })
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
        self.put_with(path, &(), body).await
    }

    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<Answer<T>, AdminClientError> {
        self.patch_with(path, &(), body).await
    }

    /// [`AdminClient::put`] with a query; what is unset is left out.
    pub async fn put_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
        body: &impl Serialize,
    ) -> Result<Answer<T>, AdminClientError> {
        let mut url = self.url(path);
        add_query(&mut url, query)?;
        self.answer(self.http.put(url).json(body)).await
    }

    /// [`AdminClient::patch`] with a query.
    pub async fn patch_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &impl Serialize,
        body: &impl Serialize,
    ) -> Result<Answer<T>, AdminClientError> {
        let mut url = self.url(path);
        add_query(&mut url, query)?;
        self.answer(self.http.patch(url).json(body)).await
    }

    pub async fn delete(&self, path: &[&str]) -> Result<(), AdminClientError> {
        self.send(self.http.delete(self.url(path))).await.map(drop)
    }

    /// A file, as it is.
    pub async fn download(&self, path: &[&str]) -> Result<Bytes, AdminClientError> {
        whole(self.send(self.http.get(self.url(path))).await?, MAX_ANSWER).await
    }

    /// The address of `path`; each segment is escaped, whatever is in it.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.server.0.clone();
        // Only addresses that cannot have a path, such as `mailto:`, refuse this; ours is https.
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.clear().extend(["api", "v1"]).extend(path);
        }
        url
    }

    /// Sends a request and turns refusals into errors.
    pub(super) async fn send(
        &self,
        mut request: RequestBuilder,
    ) -> Result<Response, AdminClientError> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request
            .send()
            .await
            .map_err(|error| transport(&self.server, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = whole(response, MAX_REFUSAL).await.unwrap_or_default();
        let body = serde_json::from_slice(&text).unwrap_or_else(|_| ErrorBody {
            code: String::new(),
            message: format!("the server said {status}"),
            hint: Some(
                "is this the address of Farrier's page and API? its default port is 8443"
                    .to_owned(),
            ),
            retry: false,
            request: String::new(),
            plan: None,
        });
        Err(AdminClientError::Refused {
            status: status.as_u16(),
            body,
        })
    }

    async fn answer<T>(&self, request: RequestBuilder) -> Result<Answer<T>, AdminClientError> {
        let body = whole(self.send(request).await?, MAX_ANSWER).await?;
        Ok(Answer {
            body,
            means: PhantomData,
        })
    }
}

/// The body of an answer, if it is no longer than `max`.
pub(super) async fn whole(mut response: Response, max: usize) -> Result<Bytes, AdminClientError> {
    let mut body = BytesMut::new();
    let broken = |error: reqwest::Error| AdminClientError::Nonsense {
        cause: format!("it was cut short: {error}"),
    };
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len() + piece.len() > max {
            return Err(AdminClientError::Nonsense {
                cause: format!("it is longer than {max} bytes"),
            });
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
        .http1_only()
        .connect_timeout(Duration::from_secs(10))
        // Verifying a large image answers when it is done; a server that vanished is noticed by keepalive.
        .read_timeout(Duration::from_secs(3600))
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(15))
        .build()
        .map_err(prepare)
}

pub(super) fn prepare(
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> AdminClientError {
    AdminClientError::Prepare {
        source: source.into(),
    }
}

/// A request that got no answer: nobody is there, or somebody else is.
pub(super) fn transport(server: &AdminAddress, error: &reqwest::Error) -> AdminClientError {
    let server = server.clone();
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(why)) = cause.downcast_ref() {
            return AdminClientError::Untrusted {
                server,
                cause: why.to_string(),
            };
        }
        // The source of an I/O error skips the error it wraps, so that one is looked at by itself.
        let wrapped = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        match wrapped
            .map(|inner| inner as &(dyn std::error::Error + 'static))
            .or_else(|| cause.source())
        {
            Some(inner) => cause = inner,
            None => {
                return AdminClientError::Unreachable {
                    server,
                    cause: cause.to_string(),
                };
            }
        }
    }
}

/// Puts the fields of `query` that are set behind the question mark.
fn add_query(url: &mut Url, query: &impl Serialize) -> Result<(), AdminClientError> {
    let Value::Object(fields) = serde_json::to_value(query).map_err(|error| nonsense(&error))?
    else {
        return Ok(());
    };
    for (name, value) in fields {
        match value {
            Value::Null => {}
            Value::String(text) => drop(url.query_pairs_mut().append_pair(&name, &text)),
            other => drop(url.query_pairs_mut().append_pair(&name, &other.to_string())),
        }
    }
    Ok(())
}

fn nonsense(error: &impl fmt::Display) -> AdminClientError {
    AdminClientError::Nonsense {
        cause: error.to_string(),
    }
}

/// Ten thousand machines with all that is known of them.
const MAX_ANSWER: usize = 64 << 20;
const MAX_REFUSAL: usize = 64 << 10;

#[cfg(test)]
mod tests;
