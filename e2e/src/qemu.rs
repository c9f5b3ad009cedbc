//! A machine with real firmware under QEMU, its disks and its serial console.
//!
//! Always `-accel tcg`: it runs everywhere, and the firmware's own waiting dominates anyway.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    command::{command, last_lines, run},
    lab::patience,
    net::Lan,
};

const POLL: Duration = Duration::from_millis(100);

/// Where Debian keeps OVMF: the code is shared, the variables are copied per machine.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The build that keeps its variables from the operating system, and variables with Microsoft's keys in them.
const SECURE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const SECURE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

/// Words on the console behind which nothing more will come.
const DEAD_ENDS: &[&str] = &[
    "No bootable device",
    "Kernel panic",
    "grub rescue>",
    "grub>",
    "iPXE>",
    "Shell>",
    "UEFI Interactive Shell",
    "You are in emergency mode",
    "(initramfs)",
];

/// What the machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS with iPXE's option ROM on the network card.
    Bios,
    /// OVMF that boots by PXE over IPv4.
    UefiPxe4,
    /// OVMF that boots by HTTP over IPv4.
    UefiHttp4,
    /// OVMF that boots by PXE over IPv4, with Secure Boot on and Microsoft's keys.
    SecurePxe4,
    /// The same by HTTP.
    SecureHttp4,
    /// OVMF that boots by PXE over IPv6 and speaks no PXE over IPv4.
    UefiPxe6,
    /// OVMF that boots by HTTP over IPv6, where IPv4 has nothing for it.
    UefiHttp6,
}

impl Firmware {
    /// Whether it is UEFI.
    #[must_use]
    pub fn is_uefi(self) -> bool {
        self != Self::Bios
    }

    /// Whether it refuses what is not signed.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::SecurePxe4 | Self::SecureHttp4)
    }
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// AHCI, as SATA disks are.
    Ahci,
    /// NVMe.
    Nvme,
    /// virtio-blk.
    Virtio,
}

/// A disk of a machine.
#[derive(Debug, Clone)]
pub struct Disk {
    path: PathBuf,
    format: &'static str,
    bus: Bus,
    serial: String,
}

impl Disk {
    /// A disk whose file holds its blocks one to one.
    #[must_use]
    pub fn raw(path: impl Into<PathBuf>, bus: Bus, serial: &str) -> Self {
        Self {
            path: path.into(),
            format: "raw",
            bus,
            serial: serial.to_owned(),
        }
    }

