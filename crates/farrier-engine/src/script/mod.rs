//! Boot scripts, rendered for one machine at the moment it asks.
//!
//! Nothing a client says can become a command (`T4`): whatever is not written here goes through
//! [`Text`], [`Url`] or [`Argument`], which refuse what the language cannot carry. They refuse
//! rather than strip, so that what is shown or passed on is what was said.

mod grub;
#[cfg(test)]
mod grub_tests;
mod ipxe;
mod label_menu;
#[cfg(test)]
mod label_menu_tests;
mod medium;
mod page;
#[cfg(test)]
mod parser;
mod pxelinux;
#[cfg(test)]
mod pxelinux_tests;
#[cfg(test)]
mod tests;
mod value;

use std::net::Ipv4Addr;
use std::time::Duration;

use ipxe::{Ipxe, Part};
pub(crate) use label_menu::NO_KERNEL;
pub use medium::{MediumScript, by_name as medium_by_name};
pub use page::{ITEMS, Item, Language, Page};
pub use value::{Argument, NotRepresentable, Text, Url};

use crate::Reason;
use crate::policy::{MenuEntry, MenuMedium};

/// Kernel and initramfs of the agent, with their arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentScript<'a> {
    pub kernel: &'a Url,
    pub initrd: &'a Url,
    pub arguments: &'a [Argument],
    /// Where it goes if the agent cannot be loaded.
    pub local_disk: &'a LocalDisk,
}

/// The menu of a machine without work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuScript<'a> {
    /// The machine's name or address.
    pub title: &'a Text,
    /// Somebody registered it; else the menu offers just that.
    pub registered: bool,
    pub default: MenuEntry,
    pub timeout: Duration,
    /// Shown only if a key is pressed within three seconds.
    pub on_key: bool,
    /// Asked again, with the parameter `choice`, for entries other than the local disk.
    pub script: &'a Url,
    /// Shown behind the entries that every menu has.
    pub media: &'a [MenuMedium],
    pub local_disk: &'a LocalDisk,
}

/// Asks whoever is at the machine for a one-time code. Only iPXE can: PXELINUX takes no words, and the GRUB that
/// Debian signs has no command to read any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeScript<'a> {
    pub entry: MenuEntry,
    /// The last one was not right.
    pub again: bool,
    /// Asked again, with the parameters `choice` and `code`.
    pub script: &'a Url,
    pub local_disk: &'a LocalDisk,
}

/// How the script starts the local disk; [`crate::policy::LocalBoot`] with its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalDisk {
    Exit,
    Firmware,
    Sanboot,
    SanbootFile,
    Program(Url),
    /// GRUB asks the server that its loader was told of, which iPXE can change: beside a foreign DHCP server that would
    /// be the foreign one.
    Grub {
        program: Url,
        next_server: Ipv4Addr,
    },
}

/// The first script, the same for all machines: gets an address if iPXE has none yet, then asks for
/// the machine's own script and says who it is, in the query: the ROMs that Debian's QEMU carries have
/// no `params` command for a form.
#[must_use]
pub fn first(script: &Url) -> String {
    let mut ipxe = Ipxe::new();
    // A loader that came by TFTP has its address from the firmware, but no open interface yet.
    ipxe.line([Part::Fixed("ifopen ||")]);
    ipxe.line([Part::Fixed("isset ${ip} || dhcp || goto failed")]);
    ask_again(&mut ipxe, script, None);
    without_answer(ipxe)
}

/// The answer that names a script, which is good once. Where it is gone or does not arrive, iPXE asks for another, and
/// the second time goes on without.
#[must_use]
pub fn named(named: &Url, script: &Url) -> String {
    let mut ipxe = Ipxe::new();
    ipxe.line([
        Part::Fixed("chain --replace --autofree"),
        Part::Url(named),
        Part::Fixed("|| goto again"),
    ]);
    ipxe.label("again");
    ipxe.line([Part::Fixed("isset ${asked-again} && goto failed ||")]);
    ipxe.line([Part::Fixed("set asked-again yes")]);
    ask_again(&mut ipxe, script, None);
    without_answer(ipxe)
}

/// GRUB's first script, the same for all machines of a server: it asks for the machine's own one below `script`,
/// by its processor, platform and hardware address.
///
/// # Errors
///
/// When GRUB has no name for one of the URLs.
pub fn grub_first(script: &Url, over_http: &Url) -> Result<String, NotRepresentable> {
    grub::first(script, over_http)
}

