//! Rows and pages, with every value as it is shown.

use askama::Template;
use farrier_api::admin::{
    EffectiveSetting, ImageDetail, ImageSummary, Images, LearnedStrategy, Lease, Loader,
    MachineDetail, MachineSummary, Plan, Registration, ServerStatus, SitePolicy, TaskState,
    TaskSummary, TaskWork, TimelineEntry,
};
use farrier_api::agent::Bottleneck;

use super::Frame;
use super::text::{Moment, bytes, duration, shown};
use crate::service::describe_work;

/// A task as a row.
#[derive(Clone, Debug)]
pub struct TaskView {
    pub id: String,
    pub machine: String,
    pub machine_name: String,
    pub what: String,
    pub state: &'static str,
    pub is_final: bool,
    pub running: bool,
    pub phase: String,
    pub percent: u64,
    pub amount: String,
    pub rate: String,
    pub eta: String,
    pub bottleneck: &'static str,
    pub reason: String,
    pub by: String,
    pub created: Moment,
    pub ended: Option<Moment>,
    pub attempts: String,
}

impl TaskView {
    #[must_use]
    pub fn of(t: &TaskSummary) -> Self {
        let p = &t.progress;
        let running = t.state == TaskState::Running;
        let left = p.total_bytes.saturating_sub(p.done_bytes);
        let percent = match p.total_bytes {
            _ if t.state == TaskState::Done => 100,
            0 => 0,
            total => u64::try_from(u128::from(p.done_bytes.min(total)) * 100 / u128::from(total))
                .unwrap_or(0),
        };
        let moving = running && p.bytes_per_second > 0;
        Self {
            id: t.id.to_string(),
            machine: t.machine.to_string(),
            machine_name: shown(&t.machine_name),
            what: shown(&capital(&describe_work(&t.work))),
            state: t.state.as_str(),
            is_final: t.state.is_final(),
            running,
            phase: shown(&p.phase),
            percent,
            amount: if p.total_bytes > 0 {
                format!("{} of {}", bytes(p.done_bytes), bytes(p.total_bytes))
            } else {
                String::new()
            },
            rate: if moving {
                format!("{}/s", bytes(p.bytes_per_second))
            } else {
                String::new()
            },
            eta: if moving && left > 0 {
                format!("{} left", duration(left / p.bytes_per_second))
            } else {
                String::new()
            },
            bottleneck: match p.bottleneck.filter(|_| running) {
                Some(Bottleneck::Cpu) => "limited by the processor",
                Some(Bottleneck::Disk) => "limited by the disk",
                Some(Bottleneck::Network) => "limited by the network",
                None => "",
            },
            reason: shown(t.reason.as_deref().unwrap_or("")),
            by: shown(&t.created_by),
            created: Moment::of(t.created),
            ended: t.ended.map(Moment::of),
            attempts: format!("{} of {}", t.attempts, t.max_attempts),
        }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// A machine as a row.
#[derive(Clone, Debug)]
pub struct MachineView {
    pub id: String,
    pub name: String,
    pub named: bool,
    pub state: &'static str,
    pub macs: Vec<String>,
    pub hardware: String,
    pub serial: String,
    pub firmware: String,
    pub memory: String,
    pub first_seen: Moment,
    pub last_seen: Moment,
    pub task: Option<TaskView>,
}

impl MachineView {
    #[must_use]
    pub fn of(m: &MachineSummary) -> Self {
        let mac = m.macs.first().cloned().unwrap_or_else(|| m.id.to_string());
        let hardware = [&m.manufacturer, &m.product].map(|t| shown(t.trim()));
        let firmware = [m.firmware.as_deref(), m.arch.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        Self {
            id: m.id.to_string(),
            named: m.name.is_some(),
            name: shown(m.name.as_deref().unwrap_or(&mac)),
            state: registration(m.registration),
            macs: m.macs.clone(),
            hardware: hardware.join(" ").trim().to_owned(),
            serial: shown(&m.serial),
            firmware: firmware.join(" "),
            memory: if m.memory_bytes == 0 {
                String::new()
            } else {
                bytes(m.memory_bytes)
            },
            first_seen: Moment::of(m.first_seen),
            last_seen: Moment::of(m.last_seen),
            task: m.task.as_ref().map(TaskView::of),
        }
    }
}

#[must_use]
pub fn registration(r: Registration) -> &'static str {
    match r {
        Registration::Seen => "seen",
        Registration::Pending => "pending",
        Registration::Approved => "approved",
        Registration::Disabled => "disabled",
    }
}

/// One entry of a timeline.
#[derive(Clone, Debug)]
pub struct EntryView {
    pub at: Moment,
    pub kind: String,
    pub text: String,
    pub details: Vec<(String, String)>,
    pub machine: String,
}

impl EntryView {
    #[must_use]
    pub fn of(e: &TimelineEntry) -> Self {
        Self {
            at: Moment::of(e.at),
            kind: e.kind.clone(),
            text: shown(&e.text),
            details: e
                .details
                .iter()
                .map(|(name, value)| (shown(name), shown(value)))
                .collect(),
            machine: e.machine.to_string(),
        }
    }
}

/// A fact of a machine: name and value.
pub type Fact = (&'static str, String);

/// A disk of a machine.
#[derive(Clone, Debug)]
pub struct DiskView {
    pub name: String,
    pub model: String,
    pub size: String,
    pub bus: String,
    pub serial: String,
    /// The serial as it must be sent back to name this disk.
    pub key: String,
    pub table: String,
    pub notes: String,
}

/// A network port of a machine.
#[derive(Clone, Debug)]
pub struct NicView {
    pub name: String,
    pub mac: String,
    pub driver: String,
    pub link: &'static str,
    pub boot: bool,
}

/// The inventory, ready to be shown.
#[derive(Clone, Debug, Default)]
pub struct InventoryView {
    pub facts: Vec<Fact>,
    pub disks: Vec<DiskView>,
    pub nics: Vec<NicView>,
    pub without_driver: Vec<String>,
}

impl InventoryView {
    #[must_use]
    pub fn of(m: &MachineDetail) -> Option<Self> {
        let i = m.inventory.as_ref()?;
        let s = &i.system;
        let yes = |b: Option<bool>| match b {
            Some(true) => "on",
            Some(false) => "off",
            None => "",
        };
        let facts = [
            ("Maker", shown(&s.manufacturer)),
            ("Model", shown(&s.product)),
            ("Family", shown(&s.family)),
            ("Serial number", shown(&s.serial)),
            ("Board serial", shown(&s.board_serial)),
            ("Asset tag", shown(&s.chassis_asset)),
            ("Processor", shown(&i.cpu.model)),
            (
                "Cores",
                if i.cpu.cores == 0 {
                    String::new()
                } else {
                    format!("{} ({} threads)", i.cpu.cores, i.cpu.threads)
                },
            ),
            ("Memory", bytes(i.memory_bytes)),
            (
                "Firmware",
                format!(
                    "{} {} {}",
                    if i.uefi { "UEFI" } else { "BIOS" },
                    shown(&s.bios_vendor),
                    shown(&s.bios_version)
                ),
            ),
            ("Secure Boot", yes(i.secure_boot).to_owned()),
            ("TPM", shown(i.tpm.as_deref().unwrap_or(""))),
        ];
        let disks = i.disks.iter().map(|d| DiskView {
            name: shown(&d.name),
            model: shown(&d.model),
            size: bytes(d.size_bytes),
            bus: shown(&d.bus),
            serial: shown(&d.serial),
            key: d.serial.clone(),
            table: shown(d.table.as_deref().unwrap_or("none")),
            notes: [
                d.rotational.then_some("rotating"),
                d.removable.then_some("removable"),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", "),
        });
        let nics = i.nics.iter().map(|n| NicView {
            name: shown(&n.name),
            mac: n.mac.clone(),
            driver: shown(&n.driver),
            link: if n.link_up { "up" } else { "down" },
            boot: n.boot,
        });
        Some(Self {
            facts: facts
                .into_iter()
                .filter(|(_, value)| !value.trim().is_empty())
                .collect(),
            disks: disks.collect(),
            nics: nics.collect(),
            without_driver: i.pci_without_driver.iter().map(|t| shown(t)).collect(),
        })
    }
}

/// One version of an image as a row.
#[derive(Clone, Debug)]
pub struct VersionView {
    pub version: u32,
    pub created: Moment,
    pub source: String,
    pub disk: String,
    pub content: String,
    pub stored: String,
    pub own: String,
    pub dedup: String,
    pub root: String,
}

/// An image with its versions.
#[derive(Clone, Debug)]
pub struct ImageView {
    pub name: String,
    pub versions: Vec<VersionView>,
}

impl ImageView {
    #[must_use]
    pub fn of(image: &ImageSummary) -> Self {
        let versions = image.versions.iter().map(|v| VersionView {
            version: v.version,
            created: Moment::of(v.created),
            source: shown(&v.source),
            disk: bytes(v.disk_bytes),
            content: bytes(v.content_bytes),
            stored: bytes(v.stored_bytes),
            own: bytes(v.own_bytes),
            dedup: ratio(v.content_bytes, v.stored_bytes),
            root: v.root.chars().take(16).collect(),
        });
        Self {
            name: shown(&image.name),
            versions: versions.collect(),
        }
    }
}

/// 10 of 4 → `2.5×`.
fn ratio(all: u64, kept: u64) -> String {
    if kept == 0 {
        return "–".to_owned();
    }
    let tenths = u128::from(all) * 10 / u128::from(kept);
    format!("{}.{}×", tenths / 10, tenths % 10)
}

/// A tile of the dashboard.
#[derive(Clone, Debug)]
pub struct Tile {
    pub label: &'static str,
    pub value: String,
    pub note: String,
    pub href: &'static str,
}

/// Something that wants a person.
#[derive(Clone, Debug)]
pub struct Attention {
    pub text: String,
    pub href: String,
    pub link: &'static str,
}

#[derive(Debug, Template)]
#[template(path = "dashboard.html")]
pub struct Dashboard {
    pub frame: Frame,
    pub tiles: Vec<Tile>,
    pub attention: Vec<Attention>,
    pub tasks: Vec<TaskView>,
    pub events: Vec<EntryView>,
}

/// The numbers at the top of the dashboard.
#[must_use]
pub fn tiles(s: &ServerStatus) -> Vec<Tile> {
    let store = &s.store;
    let saved = ratio(store.content_bytes, store.stored_bytes);
    vec![
        Tile {
            label: "Machines",
            value: s.machines.total.to_string(),
            note: format!("{} approved", s.machines.approved),
            href: "/machines",
        },
        Tile {
            label: "At work",
            value: s.tasks.running.to_string(),
            note: format!("{} queued", s.tasks.queued),
            href: "/tasks",
        },
        Tile {
            label: "Images",
            value: store.images.to_string(),
            note: format!("{} versions", store.versions),
            href: "/images",
        },
        Tile {
            label: "Stored",
            value: bytes(store.stored_bytes),
            note: match store.free_bytes {
                Some(free) => format!("{saved} smaller, {} free", bytes(free)),
                None => format!("{saved} smaller"),
            },
            href: "/images",
        },
    ]
}

#[derive(Debug, Template)]
#[template(path = "machines.html")]
pub struct Machines {
    pub frame: Frame,
    pub rows: Vec<MachineView>,
    pub total: u64,
    pub search: String,
    pub filter: &'static str,
    pub next: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "machine_row.html")]
pub struct MachineRow {
    pub m: MachineView,
}

#[derive(Debug, Template)]
#[template(path = "machine.html")]
pub struct MachinePage {
    pub frame: Frame,
    pub m: MachineView,
    pub uuid: String,
    pub inventory: Option<InventoryView>,
    pub group: Option<String>,
    pub learned: Option<LearnedStrategy>,
    /// What each setting comes to, and from whom.
    pub settings: Vec<EffectiveSetting>,
    pub tasks: Vec<TaskView>,
    pub events: Vec<EntryView>,
    pub more: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "tasks.html")]
pub struct Tasks {
    pub frame: Frame,
    pub active: Vec<TaskView>,
    pub ended: Vec<TaskView>,
    pub filter: &'static str,
    pub next: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "task_card.html")]
