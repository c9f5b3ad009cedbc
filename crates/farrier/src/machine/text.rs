//! Machines as tables and lines.

use farrier_api::admin::{
    BootComparison, IssuedCode, MachineDetail, MachineSummary, Page, TimelineEntry, Woken,
};
use farrier_server::service::describe_work;
use farrier_server::ui::text::{bytes, shown};

use crate::output::{Fields, Table, time};
use crate::setting::pairs;

pub(super) fn outcome(word: &'static str) -> impl FnOnce(&MachineDetail) -> String {
    move |machine| format!("{}: {word}", shown(&called(&machine.summary)))
}

pub(super) fn woken_text(woken: &Woken) -> String {
    let failed = woken.failed.iter().map(|what| format!("failed: {what}"));
    let sent = woken.sent.iter().map(|what| format!("sent: {what}"));
    sent.chain(failed).collect::<Vec<_>>().join("\n")
}

pub(super) fn code_text(issued: &IssuedCode) -> String {
    format!(
        "{}  good once at this machine's menu, until {}",
        issued.code,
        time(issued.expires)
    )
}

/// What people call it.
pub(crate) fn called(machine: &MachineSummary) -> String {
    let first = || machine.macs.first().cloned();
    machine
        .name
        .clone()
        .or_else(first)
        .unwrap_or_else(|| machine.id.to_string())
}

pub(super) fn list(page: &Page<MachineSummary>) -> String {
    let mut table = Table::new([
        "NAME",
        "MAC",
        "STATE",
        "MODEL",
        "MEMORY",
        "LAST SEEN",
        "TASK",
    ]);
    for machine in &page.items {
        let model = format!("{} {}", machine.manufacturer, machine.product);
        let memory = if machine.memory_bytes == 0 {
            String::new()
        } else {
            bytes(machine.memory_bytes)
        };
        let task = machine.task.as_ref();
        table.row([
            machine.name.clone().unwrap_or_default(),
            machine.macs.first().cloned().unwrap_or_default(),
            machine.registration.as_str().to_owned(),
            model.trim().to_owned(),
            memory,
            time(machine.last_seen),
            task.map_or_else(String::new, |t| {
                format!("{} ({})", describe_work(&t.work), t.state.as_str())
            }),
        ]);
    }
    table.to_string()
}

pub(super) fn show(machine: &MachineDetail) -> String {
    let known = &machine.summary;
    let mut fields = Fields::default();
    fields.field("name", known.name.as_deref().unwrap_or("(none)"));
    fields.field("state", known.registration.as_str());
    fields.field("id", known.id);
    fields.field("addresses", known.macs.join(", "));
    fields.field(
        "uuid",
        known.uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
    );
    let words = [known.firmware.as_deref(), known.arch.as_deref()];
    fields.field(
        "firmware",
        words.into_iter().flatten().collect::<Vec<_>>().join(" "),
    );
    fields.field(
        "model",
        format!("{} {}", known.manufacturer, known.product).trim(),
    );
    fields.field("serial", &known.serial);
    fields.field("first seen", time(known.first_seen));
    fields.field("last seen", time(known.last_seen));
    if let Some(task) = &known.task {
        fields.field(
            "task",
            format!(
                "{} {} ({})",
                task.id,
                describe_work(&task.work),
                task.state.as_str()
            ),
        );
    }
    if let Some(group) = &machine.group {
        fields.field("group", group);
    }
    if let Some(wish) = &machine.intent {
        let entry = &wish.entry.0;
        let text = format!(
            "{entry}, {} times until {}, by {}",
            wish.boots_left,
            time(wish.expires),
            wish.set_by
        );
        fields.field("next boots", text);
    }
    if let Some(until) = machine.small_blocks_until {
        let text = format!(
            "blocks of 512 bytes, one at a time, until {}: no larger one arrived",
            time(until)
        );
        fields.field("TFTP", text);
    }
    if let Some(learned) = &machine.learned {
        let text = format!(
            "{}, {}; it worked with its {} firmware since {}",
            learned.strategy,
            learned.what,
            learned.firmware.as_deref().unwrap_or("unknown"),
            time(learned.since)
        );
        fields.field("strategy found", text);
    }
    for (name, value) in pairs(&machine.settings) {
        fields.field(&format!("setting {name}"), value);
    }
    let mut text = String::new();
    if let Some(inventory) = &machine.inventory {
        fields.field(
            "cpu",
            format!(
                "{} ({} threads)",
                inventory.cpu.model, inventory.cpu.threads
            ),
        );
        fields.field("memory", bytes(inventory.memory_bytes));
        let secure = inventory
            .secure_boot
            .map_or("", |on| if on { "on" } else { "off" });
        fields.field("secure boot", secure);
        fields.field("tpm", inventory.tpm.as_deref().unwrap_or_default());
        fields.field("no driver for", inventory.pci_without_driver.join(", "));
        text = format!("\n{}\n{}", disks(inventory), nics(inventory));
    }
    format!("{fields}{text}")
}

fn disks(inventory: &farrier_api::agent::Inventory) -> String {
    let mut table = Table::new(["DISK", "BUS", "SIZE", "MODEL", "SERIAL", "WWN", "TABLE"]);
    for disk in &inventory.disks {
        table.row([
            disk.name.clone(),
            if disk.removable {
                format!("{}, removable", disk.bus)
            } else {
                disk.bus.clone()
            },
            bytes(disk.size_bytes),
            disk.model.clone(),
            disk.serial.clone(),
            disk.wwn.clone(),
            disk.table.clone().unwrap_or_default(),
        ]);
    }
    table.to_string()
}

fn nics(inventory: &farrier_api::agent::Inventory) -> String {
    let mut table = Table::new(["NIC", "MAC", "LINK", "DRIVER", "PCI"]);
    for nic in &inventory.nics {
        let link = if nic.link_up { "up" } else { "down" };
        table.row([
            nic.name.clone(),
            nic.mac.clone(),
            if nic.boot {
                format!("{link}, booted from")
            } else {
                link.to_owned()
            },
            nic.driver.clone(),
            nic.pci_id.clone(),
        ]);
    }
    table.to_string()
}

pub(crate) fn timeline(page: &Page<TimelineEntry>, details: bool) -> String {
    let mut table = Table::default();
    for entry in page.items.iter().rev() {
        table.row([time(entry.at), entry.kind.clone(), entry.text.clone()]);
        if details {
            for (name, value) in &entry.details {
                table.row(["".to_owned(), "".to_owned(), format!("{name}: {value}")]);
            }
        }
    }
    table.to_string()
}

pub(super) fn compared(comparison: &BootComparison) -> String {
    let mut table = Table::new(["GOOD BOOT", "LAST BOOT", "WHAT"]);
    let seconds = |ms: Option<u64>| {
        ms.map_or_else(
            || "missing".to_owned(),
            |ms| format!("{:.1} s", ms as f64 / 1e3),
        )
    };
    for step in &comparison.steps {
        table.row([
            seconds(step.good_ms),
            seconds(step.last_ms),
            step.text.clone(),
        ]);
    }
    format!("{}\n\n{table}", shown(&comparison.verdict))
}
