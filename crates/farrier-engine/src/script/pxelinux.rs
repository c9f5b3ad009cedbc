//! Writing PXELINUX's configuration language. A line is a keyword and the rest of the line; there are no quotes
//! and nothing is live inside of a line, so a value must only stay on it, and must not be split where the rest of
//! the line is words.

use std::time::Duration;

use super::page::Page;
use super::{Argument, MediumScript, MenuScript, NotRepresentable, Url};
use crate::Reason;
use crate::policy::MenuEntry;

/// A configuration under construction.
#[derive(Debug, Default)]
struct Config(String);

pub(super) fn render(page: &Page<'_>) -> Result<String, NotRepresentable> {
    let mut config = Config::default();
    match page {
        Page::Agent(script) => {
            config.start("agent", "Farrier: starting the agent.")?;
            config.line("LABEL", "agent")?;
            config.line("LINUX", &place(script.kernel)?)?;
            config.line("INITRD", &place(script.initrd)?)?;
            config.line("APPEND", &append(script.arguments)?)?;
        }
        Page::LocalDisk(_) => {
            config.start(LOCAL_DISK, "Farrier: starting the local disk.")?;
        }
        Page::MemoryTest { program, .. } => {
            config.start("memory_test", "Farrier: starting the memory test.")?;
            config.line("LABEL", "memory_test")?;
            // By its name, `.bin`, it would be taken for a boot sector.
            config.line("LINUX", &place(program)?)?;
        }
        Page::Medium(script) => config.medium(script)?,
        Page::Menu(script) => config.menu(script)?,
        Page::Diagnostics { lines, .. } => {
            for line in *lines {
                config.line("SAY", line.as_str())?;
            }
            config.choose(LOCAL_DISK, super::READING)?;
        }
        Page::AskCode(_) => config.message(Reason::NoCodePrompt)?,
        Page::Message { reason, .. } => config.message(*reason)?,
    }
    config.local_disk()
}

impl Config {
    /// One entry, started at once.
    fn start(&mut self, label: &'static str, said: &'static str) -> Result<(), NotRepresentable> {
        self.line("SAY", said)?;
        self.line("DEFAULT", label)?;
        self.line("PROMPT", "0")?;
        // When the kernel is not found.
        self.line("ONERROR", LOCAL_DISK)
    }

    /// A prompt that takes the name of an entry, and `default` when nobody types.
    fn choose(&mut self, default: &str, wait: Duration) -> Result<(), NotRepresentable> {
        self.line("DEFAULT", default)?;
        self.line("PROMPT", "1")?;
        self.line("TIMEOUT", &tenths(wait))?;
        // One key stops the first clock; a machine without a person must still come up.
        self.line("TOTALTIMEOUT", &tenths(FORGOTTEN))
    }

    fn message(&mut self, reason: Reason) -> Result<(), NotRepresentable> {
        self.line("SAY", &format!("Farrier: {}", reason.sentence()))?;
        self.choose(LOCAL_DISK, Duration::from_secs(5))
    }

    /// In words rather than by `menu.c32`, which needs three more files of exactly the same version. Names are typed
    /// on a keyboard that the BIOS takes for an American one, so none has a colon.
    fn menu(&mut self, script: &MenuScript<'_>) -> Result<(), NotRepresentable> {
        self.line("SAY", &format!("Farrier: {}", script.title.as_str()))?;
        let lines = script.lines();
        for line in &lines {
            let name = line.entry.segment();
            self.line("SAY", &format!("  {name:<12} {}", line.title.as_str()))?;
        }
        self.line("SAY", "Type a name and press Enter.")?;
        let wait = if script.on_key {
            PROMPT
        } else {
            script.timeout
        };
        self.choose(&script.default.segment(), wait)?;
        for line in lines {
            if line.entry == MenuEntry::LocalDisk {
                continue;
            }
            let name = line.entry.segment();
            self.line("LABEL", &name)?;
            let asked = place(&script.script.with_segment(&name)?)?;
            self.line("CONFIG", &asked)?;
        }
        Ok(())
    }

    /// MEMDISK is started as a kernel, and the image is its initial RAM disk.
    fn medium(&mut self, script: &MediumScript<'_>) -> Result<(), NotRepresentable> {
        let Some(memdisk) = script.memdisk else {
            return self.message(Reason::MediumNeedsIpxe);
        };
        self.start("medium", "Farrier: starting a disk image.")?;
        self.line("LABEL", "medium")?;
        self.line("LINUX", &place(memdisk)?)?;
        self.line("INITRD", &place(script.image)?)?;
        self.line("APPEND", &script.memdisk_words())
    }

    fn local_disk(mut self) -> Result<String, NotRepresentable> {
        self.line("LABEL", LOCAL_DISK)?;
        self.line("LOCALBOOT", "0")?;
        Ok(self.0)
    }

    fn line(&mut self, keyword: &'static str, rest: &str) -> Result<(), NotRepresentable> {
        if keyword.len() + rest.len() > MAX_LINE {
            return Err(NotRepresentable::Length);
        }
        if !rest.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(NotRepresentable::Character);
        }
        self.0.push_str(keyword);
        self.0.push(' ');
        self.0.push_str(rest);
        self.0.push('\n');
        Ok(())
    }
}

/// A file of a TFTP server is `server::path`, whatever the folder that PXELINUX came from; other URLs are for
/// `lpxelinux.0`.
fn place(url: &Url) -> Result<String, NotRepresentable> {
    let Some(rest) = url.as_str().strip_prefix("tftp://") else {
        if url.as_str().starts_with("https://") {
            return Err(NotRepresentable::NotAUrl);
        }
        return Ok(url.as_str().to_owned());
    };
    let (host, path) = rest.split_once('/').ok_or(NotRepresentable::NotAUrl)?;
    if !host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
        || path.contains("::")
    {
        return Err(NotRepresentable::Syntax);
    }
    Ok(format!("{host}::{path}"))
}

/// `initrd=` is PXELINUX's own: it would load another file.
fn append(arguments: &[Argument]) -> Result<String, NotRepresentable> {
    let words: Vec<&str> = arguments.iter().map(Argument::as_str).collect();
    let is_ours = |word: &&str| word.starts_with("initrd=") || *word == "-";
    if words.iter().any(is_ours) {
        return Err(NotRepresentable::Syntax);
    }
    Ok(words.join(" "))
}

fn tenths(time: Duration) -> String {
    // Zero would mean to wait for ever.
    (time.as_millis() / 100).max(1).to_string()
}

const LOCAL_DISK: &str = "local_disk";
/// How long the offer of a menu waits for a key.
const PROMPT: Duration = Duration::from_secs(3);
/// After this the default runs whatever was typed.
const FORGOTTEN: Duration = Duration::from_secs(180);
/// Linux takes 2048 bytes of command line on PCs, and PXELINUX reads lines of that size.
const MAX_LINE: usize = 2000;
