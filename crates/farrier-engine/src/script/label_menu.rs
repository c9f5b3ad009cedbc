//! Writing what U-Boot and the network loader of s390x took over from PXELINUX: labels, of which one is started.
//! Neither knows `SAY`, and there is no agent for their machines, so what is to be read stands in the labels.

use std::fmt::Write as _;

use super::NotRepresentable;
use super::page::Page;
use crate::Reason;
use crate::policy::MenuEntry;

/// U-Boot prints the title and the labels, waits, and starts the default. A label with `localboot` runs the board's
/// own `localcmd`; where there is none, U-Boot goes on to its next boot target.
pub(super) fn u_boot(page: &Page<'_>) -> Result<String, NotRepresentable> {
    let lines = said(page);
    let mut menu = String::new();
    let (title, rest) = lines.split_first().ok_or(NotRepresentable::Length)?;
    line(&mut menu, "menu title", title)?;
    line(&mut menu, "timeout", WAIT_TENTHS)?;
    let disk = MenuEntry::LocalDisk.to_string();
    line(&mut menu, "default", &disk)?;
    line(&mut menu, "label", &disk)?;
    line(&mut menu, "menu label", "Go on to the local disk")?;
    line(&mut menu, "localboot", "1")?;
    for (number, text) in rest.iter().enumerate() {
        line(&mut menu, "label", &format!("line{number}"))?;
        line(&mut menu, "menu label", text)?;
        line(&mut menu, "localboot", "1")?;
    }
    Ok(menu)
}

/// The loader prints the name of the label that it starts, and stops when there is no such kernel, which brings the
/// machine to its next boot device. A label without any makes some versions load a name made of garbage.
pub(super) fn s390(page: &Page<'_>) -> Result<String, NotRepresentable> {
    let mut config = String::new();
    for text in said(page).iter().take(MAX_LABELS) {
        line(&mut config, "label", text)?;
        line(&mut config, "kernel", NO_KERNEL)?;
    }
    if config.len() > MAX_S390 {
        return Err(NotRepresentable::Length);
    }
    Ok(config)
}

/// What a page has to say, the first line by itself where there is room for one only.
fn said(page: &Page<'_>) -> Vec<String> {
    let first = match page {
        Page::LocalDisk(_) | Page::Menu(_) => {
            "Farrier: there is no work for this machine".to_owned()
        }
        // Decided for no such machine; should it be, then what would be started is for a PC.
        Page::Agent(_) | Page::MemoryTest { .. } => told(Reason::NoAgentForMachine),
        Page::Diagnostics { lines, .. } => {
            let title = "Farrier: what the server decides for this machine".to_owned();
            let lines = lines.iter().map(|text| text.as_str().to_owned());
            return [title].into_iter().chain(lines).collect();
        }
        Page::AskCode(_) => told(Reason::NoCodePrompt),
        Page::Medium(_) => told(Reason::MediumNotForFirmware),
        Page::Message { reason, .. } => told(*reason),
    };
    vec![first]
}

fn told(reason: Reason) -> String {
    format!("Farrier: {}", reason.sentence())
}

fn line(config: &mut String, keyword: &str, rest: &str) -> Result<(), NotRepresentable> {
    if !rest.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err(NotRepresentable::Character);
    }
    writeln!(config, "{keyword} {rest}").map_err(|_| NotRepresentable::Length)
}

/// There is no such file, on purpose.
pub(crate) const NO_KERNEL: &str = "no-agent-for-this-machine";
/// Time to read the title, in tenths of a second.
const WAIT_TENTHS: &str = "50";
/// The loader of s390x keeps sixteen labels and reads 2047 bytes.
const MAX_LABELS: usize = 16;
const MAX_S390: usize = 2047;
