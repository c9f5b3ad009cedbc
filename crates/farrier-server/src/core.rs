//! What every part of the server shares.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use farrier_db::{Db, DbError};
use farrier_engine::WallTime;
use farrier_engine::address6::Holder6;
use farrier_engine::identity::{Evidence, Identity, identify};
use farrier_engine::model::{Arch, Machine, MachineId};
use farrier_engine::policy::{Known, Policy, PolicyBook, Settings, Snapshot, resolve};
use farrier_engine::task::Task;
use farrier_engine::timeline::{Entry, Kind};
use farrier_image::store::Store;
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv6_option::Duid;
use tokio::sync::{Semaphore, broadcast};
use uuid::Uuid;

use crate::admission::Admission;
use crate::ca::{BootTls, Ca};
use crate::choices::Choices;
use crate::classes::ClassBook;
use crate::config::{Config, Subnet6Config};
use crate::counters::Counters;
use crate::disk_starts::DiskStarts;
use crate::exchanges::Exchanges;
use crate::fleet::{Change, Fleet};
use crate::leases::Leases;
use crate::loaders::Loaders;
use crate::media::shelf::Shelf;
use crate::menu_codes::MenuCodes;
use crate::named_scripts::NamedScripts;
use crate::packet_log::PacketLog;
use crate::relays::Relays;
use crate::rounds::Rounds;
use crate::rules::Rules;
use crate::service::tasks_of_many::Orders;
use crate::sightings::Sightings;
use crate::silences::Silences;
use crate::standing_orders::StandingOrders;
use crate::strategies::Strategies;
use crate::timeline::Recorder;
use crate::transfer::MtftpGroups;
use crate::whereabouts::Whereabouts;

/// The running server, without its listeners.
#[derive(Debug)]
pub struct Core {
    pub config: Config,
    pub db: Db,
    pub store: Store,
    pub ca: Ca,
    /// HTTPS of the boot plane, from when its listeners are there.
    pub boot_tls: OnceLock<BootTls>,
    pub fleet: Fleet,
    pub leases: Leases,
    pub loaders: Loaders,
    /// Disk images of people's own.
    pub media: Shelf,
    /// The site's settings as they are now. Change them with [`Core::set_site`].
    pub site: ArcSwap<Settings>,
    /// The site's groups and rules as they are now. Change them with [`Core::set_book`].
    pub book: ArcSwap<PolicyBook>,
    /// The rules, ready to be judged.
    pub rules: ArcSwap<Rules>,
    /// Kinds of DHCP clients.
    pub classes: ClassBook,
    pub rounds: Rounds,
    pub menu_codes: MenuCodes,
    /// Orders for many machines that were carried out of late.
    pub orders: tokio::sync::Mutex<Orders>,
    /// Scripts that are fetched once.
    pub named_scripts: NamedScripts,
    /// What decisions rest on: the site's settings, the catalogue, whether there is an agent.
    pub snapshot: ArcSwap<Snapshot>,
    pub sightings: Sightings,
    pub whereabouts: Whereabouts,
    pub standing_orders: StandingOrders,
    pub exchanges: Exchanges,
    /// Places for answers that wait because of a device's habits.
    pub late_answers: Semaphore,
    pub admission: Admission,
    pub silences: Silences,
    /// How each machine is offered what to boot.
    pub strategies: Strategies,
    /// What was picked in menus of ROMs.
    pub choices: Choices,
    /// Who fetched GRUB to start the local disk with.
    pub disk_starts: DiskStarts,
    pub relays: Relays,
    /// Where MTFTP clients are told to listen, if it is on.
    pub mtftp: Option<MtftpGroups>,
    /// The last packets of each machine.
    pub packets: PacketLog,
    pub counters: Counters,
    pub timeline: Recorder,
    pub changes: broadcast::Sender<Change>,
    pub started: WallTime,
}

impl Core {
    /// Stores new site settings and lets everybody use them.
    pub async fn set_site(&self, settings: Settings) -> Result<(), DbError> {
        let current = self.db.site_settings().await?;
        self.db
            .set_site_settings(&settings, current.revision)
            .await?;
        self.site.store(Arc::new(settings));
        self.refresh();
        Ok(())
    }

    /// Stores new groups and rules, unless somebody changed them since `revision`, and lets everybody use them.
    pub async fn set_book(&self, book: PolicyBook, revision: u64) -> Result<(), DbError> {
        self.db.set_policy_book(&book, revision).await?;
        self.rules.store(Arc::new(Rules::of(&book.rules)));
        self.book.store(Arc::new(book));
        self.refresh();
        Ok(())
    }

    /// Makes decisions rest on the settings, loaders and agent as they are now.
    pub fn refresh(&self) {
        self.snapshot.store(Arc::new(snapshot(
            &self.site.load(),
            &self.book.load(),
            &self.loaders,
            &self.media,
            self.config.boot_tls.is_some(),
        )));
        self.tell(Change::Site);
    }

