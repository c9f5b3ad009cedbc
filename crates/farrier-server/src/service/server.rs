//! The server itself: state, leases, loaders, check-up.

use std::collections::BTreeMap;

use farrier_api::admin::{
    Loader, MachineCounts, ServerStatus, Stranger, TaskCounts, TimelineEntry,
};
use farrier_engine::catalogue::LoaderKind;
use farrier_engine::model::Registration;
use farrier_engine::task::State;
use farrier_engine::timeline::Kind;

use super::{Desk, Refusal, convert};
use crate::auth::Action;
use crate::core::now;

impl Desk {
    pub async fn status(&self) -> Result<ServerStatus, Refusal> {
        self.allow(Action::Look)?;
        Ok(ServerStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: now().0,
            started: self.core.started.0,
            machines: self.machine_counts().await?,
            tasks: self.task_counts().await?,
            store: self.store_status(),
            image_keys: self
                .core
                .store
                .trusted()
                .iter()
                .map(ToString::to_string)
                .collect(),
            warnings: self.warnings().await?,
            boot: self.boot_counts(),
            strangers: self.strangers(),
        })
    }

    fn boot_counts(&self) -> BTreeMap<String, u64> {
        let values = self.core.counters.values().into_iter();
        values
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| (name.to_owned(), count))
            .collect()
    }

    fn strangers(&self) -> Vec<Stranger> {
        let strangers = self.core.sightings.strangers().into_iter();
        strangers
            .take(MAX_STRANGERS)
            .map(|(mac, entry)| Stranger {
                mac: mac.to_string(),
                at: entry.at.0,
                text: entry.text.into_owned(),
            })
            .collect()
    }

    pub fn loaders(&self) -> Result<Vec<Loader>, Refusal> {
        self.allow(Action::Look)?;
        let catalogue = self.core.loaders.catalogue();
        Ok(catalogue
            .iter()
            .map(|loader| Loader {
                id: loader.id.clone(),
                kind: loader_kind(loader.kind).to_owned(),
                firmware: convert::firmware_name(loader.firmware).to_owned(),
                arch: convert::arch_name(loader.arch).to_owned(),
                version: loader.version.clone(),
                signer: loader.signer.clone(),
                size: loader.size,
                sha256: loader.sha256.clone(),
                source: loader.source_package.clone(),
            })
            .collect())
    }

    async fn machine_counts(&self) -> Result<MachineCounts, Refusal> {
        let count = async |registration| {
            let query = farrier_db::MachineQuery {
                search: None,
                registration,
            };
            self.core.db.count_machines(&query).await
        };
        Ok(MachineCounts {
            total: count(None).await?,
            approved: count(Some(Registration::Approved)).await?,
            pending: count(Some(Registration::Pending)).await?,
            seen: count(Some(Registration::Seen)).await?,
            disabled: count(Some(Registration::Disabled)).await?,
        })
    }

    async fn task_counts(&self) -> Result<TaskCounts, Refusal> {
        let unfinished = self.core.fleet.unfinished();
        let count = |state| unfinished.iter().filter(|t| t.state == state).count() as u64;
        let query = farrier_db::TaskQuery {
            state: Some(State::Failed),
            ..farrier_db::TaskQuery::default()
        };
        let failed = self.core.db.tasks(&query, None, MAX_FAILED).await?;
        let recent = failed
            .iter()
            .filter(|t| t.ended.is_some_and(|at| now().since(at) < RECENT));
        Ok(TaskCounts {
            queued: count(State::Queued),
            running: count(State::Running),
            lost: count(State::Lost),
            failed: recent.count() as u64,
        })
    }

    /// Warnings of the last day, the newest first.
    pub(super) async fn warnings(&self) -> Result<Vec<TimelineEntry>, Refusal> {
        let rows = self.core.db.latest_timeline(None, LOOK_BACK).await?;
        let at = now();
        let recent = rows
            .iter()
            .filter(|row| row.value.kind == Kind::Warning && at.since(row.value.at) < RECENT);
        Ok(recent
            .take(MAX_WARNINGS)
            .map(|row| convert::timeline_entry(&row.value))
            .collect())
    }
}

fn loader_kind(kind: LoaderKind) -> &'static str {
    match kind {
        LoaderKind::Grub => "GRUB",
        LoaderKind::Ipxe { .. } => "iPXE",
        LoaderKind::LocalBoot => "local boot",
        LoaderKind::Memdisk => "MEMDISK",
        LoaderKind::MemoryTest => "memory test",
        LoaderKind::Part => "part",
        LoaderKind::Pxelinux => "PXELINUX",
        LoaderKind::Shim => "shim",
    }
}

const RECENT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
const LOOK_BACK: u32 = 500;
const MAX_WARNINGS: usize = 8;
const MAX_FAILED: u32 = 200;

const MAX_STRANGERS: usize = 50;
