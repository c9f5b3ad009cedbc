//! What people and programs can do, once: the API and the page both call this and nothing else.
//!
//! A [`Desk`] is the counter at which one [`Principal`] stands. Each of its methods asks
//! [`authorize`] first, does the work through [`Core`], and leaves an audit entry
//! when something changed. What destroys something is asked for twice: [`plan`] says how.

mod access;
mod convert;
mod doctor;
pub mod doctor_boot;
mod explain;
mod groups;
mod image_exchange;
mod images;
mod leases;
mod machines;
mod media;
mod order_plan;
pub mod plan;
mod policy;
mod refusal;
mod server;
pub mod sign_in;
mod stories;
mod task_plan;
mod tasks;
pub mod tasks_of_many;
mod wake;

use std::sync::Arc;

use farrier_db::AuditEntry;

pub(crate) use convert::selector;
#[cfg(test)]
pub(crate) use convert::settings_back;
pub use image_exchange::ImageUpload;
pub use refusal::{CODES, Code, Refusal};
pub use sign_in::{Door, SignedInSession, first_start};
pub(crate) use task_plan::matching;
pub use tasks::{STATES, describe_work};

use crate::auth::{Action, Principal, authorize};
use crate::core::{Core, now};

/// Everything one principal may ask for.
#[derive(Clone, Debug)]
pub struct Desk {
    core: Arc<Core>,
    who: Principal,
}

impl Desk {
    #[must_use]
    pub fn new(core: Arc<Core>, who: Principal) -> Self {
        Self { core, who }
    }

    #[must_use]
    pub fn who(&self) -> &Principal {
        &self.who
    }

    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The gate in front of every method.
    pub fn allow(&self, action: Action) -> Result<(), Refusal> {
        authorize(&self.who, action).map_err(|forbidden| {
            tracing::info!(who = %self.who.name, action = action.as_str(), "refused for want of rights");
            Refusal::new(Code::Forbidden, forbidden.to_string()).hint("ask an administrator to do it or to change your role")
        })
    }

    /// Whether the gate would open; the page shows only what works.
    #[must_use]
    pub fn may(&self, action: Action) -> bool {
        authorize(&self.who, action).is_ok()
    }

    /// Remembers who did what. The deed is done by then, so that a full database cannot undo it; it is said
    /// in the log instead.
    async fn audit(&self, action: Action, target: impl Into<String>) {
        let entry = AuditEntry {
            at: now(),
            who: self.who.name.clone(),
            from: self.who.from.map(|ip| ip.to_string()),
            what: action.as_str().to_owned(),
            target: target.into(),
            allowed: true,
        };
        tracing::info!(who = %entry.who, what = %entry.what, target = %entry.target, "changed by a person or program");
        if let Err(error) = self.core.db.append_audit(&entry).await {
            tracing::warn!(%error, "the audit entry could not be stored");
        }
    }
}

/// How many rows a list may have at once.
fn limit(asked: Option<u32>) -> u32 {
    asked.unwrap_or(PAGE).clamp(1, MAX_PAGE)
}

const PAGE: u32 = 50;
const MAX_PAGE: u32 = 500;
