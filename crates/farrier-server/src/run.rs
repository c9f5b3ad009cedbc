//! Starting and stopping: everything is opened before anything is served.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use farrier_db::Db;
use farrier_image::store::{Store, StoreKeys, StoreOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinSet;

use crate::admission::Admission;
use crate::announce6;
use crate::bind::{self, BOOT_SERVER_PORT, Bound, DHCP_PORT, Link};
use crate::boot::BootPort;
use crate::boot_tree::BootTree;
use crate::boot6::{Boot6Port, Declined};
use crate::ca::{self, BootTls, Ca};
use crate::choices::Choices;
use crate::classes::ClassBook;
use crate::config::{BootCertificate, Config, Faults};
use crate::core::{CHANGES, Core, now, snapshot};
use crate::counters::Counters;
use crate::exchanges::Exchanges;
use crate::fleet::Fleet;
use crate::http::boot::BootHttp;
use crate::http::serve::{Limits, serve, serve_watched};
use crate::http::{admin, agent, boot as boot_http};
use crate::leases::Leases;
use crate::loaders::{self, Loaders};
use crate::media::shelf::Shelf;
use crate::menu_codes::MenuCodes;
use crate::packet_log::PacketLog;
use crate::plane_thread::{self, Moved};
use crate::rarp::RarpPort;
use crate::relays::Relays;
use crate::rounds::Rounds;
use crate::rules::Rules;
use crate::service::first_start;
use crate::sightings::Sightings;
use crate::silences::Silences;
use crate::strategies::Strategies;
use crate::tasks;
use crate::timeline::Recorder;
use crate::transfer::{MtftpGroups, MtftpServer, StreamGroups, Streams, TftpServer, Transfers};
use crate::vacancy::Vacancy;
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
    let mut listeners = start(&core, bound, &stopped)?;
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
        site: ArcSwap::from_pointee(site),
        sightings: Sightings::default(),
        whereabouts: Whereabouts::default(),
        exchanges: Exchanges::default(),
        late_answers: Semaphore::new(LATE_ANSWERS),
        admission: Admission::default(),
        silences: Silences::default(),
        strategies: Strategies::default(),
        choices: Choices::default(),
        relays: Relays::default(),
        mtftp: mtftp.map(MtftpGroups::new),
        packets: PacketLog::default(),
        counters: Counters::default(),
        config,
        db,
        store,
        ca,
        fleet,
        leases,
        loaders,
        timeline,
        changes,
        started: now(),
    };
    Ok((Arc::new(core), storing))
}

/// Starts every listener.
fn start(
    core: &Arc<Core>,
    bound: Bound,
    stop: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let networks = bound.links.iter().flat_map(|link| {
        link.interface
            .addresses
            .iter()
            .map(|(address, prefix)| (farrier_net::interface::network(*address, *prefix), *prefix))
    });
    let tree = Arc::new(BootTree::new(Arc::clone(core), networks.collect()));
    let transfers = Arc::new(Transfers::default());
    let groups = Arc::new(core.config.tftp.multicast.as_ref().map(StreamGroups::new));
    let addresses = bind::addresses(&bound.links);
    let boot_tls = match bound.boot_tls {
        None => own_boot_tls(core, &addresses)?,
        brought => brought,
    };
    let agent_tls = core.ca.agent_tls(&ca::names(addresses, &[]))?;
    for link in bound.links {
        let Link {
            interface,
            address,
            mode,
            dhcp,
            boot_server,
            tftp,
            mtftp,
            http,
            https,
            agent,
            sender,
            rarp,
            six,
        } = link;
        let sender = Arc::new(sender);
        let vacancy = Vacancy::new(interface.index, interface.mac, Arc::clone(&sender));
        let vacancy = Arc::new(vacancy);
        let ports = dhcp
            .map(|socket| (socket, DHCP_PORT))
            .into_iter()
            .chain([(boot_server, BOOT_SERVER_PORT)]);
        let mut dhcp_ports = Vec::new();
        for (socket, port) in ports {
            let (core, sender) = (Arc::clone(core), Arc::clone(&sender));
            let vacancy = Arc::clone(&vacancy);
            let socket = Moved::out(socket)?;
            dhcp_ports.push(move || {
                Ok::<_, std::io::Error>(BootPort {
                    core,
                    socket: socket.arrive()?,
                    port,
                    mode,
                    address,
                    sender,
                    vacancy,
                })
            });
        }
        let until = stop.clone();
        plane_thread::start(&mut tasks, || async move {
            let mut running = JoinSet::new();
            for port in dhcp_ports {
                match port() {
                    Ok(port) => drop(running.spawn(port.run(until.clone()))),
                    Err(error) => tracing::error!(%error, "a DHCP socket was lost"),
                }
            }
            while running.join_next().await.is_some() {}
        })?;
        let shared = Shared {
            core: Arc::clone(core),
            tree: Arc::clone(&tree),
            transfers: Arc::clone(&transfers),
            groups: Arc::clone(&groups),
            agent_tls: Arc::clone(&agent_tls),
            boot_tls: boot_tls.clone(),
        };
        let mac = interface.mac;
        if let (Some(sockets), Some(mac)) = (rarp, mac) {
            let port = RarpPort {
                core: Arc::clone(core),
                sockets,
                sender: Arc::clone(&sender),
                mac,
                address,
            };
            tasks.spawn(port.run(stop.clone()));
        }
        let files = Files {
            interface: interface.name.clone(),
            address: IpAddr::V4(address),
            tftp,
            mtftp,
            http,
            https,
            agent,
        };
        shared.serve_files(files, &mut tasks, stop)?;
        let Some(six) = six else { continue };
        if let Some(socket) = six.dhcp {
            let port = Boot6Port {
                core: Arc::clone(core),
                socket,
                mode,
                address: six.address,
                declined: Declined::default(),
            };
            tasks.spawn(port.run(stop.clone()));
        }
        if let Some(router) = six.router {
            tasks.spawn(announce6::run(router, six.subnet, mac, stop.clone()));
        }
        let files = Files {
            interface: interface.name,
            address: IpAddr::V6(six.address),
            tftp: six.tftp,
            mtftp: None,
            http: six.http,
            https: six.https,
            agent: six.agent,
        };
        shared.serve_files(files, &mut tasks, stop)?;
    }
    let names = ca::names(
        [core.config.admin.ip(), IpAddr::from([127, 0, 0, 1])],
        &admin_names(&core.config),
    );
    let admin_tls = core.ca.admin_tls(&names)?;
    tasks.spawn(serve(
        bound.admin,
        Some(admin_tls),
        admin::router(Arc::clone(core)),
        ADMIN_LIMITS,
        stop.clone(),
    ));
    tasks.spawn(tasks::keep_time(Arc::clone(core), stop.clone()));
    tasks.spawn(loaders::watch(Arc::clone(core), stop.clone()));
    Ok(tasks)
}

