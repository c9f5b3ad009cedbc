//! Programs that keep running on a host of the LAN: Farrier itself and foreign servers.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Debs, Lab, command::last_lines, lab::patience, net::Host};

const POLL: Duration = Duration::from_millis(50);

/// A running program with a log file; dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    /// How much of the log earlier runs have written.
    before: usize,
}

impl Program {
    /// Starts `command` with its output in `folder`/`name`.log, behind what earlier runs wrote there.
    ///
    /// # Errors
    /// When the program or its log cannot be started.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))?;
        let errors = output.try_clone().context("cannot use the log twice")?;
        let before = output.metadata().context("cannot measure the log")?.len();
        let before = usize::try_from(before).context("the log is too long")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
            before,
        })
    }

    /// All that it printed so far, behind what earlier runs did.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What this run printed so far.
    fn printed(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.before..).unwrap_or_default()).into_owned()
    }

    /// Where its output goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Waits until this run has printed `marker`.
    ///
    /// # Errors
    /// When the program ends or the time is up before that; the error shows its last lines.
    pub fn wait_for(&self, marker: &str, timeout: Duration) -> Result<()> {
        self.wait_until(&format!("`{marker}`"), timeout, |program| {
            program.printed().contains(marker)
        })
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// As [`Program::wait_for`].
    pub fn wait_until(
        &self,
        what: &str,
        timeout: Duration,
        ready: impl Fn(&Self) -> bool,
    ) -> Result<()> {
        let started = Instant::now();
        while !ready(self) {
            if !self.is_running() {
                bail!(
                    "{} ended before {what}:\n{}",
                    self.name,
                    last_lines(&self.log(), 20)
                );
            }
            if started.elapsed() > patience(timeout) {
                bail!(
                    "{} did not reach {what} in {timeout:?}:\n{}",
                    self.name,
                    last_lines(&self.log(), 20)
                );
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        // `try_wait` wants the child for itself; the process table answers as well, zombies excepted.
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().next())
            .is_some_and(|state| state != "Z")
    }

    /// The process id; `ip netns exec` and `setpriv` replace themselves, so it is the program's own.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it at once, as a power failure would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        let _ = self.child.kill();
        self.child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(())
    }

    /// Does `work` while the program stands still, as on a machine that has no time for it.
    ///
    /// # Errors
    /// When it has ended.
    pub fn suspended<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        self.signal(Signal::STOP)?;
        let done = work();
        self.signal(Signal::CONT)?;
        Ok(done)
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(mut self, timeout: Duration) -> Result<ExitStatus> {
        // Who has ended already is waited for all the same.
        let _ = self.signal(Signal::TERM);
        let started = Instant::now();
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .with_context(|| format!("cannot wait for {}", self.name))?
            {
                return Ok(status);
            }
            if started.elapsed() > patience(timeout) {
                bail!("{} did not end within {timeout:?}", self.name);
            }
            thread::sleep(POLL);
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok();
        let pid = pid.and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a foreign dnsmasq serves the LAN.
#[derive(Debug, Clone, Default)]
pub struct Dnsmasq {
    arguments: Vec<String>,
}

impl Dnsmasq {
    /// A plain DHCP server that gives addresses and says nothing of booting.
    #[must_use]
    pub fn addresses(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        Self::default().with(&format!("--dhcp-range={first},{last},255.255.255.0,1h"))
    }

    /// Adds TFTP of the files of `folder`.
    #[must_use]
    pub fn tftp(self, folder: &Path) -> Self {
        self.with("--enable-tftp")
            .with(&format!("--tftp-root={}", folder.display()))
    }

    /// Adds any further argument of dnsmasq.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Starts it on `host`.
    ///
    /// # Errors
    /// When it cannot be started or does not come up.
    pub fn start(&self, host: &Host, folder: &Path) -> Result<Program> {
        let mut dnsmasq = host.command("dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--port=0",
            "--interface=eth0",
        ]);
        dnsmasq.args([
            "--log-dhcp",
            "--log-facility=-",
            "--dhcp-authoritative",
            "--no-ping",
        ]);
        dnsmasq.arg(format!(
            "--dhcp-leasefile={}",
            folder.join("dnsmasq.leases").display()
        ));
        let program = Program::start(
            "dnsmasq",
            {
                dnsmasq.args(&self.arguments);
                dnsmasq
            },
            folder,
        )?;
        program.wait_for("started, version", Duration::from_secs(10))?;
        Ok(program)
    }
}

/// How a foreign Kea serves the LAN: Debian's, unpacked and not installed.
#[derive(Debug, Clone)]
pub struct Kea {
    pool: String,
    /// With their key: the grammar has no empty list of them.
    classes: String,
}

impl Kea {
    /// A plain DHCP server that gives addresses of 10.77.0.0/24 and says nothing of booting.
    #[must_use]
    pub fn addresses(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        Self {
            pool: format!("{first} - {last}"),
            classes: String::new(),
        }
    }

    /// Adds classes of clients, as its configuration file has them between the brackets.
    #[must_use]
    pub fn classes(mut self, classes: &str) -> Self {
        self.classes = format!(",\n\"client-classes\": [\n{classes}\n]");
        self
    }

    /// Starts it on `host`.
    ///
    /// # Errors
    /// When it cannot be had or does not come up.
    pub fn start(&self, lab: &Lab, host: &Host, folder: &Path) -> Result<Program> {
        let program = Debs::open(lab)?.program("kea-dhcp4-server", "usr/sbin/kea-dhcp4")?;
        let (pool, classes) = (&self.pool, &self.classes);
        let text = format!(
            r#"{{ "Dhcp4": {{
                "interfaces-config": {{ "interfaces": [ "eth0" ] }},
                "lease-database": {{ "type": "memfile", "persist": false }},
                "subnet4": [ {{ "subnet": "10.77.0.0/24", "pools": [ {{ "pool": "{pool}" }} ] }} ]{classes}
            }} }}"#
        );
        let file = folder.join("kea.json");
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let mut kea = host.command(&program.to_string_lossy());
        kea.arg("-c").arg(&file);
        kea.env("KEA_PIDFILE_DIR", folder)
            .env("KEA_LOCKFILE_DIR", folder);
        let kea = Program::start("kea", kea, folder)?;
        kea.wait_for("DHCP4_STARTED", Duration::from_secs(10))?;
        Ok(kea)
    }
}

/// Starts a plain web server for `folder` on port 80 of `host`.
///
/// # Errors
/// When it cannot be started.
pub fn web_files(host: &Host, folder: &Path, logs: &Path) -> Result<Program> {
    let mut busybox = host.command("busybox");
    busybox
        .args(["httpd", "-f", "-vv", "-p", "80", "-h"])
        .arg(folder);
    Program::start("httpd", busybox, logs)
}
