//! What every part of the server shares.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use farrier_db::{Db, DbError};
use farrier_engine::WallTime;
use farrier_engine::model::MachineId;
use farrier_engine::policy::Settings;
use farrier_engine::timeline::{Entry, Kind};
use farrier_image::store::Store;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::ca::Ca;
use crate::config::Config;
use crate::fleet::{Change, Fleet};
use crate::leases::Leases;
use crate::loaders::Loaders;
use crate::timeline::Recorder;

/// The running server, without its listeners.
#[derive(Debug)]
pub struct Core {
    pub config: Config,
    pub db: Db,
    pub store: Store,
    pub ca: Ca,
    pub fleet: Fleet,
    pub leases: Leases,
    pub loaders: Loaders,
    /// The site's settings as they are now. Change them with [`Core::set_site`].
    pub site: ArcSwap<Settings>,
    pub timeline: Recorder,
    pub changes: broadcast::Sender<Change>,
    pub started: WallTime,
}

impl Core {
    /// Stores new site settings and lets everybody use them.
    pub async fn set_site(&self, settings: Settings) -> Result<(), DbError> {
        let current = self.db.site_settings().await?;
        self.db.set_site_settings(&settings, current.revision).await?;
        self.site.store(Arc::new(settings));
        self.tell(Change::Site);
        Ok(())
    }

    /// Puts a sentence on a machine's timeline.
    pub fn note(&self, machine: MachineId, kind: Kind, text: impl Into<String>) {
        self.note_entry(Entry { machine, at: now(), kind, text: text.into(), details: Vec::new() });
    }

    /// Puts an entry on a machine's timeline.
    pub fn note_entry(&self, entry: Entry) {
        let machine = entry.machine;
        self.timeline.note(entry);
        self.tell(Change::Timeline(machine));
    }

    /// Nobody may be listening; that is no fault.
    pub fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }
}

/// The clock of this machine, the only place in the server where it is read for the domain.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    WallTime::default() + since_epoch
}

/// A new id, sortable by time.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// Changes waiting for a slow listener; one that falls behind asks for everything again.
pub const CHANGES: usize = 1024;
