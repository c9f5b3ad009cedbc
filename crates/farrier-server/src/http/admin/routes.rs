//! Everything that can be asked for on this plane, and who may.

mod of_api;
mod of_page;

use axum::http::Method;
use axum::routing::MethodRouter;

use super::Shared;
use crate::auth::Action;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody. Each of these is in the reviewed list of `tests/`.
    Public,
    /// Whoever is recognised.
    SignedIn,
    /// Whoever may do this. The service asks again by itself; tests hold the two together.
    Needs(Action),
}

/// One method on one path.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub(super) handler: MethodRouter<Shared>,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Route> {
    let mut routes = of_api::routes();
    routes.extend(of_page::routes());
    routes
}

fn route(method: &str, path: &'static str, access: Access, handler: MethodRouter<Shared>) -> Route {
    let method = match method {
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        _ => Method::GET,
    };
    Route {
        method,
        path,
        access,
        handler,
    }
}
