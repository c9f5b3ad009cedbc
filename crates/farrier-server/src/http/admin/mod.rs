//! The plane of people and programs: the API under `/api/v1` and the page.
//!
//! [`routes`] is the list of everything that can be asked for, each with who may; the router is made from
//! it and from nothing else, so that what tests enumerate is what is served. The gate here is in front of
//! all of it: recognise, refuse, mark the answer.

mod api;
mod events;
mod forms;
mod openapi;
mod order_pages;
mod pages;
mod policy_pages;
pub mod routes;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use tracing::Instrument as _;

use crate::auth::{Principal, local};
use crate::core::{Core, new_id};
use crate::http::session::{self, CSRF_HEADER, not_signed_in};
use crate::service::{Code, Desk, Door, Refusal, first_start};
use crate::ui::{Frame, RefusedPage, text::shown};
use routes::{Access, Route};

/// What handlers share.
pub type Shared = Arc<Door>;

/// The whole plane. Makes the token file for the server's own host; without it (a read-only data folder)
/// the other ways in still work.
pub fn router(core: Arc<Core>) -> Router {
    let local = match local::create(&core.config.data_dir) {
        Ok(hash) => Some(hash),
        Err(error) => {
            tracing::warn!(error = %error, "commands on this host will need a sign-in");
            None
        }
    };
    build(Arc::new(Door::new(core, local)))
}

/// Tells whoever starts the server for the first time how to become its administrator. The token goes to
/// the console and not into the log.
pub async fn announce(core: &Core) -> Result<(), Refusal> {
    let Some(token) = first_start(core).await? else {
        return Ok(());
    };
    let address = core.config.admin;
    let text = format!(
        "\nNobody can sign in yet. Open https://{address}/setup and make the first administrator with this token,\n\
         which is good once and for a day:\n\n    {token}\n\n"
    );
    if std::io::stderr().write_all(text.as_bytes()).is_err() {
        tracing::warn!("the setup token could not be shown: start the server on a console");
    }
    Ok(())
}

/// The plane behind a door.
pub fn build(door: Shared) -> Router {
    let mut router = Router::new();
    for Route {
        path,
        access,
        handler,
        ..
    } in routes::all()
    {
        let gate = Gate {
            door: Arc::clone(&door),
            access,
        };
        router = router.route(path, handler.route_layer(from_fn_with_state(gate, pass)));
    }
    router
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(&door), finish))
        .with_state(door)
}

#[derive(Clone)]
struct Gate {
    door: Shared,
    access: Access,
}

/// In front of each route: who is it, and is this route for them. What they may do there, the service says.
async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let page = !parts.uri.path().starts_with("/api/");
    let who = match session::recognise(&gate.door, &parts).await {
        Ok(who) => who,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(who) = who else {
        return match gate.access {
            Access::Public => next.run(Request::from_parts(parts, body)).await,
            _ if page && parts.method == Method::GET => to_login(parts.uri.path()),
            _ => not_signed_in().into_response(),
        };
    };
    // Forms bring the secret in their body, where the handler looks; scripts bring it in a header.
    let changes = !matches!(parts.method, Method::GET | Method::HEAD);
    if changes && !page && gate.access != Access::Public {
        let shown = parts.headers.get(CSRF_HEADER).and_then(|v| v.to_str().ok());
        if let Err(refusal) =
            session::check_csrf(&who, shown, session::is_by_cookie(&parts.headers))
        {
            return refusal.into_response();
        }
    }
    parts
        .extensions
        .insert(Desk::new(Arc::clone(gate.door.core()), who.clone()));
    let mut response = next.run(Request::from_parts(parts, body)).await;
    response.extensions_mut().insert(who);
    response
}

fn to_login(path: &str) -> Response {
    let next = if path == "/" {
        String::new()
    } else {
        format!("?next={path}")
    };
    Redirect::to(&format!("/login{next}")).into_response()
}

async fn nothing_here() -> Refusal {
    Refusal::new(Code::NotFound, "there is nothing here")
        .hint("the API is described at /api/v1/openapi.json")
}

/// Around everything: the request's id, headers, and refusals in the form that the asker reads.
async fn finish(State(_door): State<Shared>, request: Request, next: Next) -> Response {
    let id = new_id().simple().to_string();
    let id = id[id.len() - 12..].to_owned();
    let page = !request.uri().path().starts_with("/api/");
    let span = tracing::info_span!("admin", request = %id, method = %request.method(), path = %request.uri().path());
    let mut response = next.run(request).instrument(span).await;
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        if refusal.code == Code::Internal {
            tracing::warn!(request = %id, error = %refusal.message, "a request failed on our side");
        }
        let who = response.extensions().get::<Principal>().cloned();
        response = said(&refusal, &id, page, who.as_ref());
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("x-request-id"), value);
    }
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn said(refusal: &Refusal, id: &str, page: bool, who: Option<&Principal>) -> Response {
    if !page {
        return (
            refusal.code.status(),
            axum::Json(refusal.body(id.to_owned())),
        )
            .into_response();
    }
    let page = RefusedPage {
        frame: Frame::new("That did not work", "", who),
        message: shown(&refusal.message),
        hint: shown(refusal.hint.as_deref().unwrap_or("")),
        request: id.to_owned(),
    };
    html(refusal.code.status(), &page)
}

/// A rendered template.
fn html(status: StatusCode, page: &impl askama::Template) -> Response {
    match page.render() {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (status, kind, Body::from(text)).into_response()
        }
        Err(error) => Refusal::new(
            Code::Internal,
            format!("a page cannot be rendered: {error}"),
        )
        .into_response(),
    }
}

/// On every answer. Nothing of ours is inline and nothing comes from elsewhere.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("strict-transport-security", "max-age=31536000"),
];

/// A batch of chunks is the largest that is sent here.
const MAX_BODY: usize = 32 << 20;
/// How often a silent stream of events says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
