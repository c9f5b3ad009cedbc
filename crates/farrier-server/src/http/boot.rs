//! The boot listeners: HTTP and HTTPS for firmware and loaders, by the rules firmware needs.
//!
//! HEAD and GET alike, exact lengths, ranges, no redirects, no compression, connections kept open also after
//! a 404 (edk2#9714, edk2#9920). Nothing here is secret, and nothing here reaches another plane.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Extension, Form, Path, Query, State};
use axum::http::response;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use farrier_engine::timeline::{Entry, Transfer, TransferEnd};
use farrier_engine::tls::Trouble;
use farrier_proto::wire::tftp::clean_name;

use crate::boot_tree::{Asker, BootTree, Channel, Large, Missing, Served};
use crate::ca::BootTls;
use crate::core::{Core, now};
use crate::http::serve::{Peer, Watch};
use crate::named_scripts::Gone;
use crate::script;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct BootHttp {
    pub core: Arc<Core>,
    pub tree: Arc<BootTree>,
}

/// The routes of the boot listener.
pub fn router(boot: BootHttp) -> Router {
    Router::new()
        .route("/boot/script", get(script_by_query).post(script_by_form))
        // HEAD would use it up.
        .route("/boot/named/{name}", get(named_script).head(not_by_head))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .fallback(any(serve_file))
        .with_state(boot)
}

/// Tells of machines with which HTTPS did not come about, and lets nobody try who would get nothing.
#[must_use]
pub fn watch(tree: &Arc<BootTree>, tls: &BootTls) -> Watch {
    let (admitting, tls) = (Arc::clone(tree), tls.clone());
    let tree = Arc::clone(tree);
    Watch {
        admits: Arc::new(move |ip| admitting.may_ask(ip)),
        failed: Arc::new(move |peer, sent, ended| {
            if let Some(trouble) = Trouble::of(sent, ended, tls.key()) {
                tree.https_failed(asker(peer), trouble);
            }
        }),
    }
}

/// What a loader says of itself.
type Parameters = Vec<(String, String)>;

async fn script_by_form(
    State(boot): State<BootHttp>,
    Extension(peer): Extension<Peer>,
    Form(parameters): Form<Parameters>,
) -> Response {
    serve_script(&boot, &peer, &parameters).await
}

/// For iPXE builds without forms.
async fn script_by_query(
    State(boot): State<BootHttp>,
    Extension(peer): Extension<Peer>,
    Query(parameters): Query<Parameters>,
) -> Response {
    serve_script(&boot, &peer, &parameters).await
}

async fn serve_script(boot: &BootHttp, peer: &Peer, parameters: &Parameters) -> Response {
    let asker = asker(peer);
    if !boot.tree.may_ask(asker.ip) {
        boot.tree.ignored_stranger(asker.ip);
        return StatusCode::NOT_FOUND.into_response();
    }
    let text = script::render(&boot.core, asker, parameters).await;
    ([(header::CONTENT_TYPE, "text/plain")], text).into_response()
}

/// What a loader was told to fetch, once.
async fn named_script(
    State(boot): State<BootHttp>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> Response {
    let asker = asker(&peer);
    if !boot.tree.may_ask(asker.ip) {
        boot.tree.ignored_stranger(asker.ip);
        return StatusCode::NOT_FOUND.into_response();
    }
    boot.tree.asked_by_http(asker.ip);
    let gone = match script::named(&boot.core, asker, &name).await {
        Ok(text) => return ([(header::CONTENT_TYPE, "text/plain")], text).into_response(),
        Err(gone) => gone,
    };
    let status = match gone {
        Gone::Unknown | Gone::Elsewhere { .. } => StatusCode::NOT_FOUND,
        Gone::Spent { .. } | Gone::Expired | Gone::Over => StatusCode::GONE,
    };
    (
        status,
        [(header::CONTENT_TYPE, "text/plain")],
        format!("{gone}\n"),
    )
        .into_response()
}

async fn not_by_head() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

async fn serve_file(
    State(boot): State<BootHttp>,
    Extension(peer): Extension<Peer>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let asker = asker(&peer);
    if !boot.tree.may_ask(asker.ip) {
        boot.tree.ignored_stranger(asker.ip);
        return not_found("Not one of the served networks.");
    }
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    // Cleaned here instead of redirected: firmware follows no redirects (smee#229).
    let Some(name) = percent_decoded(uri.path()).and_then(|path| clean_name(&path).ok()) else {
        return not_found(&Missing::NoSuchName.to_string());
    };
    boot.tree.asked_by_http(asker.ip);
    if let Some(large) = boot.tree.large_medium(&name) {
        let response = from_disk(large, &headers, method == Method::HEAD);
        if method == Method::GET {
            boot.tree.medium_fetched(asker, &name, response.status());
            boot.tree.count_wish(asker, &name, response.status()).await;
        }
        return response;
    }
    match boot.tree.resolve(&name, asker).await {
        Ok(served) => {
            let response = ranged(&served, &headers);
            if method == Method::GET {
                record(&boot.tree, asker, &served, &response);
                boot.tree.count_wish(asker, &name, response.status()).await;
            }
            response
        }
        Err(missing) => {
            boot.tree.missed(&name, asker, &missing);
            not_found(&missing.to_string())
        }
    }
}

fn asker(peer: &Peer) -> Asker {
    // An IPv4 client of a listener for both comes with a mapped address.
    Asker {
        ip: peer.addr.ip().to_canonical(),
        server: peer.local.ip().to_canonical(),
        by: if peer.secure {
            Channel::Https
        } else {
            Channel::Http
        },
    }
}

/// All of it, or the one range that was asked for (RFC 9110 section 14).
fn ranged(served: &Served, headers: &HeaderMap) -> Response {
    let (part, head) = head(served.content.len(), served.content_type, headers);
    let body = served.content.slice(part);
    head.body(Body::from(body))
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Which part was asked for, and the head of the answer.
fn head(
    len: usize,
    content_type: &'static str,
    headers: &HeaderMap,
) -> (std::ops::Range<usize>, response::Builder) {
    let asked = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
        .map_or(Range::Ignored, |range| parse_range(range, len));
    let (status, part, told) = match asked {
        Range::Ignored => (StatusCode::OK, 0..len, None),
        Range::Part { start, end } => (
            StatusCode::PARTIAL_CONTENT,
            start..end,
            Some(format!("bytes {start}-{}/{len}", end - 1)),
        ),
        Range::Unsatisfiable => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            0..0,
            Some(format!("bytes */{len}")),
        ),
    };
    let mut head = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_LENGTH, part.len())
        .header(header::ACCEPT_RANGES, "bytes");
    if let Some(told) = told {
        head = head.header(header::CONTENT_RANGE, told);
    }
    (part, head)
}