    /// Every value of the policy of a machine that speaks from `address`.
    #[must_use]
    pub fn policy_at(&self, machine: &Machine, address: IpAddr) -> Policy {
        let rules = self.rules.load();
        let judged = rules.judge(None, Some(machine), || self.place_at(address));
        resolve(&self.snapshot.load(), Some(machine), &judged).policy
    }

    /// Whose request or inventory this is.
    #[must_use]
    pub fn recognise(&self, evidence: &Evidence) -> Recognised {
        let candidates = self.fleet.candidates(&evidence.macs, evidence.uuid);
        match identify(evidence, candidates.iter().map(AsRef::as_ref)) {
            Identity::Match { machine, .. } => {
                let machine = candidates
                    .into_iter()
                    .find(|candidate| candidate.id == machine);
                let due = machine
                    .as_ref()
                    .and_then(|machine| self.fleet.queue(machine.id).into_iter().next());
                Recognised {
                    machine,
                    due,
                    conflict: Vec::new(),
                    why: String::new(),
                }
            }
            Identity::New => Recognised::default(),
            Identity::Conflict { machines, why } => Recognised {
                conflict: machines,
                why,
                ..Recognised::default()
            },
        }
    }

    /// Tells of what somebody with this hardware address did: on the machine's timeline, or, for a
    /// stranger, in the bounded memory of [`Sightings`].
    pub fn tell_of(
        &self,
        mac: MacAddr,
        machine: Option<&Machine>,
        entry: impl FnOnce(MachineId) -> Entry,
    ) {
        match machine {
            Some(machine) => self.note_entry(entry(machine.id)),
            None => self.sightings.note(mac, &entry(MachineId(Uuid::nil()))),
        }
    }

    /// The IPv6 network of `ip`, if we boot in it.
    #[must_use]
    pub fn subnet6_of(&self, ip: Ipv6Addr) -> Option<&Subnet6Config> {
        let mut networks = self.config.subnets6.iter();
        networks.find(|network| network.prefix.contains(ip))
    }

    /// Whose IPv6 address this is: as it is kept, else as it tells. A hint, never a credential.
    #[must_use]
    pub fn owner6(&self, ip: Ipv6Addr) -> Option<MacAddr> {
        let subnet = self.subnet6_of(ip)?;
        let uuid = match subnet.reserved.holder(ip) {
            None => return subnet.prefix.owner(ip),
            Some(Holder6::Mac(mac)) => return Some(*mac),
            Some(Holder6::Duid(duid)) => return Duid(duid).mac(),
            Some(Holder6::Uuid(uuid)) => *uuid,
        };
        let machines = self.fleet.candidates(&[], Some(uuid));
        match machines.as_slice() {
            [machine] => machine.macs.first().copied(),
            _ => None,
        }
    }

    /// Puts a sentence on a machine's timeline.
    pub fn note(&self, machine: MachineId, kind: Kind, text: impl Into<Cow<'static, str>>) {
        self.note_entry(Entry {
            machine,
            at: now(),
            kind,
            text: text.into(),
            details: Vec::new(),
        });
    }

    /// Puts an entry on a machine's timeline.
    pub fn note_entry(&self, entry: Entry) {
        self.timeline.note(entry);
    }

    /// Nobody may be listening; that is no fault.
    pub fn tell(&self, change: Change) {
        let _ = self.changes.send(change);
    }
}

/// Who sent a request, as far as we can tell.
#[derive(Clone, Debug, Default)]
pub struct Recognised {
    pub machine: Option<Arc<Machine>>,
    /// The machine's oldest unfinished task.
    pub due: Option<Arc<Task>>,
    /// Machines that the evidence fits about equally well.
    pub conflict: Vec<MachineId>,
    pub why: String,
}

impl Recognised {
    /// The same, as decisions take it.
    #[must_use]
    pub fn known<'a>(&'a self, recent_loads: &'a [WallTime]) -> Known<'a> {
        Known {
            machine: self.machine.as_deref(),
            due: self.due.as_deref(),
            recent_loads,
            conflict: !self.conflict.is_empty(),
            ..Known::default()
        }
    }
}

/// What decisions rest on.
#[must_use]
pub fn snapshot(
    site: &Settings,
    book: &PolicyBook,
    loaders: &Loaders,
    media: &Shelf,
    https: bool,
) -> Snapshot {
    // The agent is built for PCs only so far.
    let agents = loaders
        .agent()
        .is_some()
        .then_some(Arch::X86_64)
        .into_iter()
        .collect();
    Snapshot {
        site: site.clone(),
        groups: book.groups.clone(),
        catalogue: (*loaders.catalogue()).clone(),
        media: (*media.media()).clone(),
        agents,
        https,
    }
}

/// The clock of this machine, the only place in the server where it is read for the domain.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> WallTime {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    WallTime::default() + since_epoch
}

/// A new id, sortable by time.
#[must_use]
pub fn new_id() -> Uuid {
    Uuid::now_v7()
}

/// Changes waiting for a slow listener; one that falls behind asks for everything again.
pub const CHANGES: usize = 1024;