/// What every interface's listeners share.
struct Shared {
    core: Arc<Core>,
    tree: Arc<BootTree>,
    transfers: Arc<Transfers>,
    groups: Arc<Option<StreamGroups>>,
    agent_tls: Arc<rustls::ServerConfig>,
    boot_tls: Option<BootTls>,
}

/// The listeners of one address that hand out files and talk to agents.
struct Files {
    interface: String,
    address: IpAddr,
    tftp: UdpSocket,
    /// Multicast is for IPv4.
    mtftp: Option<UdpSocket>,
    http: TcpListener,
    https: Option<TcpListener>,
    agent: TcpListener,
}

impl Shared {
    fn serve_files(
        &self,
        files: Files,
        tasks: &mut JoinSet<()>,
        stop: &watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let (tree, transfers) = (Arc::clone(&self.tree), Arc::clone(&self.transfers));
        let streams = match (files.address, self.groups.as_ref()) {
            (IpAddr::V4(address), Some(groups)) => Some(Arc::new(Streams::new(
                (files.interface.clone(), address),
                Arc::clone(&tree),
                Arc::clone(&transfers),
                groups,
            ))),
            _ => None,
        };
        if let (Some(socket), IpAddr::V4(address)) = (files.mtftp, files.address) {
            let core = Arc::clone(&self.core);
            let server = MtftpServer {
                delay: core
                    .config
                    .tftp
                    .mtftp
                    .as_ref()
                    .map_or(Duration::ZERO, |on| on.delay),
                core,
                socket,
                address,
                tree: Arc::clone(&tree),
                transfers: Arc::clone(&transfers),
            };
            tasks.spawn(server.run(stop.clone()));
        }
        let habits = self.core.config.tftp.habits;
        let (socket, until) = (Moved::out(files.tftp)?, stop.clone());
        plane_thread::start(tasks, move || async move {
            match socket.arrive() {
                Ok(socket) => {
                    let server = TftpServer {
                        socket,
                        interface: files.interface,
                        address: files.address,
                        tree,
                        transfers,
                        streams,
                        habits,
                    };
                    server.run(until).await;
                }
                Err(error) => tracing::error!(%error, "the TFTP socket was lost"),
            }
        })?;
        let boot = boot_http::router(BootHttp {
            core: Arc::clone(&self.core),
            tree: Arc::clone(&self.tree),
        });
        if let (Some(listener), Some(tls)) = (files.https, &self.boot_tls) {
            let watch = boot_http::watch(&self.tree, tls);
            let tls = (Arc::clone(&tls.config), watch);
            let (boot, stop) = (boot.clone(), stop.clone());
            tasks.spawn(serve_watched(listener, tls, boot, BOOT_LIMITS, stop));
        }
        tasks.spawn(serve(files.http, None, boot, BOOT_LIMITS, stop.clone()));
        let plane = agent::router(Arc::clone(&self.core));
        let tls = Some(Arc::clone(&self.agent_tls));
        tasks.spawn(serve(files.agent, tls, plane, AGENT_LIMITS, stop.clone()));
        Ok(())
    }
}

/// A certificate of ours for HTTPS of the boot plane, if that is on.
fn own_boot_tls(core: &Core, addresses: &[IpAddr]) -> anyhow::Result<Option<BootTls>> {
    let Some(tls) = &core.config.boot_tls else {
        return Ok(None);
    };
    let BootCertificate::Own(key) = tls.certificate else {
        return Ok(None);
    };
    let names = ca::names(addresses.iter().copied(), &tls.names);
    Ok(Some(core.ca.boot_tls(key, &names)?))
}

fn admin_names(config: &Config) -> Vec<String> {
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let own = host.ok().filter(|name| !name.is_empty());
    config
        .admin_names
        .iter()
        .cloned()
        .chain(own)
        .chain(["localhost".to_owned()])
        .collect()
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
/// Ten thousand machines behind a few relays and NATs.
const BOOT_LIMITS: Limits = Limits {
    total: 8192,
    per_address: 1024,
    bodies: 16 << 20,
};
const AGENT_LIMITS: Limits = Limits {
    total: 8192,
    per_address: 256,
    // Captures send up to 32 MiB at a time.
    bodies: 1 << 30,
};
const ADMIN_LIMITS: Limits = Limits {
    total: 1024,
    per_address: 256,
    bodies: 256 << 20,
};
