//! From the words of the domain to those of the interface, and back.

use farrier_api::{admin as api, agent};
use farrier_engine::medium::MediumName;
use farrier_engine::model::{self, Machine};
use farrier_engine::{MacAddr, WallTime, policy, strategy, task, timeline};

use super::Refusal;
use super::tasks::parse_image;
use crate::core::{Core, now};

/// Declares the two directions between enums with the same variants.
macro_rules! same {
    ($($left:path, $right:path { $($variant:ident),* })*) => {$(
        impl Like<$right> for $left {
            fn like(self) -> $right {
                match self { $(<$left>::$variant => <$right>::$variant,)* }
            }
        }
        impl Like<$left> for $right {
            fn like(self) -> $left {
                match self { $(<$right>::$variant => <$left>::$variant,)* }
            }
        }
    )*};
}

/// The same thing in the other vocabulary.
pub(crate) trait Like<T> {
    fn like(self) -> T;
}

same! {
    model::Registration, api::Registration { Seen, Pending, Approved, Disabled }
    model::Role, api::Role { Viewer, Operator, Admin }
    task::State, api::TaskState { Queued, Running, Lost, Done, Failed, Cancelled, Expired }
    task::Then, api::Then { LocalBoot, PowerOff, Reboot }
    task::Bottleneck, agent::Bottleneck { Cpu, Disk, Network }
    policy::MenuMode, api::MenuMode { Never, Always, OnKey }
    policy::UnknownMachine, api::UnknownMachine { Ignore, Menu, Register }
    policy::Enrolment, api::Enrolment { Approve, Automatic }
    policy::FirstLoader, api::FirstLoader { Ipxe, Grub, Pxelinux }
    policy::IpxeVariant, api::IpxeVariant { Full, SnpOnly }
    policy::BootTls, api::BootTls { Never, Firmware, Always }
    strategy::StrategyChoice, api::Strategy { Auto, A, B, C, D }
    policy::Until, api::Until { Used, Approved, Inventoried }
}

pub(crate) fn settings(s: &policy::Settings) -> api::Settings {
    api::Settings {
        menu: s.menu.map(Like::like),
        menu_timeout_s: s.menu_timeout_s,
        default_entry: s.default_entry.map(entry),
        menu_code: s.menu_code,
        unknown_machine: s.unknown_machine.map(Like::like),
        enrolment: s.enrolment.map(Like::like),
        first_loader: s.first_loader.map(Like::like),
        ipxe_variant: s.ipxe_variant.map(Like::like),
        tftp_blksize: s.tftp_blksize,
        tftp_windowsize: s.tftp_windowsize,
        secure_boot: s.secure_boot,
        strategy: s.strategy.map(Like::like),
        rom_menu: s.rom_menu,
        media: s
            .media
            .as_ref()
            .map(|names| names.iter().map(ToString::to_string).collect()),
        image: s.image.clone(),
        tftp_timeout_s: s.tftp_timeout_s,
        boot_tls: s.boot_tls.map(Like::like),
    }
}

pub(crate) fn entry(entry: policy::MenuEntry) -> api::MenuEntry {
    api::MenuEntry(entry.to_string())
}

pub(crate) fn entry_back(entry: &api::MenuEntry) -> Result<policy::MenuEntry, Refusal> {
    entry
        .0
        .parse()
        .map_err(|e| Refusal::bad(format!("{:?}: {e}", entry.0)))
}

fn media_back(names: &[String]) -> Result<Vec<MediumName>, Refusal> {
    if names.len() > MAX_MEDIA {
        return Err(Refusal::bad(format!(
            "`media` names at most {MAX_MEDIA} images"
        )));
    }
    let name = |text: &String| {
        MediumName::new(text).map_err(|e| Refusal::bad(format!("`media`: {text:?}: {e}")))
    };
    names.iter().map(name).collect()
}

/// What a menu has room for.
const MAX_MEDIA: usize = 16;

