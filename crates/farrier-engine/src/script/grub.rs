//! Writing GRUB's script language. It is a shell's: words are split at white space, `;`, `|`, `&`, `{`, `}`,
//! `<`, `>` and line ends, and `$`, backslash and double quotes are live. Between single quotes nothing is,
//! but the single quote itself, so every value stands between single quotes and every quote of its own is
//! written `'\''` (GRUB manual, "Quoting").

use super::page::Page;
use super::{Argument, LocalDisk, MediumScript, MenuScript, NotRepresentable, Text, Url};
use crate::Reason;
use crate::policy::MenuEntry;

/// A script under construction.
#[derive(Debug, Default)]
struct Grub(String);

/// A piece of a line. Only pieces written in this crate may hold syntax.
#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Fixed(&'static str),
    /// One word.
    Quoted(&'a str),
    Number(u64),
}

/// The first script, the same for all machines of a server: asks for the machine's own script by its hardware
/// address and GRUB's own kind. `script` is asked for over TFTP, and over HTTP where GRUB can.
pub(super) fn first(script: &Url, over_http: &Url) -> Result<String, NotRepresentable> {
    let mut grub = Grub::default();
    let (plain, fast) = (device_path(script)?, device_path(over_http)?);
    grub.0.push_str(FIND_ADDRESS);
    grub.line([Part::Fixed("set farrier="), Part::Quoted(&plain)])?;
    grub.fixed("if insmod http; then");
    grub.line([Part::Fixed("set farrier="), Part::Quoted(&fast)])?;
    grub.fixed("fi");
    grub.fixed("configfile $farrier/$grub_cpu-$grub_platform/$mac");
    grub.line([Part::Fixed("set farrier="), Part::Quoted(&plain)])?;
    grub.fixed("configfile $farrier/$grub_cpu-$grub_platform/$mac");
    grub.echo("Farrier: the server did not answer. The local disk starts instead.")?;
    grub.fixed("sleep 5");
    Ok(grub.finish(START_DISK))
}

pub(super) fn render(page: &Page<'_>) -> Result<String, NotRepresentable> {
    let mut grub = Grub::default();
    match page {
        Page::Agent(script) => grub.agent(script.kernel, script.initrd, script.arguments)?,
        Page::LocalDisk(_) => {}
        Page::MemoryTest { program, .. } => grub.memory_test(program)?,
        Page::Medium(script) => grub.medium(script)?,
        Page::Menu(script) => return grub.menu(script),
        Page::Diagnostics { lines, .. } => {
            grub.echo("Farrier: what the server decides for this machine")?;
            for line in *lines {
                grub.line([Part::Fixed("echo"), Part::Quoted(text(line)?)])?;
            }
            grub.echo("Press Escape to start the local disk.")?;
            grub.fixed("sleep --interruptible 60");
        }
        Page::AskCode(_) => grub.message(Reason::NoCodePrompt)?,
        Page::Message { reason, .. } => grub.message(*reason)?,
    }
    Ok(grub.finish(way_to_disk(page.local_disk())))
}

impl Grub {
    fn agent(
        &mut self,
        kernel: &Url,
        initrd: &Url,
        arguments: &[Argument],
    ) -> Result<(), NotRepresentable> {
        self.echo("Farrier: starting the agent.")?;
        let (kernel, initrd) = (device_path(kernel)?, device_path(initrd)?);
        let mut line = vec![Part::Fixed("if linux"), Part::Quoted(&kernel)];
        for argument in arguments {
            line.push(Part::Quoted(plain_argument(argument)?));
        }
        self.line(line)?;
        self.fixed("then");
        self.line([Part::Fixed("if initrd"), Part::Quoted(&initrd)])?;
        self.fixed("then boot; fi");
        self.fixed("fi");
        self.echo("Farrier: the agent could not be loaded. The local disk starts instead.")?;
        self.fixed("sleep 5");
        Ok(())
    }

    fn message(&mut self, reason: Reason) -> Result<(), NotRepresentable> {
        self.line([
            Part::Fixed("echo 'Farrier:'"),
            Part::Quoted(reason.sentence()),
        ])?;
        self.fixed("sleep 5");
        Ok(())
    }

