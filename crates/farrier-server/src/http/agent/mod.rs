//! The agent plane: enrol, report, fetch work, move chunks. `farrier_api::agent` has the table of routes.
//!
//! Everything but `enrol` wants a client certificate of ours whose key has a live session. What a session
//! may touch is what its machine's running task names, and nothing else.

mod enrol;
mod holdings;
mod outcome;
mod report;
mod sessions;
mod store;
mod work;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};

use crate::core::Core;

pub use enrol::{code, token_hash};
pub use holdings::Holdings;
pub use sessions::{Session, Sessions};

/// What the handlers of this plane share.
#[derive(Debug)]
pub struct Plane {
    pub core: Arc<Core>,
    pub sessions: Sessions,
    /// What running tasks hold open in the store.
    pub holdings: Holdings,
}

/// The routes of the agent listener.
pub fn router(core: Arc<Core>) -> Router {
    let plane = Arc::new(Plane {
        sessions: Sessions::new(core.db.clone()),
        holdings: Holdings::default(),
        core,
    });
    Router::new()
        .route(
            "/agent/v1/enrol",
            // The only one that asks for no certificate.
            post(enrol::enrol).layer(DefaultBodyLimit::max(MAX_ENROLMENT)),
        )
        .route("/agent/v1/inventory", post(report::inventory))
        .route("/agent/v1/log", post(report::log))
        .route("/agent/v1/work", get(work::work))
        .route("/agent/v1/tasks/{id}/progress", post(outcome::progress))
        .route("/agent/v1/tasks/{id}/result", post(outcome::result))
        .layer(DefaultBodyLimit::max(MAX_REPORT))
        .merge(store::routes())
        .with_state(plane)
}

/// Inventories of machines with hundreds of disks are some hundred kilobytes.
const MAX_REPORT: usize = 1 << 20;
/// A token and a certificate request.
const MAX_ENROLMENT: usize = 128 << 10;