pub struct TaskCard {
    pub frame: Frame,
    pub t: TaskView,
}

#[derive(Debug, Template)]
#[template(path = "task.html")]
pub struct TaskPage {
    pub frame: Frame,
    pub t: TaskView,
}

#[derive(Debug, Template)]
#[template(path = "images.html")]
pub struct ImagesPage {
    pub frame: Frame,
    pub images: Vec<ImageView>,
    pub stored: String,
    pub content: String,
    pub saved: String,
}

impl ImagesPage {
    #[must_use]
    pub fn of(frame: Frame, images: &Images) -> Self {
        Self {
            frame,
            images: images.images.iter().map(ImageView::of).collect(),
            stored: bytes(images.store.stored_bytes),
            content: bytes(images.store.content_bytes),
            saved: ratio(images.store.content_bytes, images.store.stored_bytes),
        }
    }
}

/// A volume of an image.
#[derive(Clone, Debug)]
pub struct VolumeView {
    pub number: String,
    pub kind: String,
    pub label: String,
    pub size: String,
    pub used: String,
    pub percent: u64,
}

#[derive(Debug, Template)]
#[template(path = "image.html")]
pub struct ImagePage {
    pub frame: Frame,
    pub name: String,
    pub versions: Vec<VersionView>,
    pub current: u32,
    pub table: String,
    pub root: String,
    pub volumes: Vec<VolumeView>,
}

