//! The server itself: state, leases, loaders, check-up.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use farrier_api::admin::{
    Check, Doctor, Lease, LeaseQuery, Loader, MachineCounts, Plan, Served, ServerStatus, Stranger,
    TaskCounts, TimelineEntry, Verdict,
};
use farrier_engine::catalogue::LoaderKind;
use farrier_engine::lease::LeaseState;
use farrier_engine::model::Registration;
use farrier_engine::task::State;
use farrier_engine::timeline::Kind;
use farrier_proto::MacAddr;

use super::plan::{Draft, require};
use super::{Desk, Refusal, convert};
use crate::auth::Action;
use crate::bind::{BOOT_SERVER_PORT, DHCP_PORT, TFTP_PORT};
use crate::config::Mode;
use crate::core::now;
use crate::ui::text::bytes;

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

    /// Addresses on record, by address.
    pub async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, Refusal> {
        self.allow(Action::Look)?;
        let wanted = WantedLeases::of(query)?;
        let mut leases = Vec::new();
        let mut after = None;
        // What nobody wants to see does not count, so a filter looks at all of them, a page at a time.
        loop {
            let page = self.core.db.leases(after, MAX_LEASES).await?;
            let is_last = page.len() < MAX_LEASES as usize;
            after = page.last().map(|lease| lease.ip);
            leases.extend(self.shown(page).filter(|lease| wanted.has(lease)));
            leases.truncate(MAX_LEASES as usize);
            if is_last || leases.len() == MAX_LEASES as usize {
                return Ok(leases);
            }
        }
    }

    fn shown(&self, leases: Vec<farrier_engine::lease::Lease>) -> impl Iterator<Item = Lease> {
        let at = now();
        leases.into_iter().map(move |lease| Lease {
            ip: lease.ip.to_string(),
            mac: lease.mac.to_string(),
            hostname: lease.hostname,
            state: match lease.state {
                LeaseState::Active if lease.ends > at => "active",
                LeaseState::Active | LeaseState::Free => "free",
                LeaseState::Declined => "declined",
            }
            .to_owned(),
            starts: lease.starts.0,
            ends: lease.ends.0,
            machine: self
                .core
                .fleet
                .candidates(&[lease.mac], None)
                .first()
                .map(|m| m.id.0),
        })
    }

    pub async fn plan_release_lease(&self, ip: &str) -> Result<Plan, Refusal> {
        self.allow(Action::ReleaseLease)?;
        let lease = self
            .leases(&LeaseQuery {
                subnet: Some(ip.to_owned()),
                ..LeaseQuery::default()
            })
            .await?
            .pop();
        let lease = lease.ok_or_else(|| Refusal::missing("lease", ip))?;
        Ok(Draft {
            summary: format!("Give {ip} back to the pool."),
            steps: vec![format!(
                "{} ({}) loses the address",
                lease.mac,
                lease.hostname.as_deref().unwrap_or("no name")
            )],
            warnings: vec![
                "If the client still uses it, another one may get the same address.".to_owned(),
            ],
            destructive: true,
            touches: vec![lease.starts.to_string()],
        }
        .finish())
    }

    pub async fn release_lease(&self, ip: &str, confirm: Option<&str>) -> Result<(), Refusal> {
        let plan = self.plan_release_lease(ip).await?;
        require(&plan, confirm)?;
        let address: Ipv4Addr = ip
            .parse()
            .map_err(|_| Refusal::bad("not an IPv4 address"))?;
        let released = self.core.leases.give_back(address, now()).await?;
        released.map_err(|reason| Refusal::new(super::Code::NotPossible, reason.sentence()))?;
        self.audit(Action::ReleaseLease, ip).await;
        Ok(())
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

    /// Checks what can be checked from inside: data, loaders, clock, space; and who else is on the networks.
    pub async fn doctor(&self) -> Result<Doctor, Refusal> {
        self.allow(Action::CheckServer)?;
        let mut checks = vec![
            self.check_database().await,
            self.check_store(),
            self.check_clock(),
        ];
        checks.push(self.check_certificates());
        checks.extend(self.check_loaders());
        checks.extend(self.check_boot_plane());
        checks.push(self.check_machines());
        checks.push(self.check_others().await);
        let catalogue = self.core.loaders.catalogue();
        let has = |file: &str| {
            let name = file.rsplit('/').next();
            name.is_some_and(|name| catalogue.by_file_name(name).is_some())
        };
        checks.extend(crate::probe::check(&self.core.config.interfaces, &has).await);
        Ok(Doctor {
            checks,
            served: self.served(),
        })
    }

    fn served(&self) -> Vec<Served> {
        let config = &self.core.config;
        let address = |name: &str| {
            let found = farrier_net::interface::by_name(name).ok()??;
            found.addresses.first().map(|(address, _)| *address)
        };
        let served = config.interfaces.iter().filter_map(|interface| {
            Some(Served {
                address: address(&interface.name)?.to_string(),
                interface: interface.name.clone(),
                tftp_port: TFTP_PORT,
                dhcp_port: (interface.mode != Mode::Port4011).then_some(DHCP_PORT),
                http_port: config.boot_http_port,
                boot_server_port: BOOT_SERVER_PORT,
            })
        });
        served.collect()
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
            machine: None,
            state: Some(State::Failed),
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
    async fn warnings(&self) -> Result<Vec<TimelineEntry>, Refusal> {
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

    /// The leaves are made anew at each start; what can run out is the root that agents pin, and the leaves of a
    /// server that was not restarted for years.
    fn check_certificates(&self) -> Check {
        let at = now();
        let left = self.core.ca.root_ends().since(at);
        if left < CERTIFICATE_WARNING {
            let found = format!(
                "the site's root certificate ends in {} days",
                left.as_secs() / 86_400
            );
            return bad(
                "certificates",
                found,
                "move the ca folder away and restart: agents get the new root at their next boot",
            );
        }
        if at.since(self.core.started) + CERTIFICATE_WARNING > crate::ca::SERVER_LIFE {
            return bad(
                "certificates",
                "the server's own end soon".to_owned(),
                "restart the server: it makes new ones",
            );
        }
        good(
            "certificates",
            format!(
                "the site's root is good for {} more days",
                left.as_secs() / 86_400
            ),
        )
    }

    async fn check_database(&self) -> Check {
        match self.core.db.set_value("doctor", &now().0.to_string()).await {
            Ok(()) => good(
                "database",
                format!("{} takes writes", self.core.db.path().display()),
            ),
            Err(error) => bad(
                "database",
                error.to_string(),
                "free space or restore a backup: farrier db restore",
            ),
        }
    }

    fn check_store(&self) -> Check {
        let status = self.store_status();
        match status.free_bytes {
            Some(free) if free < LITTLE_SPACE => Check {
                verdict: Verdict::Warning,
                remedy: Some(
                    "free space, or delete image versions and prune: farrier image prune"
                        .to_owned(),
                ),
                ..good("image store", format!("{} free", bytes(free)))
            },
            _ => good(
                "image store",
                format!(
                    "{} images, {} stored",
                    status.images,
                    bytes(status.stored_bytes)
                ),
            ),
        }
    }

    fn check_clock(&self) -> Check {
        if now().0 > CLOCK_FLOOR {
            return good("clock", "the date is plausible".to_owned());
        }
        bad(
            "clock",
            "the date is before this program was made".to_owned(),
            "set the clock: certificates depend on it",
        )
    }

    fn check_loaders(&self) -> Vec<Check> {
        let catalogue = self.core.loaders.catalogue();
        if catalogue.iter().next().is_none() {
            return vec![bad(
                "loaders",
                "there are none".to_owned(),
                "import them: farrier loader import",
            )];
        }
        let folder = &self.core.loaders;
        let lost: Vec<_> = catalogue
            .iter()
            .filter(|l| folder.bytes(l).is_err())
            .map(|l| l.id.clone())
            .collect();
        if lost.is_empty() {
            return vec![good(
                "loaders",
                format!(
                    "{} in the catalogue, all files there",
                    catalogue.iter().count()
                ),
            )];
        }
        vec![bad(
            "loaders",
            format!("files are gone or changed: {}", lost.join(", ")),
            "import them again: farrier loader import",
        )]
    }

    fn check_machines(&self) -> Check {
        let silent = self
            .core
            .fleet
            .unfinished()
            .iter()
            .filter(|t| t.state == State::Lost)
            .count();
        if silent == 0 {
            return good("agents", "no task waits for a silent agent".to_owned());
        }
        Check {
            verdict: Verdict::Warning,
            remedy: Some(
                "look at the machines' own screens: farrier task list --state lost".to_owned(),
            ),
            ..good(
                "agents",
                format!("{silent} task(s) wait for a silent agent"),
            )
        }
    }

    /// Other servers that answer boot clients make themselves known on the timeline.
    async fn check_others(&self) -> Check {
        match self.warnings().await {
            Ok(warnings) if warnings.is_empty() => good("warnings", "none within a day".to_owned()),
            Ok(warnings) => Check {
                verdict: Verdict::Warning,
                remedy: Some("look at the dashboard".to_owned()),
                ..good(
                    "warnings",
                    format!(
                        "{} within a day, the last: {}",
                        warnings.len(),
                        warnings[0].text
                    ),
                )
            },
            Err(error) => bad(
                "warnings",
                error.to_string(),
                "see the check of the database",
            ),
        }
    }
}

fn good(name: &str, found: String) -> Check {
    Check {
        name: name.to_owned(),
        verdict: Verdict::Good,
        found,
        remedy: None,
    }
}

fn bad(name: &str, found: String, remedy: &str) -> Check {
    Check {
        name: name.to_owned(),
        verdict: Verdict::Bad,
        found,
        remedy: Some(remedy.to_owned()),
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

const CERTIFICATE_WARNING: std::time::Duration = std::time::Duration::from_secs(60 * 86_400);
const RECENT: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
const LOOK_BACK: u32 = 500;
const MAX_WARNINGS: usize = 8;
const MAX_FAILED: u32 = 200;
const MAX_LEASES: u32 = 10_000;

/// Which leases somebody wants to see.
struct WantedLeases<'a> {
    subnet: Option<(Ipv4Addr, u8)>,
    state: Option<&'a str>,
    mac: Option<String>,
}

impl<'a> WantedLeases<'a> {
    fn of(query: &'a LeaseQuery) -> Result<Self, Refusal> {
        let subnet = query.subnet.as_deref().map(|text| {
            let (network, prefix) = text.split_once('/').unwrap_or((text, "32"));
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32);
            let network = network.parse().ok();
            network
                .zip(prefix)
                .ok_or_else(|| Refusal::bad("subnet is a network such as 10.0.0.0/24"))
        });
        let state = query.state.as_deref();
        if state.is_some_and(|state| !["active", "declined", "free"].contains(&state)) {
            return Err(Refusal::bad("state is active, declined or free"));
        }
        let mac = query.mac.as_deref().map(|text| {
            let mac: Result<MacAddr, _> = text.parse();
            mac.map(|mac| mac.to_string())
                .map_err(|_| Refusal::bad("mac is a hardware address such as 52:54:00:12:34:56"))
        });
        Ok(Self {
            subnet: subnet.transpose()?,
            state,
            mac: mac.transpose()?,
        })
    }

    fn has(&self, lease: &Lease) -> bool {
        let inside = |(network, prefix): (Ipv4Addr, u8)| {
            let shift = 32 - u32::from(prefix);
            let network = network.to_bits().checked_shr(shift).unwrap_or(0);
            let ip: Result<Ipv4Addr, _> = lease.ip.parse();
            ip.is_ok_and(|ip| ip.to_bits().checked_shr(shift).unwrap_or(0) == network)
        };
        self.subnet.is_none_or(inside)
            && self.state.is_none_or(|state| state == lease.state)
            && self.mac.as_ref().is_none_or(|mac| *mac == lease.mac)
    }
}
const MAX_STRANGERS: usize = 50;
/// One capture of a small machine.
const LITTLE_SPACE: u64 = 10 << 30;
/// 2026-01-01.
const CLOCK_FLOOR: i64 = 1_767_225_600_000;