/// The same of an image that nobody holds in memory: read piece by piece as the client takes it.
fn from_disk(large: Large, headers: &HeaderMap, head_only: bool) -> Response {
    let Ok(len) = usize::try_from(large.len) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (part, head) = head(len, large.content_type, headers);
    let body = if head_only {
        Body::empty()
    } else {
        let file = Arc::new(large.file);
        Body::from_stream(futures::stream::try_unfold(part, move |rest| {
            let file = Arc::clone(&file);
            async move {
                let size = rest.len().min(PIECE);
                if size == 0 {
                    return Ok::<_, std::io::Error>(None);
                }
                let at = rest.start as u64;
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; size];
                    file.read_exact_at(&mut piece, at).map(|()| piece)
                });
                let piece = read.await.map_err(std::io::Error::other)??;
                Ok(Some((Bytes::from(piece), rest.start + size..rest.end)))
            }
        }))
    };
    head.body(body)
        .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// What is read from the disk at once.
const PIECE: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    /// From `start` up to, not including, `end`; never empty.
    Part {
        start: usize,
        end: usize,
    },
    Unsatisfiable,
    /// Not understood or several ranges: the whole is a right answer (RFC 9110 14.2).
    Ignored,
}

fn parse_range(text: &str, len: usize) -> Range {
    let Some((first, last)) = text
        .trim()
        .strip_prefix("bytes=")
        .and_then(|r| r.split_once('-'))
    else {
        return Range::Ignored;
    };
    let number = |text: &str| text.trim().parse::<usize>().ok();
    let (start, end) = match (number(first), number(last)) {
        (Some(start), None) if last.trim().is_empty() => (start, len),
        (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(len)),
        (None, Some(suffix)) if first.trim().is_empty() => (len.saturating_sub(suffix), len),
        _ => return Range::Ignored,
    };
    if start < end {
        Range::Part { start, end }
    } else {
        Range::Unsatisfiable
    }
}

fn not_found(text: &str) -> Response {
    (
        StatusCode::NOT_FOUND,
        [(header::CONTENT_TYPE, "text/plain")],
        format!("{text}\n"),
    )
        .into_response()
}

/// Whole files are told once; the pieces that loaders fetch by range would be noise.
fn record(tree: &BootTree, asker: Asker, served: &Served, response: &Response) {
    if response.status() != StatusCode::OK {
        return;
    }
    if served.loader {
        tree.loaded(asker, served);
    }
    let transfer = Transfer {
        by: if asker.by == Channel::Https {
            "HTTPS"
        } else {
            "HTTP"
        },
        name: &served.name,
        bytes: served.content.len() as u64,
        sha256: served.sha256.as_deref(),
        took: std::time::Duration::ZERO,
        end: TransferEnd::Done,
        said: None,
    };
    tree.record(asker, |machine| Entry::transfer(machine, now(), &transfer));
    tree.warn_of(served, asker);
}

/// A loader's words about itself.
const MAX_FORM: usize = 16 << 10;

fn percent_decoded(path: &str) -> Option<Vec<u8>> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            hex(bytes.next()?)? << 4 | hex(bytes.next()?)?
        } else {
            byte
        });
    }
    Some(decoded)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::{Range, parse_range, percent_decoded};

    #[test]
    fn rfc9110_14_ranges() {
        for (text, expected) in [
            ("bytes=0-", Range::Part { start: 0, end: 10 }),
            ("bytes=2-4", Range::Part { start: 2, end: 5 }),
            ("bytes=9-99", Range::Part { start: 9, end: 10 }),
            ("bytes=-3", Range::Part { start: 7, end: 10 }),
            ("bytes=-99", Range::Part { start: 0, end: 10 }),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=4-2", Range::Ignored),
            ("bytes=0-1,3-4", Range::Ignored),
            ("lines=1-2", Range::Ignored),
            ("bytes=", Range::Ignored),
            (
                "bytes=18446744073709551615-18446744073709551615",
                Range::Unsatisfiable,
            ),
        ] {
            assert_eq!(parse_range(text, 10), expected, "{text}");
        }
    }

    #[test]
    fn t7_percent_signs_hide_nothing() {
        assert_eq!(percent_decoded("/%2e%2e/x").unwrap(), b"/../x");
        assert_eq!(percent_decoded("/%"), None);
        assert_eq!(percent_decoded("/%zz"), None);
    }
}