/// Starts the agent.
#[must_use]
pub fn agent(script: &AgentScript<'_>) -> String {
    let mut ipxe = Ipxe::new();
    ipxe.line([Part::Fixed("echo Farrier: starting the agent.")]);
    // Older iPXE on UEFI finds the initramfs by this name only.
    let mut kernel = vec![
        Part::Fixed("kernel"),
        Part::Url(script.kernel),
        Part::Fixed("initrd=agent.img"),
    ];
    kernel.extend(script.arguments.iter().map(Part::Argument));
    kernel.push(Part::Fixed("|| goto failed"));
    ipxe.line(kernel);
    ipxe.line([
        Part::Fixed("initrd --name agent.img"),
        Part::Url(script.initrd),
        Part::Fixed("|| goto failed"),
    ]);
    ipxe.line([Part::Fixed("boot || goto failed")]);
    ipxe.label("failed");
    ipxe.line([Part::Fixed(
        "echo Farrier: the agent could not be loaded. The local disk starts instead.",
    )]);
    ipxe.line([Part::Fixed("sleep 5")]);
    start_disk(&mut ipxe, script.local_disk);
    ipxe.finish()
}

/// Shows the menu.
#[must_use]
pub fn menu(script: &MenuScript<'_>) -> String {
    let mut ipxe = Ipxe::new();
    let default = Part::Entry(script.default);
    let lines = script.lines();
    if script.on_key {
        let prompt = Part::Fixed("Farrier: press m for the boot menu. || goto");
        ipxe.line([
            Part::Fixed("prompt --key m --timeout"),
            Part::Millis(PROMPT),
            prompt,
            default,
        ]);
    }
    ipxe.line([Part::Fixed("menu Farrier:"), Part::Text(script.title)]);
    for line in &lines {
        let mut item = vec![Part::Fixed("item")];
        if let Some(key) = line.key {
            item.extend([Part::Fixed("--key"), Part::Key(key)]);
        }
        item.extend([Part::Entry(line.entry), Part::Text(&line.title)]);
        ipxe.line(item);
    }
    ipxe.line([
        Part::Fixed("choose --default"),
        default,
        Part::Fixed("--timeout"),
        Part::Millis(script.timeout),
        Part::Fixed("chosen || goto"),
        default,
    ]);
    ipxe.line([Part::Fixed("goto ${chosen}")]);
    let asked = lines.iter().map(|line| line.entry);
    for entry in asked.filter(|entry| *entry != MenuEntry::LocalDisk) {
        ipxe.entry_label(entry);
        ask_again(&mut ipxe, script.script, Some(entry));
    }
    ipxe.label("failed");
    ipxe.line([Part::Fixed(
        "echo Farrier: the server did not answer. The local disk starts instead.",
    )]);
    ipxe.line([Part::Fixed("sleep 5")]);
    ipxe.entry_label(MenuEntry::LocalDisk);
    start_disk(&mut ipxe, script.local_disk);
    ipxe.finish()
}

/// Starts the local disk at once.
#[must_use]
pub fn local_disk(method: &LocalDisk) -> String {
    let mut ipxe = Ipxe::new();
    start_disk(&mut ipxe, method);
    ipxe.finish()
}

/// Starts the memory test. It ends by a restart, so there is nothing to come back to.
#[must_use]
pub fn memory_test(program: &Url, local_disk: &LocalDisk) -> String {
    let mut ipxe = Ipxe::new();
    ipxe.line([Part::Fixed("echo Farrier: starting the memory test.")]);
    ipxe.line([
        Part::Fixed("chain --autofree"),
        Part::Url(program),
        Part::Fixed("|| goto failed"),
    ]);
    ipxe.label("failed");
    ipxe.line([Part::Fixed(
        "echo Farrier: the memory test ended or did not start.",
    )]);
    ipxe.line([Part::Fixed("sleep 5")]);
    start_disk(&mut ipxe, local_disk);
    ipxe.finish()
}