impl ImagePage {
    #[must_use]
    pub fn of(frame: Frame, image: &ImageSummary, detail: &ImageDetail) -> Self {
        let volumes = detail.volumes.iter().map(|v| VolumeView {
            number: v
                .partition
                .map_or_else(|| "–".to_owned(), |n| n.to_string()),
            kind: v.kind.clone(),
            label: shown(&v.label),
            size: bytes(v.len_bytes),
            used: bytes(v.used_bytes),
            percent: v.used_bytes.saturating_mul(100) / v.len_bytes.max(1),
        });
        Self {
            frame,
            name: shown(&image.name),
            versions: ImageView::of(image).versions,
            current: detail.version.version,
            table: detail.table.clone(),
            root: detail.version.root.clone(),
            volumes: volumes.collect(),
        }
    }
}

/// The form that orders work for a machine.
#[derive(Debug, Template)]
#[template(path = "order.html")]
pub struct OrderForm {
    pub frame: Frame,
    pub machine: String,
    pub machine_name: String,
    pub kind: &'static str,
    pub images: Vec<String>,
    pub disks: Vec<DiskView>,
    pub error: String,
}

impl OrderForm {
    #[must_use]
    pub fn verb(&self) -> &'static str {
        verb(self.kind)
    }

    #[must_use]
    pub fn wants_image(&self) -> bool {
        matches!(self.kind, "deploy" | "repair")
    }
}

