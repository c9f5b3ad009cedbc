//! Recognising who sends a request: a bearer token for programs, a cookie for the page.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};

use crate::auth::{Principal, Via, token};
use crate::http::serve::Peer;
use crate::service::{Code, Desk, Door, Refusal, SignedInSession};

/// `__Host-` makes browsers refuse the cookie unless it is secure and for this host alone.
const COOKIE: &str = "__Host-farrier";

/// The header in which a script of the page repeats the secret of its session.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// Where the request came from, if the listener said so.
#[derive(Clone, Copy, Debug)]
pub struct From(pub Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(peer(parts)))
    }
}

fn peer(parts: &Parts) -> Option<IpAddr> {
    parts
        .extensions
        .get::<Peer>()
        .map(|peer| peer.addr.ip().to_canonical())
}

/// Who sends this request, if we know them. An `Authorization` header that is wrong is a refusal and never
/// falls back to the cookie.
pub async fn recognise(door: &Door, parts: &Parts) -> Result<Option<Principal>, Refusal> {
    let from = peer(parts);
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let shown = value
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Bearer "))
            .map(str::trim);
        return match shown {
            Some(shown) if shown.len() <= MAX_TOKEN => Ok(door.recognise(shown, from).await?),
            _ => Ok(None),
        };
    }
    let Some(shown) = cookie(&parts.headers) else {
        return Ok(None);
    };
    let who = door.recognise(shown, from).await?;
    // A cookie is for sessions only: whatever else is in it was not put there by us.
    Ok(who.filter(|who| matches!(who.via, Via::Session { .. })))
}

/// The principal that the gate in front of every route put into the request.
impl<S: Sync> FromRequestParts<S> for Desk {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(not_signed_in)
    }
}

#[must_use]
pub fn not_signed_in() -> Refusal {
    Refusal::new(Code::NotSignedIn, "you are not signed in, or no longer")
        .hint("sign in with `farrier login`, or set FARRIER_TOKEN to a token that is good")
}

/// Whether `shown` is the secret of the session. Requests with a bearer token need none: no browser sends
/// that by itself.
pub fn check_csrf(who: &Principal, shown: Option<&str>, by_cookie: bool) -> Result<(), Refusal> {
    let Via::Session { csrf, .. } = &who.via else {
        return Ok(());
    };
    if !by_cookie || shown.is_some_and(|shown| token::same(shown, &csrf.0)) {
        return Ok(());
    }
    Err(Refusal::new(Code::Csrf, "this form is not of your session")
        .hint("reload the page and try again"))
}

/// Whether the request is authenticated by what a browser sends by itself.
#[must_use]
pub fn is_by_cookie(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::AUTHORIZATION)
}

/// The cookie that keeps a browser signed in. It ends with the session at the latest.
#[must_use]
pub fn set_cookie(session: &SignedInSession) -> HeaderValue {
    value(&format!(
        "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict",
        session.token.0
    ))
}

#[must_use]
pub fn clear_cookie() -> HeaderValue {
    value(&format!(
        "{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"
    ))
}

fn value(text: &str) -> HeaderValue {
    // Tokens are base64 without padding.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'));
    let named = pairs.filter_map(|pair| pair.trim().split_once('='));
    named
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
        .find(|value| value.len() <= MAX_TOKEN)
}

const MAX_TOKEN: usize = 256;
