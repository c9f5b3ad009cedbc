//! The body of every refusal.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::admin::Plan;

/// What went wrong, for programs (`code`, frozen in `docs/reference/errors.md`), for people (`message`,
/// `hint`) and for whoever reads the server's log (`request`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}{}", hint.as_deref().map(|h| format!(" ({h})")).unwrap_or_default())]
pub struct ErrorBody {
    pub code: String,
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether the same request may work later.
    #[serde(default)]
    pub retry: bool,
    #[serde(default)]
    pub request: String,
    /// What would be done, where it only wants to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<Plan>>,
}
