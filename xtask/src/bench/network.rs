//! The same jobs the way they are done: a server, a wire, an agent. The agent is the real one but for the machine
//! around it (`agent_on_files`).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use farrier_e2e::command::{last_lines, run};
use farrier_e2e::{Host, Lab, Lan, Mode, Site, clients};
use serde_json::{Value, json};

use super::disk::Disk;
use super::memory;
use super::peers::{children_cpu_s, cpu_s_of};

const MAC: &str = "52:54:00:77:00:be";
const TASK: Duration = Duration::from_secs(300);

/// What one job cost both ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) agent_s: f64,
    pub(super) server_s: f64,
    pub(super) moved: f64,
}

#[derive(Debug)]
pub(super) struct Networked {
    pub(super) first_capture: Ends,
    pub(super) second_capture: Ends,
    pub(super) deploy: Ends,
    pub(super) update: Ends,
}

struct Setting {
    site: Site,
    machine: Host,
    agent: PathBuf,
    root: PathBuf,
    _lan: Lan,
}

/// Captures both disks, deploys the first to `target`, which is blank, and brings that to the second.
pub(super) fn measure(
    agent: &Path,
    disks: &[Disk; 2],
    target: &Disk,
    folder: &Path,
) -> Result<Networked> {
    let lan = Lan::new()?;
    let setting = Setting {
        site: Site::start(&Lab::open()?, lan.server()?, folder, Mode::Dhcp)?,
        machine: lan.other()?,
        agent: agent.to_owned(),
        root: folder.join("machine"),
        _lan: lan,
    };
    for (name, disk) in [("ONE", &disks[0]), ("TWO", &disks[1])] {
        disk.forget()?;
        plug(&setting.root, name, disk)?;
    }
    plug(&setting.root, "TARGET", target)?;
    setting
        .site
        .post("machines", &json!({ "macs": [MAC] }))
        .context("cannot make the machine known")?;
    let capture =
        |disk: &str| json!({ "kind": "capture", "image": "bench", "disk": { "serial": disk } });
    let write = |kind: &str, version: u32| {
        let disk = json!({ "serial": "TARGET" });
        json!({ "kind": kind, "image": "bench", "version": version, "disk": disk })
    };
    Ok(Networked {
        first_capture: setting.job(&capture("ONE"))?,
        second_capture: setting.job(&capture("TWO"))?,
        deploy: setting.job(&write("deploy", 1))?,
        update: setting.job(&write("repair", 2))?,
    })
}

impl Setting {
    /// Orders `work`, lets the agent do it, and reads both ends' CPU.
    fn job(&self, work: &Value) -> Result<Ends> {
        let task = self.site.order(MAC, work, "local_boot")?;
        let server = self.site.host().address().context("the server has one")?;
        let script = self.root.join("script");
        fs::write(&script, clients::own_script(&self.machine, server, MAC)?)?;
        let mut agent = self.machine.command(&self.agent.to_string_lossy());
        agent.arg(&script).arg(&self.root);

        memory::warm_up();
        let pid = self.site.pid().context("the server runs")?;
        let (wire, before, server_before) = (self.wire()?, children_cpu_s()?, cpu_s_of(pid)?);
        let said = run(&mut agent)?;
        let (agent_s, server_s) = (children_cpu_s()? - before, cpu_s_of(pid)? - server_before);
        let moved = self.wire()? - wire;
        let done = self.site.wait_task(&task, TASK)?;
        if done["state"] != "done" {
            bail!(
                "the task did not succeed: {done:#}\n{}",
                last_lines(&said, 10)
            );
        }
        Ok(Ends {
            agent_s,
            server_s,
            moved,
        })
    }
}

impl Setting {
    /// Bytes that went over the machine's wire so far, both ways, headers included.
    fn wire(&self) -> Result<f64> {
        let links: Value =
            serde_json::from_str(&self.machine.ip(["-s", "-j", "link", "show", "eth0"])?)?;
        let counters = &links[0]["stats64"];
        let bytes = |way: &str| counters[way]["bytes"].as_f64();
        bytes("rx")
            .zip(bytes("tx"))
            .map(|(rx, tx)| rx + tx)
            .context("`ip -s -j link` counts bytes")
    }
}

/// Describes a disk as the kernel would in a machine that has it.
fn plug(root: &Path, name: &str, disk: &Disk) -> Result<()> {
    let block = root.join("sys/block").join(name);
    fs::create_dir_all(block.join("queue"))?;
    fs::create_dir_all(root.join("dev"))?;
    fs::write(block.join("size"), (disk.len / 512).to_string())?;
    fs::write(block.join("serial"), name)?;
    symlink(&disk.device, root.join("dev").join(name))?;
    Ok(())
}
