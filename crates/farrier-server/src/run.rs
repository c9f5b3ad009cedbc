//! Starting and stopping: everything is opened before anything is served.

mod listeners;

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use arc_swap::ArcSwap;
use farrier_db::Db;
use farrier_image::store::{Store, StoreKeys, StoreOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Semaphore, broadcast, watch};

use crate::admission::Admission;
use crate::bind::{self};
use crate::ca::Ca;
use crate::choices::Choices;
use crate::classes::ClassBook;
use crate::config::{Config, Faults};
use crate::core::{CHANGES, Core, now, snapshot};
use crate::counters::Counters;
use crate::disk_starts::DiskStarts;
use crate::exchanges::Exchanges;
use crate::fleet::Fleet;
use crate::leases::Leases;
use crate::loaders::Loaders;
use crate::media::shelf::Shelf;
use crate::menu_codes::MenuCodes;
use crate::named_scripts::NamedScripts;
use crate::packet_log::PacketLog;
use crate::relays::Relays;
use crate::rounds::Rounds;
use crate::rules::Rules;
use crate::service::first_start;
use crate::sightings::Sightings;
use crate::silences::Silences;
use crate::standing_orders::StandingOrders;
use crate::strategies::Strategies;
use crate::timeline::Recorder;
use crate::transfer::MtftpGroups;
use crate::whereabouts::Whereabouts;

/// Runs the server until it is told to stop (SIGINT or SIGTERM).
pub async fn run(config: Config) -> anyhow::Result<()> {
    install_crypto();
    raise_file_limit();
    let bound = bind::bind(&config).await.map_err(|faults| Faults {
        file: "the configuration".into(),
        faults,
    })?;
    let (core, storing) = open(config).await?;
    let (stop, stopped) = watch::channel(false);
    let mut listeners = listeners::start(&core, bound, &stopped)?;
    announce(&core).await?;
    tracing::info!(admin = %core.config.admin, machines = core.fleet.machine_count(), "serving");
    wait_for_signal().await?;
    tracing::info!("stopping");
    let _ = stop.send(true);
    while listeners.join_next().await.is_some() {}
    close(core, storing).await;
    Ok(())
}

/// One provider for all TLS in the process.
pub fn install_crypto() {
    // An error means that it is installed already, by a test in the same process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Each connection and each TFTP transfer has a socket. The usual limit of 1024 is low for the sake of
/// programs that still use select(2).
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays low: many machines booting at once will be slow");
    }
}

/// Opens everything in the data folder.
pub async fn open(config: Config) -> anyhow::Result<(Arc<Core>, tokio::task::JoinHandle<()>)> {
    std::fs::create_dir_all(&config.data_dir).with_context(|| {
        format!(
            "the data folder {} cannot be made",
            config.data_dir.display()
        )
    })?;
    let ca = Ca::open(&config.keys())?;
    let db = Db::open(&config.database(), farrier_db::Options::default()).await?;
    let signing = farrier_image::key::SigningKey::from_pkcs8(&ca.image_key().to_pkcs8()?)?;
    let keys = StoreKeys {
        trusted: vec![ca.image_verifying_key()],
        signing: Some(signing),
    };
    let store = Store::open_local(&config.image_store(), keys, StoreOptions::default()).await?;
    let loaders = Loaders::open(config.loaders(), config.agent_files())
        .context("the loaders cannot be read")?;
    let media = Shelf::open(config.media());
    let (changes, _) = broadcast::channel(CHANGES);
    let fleet = Fleet::load(db.clone(), changes.clone()).await?;
    let leases = Leases::load(db.clone(), config.subnets.clone(), changes.clone(), now()).await?;
    let site = db.site_settings().await?.settings;
    let book = db.policy_book().await?.book;
    let (timeline, storing) = Recorder::start(db.clone(), changes.clone());
    let mtftp = config.tftp.mtftp.as_ref().map(|on| on.groups.clone());
    let core = Core {
        snapshot: ArcSwap::from_pointee(snapshot(
            &site,
            &book,
            &loaders,
            &media,
            config.boot_tls.is_some(),
        )),
        media,
        rules: ArcSwap::from_pointee(Rules::of(&book.rules)),
        book: ArcSwap::from_pointee(book),
        classes: ClassBook::of(&config.classes),
        rounds: Rounds::load(&db, now()).await?,
        menu_codes: MenuCodes::default(),
        orders: tokio::sync::Mutex::default(),
        named_scripts: NamedScripts::default(),
        site: ArcSwap::from_pointee(site),
        sightings: Sightings::default(),
        whereabouts: Whereabouts::default(),
        standing_orders: StandingOrders::default(),
        exchanges: Exchanges::default(),
        late_answers: Semaphore::new(LATE_ANSWERS),
        admission: Admission::default(),
        silences: Silences::default(),
        strategies: Strategies::default(),
        choices: Choices::default(),
        disk_starts: DiskStarts::default(),
        relays: Relays::default(),
        mtftp: mtftp.map(MtftpGroups::new),
        packets: PacketLog::default(),
        counters: Counters::default(),
        config,
        db,
        store,
        ca,
        boot_tls: OnceLock::new(),
        fleet,
        leases,
        loaders,
        timeline,
        changes,
        started: now(),
    };
    Ok((Arc::new(core), storing))
}

/// Tells how to get in when nobody can yet.
async fn announce(core: &Core) -> anyhow::Result<()> {
    let token = first_start(core)
        .await
        .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    if let Some(token) = token {
        let admin = core.config.admin;
        tracing::warn!(
            "there is no administrator yet: open https://{admin}/setup and use this token once: {token}"
        );
    }
    Ok(())
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        done = tokio::signal::ctrl_c() => done?,
    }
    Ok(())
}

/// Stores what is still queued, then closes the database.
async fn close(core: Arc<Core>, storing: tokio::task::JoinHandle<()>) {
    let db = core.db.clone();
    let others = Arc::strong_count(&core) - 1;
    drop(core);
    if others == 0 {
        let _ = storing.await;
        db.close().await;
    } else {
        tracing::debug!(
            others,
            "requests are still open; the database is closed by the end of the process"
        );
        storing.abort();
    }
}

/// A classroom of such devices; the next ones are answered at once, as everybody else.
const LATE_ANSWERS: usize = 64;