pub(crate) fn settings_back(s: &api::Settings) -> Result<policy::Settings, Refusal> {
    if s.tftp_timeout_s.is_some_and(|s| !(1..=30).contains(&s)) {
        return Err(Refusal::bad("`tftp_timeout_s` is 1 to 30 seconds"));
    }
    s.image.as_deref().map(parse_image).transpose()?;
    Ok(policy::Settings {
        menu: s.menu.map(Like::like),
        menu_timeout_s: s.menu_timeout_s,
        default_entry: s.default_entry.as_ref().map(entry_back).transpose()?,
        menu_code: s.menu_code,
        unknown_machine: s.unknown_machine.map(Like::like),
        enrolment: s.enrolment.map(Like::like),
        first_loader: s.first_loader.map(Like::like),
        ipxe_variant: s.ipxe_variant.map(Like::like),
        tftp_blksize: s.tftp_blksize,
        tftp_windowsize: s.tftp_windowsize,
        secure_boot: s.secure_boot,
        strategy: s.strategy.map(Like::like),
        rom_menu: s.rom_menu,
        boot_tls: s.boot_tls.map(Like::like),
        media: s.media.as_deref().map(media_back).transpose()?,
        image: s.image.clone(),
        tftp_timeout_s: s.tftp_timeout_s,
    })
}

pub(crate) fn rule(r: &policy::Rule) -> api::Rule {
    api::Rule {
        name: r.name.to_string(),
        when: r.when.clone(),
        settings: settings(&r.settings),
        refuse_boot: r.refuse_boot,
        refuse_tasks: r.refuse_tasks,
    }
}

pub(crate) fn rule_back(r: &api::Rule) -> Result<policy::Rule, Refusal> {
    let name = r.name.clone().try_into();
    Ok(policy::Rule {
        name: name.map_err(|e: policy::ShortNameError| Refusal::bad(e.to_string()))?,
        when: r.when.clone(),
        settings: settings_back(&r.settings)?,
        refuse_boot: r.refuse_boot,
        refuse_tasks: r.refuse_tasks,
    })
}

fn intent(i: &policy::BootIntent) -> api::Intent {
    api::Intent {
        entry: entry(i.entry),
        boots_left: i.boots_left,
        expires: i.expires.0,
        until: i.until.like(),
        set_by: i.set_by.clone(),
    }
}

fn learned(l: strategy::Learned) -> api::LearnedStrategy {
    api::LearnedStrategy {
        strategy: l.strategy.to_string(),
        what: l.strategy.clause().to_owned(),
        firmware: l.firmware.map(|kind| firmware_name(kind).to_owned()),
        since: l.since.0,
    }
}

pub(crate) fn firmware_name(kind: model::FirmwareKind) -> &'static str {
    match kind {
        model::FirmwareKind::Bios => "BIOS",
        model::FirmwareKind::OpenFirmware => "Open Firmware",
        model::FirmwareKind::S390 => "s390",
        model::FirmwareKind::UBoot => "U-Boot",
        model::FirmwareKind::Uefi => "UEFI",
    }
}

pub(crate) fn arch_name(arch: model::Arch) -> &'static str {
    match arch {
        model::Arch::Arm32 => "arm",
        model::Arch::Arm64 => "arm64",
        model::Arch::Ia32 => "ia32",
        model::Arch::LoongArch64 => "loongarch64",
        model::Arch::Ppc64 => "ppc64",
        model::Arch::Sparc64 => "sparc64",
        model::Arch::RiscV64 => "riscv64",
        model::Arch::S390x => "s390x",
        model::Arch::X86_64 => "x86-64",
    }
}

/// What people call a machine: its name, or its first address.
pub(crate) fn machine_name(machine: &Machine) -> String {
    match (&machine.name, machine.macs.first()) {
        (Some(name), _) => name.to_string(),
        (None, Some(mac)) => mac.to_string(),
        (None, None) => machine.id.to_string(),
    }
}