    /// A blank disk in a new sparse file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn blank(path: impl Into<PathBuf>, bytes: u64, bus: Bus, serial: &str) -> Result<Self> {
        let path = path.into();
        let file =
            fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        file.set_len(bytes)
            .with_context(|| format!("cannot size {}", path.display()))?;
        Ok(Self::raw(path, bus, serial))
    }

    /// A disk in a new qcow2 file that takes unwritten blocks from the raw file `base`, which stays as it is.
    ///
    /// # Errors
    /// When `qemu-img` fails.
    pub fn overlay(base: &Path, path: impl Into<PathBuf>, bus: Bus, serial: &str) -> Result<Self> {
        let path = path.into();
        run(command(
            "qemu-img",
            ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"],
        )
        .arg(base)
        .arg(&path))?;
        Ok(Self {
            path,
            format: "qcow2",
            bus,
            serial: serial.to_owned(),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The description of a machine; [`Machine::start`] powers it on.
#[derive(Debug, Clone)]
pub struct Machine {
    name: String,
    firmware: Firmware,
    mac: String,
    uuid: String,
    card: String,
    network: bool,
    memory: u32,
    cores: u32,
    disks: Vec<Disk>,
    manufacturer: String,
    product: String,
    serial: String,
    extra: Vec<String>,
}

impl Machine {
    /// A machine that boots from the network first, then from its disks in order.
    ///
    /// `number` makes its MAC address and its UUID.
    #[must_use]
    pub fn new(name: &str, firmware: Firmware, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            firmware,
            mac: format!("52:54:00:77:00:{number:02x}"),
            uuid: format!("33221100-5544-7766-8899-aabbccddee{number:02x}"),
            card: "virtio-net-pci".to_owned(),
            network: true,
            memory: 512,
            cores: 1,
            disks: Vec::new(),
            manufacturer: "Farrier Lab".to_owned(),
            product: "Virtual Machine".to_owned(),
            serial: format!("LAB-{number:03}"),
            extra: Vec::new(),
        }
    }

    /// Adds a disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Memory in MiB instead of 512.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// Processor cores instead of one.
    #[must_use]
    pub fn cores(mut self, cores: u32) -> Self {
        self.cores = cores;
        self
    }

    /// Another network card: a QEMU device such as `e1000e`.
    #[must_use]
    pub fn card(mut self, device: &str) -> Self {
        self.card = device.to_owned();
        self
    }

    /// Boots from its disks only; the network card stays.
    #[must_use]
    pub fn without_network_boot(mut self) -> Self {
        self.network = false;
        self
    }

    /// The SMBIOS manufacturer and product.
    #[must_use]
    pub fn model(mut self, manufacturer: &str, product: &str) -> Self {
        self.manufacturer = manufacturer.to_owned();
        self.product = product.to_owned();
        self
    }

    /// Further arguments of QEMU.
    #[must_use]
    pub fn extra(mut self, arguments: &[&str]) -> Self {
        self.extra
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// The MAC address of its network card.
    #[must_use]
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// The UUID in its SMBIOS tables.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Powers it on, with its files (console, firmware variables, sockets) in `folder`.
    ///
    /// # Errors
    /// When QEMU cannot be started, or ends at once.
    pub fn start(&self, lan: &Lan, folder: &Path) -> Result<Vm> {
        let tap = lan.tap()?;
        let console = folder.join(format!("{}.console", self.name));
        let _ = fs::remove_file(&console);
        let sockets = Sockets::new(folder, &self.name);
        let mut qemu = lan.switch_command("qemu-system-x86_64");
        qemu.args([
            "-accel",
            "tcg",
            "-display",
            "none",
            "-nodefaults",
            "-monitor",
            "none",
        ]);
        qemu.args(self.board(folder)?);
        qemu.args([
            "-m",
            &self.memory.to_string(),
            "-smp",
            &self.cores.to_string(),
            "-uuid",
            &self.uuid,
        ]);
        qemu.arg("-smbios").arg(format!(
            "type=1,manufacturer={},product={},serial={},uuid={}",
            self.manufacturer, self.product, self.serial, self.uuid
        ));
        qemu.arg("-netdev")
            .arg(format!("tap,id=n0,ifname={tap},script=no,downscript=no"));
        qemu.arg("-device").arg(self.card_device());
        qemu.args(self.disk_devices());
        qemu.arg("-chardev").arg(format!(
            "socket,id=console,path={},server=on,wait=off,logfile={},logappend=on",
            sockets.console.display(),
            console.display()
        ));
        qemu.args(["-serial", "chardev:console", "-qmp"]);
        qemu.arg(format!(
            "unix:{},server=on,wait=off",
            sockets.control.display()
        ));
        qemu.args(&self.extra);
        let errors = folder.join(format!("{}.qemu", self.name));
        let output = fs::File::create(&errors)
            .with_context(|| format!("cannot make {}", errors.display()))?;
        let child = qemu.stderr(output).spawn().context("cannot start QEMU")?;
        let mut vm = Vm {
            name: self.name.clone(),
            child,
            console,
            errors,
            sockets,
            started: Instant::now(),
            read: 0,
            keyboard: None,
        };
        vm.wait_until_controllable()?;
        Ok(vm)
    }

    fn board(&self, folder: &Path) -> Result<Vec<String>> {
        if self.firmware == Firmware::Bios {
            // Without graphics SeaBIOS copies its screen to the serial port.
            return Ok(strings(&[
                "-M",
                "pc,graphics=off",
                "-cpu",
                "qemu64",
                "-vga",
                "none",
                "-boot",
                "strict=on",
            ]));
        }
        // The variables stay with the machine: BootNext and BootOrder are part of what is tested.
        let (code, fresh) = if self.firmware.is_secure() {
            (SECURE_CODE, SECURE_VARIABLES)
        } else {
            (OVMF_CODE, OVMF_VARIABLES)
        };
        let variables = folder.join(format!("{}.vars", self.name));
        if !variables.exists() {
            fs::copy(fresh, &variables).with_context(|| format!("cannot copy {fresh}"))?;
        }
        let mut words = strings(&["-cpu", "qemu64", "-vga", "none"]);
        if self.firmware.is_secure() {
            let protected = "driver=cfi.pflash01,property=secure,value=on";
            words.extend(strings(&["-M", "q35,smm=on", "-global", protected]));
        } else {
            words.extend(strings(&["-M", "q35"]));
        }
        // Newer firmware drops its network stack where there is no source of random numbers.
        words.extend(strings(&["-device", "virtio-rng-pci"]));
        words.push("-drive".to_owned());
        words.push(format!(
            "if=pflash,unit=0,format=raw,readonly=on,file={code}"
        ));
        words.push("-drive".to_owned());
        words.push(format!(
            "if=pflash,unit=1,format=raw,file={}",
            variables.display()
        ));
        let mut switch = |name: &str, value: &str| {
            words.push("-fw_cfg".to_owned());
            words.push(format!("name=opt/org.tianocore/{name},string={value}"));
        };
        if self.firmware != Firmware::UefiPxe6 {
            switch("IPv6PXESupport", "n");
        }
        if !matches!(self.firmware, Firmware::UefiPxe4 | Firmware::SecurePxe4) {
            switch("IPv4PXESupport", "n");
        }
        Ok(words)
    }

    fn card_device(&self) -> String {
        let rom = if self.firmware.is_uefi() {
            ",romfile="
        } else {
            ""
        };
        let first = if self.network { ",bootindex=0" } else { "" };
        format!("{},netdev=n0,mac={}{rom}{first}", self.card, self.mac)
    }

    fn disk_devices(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.disks.iter().any(|disk| disk.bus == Bus::Ahci) {
            words.extend(strings(&["-device", "ahci,id=sata"]));
        }
        let mut port = 0;
        for (number, disk) in self.disks.iter().enumerate() {
            let drive = format!("d{number}");
            words.push("-drive".to_owned());
            // A test reads the file when the machine is off; the host's cache serves it as well as a disk's.
            words.push(format!(
                "id={drive},if=none,format={},file={},cache=unsafe,discard=unmap,detect-zeroes=unmap",
                disk.format,
                disk.path.display()
            ));
            let device = match disk.bus {
                Bus::Virtio => "virtio-blk-pci".to_owned(),
                Bus::Nvme => "nvme".to_owned(),
                Bus::Ahci => {
                    port += 1;
                    format!("ide-hd,bus=sata.{}", port - 1)
                }
            };
            words.push("-device".to_owned());
            words.push(format!(
                "{device},drive={drive},serial={},bootindex={}",
                disk.serial,
                number + 1
            ));
        }
        words
    }
}

/// A machine that is powered on; dropping it cuts the power.
#[derive(Debug)]
pub struct Vm {
    name: String,
    child: Child,
    console: PathBuf,
    errors: PathBuf,
    sockets: Sockets,
    started: Instant,
    /// How much of the console text was passed by [`Vm::wait_for`].
    read: usize,
    keyboard: Option<UnixStream>,
}

impl Vm {
    /// Waits until `marker` shows on the console, behind what an earlier wait found, and returns the seconds since power-on.
    ///
    /// # Errors
    /// When the machine stops at a known prompt, ends, or the time is up; the error shows the end of the console.
    pub fn wait_for(&mut self, marker: &str, timeout: Duration) -> Result<f64> {
        self.wait_for_any(&[marker], timeout)
            .map(|_| self.started.elapsed().as_secs_f64())
    }

    /// Waits for the first of several markers and returns which one it was.
    ///
    /// # Errors
    /// As [`Vm::wait_for`].
    pub fn wait_for_any(&mut self, markers: &[&str], timeout: Duration) -> Result<usize> {
        let started = Instant::now();
        loop {
            let text = self.console();
            let new = text.get(self.read..).unwrap_or_default();
            let found = |word: &str| new.find(word).map(|at| at + word.len());
            let first = (0..markers.len())
                .filter_map(|n| Some((found(markers[n])?, n)))
                .min();
            if let Some((end, number)) = first {
                self.read += end;
                return Ok(number);
            }
            if let Some(stop) = DEAD_ENDS.iter().find(|word| new.contains(**word)) {
                bail!(
                    "{} stopped at `{stop}` instead of {markers:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                bail!(
                    "{} ended with {status} before {markers:?}:\n{}\n{}",
                    self.name,
                    self.complaints(),
                    self.tail()
                );
            }
            if started.elapsed() > patience(timeout) {
                bail!(
                    "{} did not show {markers:?} within {timeout:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            thread::sleep(POLL);
        }
    }

    /// The console so far, without its colours and cursor movements.
    #[must_use]
    pub fn console(&self) -> String {
        plain(&fs::read(&self.console).unwrap_or_default())
    }

    /// The end of the console.
    #[must_use]
    pub fn tail(&self) -> String {
        last_lines(&self.console(), 25)
    }

    /// Types a line on the console.
    ///
    /// # Errors
    /// When the console's socket does not take it.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        if self.keyboard.is_none() {
            self.keyboard = Some(self.plug_keyboard()?);
        }
        let keyboard = self
            .keyboard
            .as_mut()
            .context("the console has no keyboard")?;
        keyboard
            .write_all(format!("{line}\n").as_bytes())
            .context("cannot type on the console")
    }

    /// Presses one key of the machine's own keyboard, by QEMU's name for it, such as `m` or `ret`.
    ///
    /// # Errors
    /// When the emulator does not know the key.
    pub fn press(&self, key: &str) -> Result<()> {
        let keys = json!({ "keys": [{ "type": "qcode", "data": key }] });
        self.control("send-key", &keys).map(drop)
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn reset(&self) -> Result<()> {
        self.control("system_reset", &json!({})).map(drop)
    }

    /// Takes a picture of the screen as a PPM file.
    ///
    /// # Errors
    /// When the emulator does not answer, or the machine has no screen.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        self.control("screendump", &json!({ "filename": file }))
            .map(drop)
    }

    /// Lets the cable of the network card be plugged or not.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn set_link(&self, up: bool) -> Result<()> {
        self.control("set_link", &json!({ "name": "n0", "up": up }))
            .map(drop)
    }

    /// Cuts the power, keeping all that was written to the disks.
    ///
    /// # Errors
    /// When the emulator does not end.
    pub fn power_off(mut self) -> Result<()> {
        self.control("quit", &json!({}))?;
        self.child.wait().context("cannot wait for QEMU").map(drop)
    }

    /// Waits until the machine has turned itself off.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_power_off(&mut self, timeout: Duration) -> Result<()> {
        let started = Instant::now();
        while self
            .child
            .try_wait()
            .context("cannot wait for QEMU")?
            .is_none()
        {
            if started.elapsed() > patience(timeout) {
                bail!(
                    "{} did not turn itself off within {timeout:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Seconds since power-on.
    #[must_use]
    pub fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// CPU seconds that the emulator has used, which a busy machine does not falsify.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |field: usize| {
            fields
                .get(field)
                .and_then(|word| word.parse::<u32>().ok())
                .unwrap_or(0)
        };
        // Linux counts in hundredths here on every architecture.
        f64::from(ticks(11) + ticks(12)) / 100.0
    }

    fn control(&self, name: &str, arguments: &Value) -> Result<Value> {
        let socket =
            UnixStream::connect(&self.sockets.control).context("cannot reach the emulator")?;
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .context("cannot limit the wait for the emulator")?;
        let mut lines = BufReader::new(
            socket
                .try_clone()
                .context("cannot read from the emulator")?,
        )
        .lines();
        let say =
            |value: &Value| writeln!(&socket, "{value}").context("cannot write to the emulator");
        say(&json!({ "execute": "qmp_capabilities" }))?;
        say(&json!({ "execute": name, "arguments": arguments }))?;
        let mut answers = 0;
        for line in lines.by_ref() {
            let line = line.context("the emulator does not answer")?;
            let answer: Value = serde_json::from_str(&line)
                .context("the emulator answers in an unknown language")?;
            if let Some(error) = answer.get("error") {
                bail!("the emulator refuses `{name}`: {error}");
            }
            if let Some(result) = answer.get("return") {
                answers += 1;
                if answers == 2 {
                    return Ok(result.clone());
                }
            }
        }
        // `quit` may close the line before its answer.
        Ok(Value::Null)
    }

    /// Connects to the console and stays: the serial port takes 16 bytes at a time, and what it has not taken when the
    /// connection closes is lost. What the console says arrives here too and is thrown away; it is in the log file.
    fn plug_keyboard(&self) -> Result<UnixStream> {
        let keyboard =
            UnixStream::connect(&self.sockets.console).context("cannot reach the console")?;
        let mut screen = keyboard.try_clone().context("cannot read the console")?;
        thread::spawn(move || io::copy(&mut screen, &mut io::sink()));
        Ok(keyboard)
    }

    fn wait_until_controllable(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.sockets.control.exists() {
            if let Ok(Some(status)) = self.child.try_wait() {
                bail!("QEMU ended at once with {status}: {}", self.complaints());
            }
            if Instant::now() > deadline {
                bail!("QEMU does not come up: {}", self.complaints());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn complaints(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.sockets.remove();
    }
}

/// The sockets of one machine. Their paths must fit into 108 bytes, so they are not in the machine's folder.
#[derive(Debug)]
struct Sockets {
    folder: PathBuf,
    console: PathBuf,
    control: PathBuf,
}

impl Sockets {
    fn new(folder: &Path, name: &str) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in folder.join(name).as_os_str().as_encoded_bytes() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let folder = std::env::temp_dir().join(format!("farrier-vm-{hash:016x}"));
        let _ = fs::remove_dir_all(&folder);
        // A folder that cannot be made shows as QEMU's own complaint about the socket.
        let _ = fs::create_dir_all(&folder);
        Self {
            console: folder.join("console"),
            control: folder.join("control"),
            folder,
        }
    }

    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Console bytes without terminal control sequences.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' if letters.peek() == Some(&'[') => {
                letters.next();
                // Parameters, then one letter that ends the sequence; SeaBIOS and OVMF also send `ESC [ = 3 h`.
                for next in letters.by_ref() {
                    if next.is_ascii_alphabetic() || next == '~' {
                        break;
                    }
                }
            }
            '\u{1b}' => drop(letters.next()),
            '\r' | '\u{0}' => {}
            other => plain.push(other),
        }
    }
    plain
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_survive_colours_and_cursor_movements() {
        let console = b"\x1b[2J\x1b[01;01H\x1b[=3h>>Start \x1b[1mPXE\x1b[0m over IPv4.\r\nok\x1bc!";
        assert_eq!(plain(console), ">>Start PXE over IPv4.\nok!");
    }

    #[test]
    fn uefi_cards_carry_no_option_rom_and_disks_follow_the_network() {
        let machine = Machine::new("m", Firmware::UefiPxe4, 7)
            .disk(Disk::raw("/a", Bus::Ahci, "A"))
            .disk(Disk::raw("/b", Bus::Ahci, "B"));
        assert!(machine.card_device().contains("romfile=,bootindex=0"));
        let disks = machine.disk_devices().join(" ");
        assert!(
            disks.contains("bus=sata.0,drive=d0,serial=A,bootindex=1"),
            "{disks}"
        );
        assert!(
            disks.contains("bus=sata.1,drive=d1,serial=B,bootindex=2"),
            "{disks}"
        );
    }
}
