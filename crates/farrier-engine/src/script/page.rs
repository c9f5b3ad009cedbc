//! What a machine's loader is to do, in no loader's language.

use super::{
    AgentScript, CodeScript, LocalDisk, MediumScript, MenuScript, NotRepresentable, Text, Url,
    grub, label_menu, pxelinux,
};
use crate::Reason;
use crate::policy::MenuEntry;

/// The languages we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Language {
    Grub,
    Ipxe,
    Pxelinux,
    /// What the network loader of s390x took over from PXELINUX: labels with a kernel.
    S390,
    /// What U-Boot took over from PXELINUX: a menu of labels.
    UBoot,
}

impl Language {
    /// What it is called to people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Grub => "GRUB",
            Self::Ipxe => "iPXE",
            Self::Pxelinux => "PXELINUX",
            Self::S390 => "s390x",
            Self::UBoot => "U-Boot",
        }
    }
}

/// One script, before it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Page<'a> {
    Agent(AgentScript<'a>),
    LocalDisk(&'a LocalDisk),
    MemoryTest {
        program: &'a Url,
        local_disk: &'a LocalDisk,
    },
    Medium(MediumScript<'a>),
    Menu(MenuScript<'a>),
    /// Shows lines until somebody presses a key or a minute is over, then starts the local disk.
    Diagnostics {
        lines: &'a [Text],
        local_disk: &'a LocalDisk,
    },
    AskCode(CodeScript<'a>),
    /// Says why there is nothing to do, then starts the local disk.
    Message {
        reason: Reason,
        local_disk: &'a LocalDisk,
    },
}

impl Page<'_> {
    /// How the local disk is started when the page has nothing else to do.
    pub(super) fn local_disk(&self) -> &LocalDisk {
        match self {
            Self::Agent(script) => script.local_disk,
            Self::LocalDisk(method) => method,
            Self::Medium(script) => script.local_disk,
            Self::Menu(script) => script.local_disk,
            Self::AskCode(script) => script.local_disk,
            Self::MemoryTest { local_disk, .. }
            | Self::Diagnostics { local_disk, .. }
            | Self::Message { local_disk, .. } => local_disk,
        }
    }

    /// Writes it down.
    ///
    /// # Errors
    ///
    /// When the language cannot hold one of the values.
    pub fn render(&self, language: Language) -> Result<String, NotRepresentable> {
        match language {
            Language::Grub => grub::render(self),
            Language::Ipxe => Ok(self.render_ipxe()),
            Language::Pxelinux => pxelinux::render(self),
            Language::S390 => label_menu::s390(self),
            Language::UBoot => label_menu::u_boot(self),
        }
    }

    fn render_ipxe(&self) -> String {
        match self {
            Self::Agent(script) => super::agent(script),
            Self::LocalDisk(method) => super::local_disk(method),
            Self::MemoryTest {
                program,
                local_disk,
            } => super::memory_test(program, local_disk),
            Self::Medium(script) => super::medium::start(script),
            Self::Menu(script) => super::menu(script),
            Self::Diagnostics { lines, local_disk } => super::diagnostics(lines, local_disk),
            Self::AskCode(script) => super::ask_code(script),
            Self::Message { reason, local_disk } => super::message(*reason, local_disk),
        }
    }
}

/// A line of the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub entry: MenuEntry,
    /// Chooses it where the loader has such keys.
    pub key: char,
    pub title: &'static str,
}

/// The entries that every menu has, in the order in which they are shown.
pub const ITEMS: [Item; 4] = [
    Item {
        entry: MenuEntry::LocalDisk,
        key: 'l',
        title: "Start from the local disk",
    },
    Item {
        entry: MenuEntry::Register,
        key: 'r',
        title: "Register this machine",
    },
    Item {
        entry: MenuEntry::MemoryTest,
        key: 't',
        title: "Test the memory",
    },
    Item {
        entry: MenuEntry::Diagnostics,
        key: 'd',
        title: "Show what the server decides",
    },
];

/// What registering comes to where that was done before.
const REGISTER_AGAIN: &str = "Start the agent and take the inventory";

/// One line of one machine's menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) entry: MenuEntry,
    pub(super) key: Option<char>,
    pub(super) title: Text,
}

impl MenuScript<'_> {
    /// What every menu has, then the media, of which the first nine have a digit.
    pub(super) fn lines(&self) -> Vec<Line> {
        let fixed = ITEMS.iter().map(|item| Line {
            entry: item.entry,
            key: Some(item.key),
            title: Text::readable(match item.entry {
                MenuEntry::Register if self.registered => REGISTER_AGAIN,
                _ => item.title,
            }),
        });
        let digits = ('1'..='9').map(Some).chain(std::iter::repeat(None));
        let media = self.media.iter().zip(digits).map(|(medium, key)| Line {
            entry: MenuEntry::Medium(medium.name),
            key,
            title: Text::readable(&format!(
                "Start {} ({}, {})",
                medium.name,
                medium.kind,
                size(medium.size)
            )),
        });
        fixed.chain(media).collect()
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999_999 => format!("{} KB", bytes / 1000),
        10_000_000..=9_999_999_999 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}