/// What a kind of work is called on a button.
#[must_use]
pub fn verb(kind: &str) -> &'static str {
    match kind {
        "deploy" => "Deploy",
        "repair" => "Repair",
        "capture" => "Capture",
        _ => "Take inventory",
    }
}

/// A plan that wants a yes.
#[derive(Debug, Template)]
#[template(path = "plan.html")]
pub struct PlanPage {
    pub frame: Frame,
    pub plan: Plan,
    /// Where to send the yes.
    pub action: String,
    /// What to send besides it.
    pub fields: Vec<(String, String)>,
    pub button: String,
    pub back: String,
}

impl PlanPage {
    /// Everything that came from strangers made visible.
    #[must_use]
    pub fn of(
        frame: Frame,
        plan: &Plan,
        action: String,
        fields: Vec<(String, String)>,
        button: &str,
        back: String,
    ) -> Self {
        let each = |lines: &[String]| lines.iter().map(|line| shown(line)).collect();
        let plan = Plan {
            summary: shown(&plan.summary),
            steps: each(&plan.steps),
            warnings: each(&plan.warnings),
            destructive: plan.destructive,
            confirm: plan.confirm.clone(),
        };
        Self {
            frame,
            plan,
            action,
            fields,
            button: button.to_owned(),
            back,
        }
    }
}

/// A lease as a row.
#[derive(Clone, Debug)]
pub struct LeaseView {
    pub ip: String,
    pub mac: String,
    pub host: String,
    pub state: String,
    pub ends: Moment,
    pub machine: Option<String>,
}

impl LeaseView {
    #[must_use]
    pub fn of(l: &Lease) -> Self {
        Self {
            ip: l.ip.clone(),
            mac: l.mac.clone(),
            host: shown(l.hostname.as_deref().unwrap_or("")),
            state: l.state.clone(),
            ends: Moment::of(l.ends),
            machine: l.machine.map(|id| id.to_string()),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "network.html")]
pub struct Network {
    pub frame: Frame,
    pub leases: Vec<LeaseView>,
    pub loaders: Vec<Loader>,
    pub policy: SitePolicy,
}

#[derive(Debug, Template)]
#[template(path = "login.html")]
pub struct Login {
    pub frame: Frame,
    pub error: String,
    pub next: String,
}

#[derive(Debug, Template)]
#[template(path = "setup.html")]
pub struct Setup {
    pub frame: Frame,
    pub error: String,
    pub done: bool,
}

#[derive(Debug, Template)]
#[template(path = "refused.html")]
pub struct RefusedPage {
    pub frame: Frame,
    pub message: String,
    pub hint: String,
    pub request: String,
}

/// The kind of work that a form speaks of.
#[must_use]
pub fn kind_of(work: &TaskWork) -> &'static str {
    match work {
        TaskWork::Inventory => "inventory",
        TaskWork::Capture { .. } => "capture",
        TaskWork::Deploy { .. } => "deploy",
        TaskWork::Repair { .. } => "repair",
    }
}
