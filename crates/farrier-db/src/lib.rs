//! The one door to the database: everything Farrier must still know after a power cut.
//!
//! Reading order: [`Db`] is the door, with one file of methods per kind of thing (`machine`, `lease`,
//! `task`, `timeline`, `site`, `policy_book`, `boot_token`, `agent`, `access`, `audit`); `open` has what is
//! checked before a file is believed; `writer` is the group commit, `lease_queue` what gathers before it;
//! `backup` copies and brings back.
//!
//! Promises every engine behind the door keeps (the contract suite in `tests/` holds them to it):
//! - A method that writes returns after its write is on stable storage, never before.
//! - A write is whole or absent. One caller's failing write never fails another's.
//! - Values come back equal to what was stored, whatever text they hold.
//! - What two people change at once is refused to the second ([`DbError::Conflict`]).
//! - Every error says what to do and whether a repetition can help ([`DbError::retry_helps`]).
//!
//! No type of a database library and no SQL is visible outside.
#![forbid(unsafe_code)]

mod access;
mod agent;
mod agent_start;
mod audit;
mod backup;
mod boot_token;
mod column;
mod db;
mod document;
mod error;
mod lease;
mod lease_queue;
mod machine;
mod open;
mod policy_book;
mod site;
mod task;
mod timeline;
mod writer;

pub use access::{ApiToken, Secret, TokenHash, User, WebSession};
pub use agent::{AgentSession, KeyFingerprint};
pub use audit::AuditEntry;
pub use backup::{BackupError, RestoreError, Restored, backup_file, restore};
pub use boot_token::{BootToken, Redeemed};
pub use db::{Db, Options, Stored};
pub use error::{DbError, Fault};
pub use machine::{MachineQuery, StoredMachine};
pub use open::OpenError;
pub use policy_book::StoredBook;
pub use site::{Identity, SiteSettings};
pub use task::TaskQuery;