    fn memory_test(&mut self, program: &Url) -> Result<(), NotRepresentable> {
        self.echo("Farrier: starting the memory test.")?;
        let program = device_path(program)?;
        self.fixed("if [ \"$grub_platform\" = efi ]; then");
        self.line([Part::Fixed("if chainloader"), Part::Quoted(&program)])?;
        self.fixed("then boot; fi");
        self.fixed("else");
        self.line([Part::Fixed("if linux16"), Part::Quoted(&program)])?;
        self.fixed("then boot; fi");
        self.fixed("fi");
        self.echo("Farrier: the memory test ended or did not start.")?;
        self.fixed("sleep 5");
        Ok(())
    }

    /// MEMDISK has the head of a 16-bit kernel, and takes the image for its initial RAM disk.
    fn medium(&mut self, script: &MediumScript<'_>) -> Result<(), NotRepresentable> {
        let Some(memdisk) = script.memdisk else {
            return self.message(Reason::MediumNeedsIpxe);
        };
        self.echo("Farrier: starting a disk image.")?;
        let (memdisk, image) = (device_path(memdisk)?, device_path(script.image)?);
        let words = script.memdisk_words();
        let mut line = vec![Part::Fixed("if linux16"), Part::Quoted(&memdisk)];
        line.extend(words.split(' ').map(Part::Quoted));
        self.line(line)?;
        self.fixed("then");
        self.line([Part::Fixed("if initrd16"), Part::Quoted(&image)])?;
        self.fixed("then boot; fi");
        self.fixed("fi");
        self.echo("Farrier: the disk image could not be started. The local disk starts instead.")?;
        self.fixed("sleep 5");
        Ok(())
    }

    /// Entries other than the local disk ask the server again, by a name below that of the script.
    fn menu(mut self, script: &MenuScript<'_>) -> Result<String, NotRepresentable> {
        self.0.push_str(way_to_disk(script.local_disk));
        let title = text(script.title)?;
        let default = script.default.to_string();
        self.line([Part::Fixed("set default="), Part::Quoted(&default)])?;
        if script.on_key {
            self.line([
                Part::Fixed("echo 'Farrier: press Escape for the boot menu of'"),
                Part::Quoted(title),
            ])?;
            self.fixed("set timeout_style=hidden");
            self.fixed("set timeout=3");
        } else {
            self.fixed("set timeout_style=menu");
            self.line([
                Part::Fixed("set timeout="),
                Part::Number(script.timeout.as_secs()),
            ])?;
        }
        for line in script.lines() {
            let name = line.entry.to_string();
            let key = line.key.map(String::from);
            let mut entry = vec![Part::Fixed("menuentry"), Part::Quoted(text(&line.title)?)];
            if let Some(key) = &key {
                entry.extend([Part::Fixed("--hotkey"), Part::Quoted(key)]);
            }
            entry.extend([Part::Fixed("--id"), Part::Quoted(&name), Part::Fixed("{")]);
            self.line(entry)?;
            if line.entry == MenuEntry::LocalDisk {
                self.fixed("farrier_disk");
            } else {
                let asked = device_path(&script.script.with_segment(&line.entry.segment())?)?;
                self.line([Part::Fixed("configfile"), Part::Quoted(&asked)])?;
            }
            self.fixed("}");
        }
        Ok(self.0)
    }

    fn echo(&mut self, text: &'static str) -> Result<(), NotRepresentable> {
        self.line([Part::Fixed("echo"), Part::Quoted(text)])
    }

    fn fixed(&mut self, line: &'static str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// Writes one line. A piece that ends with `=` is followed by its value at once.
    fn line<'a>(
        &mut self,
        parts: impl IntoIterator<Item = Part<'a>>,
    ) -> Result<(), NotRepresentable> {
        let mut glued = true;
        for part in parts {
            if !glued {
                self.0.push(' ');
            }
            glued = matches!(part, Part::Fixed(text) if text.ends_with('='));
            match part {
                Part::Fixed(text) => self.0.push_str(text),
                Part::Quoted(value) => self.quote(value)?,
                Part::Number(number) => self.0.push_str(&number.to_string()),
            }
        }
        self.0.push('\n');
        Ok(())
    }

    fn quote(&mut self, value: &str) -> Result<(), NotRepresentable> {
        if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(NotRepresentable::Character);
        }
        self.0.push('\'');
        self.0.push_str(&value.replace('\'', "'\\''"));
        self.0.push('\'');
        Ok(())
    }

    /// Whatever comes back from what was tried goes on to the local disk.
    fn finish(mut self, way_to_disk: &str) -> String {
        self.0.push_str(way_to_disk);
        self.0.push_str("farrier_disk\n");
        self.0
    }
}

