//! The server itself: state, check-up, loaders, leases, news.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Millis, StoreStatus, TimelineEntry};

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStatus {
    pub version: String,
    pub time: Millis,
    pub started: Millis,
    pub machines: MachineCounts,
    pub tasks: TaskCounts,
    pub store: StoreStatus,
    /// Whose signature on an image counts here, as `ed25519:` and hex digits.
    pub image_keys: Vec<String>,
    /// What a person should look at, the newest first.
    pub warnings: Vec<TimelineEntry>,
    /// What became of requests since the start: replies, and refusals by reason, those that happened.
    #[serde(default)]
    pub boot: BTreeMap<String, u64>,
    /// Hardware addresses that are no machine yet, the newest first, with the last thing each did.
    #[serde(default)]
    pub strangers: Vec<Stranger>,
}

/// A hardware address that is no machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stranger {
    pub mac: String,
    pub at: Millis,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineCounts {
    pub total: u64,
    pub approved: u64,
    pub pending: u64,
    pub seen: u64,
    pub disabled: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskCounts {
    pub queued: u64,
    pub running: u64,
    pub lost: u64,
    pub failed: u64,
}

/// One check of `farrier doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    pub name: String,
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    Warning,
    Bad,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Doctor {
    pub checks: Vec<Check>,
    /// Where the boot plane is to be reached, for whoever can ask it from outside.
    #[serde(default)]
    pub served: Vec<Served>,
}

/// An address of the boot plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Served {
    pub interface: String,
    /// IPv4.
    pub address: String,
    /// None where another server of the host has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_port: Option<u16>,
    pub tftp_port: u16,
    pub http_port: u16,
    /// None where it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<ServedHttps>,
    pub boot_server_port: u16,
    /// Where agents work; none from a server that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_port: Option<u16>,
}

/// HTTPS of the boot plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServedHttps {
    pub port: u16,
    /// In URLs, in place of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// SHA-256 of the server's certificate, in hexadecimal digits.
    pub certificate: String,
}

/// A boot program in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Loader {
    pub id: String,
    pub kind: String,
    pub firmware: String,
    pub arch: String,
    pub version: String,
    /// Whose signature Secure Boot will see, if any.
    pub signer: Option<String>,
    pub size: u64,
    pub sha256: String,
    pub source: String,
}

/// An address lent to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    pub ip: String,
    pub mac: String,
    pub hostname: Option<String>,
    /// `active`, `declined` or `free`.
    pub state: String,
    pub starts: Millis,
    pub ends: Millis,
    /// The machine with that address, if we know one.
    pub machine: Option<Uuid>,
}

/// Which leases to list. Without a field, all.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, utoipa::IntoParams,
)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct LeaseQuery {
    /// A network such as `10.0.0.0/24`, or one address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// `active`, `declined` or `free`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// A piece of news on `/api/v1/events`: what changed, never what it says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// `machine`, `task`, `image`, `lease`, `site`, `timeline`, or `lagged` when some were missed.
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}
