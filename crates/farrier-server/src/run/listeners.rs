//! Every listener, on every interface.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::announce6;
use crate::bind::{self, BOOT_SERVER_PORT, Bound, DHCP_PORT, Link};
use crate::bind_tls::{self, Brought};
use crate::boot::BootPort;
use crate::boot_tree::BootTree;
use crate::boot6::{Boot6Port, Declined};
use crate::ca::{self, BootTls};
use crate::config::{BootCertificate, Config};
use crate::core::Core;
use crate::http::boot::BootHttp;
use crate::http::serve::{Limits, serve, serve_watched};
use crate::http::{admin, agent, boot as boot_http};
use crate::loaders::{self};
use crate::no_router;
use crate::plane_thread::{self, Moved};
use crate::rarp::RarpPort;
use crate::tasks;
use crate::transfer::{MtftpServer, StreamGroups, Streams, TftpServer, Transfers};
use crate::vacancy::Vacancy;

/// Starts every listener.
pub(super) fn start(
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
    if let Some(tls) = &boot_tls {
        let _ = core.boot_tls.set(tls.clone());
        if let Some(brought) = Brought::of(&core.config, &addresses) {
            tasks.spawn(brought.watch(tls.clone(), bind_tls::EVERY, stop.clone()));
        }
    }
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
            no_router,
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
        if let Some(socket) = no_router {
            tasks.spawn(no_router::run(Arc::clone(core), socket, stop.clone()));
        }
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