/// The function `farrier_disk`.
fn way_to_disk(method: &LocalDisk) -> &'static str {
    match method {
        LocalDisk::Firmware => LEAVE,
        LocalDisk::Exit
        | LocalDisk::Sanboot
        | LocalDisk::SanbootFile
        | LocalDisk::Program(_)
        | LocalDisk::Grub { .. } => START_DISK,
    }
}

/// GRUB quotes an argument anew when it makes the kernel's command line of its words: white space by double
/// quotes, and a backslash before each quote and backslash (`grub_create_loader_cmdline`). What it would change
/// is refused, so that the kernel gets what we mean.
fn plain_argument(argument: &Argument) -> Result<&str, NotRepresentable> {
    let text = argument.as_str();
    if text
        .bytes()
        .any(|b| matches!(b, b' ' | b'\\' | b'"' | b'\''))
    {
        return Err(NotRepresentable::Syntax);
    }
    Ok(text)
}

/// `echo` takes a word that begins with a hyphen for an option, and reads backslashes (`grub_cmd_echo`).
fn text(text: &Text) -> Result<&str, NotRepresentable> {
    let text = text.as_str();
    if text.starts_with('-') || text.contains('\\') {
        return Err(NotRepresentable::Syntax);
    }
    Ok(text)
}

/// `http://host:port/path` as GRUB names it: `(http,host:port)/path`.
fn device_path(url: &Url) -> Result<String, NotRepresentable> {
    let (scheme, rest) = url
        .as_str()
        .split_once("://")
        .ok_or(NotRepresentable::NotAUrl)?;
    if scheme == "https" {
        // No GRUB speaks TLS.
        return Err(NotRepresentable::NotAUrl);
    }
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    // In a device name a comma or a bracket would be syntax.
    if !host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b))
    {
        return Err(NotRepresentable::Syntax);
    }
    Ok(format!("({scheme},{host})/{path}"))
}

/// Started from a RAM disk, GRUB has no address yet, and no default interface after it asked for one itself.
const FIND_ADDRESS: &str = "\
set mac=\"$net_default_mac\"
if [ -z \"$mac\" ]; then
  net_bootp
  for one in $net_efinet0_dhcp_mac $net_efinet1_dhcp_mac $net_efinet2_dhcp_mac $net_efinet3_dhcp_mac; do
    if [ -z \"$mac\" ]; then set mac=\"$one\"; fi
  done
fi
";

/// Back to the firmware, which goes on to the next entry of its boot order.
const LEAVE: &str = "\
function farrier_disk {
  exit
}
";

/// Starts the operating system on the first disk that has one. A disk of our own (the RAM disk that UEFI HTTP
/// Boot makes) says so by a file and is passed over. The firmware's own default comes first, as firmware would
/// do it; then what installers leave behind.
const START_DISK: &str = "\
function farrier_try {
  if [ -e ($1)/farrier.ram ]; then true
  elif [ -e ($1)$2 ]; then
    echo \"Farrier: starting the local disk ($1)\"
    if chainloader ($1)$2; then boot; fi
  fi
}
function farrier_disk {
  if [ \"$grub_platform\" != efi ]; then
    set root=hd0
    if chainloader +1; then boot; fi
  else
    if [ \"$grub_cpu\" = x86_64 ]; then set efi=X64
    elif [ \"$grub_cpu\" = i386 ]; then set efi=IA32
    elif [ \"$grub_cpu\" = arm64 ]; then set efi=AA64
    elif [ \"$grub_cpu\" = arm ]; then set efi=ARM
    elif [ \"$grub_cpu\" = riscv64 ]; then set efi=RISCV64
    else set efi=LOONGARCH64
    fi
    insmod regexp
    for disk in (hd*); do
      regexp --set=1:disk '^\\((.*)\\)$' \"$disk\"
      farrier_try $disk /EFI/BOOT/BOOT$efi.EFI
      farrier_try $disk /EFI/Microsoft/Boot/bootmgfw.efi
      farrier_try $disk /EFI/debian/shim$efi.efi
      farrier_try $disk /EFI/ubuntu/shim$efi.efi
      farrier_try $disk /EFI/fedora/shim$efi.efi
      farrier_try $disk /EFI/redhat/shim$efi.efi
      farrier_try $disk /EFI/debian/grub$efi.efi
    done
  fi
  echo 'Farrier: no local disk could be started.'
  sleep 10
  exit
}
";
