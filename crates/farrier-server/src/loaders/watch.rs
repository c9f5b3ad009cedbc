//! Noticing that somebody else wrote into the folders: `farrier loader import` and `farrier agent build`
//! work on files, whether the server runs or not, and so does `farrier media`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use crate::core::{Core, now};

/// Looks at the folders until `stop` changes, and lets everybody use what is new in them.
pub async fn watch(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut read = Seen::default();
    loop {
        let seen = Seen::at(&core.loaders.folder, &core.loaders.agent_folder);
        if read != Seen::default() && seen != read {
            let reading = Arc::clone(&core);
            let done = tokio::task::spawn_blocking(move || reading.loaders.reload()).await;
            match done {
                Ok(Ok(())) => {
                    tracing::info!(
                        "the loaders or the agent have changed; the new ones are served"
                    );
                    core.refresh();
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "changed loaders cannot be read; those from before are served");
                }
                Err(error) => tracing::error!(%error, "reading the loaders"),
            }
        }
        read = seen;
        let looking = Arc::clone(&core);
        let look = move || {
            let changed = looking.media.reload();
            looking.media.let_go(now());
            changed
        };
        if let Ok(true) = tokio::task::spawn_blocking(look).await {
            tracing::info!("the media have changed");
            core.refresh();
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => return,
        }
    }
}

/// When the folders were last written into. Every import and build ends by renaming a file into place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    loaders: Option<SystemTime>,
    agent: Option<SystemTime>,
}

impl Seen {
    fn at(loaders: &Path, agent: &Path) -> Self {
        let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        Self {
            loaders: changed(loaders),
            agent: changed(&agent.join("agent-image.json")),
        }
    }
}

/// An import ends seconds before anybody boots by it.
const EVERY: Duration = Duration::from_secs(2);
