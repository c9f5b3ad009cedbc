//! The real server on a host of the LAN, with loaders, agent and a data folder of its own.

mod prepared;

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{Host, Lab, Program, clients, command::run, lab::patience};
use prepared::leave_out;

pub use prepared::{Programs, fill, make_ready};

/// How the server serves its interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The DHCP server.
    Dhcp,
    /// Beside a DHCP server on another host.
    Proxy,
    /// The same, with a few addresses of its own for loaders that need them.
    ProxyWithPool,
    /// Beside a DHCP server on the same host.
    Port4011,
}

/// A running server.
#[derive(Debug)]
pub struct Site {
    host: Host,
    folder: PathBuf,
    data: PathBuf,
    programs: Programs,
    program: Option<Program>,
}

impl Site {
    /// Fills a data folder below `folder` and starts the server on `host`, with its `eth0` in this mode.
    ///
    /// # Errors
    /// When a part is missing or the server does not start.
    pub fn start(lab: &Lab, host: Host, folder: &Path, mode: Mode) -> Result<Self> {
        Self::start_without(lab, host, folder, mode, &[])
    }

    /// The same, with all loaders but those whose ids begin so.
    ///
    /// # Errors
    /// As [`Site::start`].
    pub fn start_without(
        lab: &Lab,
        host: Host,
        folder: &Path,
        mode: Mode,
        loaders: &[&str],
    ) -> Result<Self> {
        let address = host
            .address()
            .context("the server's host needs an address")?;
        Self::set_up(lab, host, folder, &served(mode, address), loaders)
    }

    /// The same, with interfaces and subnets as the configuration file names them.
    ///
    /// # Errors
    /// As [`Site::start`].
    pub fn serving(lab: &Lab, host: Host, folder: &Path, interfaces: &str) -> Result<Self> {
        Self::set_up(lab, host, folder, interfaces, &[])
    }

    fn set_up(
        lab: &Lab,
        host: Host,
        folder: &Path,
        interfaces: &str,
        left_out: &[&str],
    ) -> Result<Self> {
        let programs = Programs::find(lab)?;
        let data = folder.join("data");
        fs::create_dir_all(&data).context("cannot make the data folder")?;
        fill(lab, &programs, &data)?;
        leave_out(&data.join("loaders"), left_out)?;
        let text = format!(
            "data_dir = {:?}\n\n[admin]\nlisten = \"0.0.0.0:8443\"\n\n{interfaces}",
            data.display().to_string()
        );
        fs::write(folder.join("farrier.toml"), text).context("cannot write the configuration")?;
        let mut site = Self {
            host,
            folder: folder.to_path_buf(),
            data,
            programs,
            program: None,
        };
        site.resume()?;
        // New machines are let in without a person, unless a test wants one.
        site.put("policy", &json!({ "enrolment": "automatic" }))?;
        Ok(site)
    }

    /// Starts it (again).
    ///
    /// # Errors
    /// When it does not come up.
    pub fn resume(&mut self) -> Result<()> {
        let mut command = self
            .host
            .command(self.programs.farrier.to_str().context("path")?);
        command
            .args(["serve", "--config"])
            .arg(self.folder.join("farrier.toml"));
        command.env("FARRIER_LOG", "info,farrier_server=debug");
        // The token of an earlier start must not be taken for this one's.
        let _ = fs::remove_file(self.data.join("admin.token"));
        let program = Program::start("farrier", command, &self.folder)?;
        program.wait_until("an answer on its API", Duration::from_secs(20), |_| {
            self.data.join("admin.token").is_file() && self.get("status").is_ok()
        })?;
        self.program = Some(program);
        Ok(())
    }

    /// SIGKILL, as a power cut would.
    pub fn kill(&mut self) {
        self.program = None;
    }

