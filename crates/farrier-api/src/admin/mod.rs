//! The interface for people and programs, `/api/v1`, spoken by the command line and by scripts.
//!
//! Every request but those under [`paths::PUBLIC`] carries `Authorization: Bearer TOKEN`, with an API token
//! (`farrier_...`), a session from [`SignIn`], or the token file of the server's own host. Refusals are
//! [`ErrorBody`](crate::error::ErrorBody)s with the codes of `docs/reference/errors.md`.
//!
//! What destroys something takes two requests: one returns a [`Plan`], whose `confirm` the second must
//! repeat. If the world changed in between, the plan no longer matches and nothing is done.

mod access;
mod image;
mod machine;
mod media;
mod policy;
mod server;
mod task;

pub use access::*;
pub use image::*;
pub use machine::*;
pub use media::*;
pub use policy::*;
pub use server::*;
pub use task::*;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Milliseconds since 1970-01-01 UTC.
pub type Millis = i64;

/// Where things are.
pub mod paths {
    /// What all paths of this interface start with.
    pub const BASE: &str = "/api/v1";
    /// What can be asked without a credential.
    pub const PUBLIC: [&str; 3] = ["/api/v1/health", "/api/v1/sessions", "/api/v1/setup"];
}

/// One page of a list that was too long to send at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: u64,
    /// Give this as `after` to get the next page; none at the end.
    pub next: Option<String>,
}

/// What would be done, before it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// One sentence for a person to say yes to.
    pub summary: String,
    /// What happens, one line each.
    pub steps: Vec<String>,
    /// What that person should know first.
    pub warnings: Vec<String>,
    /// Machines that are left out, of a plan for many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Whether it overwrites or deletes something that cannot be brought back.
    pub destructive: bool,
    /// Repeat this in the request that executes the plan.
    pub confirm: String,
}

/// The second request of a destructive deed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// From the [`Plan`].
    pub confirm: String,
}

/// The same behind the question mark, for a change that wants to be confirmed only where it starts deployments.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, utoipa::IntoParams,
)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ConfirmQuery {
    /// From the [`Plan`] of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}