/// Asks for a code; an empty line starts the local disk.
#[must_use]
pub fn ask_code(script: &CodeScript<'_>) -> String {
    let mut ipxe = Ipxe::new();
    if script.again {
        ipxe.line([Part::Fixed(
            "echo Farrier: that code is wrong, used up or too old.",
        )]);
    }
    ipxe.line([Part::Fixed(
        "echo Farrier: this entry needs a code: farrier machine code gives one. Enter alone starts the local disk.",
    )]);
    // Of an earlier question; an empty line leaves it unset.
    ipxe.line([Part::Fixed("clear code ||")]);
    ipxe.line([Part::Fixed("echo -n Code:")]);
    ipxe.line([Part::Fixed("read code || goto local_disk")]);
    ipxe.line([Part::Fixed("isset ${code} || goto local_disk")]);
    ipxe.line([
        Part::Fixed("chain --replace --autofree"),
        Part::AskWithCode {
            script: script.script,
            choice: script.entry,
        },
        Part::Fixed("|| goto failed"),
    ]);
    ipxe.label("failed");
    ipxe.line([Part::Fixed(
        "echo Farrier: the server did not answer. The local disk starts instead.",
    )]);
    ipxe.line([Part::Fixed("sleep 5")]);
    ipxe.entry_label(MenuEntry::LocalDisk);
    start_disk(&mut ipxe, script.local_disk);
    ipxe.finish()
}

/// Says why there is nothing to do, then starts the local disk.
#[must_use]
pub fn message(reason: Reason, local_disk: &LocalDisk) -> String {
    let mut ipxe = Ipxe::new();
    ipxe.line([Part::Fixed("echo Farrier:"), Part::Fixed(reason.sentence())]);
    ipxe.line([Part::Fixed("sleep 5")]);
    start_disk(&mut ipxe, local_disk);
    ipxe.finish()
}

/// Shows lines, then starts the local disk.
#[must_use]
pub fn diagnostics(lines: &[Text], local_disk: &LocalDisk) -> String {
    let mut ipxe = Ipxe::new();
    ipxe.line([Part::Fixed(
        "echo Farrier: what the server decides for this machine",
    )]);
    for line in lines {
        ipxe.line([Part::Fixed("echo"), Part::Text(line)]);
    }
    ipxe.line([
        Part::Fixed("prompt --timeout"),
        Part::Millis(READING),
        Part::Fixed("Press a key to start the local disk. ||"),
    ]);
    start_disk(&mut ipxe, local_disk);
    ipxe.finish()
}

/// Ends a script that found nobody to ask.
fn without_answer(mut ipxe: Ipxe) -> String {
    ipxe.label("failed");
    ipxe.line([Part::Fixed(
        "echo Farrier: the server did not answer. The machine goes on to its next boot entry.",
    )]);
    ipxe.line([Part::Fixed("sleep 5")]);
    ipxe.line([Part::Fixed("exit")]);
    ipxe.finish()
}

fn ask_again(ipxe: &mut Ipxe, script: &Url, choice: Option<MenuEntry>) {
    let chain = Part::Fixed("chain --replace --autofree");
    ipxe.line([
        chain,
        Part::Ask { script, choice },
        Part::Fixed("|| goto failed"),
    ]);
}

fn start_disk(ipxe: &mut Ipxe, method: &LocalDisk) {
    match method {
        LocalDisk::Exit => ipxe.line([Part::Fixed("exit")]),
        // UEFI goes on to its next entry when one fails; after one that ended well it may show its set-up.
        LocalDisk::Firmware => ipxe.line([Part::Fixed("exit 1")]),
        LocalDisk::Sanboot => {
            ipxe.line([Part::Fixed("sanboot --no-describe --drive 0x80 || exit")])
        }
        LocalDisk::SanbootFile => ipxe.line([Part::Fixed(
            "sanboot --no-describe --drive 0 || sanboot --no-describe --drive 0x80 || exit 1",
        )]),
        LocalDisk::Program(url) => {
            ipxe.line([
                Part::Fixed("chain --autofree"),
                Part::Url(url),
                Part::Fixed("|| exit"),
            ]);
        }
        LocalDisk::Grub {
            program,
            next_server,
        } => {
            ipxe.line([
                Part::Fixed("set netX/next-server"),
                Part::Address(*next_server),
                Part::Fixed("||"),
            ]);
            ipxe.line([
                Part::Fixed("chain --autofree"),
                Part::Url(program),
                Part::Fixed("|| exit 1"),
            ]);
        }
    }
}

/// Long enough to read a screen, or to take a picture of it.
pub(crate) const READING: Duration = Duration::from_secs(60);
/// How long the offer of a menu waits for a key.
const PROMPT: Duration = Duration::from_secs(3);