    /// Does `work` while the server stands still, as on a machine that has no time for it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn suspended<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let program = self.program.as_ref().context("the server does not run")?;
        program.suspended(work)
    }

    /// The running server's process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(Program::pid)
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("farrier.log")).unwrap_or_default()
    }

    /// The host it runs on.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// iPXE for BIOS as it was imported: the name it is served by, and its bytes.
    pub fn loader(&self) -> Result<(String, Vec<u8>)> {
        let folder = self.data.join("loaders");
        let entry = fs::read_to_string(folder.join("ipxe-undionly-bios.json"))?;
        let entry: Value = serde_json::from_str(&entry)?;
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        let bytes = fs::read(folder.join(text("sha256")))?;
        let name = format!("boot/ipxe-undionly-bios/{}", text("file_name"));
        Ok((name, bytes))
    }

    /// The `farrier` command on the server's host, with the way in set.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command(&self.programs.farrier.to_string_lossy());
        command.args(arguments).env("FARRIER_DATA", &self.data);
        command.env("FARRIER_SERVER", "https://127.0.0.1:8443");
        command
    }

    /// Runs the `farrier` command and returns what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn farrier(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(arguments))
    }

    /// GET of the API.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, None)
    }

    /// PUT to the API.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("PUT", path, Some(body))
    }

    /// POST to the API.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", path, Some(body))
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let token = fs::read_to_string(self.data.join("admin.token")).context("no admin token")?;
        let authority = self.data.join("ca/root.pem");
        let header = format!("Authorization: Bearer {}", token.trim());
        let body = body.map(Value::to_string);
        let mut arguments = vec![
            "--request",
            method,
            "--fail-with-body",
            "--cacert",
            authority.to_str().context("path")?,
            "--header",
            &header,
        ];
        if let Some(body) = &body {
            arguments.extend(["--header", "Content-Type: application/json", "--data", body]);
        }
        let url = format!("https://127.0.0.1:8443/api/v1/{path}");
        let answer = clients::curl(&self.host, &arguments, &url)
            .with_context(|| format!("{method} {path}"))?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer).with_context(|| format!("{method} {path}: {answer}"))
    }

    /// The machine with this hardware address.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub fn machine(&self, mac: &str) -> Result<Value> {
        let page = self.get(&format!("machines?search={mac}"))?;
        let items = page["items"].as_array().context("a page has items")?;
        match items.as_slice() {
            [one] => self.get(&format!("machines/{}", text(&one["id"])?)),
            many => bail!("{} machines have the address {mac}", many.len()),
        }
    }

    /// The sentences of a machine's timeline, oldest first.
    ///
    /// # Errors
    /// When there is no such machine.
    pub fn timeline(&self, mac: &str) -> Result<Vec<String>> {
        let machine = self.machine(mac)?;
        let page = self.get(&format!(
            "machines/{}/timeline?limit=500",
            text(&machine["id"])?
        ))?;
        let items = page["items"].as_array().context("a page has items")?;
        items
            .iter()
            .rev()
            .map(|entry| text(&entry["text"]))
            .collect()
    }

    /// Waits until a machine's timeline has a sentence with `words`.
    ///
    /// # Errors
    /// When the time is up; the error shows the timeline.
    pub fn wait_for(&self, mac: &str, words: &str, timeout: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let told = self.timeline(mac).unwrap_or_default();
            if told.iter().any(|sentence| sentence.contains(words)) {
                return Ok(());
            }
            if started.elapsed() > patience(timeout) {
                bail!(
                    "{words:?} is not on the timeline after {timeout:?}:\n{}",
                    told.join("\n")
                );
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// The sentences of a machine's timeline when all of `words` are in them. An entry is stored behind the answer that
    /// it tells of, so what has happened just now is told a moment later.
    ///
    /// # Errors
    /// As [`Site::wait_for`].
    pub fn told(&self, mac: &str, words: &[&str]) -> Result<Vec<String>> {
        for words in words {
            self.wait_for(mac, words, Duration::from_secs(20))?;
        }
        self.timeline(mac)
    }

    /// Waits until a machine has fetched the agent whole, which is as far as the boot plane has to bring it. Its kernel
    /// would take half a minute more. Who fetches is known by its address only if that is ours or on our link.
    ///
    /// # Errors
    /// As [`Site::wait_for`].
    pub fn hands_over_the_agent(&self, mac: &str) -> Result<()> {
        self.wait_for(mac, "It fetched the agent by", Duration::from_secs(240))
    }

    /// Creates a task, confirming its plan, and returns its id.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn order(&self, mac: &str, work: &Value, then: &str) -> Result<String> {
        let machine = self.machine(mac)?;
        let mut order = json!({ "machines": [machine["id"]], "work": work, "then": then });
        let plan = self.post("tasks/plan", &order)?;
        order["confirm"] = plan["confirm"].clone();
        let created = self.post("tasks", &order)?;
        text(&created["tasks"][0]["id"])
    }

    /// Waits until a task has ended and returns it.
    ///
    /// # Errors
    /// When the time is up.
    pub fn wait_task(&self, id: &str, timeout: Duration) -> Result<Value> {
        let started = Instant::now();
        loop {
            let task = self.get(&format!("tasks/{id}")).unwrap_or_default();
            let state = task["state"].as_str().unwrap_or("unknown").to_owned();
            if ["done", "failed", "cancelled", "expired"].contains(&state.as_str()) {
                return Ok(task);
            }
            if started.elapsed() > patience(timeout) {
                bail!("the task is still {state} after {timeout:?}: {task:#}");
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until a task is done; any other end is an error that shows the task.
    ///
    /// # Errors
    /// When it ends otherwise, or not in time.
    pub fn wait_done(&self, id: &str, timeout: Duration) -> Result<Value> {
        let task = self.wait_task(id, timeout)?;
        if task["state"] == "done" {
            Ok(task)
        } else {
            bail!("the task did not succeed: {task:#}")
        }
    }
}

fn text(value: &Value) -> Result<String> {
    value
        .as_str()
        .map(ToOwned::to_owned)
        .with_context(|| format!("{value} is no text"))
}

fn served(mode: Mode, address: Ipv4Addr) -> String {
    let (mode, subnet) = match mode {
        Mode::Dhcp => (
            "dhcp",
            format!(
                "\n[[subnet]]\nnetwork = \"10.77.0.0/24\"\npools = [\"10.77.0.100-10.77.0.199\"]\nrouters = [\"{address}\"]\ndns = [\"{address}\"]\nlease_seconds = 3600\n"
            ),
        ),
        Mode::Proxy => ("proxy", String::new()),
        Mode::ProxyWithPool => (
            "proxy",
            "\n[[subnet]]\nnetwork = \"10.77.0.0/24\"\npools = [\"10.77.0.200-10.77.0.209\"]\nlease_seconds = 600\n"
                .to_owned(),
        ),
        Mode::Port4011 => ("port4011", String::new()),
    };
    format!("[[interface]]\nname = \"eth0\"\nmode = \"{mode}\"\naddress = \"{address}\"\n{subnet}")
}

/// Boots go over IPv6 alone: over IPv4 there is no address to lend.
pub const OVER_IPV6: &str = r#"
[[interface]]
name = "eth0"
mode = "dhcp"
address = "10.77.0.1"

[[subnet]]
network = "10.77.0.0/24"

[[subnet6]]
network = "fd77::/64"
router_advertisement = true
"#;