pub(crate) fn machine_summary(core: &Core, machine: &Machine) -> api::MachineSummary {
    let system = machine.inventory.as_ref().map(|i| &i.system);
    let text = |of: fn(&model::SystemInfo) -> &String| system.map(of).cloned().unwrap_or_default();
    api::MachineSummary {
        id: machine.id.0,
        name: machine.name.as_ref().map(ToString::to_string),
        registration: machine.registration.like(),
        macs: machine.macs.iter().map(ToString::to_string).collect(),
        uuid: machine.uuid,
        firmware: machine.firmware.map(|f| firmware_name(f).to_owned()),
        arch: machine.arch.map(|a| arch_name(a).to_owned()),
        manufacturer: text(|s| &s.manufacturer),
        product: text(|s| &s.product),
        serial: text(|s| &s.serial),
        memory_bytes: machine.inventory.as_ref().map_or(0, |i| i.memory_bytes),
        first_seen: machine.first_seen.0,
        last_seen: machine.last_seen.0,
        task: core
            .fleet
            .queue(machine.id)
            .first()
            .map(|t| task_summary(core, t)),
        revision: machine.revision,
    }
}

pub(crate) fn machine_detail(core: &Core, machine: &Machine) -> api::MachineDetail {
    let rules = core.rules.load();
    let judged = rules.judge(None, Some(machine), || core.place_of(machine));
    api::MachineDetail {
        summary: machine_summary(core, machine),
        group: machine.group.as_ref().map(ToString::to_string),
        effective: super::policy::effective(&core.snapshot.load(), Some(machine), &judged),
        // One that is used up is kept for the boot that is under way, and is no news to people.
        intent: machine
            .intent
            .as_ref()
            .filter(|intent| intent.boots_left > 0)
            .map(intent),
        learned: machine.learned.map(learned),
        small_blocks_until: small_blocks_until(core, machine).map(|until| until.0),
        settings: settings(&machine.settings),
        inventory: machine.inventory.as_ref().map(inventory),
    }
}

/// Until when it gets small blocks by TFTP, since none of a transfer with large ones arrived.
pub(super) fn small_blocks_until(core: &Core, machine: &Machine) -> Option<WallTime> {
    let until = |mac: &MacAddr| core.sightings.small_blocks_until(*mac, now());
    machine.macs.iter().filter_map(until).max()
}

fn inventory(i: &model::Inventory) -> agent::Inventory {
    let s = &i.system;
    agent::Inventory {
        system: agent::System {
            manufacturer: s.manufacturer.clone(),
            product: s.product.clone(),
            family: s.family.clone(),
            sku: s.sku.clone(),
            serial: s.serial.clone(),
            uuid: s.uuid,
            board_serial: s.board_serial.clone(),
            chassis_asset: s.chassis_asset.clone(),
            bios_vendor: s.bios_vendor.clone(),
            bios_version: s.bios_version.clone(),
        },
        cpu: agent::Cpu {
            model: i.cpu.model.clone(),
            sockets: i.cpu.sockets,
            cores: i.cpu.cores,
            threads: i.cpu.threads,
        },
        memory_bytes: i.memory_bytes,
        nics: i.nics.iter().map(nic).collect(),
        disks: i.disks.iter().map(disk).collect(),
        uefi: i.uefi,
        secure_boot: i.secure_boot,
        tpm: i.tpm.clone(),
        pci_without_driver: i.pci_without_driver.clone(),
    }
}

fn nic(n: &model::Nic) -> agent::Nic {
    agent::Nic {
        name: n.name.clone(),
        mac: n.mac.0.to_string(),
        pci_id: n.pci_id.clone(),
        driver: n.driver.clone(),
        link_up: n.link_up,
        boot: n.boot,
    }
}

fn disk(d: &model::Disk) -> agent::Disk {
    agent::Disk {
        name: d.name.clone(),
        size_bytes: d.size_bytes,
        logical_sector: d.logical_sector,
        physical_sector: d.physical_sector,
        model: d.model.clone(),
        serial: d.serial.clone(),
        wwn: d.wwn.clone(),
        bus: d.bus.clone(),
        rotational: d.rotational,
        removable: d.removable,
        table: d.table.clone(),
    }
}

pub(crate) fn task_summary(core: &Core, t: &task::Task) -> api::TaskSummary {
    let machine_name = core
        .fleet
        .machine(t.machine)
        .map_or_else(|| t.machine.to_string(), |m| machine_name(&m));
    api::TaskSummary {
        id: t.id.0,
        machine: t.machine.0,
        machine_name,
        work: work(&t.work),
        state: t.state.like(),
        progress: api::TaskProgress {
            phase: t.progress.phase.clone(),
            done_bytes: t.progress.done_bytes,
            total_bytes: t.progress.total_bytes,
            bytes_per_second: t.progress.bytes_per_second,
            bottleneck: t.progress.bottleneck.map(Like::like),
        },
        attempts: t.attempts,
        max_attempts: t.max_attempts,
        created: t.created.0,
        created_by: t.created_by.clone(),
        expires: t.expires.0,
        ended: t.ended.map(|at| at.0),
        heard: t.heard.map(|at| at.0),
        reason: t.reason.clone(),
        then: t.then.like(),
        revision: t.revision,
    }
}

fn work(w: &task::Work) -> api::TaskWork {
    match w {
        task::Work::Inventory => api::TaskWork::Inventory,
        task::Work::Capture { image, disk } => api::TaskWork::Capture {
            image: image.clone(),
            disk: selector(disk),
        },
        task::Work::Deploy {
            image,
            version,
            disk,
        } => api::TaskWork::Deploy {
            image: image.clone(),
            version: *version,
            disk: selector(disk),
        },
        task::Work::Repair {
            image,
            version,
            disk,
        } => api::TaskWork::Repair {
            image: image.clone(),
            version: *version,
            disk: selector(disk),
        },
    }
}

pub(crate) fn work_back(w: api::TaskWork) -> task::Work {
    match w {
        api::TaskWork::Inventory => task::Work::Inventory,
        api::TaskWork::Capture { image, disk } => task::Work::Capture {
            image,
            disk: selector_back(disk),
        },
        api::TaskWork::Deploy {
            image,
            version,
            disk,
        } => task::Work::Deploy {
            image,
            version,
            disk: selector_back(disk),
        },
        api::TaskWork::Repair {
            image,
            version,
            disk,
        } => task::Work::Repair {
            image,
            version,
            disk: selector_back(disk),
        },
    }
}

fn selector(d: &task::DiskSelector) -> agent::DiskSelector {
    agent::DiskSelector {
        serial: d.serial.clone(),
        wwn: d.wwn.clone(),
        bus: d.bus.clone(),
        min_bytes: d.min_bytes,
        max_bytes: d.max_bytes,
        model: d.model.clone(),
        allow_removable: d.allow_removable,
    }
}

/// An empty field of a form is a field that was not set.
fn selector_back(d: agent::DiskSelector) -> task::DiskSelector {
    let set = |text: Option<String>| text.filter(|t| !t.is_empty());
    task::DiskSelector {
        serial: set(d.serial),
        wwn: set(d.wwn),
        bus: set(d.bus),
        min_bytes: d.min_bytes,
        max_bytes: d.max_bytes,
        model: set(d.model),
        allow_removable: d.allow_removable,
    }
}

pub(crate) fn kind_name(kind: timeline::Kind) -> &'static str {
    match kind {
        timeline::Kind::Seen => "seen",
        timeline::Kind::Answered => "answered",
        timeline::Kind::Refused => "refused",
        timeline::Kind::Transfer => "transfer",
        timeline::Kind::Agent => "agent",
        timeline::Kind::Task => "task",
        timeline::Kind::Operator => "operator",
        timeline::Kind::Warning => "warning",
    }
}

pub(crate) fn timeline_entry(e: &timeline::Entry) -> api::TimelineEntry {
    api::TimelineEntry {
        at: e.at.0,
        machine: e.machine.0,
        kind: kind_name(e.kind).to_owned(),
        text: e.text.to_string(),
        details: e
            .details
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect(),
    }
}
