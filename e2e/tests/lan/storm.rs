//! A boot storm: a thousand machines within some seconds, and the server killed in the middle of it.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use farrier_e2e::{Debs, Host, Lab, Lan, Program, command::run, lab::stretched, site};
use serde_json::{Value, json};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
/// Where the machines are, behind a relay agent.
const RELAY: &str = "10.80.0.1";

/// Two hosts, the server's folder, and the programs.
struct Storm {
    _lan: Lan,
    server: Host,
    clients: Host,
    folder: std::path::PathBuf,
    programs: site::Programs,
}

impl Storm {
    fn new(name: &str, mode: &str) -> Result<Self> {
        let lab = Lab::open()?;
        let folder = lab.scratch(name)?;
        let programs = site::Programs::find(&lab)?;
        let loaders = Debs::open(&lab)?.loaders()?.into_iter().map(|deb| deb.path);
        let mut import = Command::new(&programs.farrier);
        import
            .args(["loader", "import", "--data"])
            .arg(folder.join("data"));
        run(import.args(loaders))?;
        let lan = Lan::new()?;
        let (server, clients) = (lan.host("server", None)?, lan.host("clients", None)?);
        server.wire(&clients, (SERVER, 16), (CLIENTS, 16))?;
        server.ip(["route", "add", "10.80.0.0/16", "via", "10.79.0.2"])?;
        clients.ip(["route", "add", "local", "10.80.0.0/16", "dev", "lo"])?;
        // One host stands for all of them; its kernel would answer the server's probes for addresses nobody has yet.
        let quiet = "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all";
        run(clients.command("sh").args(["-c", quiet]))?;
        let text = format!(
            "data_dir = {:?}\n[admin]\nlisten = \"127.0.0.1:8443\"\n[[interface]]\nname = \"wire0\"\nmode = \"{mode}\"\n\
             [[subnet]]\nnetwork = \"10.79.0.0/16\"\npools = [\"10.79.16.0-10.79.16.255\"]\n\
             [[subnet]]\nnetwork = \"10.80.0.0/16\"\npools = [\"10.80.16.0-10.80.95.255\"]\n",
            folder.join("data").display().to_string()
        );
        fs::write(folder.join("farrier.toml"), text)?;
        Ok(Self {
            _lan: lan,
            server,
            clients,
            folder,
            programs,
        })
    }

    fn start(&self) -> Result<Program> {
        let mut serve = self
            .server
            .command(&self.programs.farrier.display().to_string());
        serve
            .args(["serve", "--config"])
            .arg(self.folder.join("farrier.toml"));
        let program = Program::start("farrier", serve, &self.folder)?;
        program.wait_until("port 67", Duration::from_secs(20), |_| {
            let open = run(self.server.command("cat").arg("/proc/net/udp")).unwrap_or_default();
            open.contains(":0043 ")
        })?;
        Ok(program)
    }

    /// The site's own limit is a frame of Ethernet.
    fn allow_blocks_of_all_sizes(&self, server: &Program) -> Result<()> {
        let data = self.folder.join("data");
        server.wait_until("an administrator", Duration::from_secs(20), |_| {
            data.join("admin.token").is_file()
        })?;
        let mut set = self
            .server
            .command(&self.programs.farrier.display().to_string());
        set.args(["policy", "set", "tftp-blksize=65464"])
            .env("FARRIER_DATA", &data)
            .env("FARRIER_SERVER", "https://127.0.0.1:8443");
        run(&mut set).map(drop)
    }

    /// The figures of so many clients that read a file at once, each in the next of all shapes.
    fn tftp(&self, file: &str, copy: &Path, clients: u32) -> Result<Value> {
        let mut bench = self
            .clients
            .command(&self.programs.farrier.display().to_string());
        bench.args(["bench", "tftp", "--json", &SERVER.to_string(), file]);
        bench.arg("--expect").arg(copy);
        for (option, values) in [("--blksize", BLOCKS), ("--window", WINDOWS)] {
            bench.args([option, &values.map(|value| value.to_string()).join(",")]);
        }
        let clients = clients.to_string();
        bench.args(["--clients", &clients, "--count", &clients]);
        let printed = run(bench.args(["--from", "10.80.1.0"]))?;
        serde_json::from_str(printed.trim()).context("the figures of the clients")
    }

    /// The figures of each stage, after the storm.
    fn storm(
        &self,
        arguments: &[&str],
        in_the_middle: impl FnOnce() -> Result<()>,
    ) -> Result<Vec<Value>> {
        let mut bench = self
            .clients
            .command(&self.programs.farrier.display().to_string());
        bench.args([
            "bench",
            "storm",
            &SERVER.to_string(),
            "--relay",
            RELAY,
            "--json",
        ]);
        let bench = bench
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = bench.spawn().context("cannot start the machines")?;
        in_the_middle()?;
        let output = child.wait_with_output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        let reports: Vec<Value> = printed
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("machines failed: {said}\n{printed}");
        }
        Ok(reports)
    }
}

fn stage<'a>(reports: &'a [Value], name: &str) -> &'a Value {
    let found = reports.iter().find(|report| report["what"] == name);
    found.unwrap_or_else(|| panic!("there is a stage {name}"))
}

/// Memory that the process has had at most.
fn peak_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(u64::MAX)
        / 1024
}

#[test]
fn a_storm_of_a_thousand_machines_loses_none_though_the_server_is_killed_in_it() {
    let storm = Storm::new("storm-kill", "dhcp").unwrap();
    let first = storm.start().unwrap();
    let mut second = None;
    let reports = storm.storm(&["--machines", "1000", "--over", "8"], || {
        thread::sleep(Duration::from_secs(4));
        first.kill()?;
        let down = Instant::now();
        second = Some(storm.start()?);
        let took = down.elapsed();
        assert!(took < stretched(Duration::from_secs(10)), "{took:?}");
        Ok(())
    });
    let reports = reports.unwrap();
    let boots = stage(&reports, "boot");
    assert_eq!(
        (&boots["done"], &boots["failed"]),
        (&1000.into(), &0.into()),
        "{reports:#?}"
    );
    let memory = peak_mib(second.unwrap().pid());
    assert!(memory < 1024, "{memory} MiB");
}

#[test]
fn a_storm_beside_another_dhcp_server_loses_none() {
    let storm = Storm::new("storm-proxy", "proxy").unwrap();
    let _server = storm.start().unwrap();
    let arguments = ["--machines", "500", "--over", "5", "--proxy", "10.80.32.0"];
    let reports = storm.storm(&arguments, || Ok(())).unwrap();
    let boots = stage(&reports, "boot");
    assert_eq!(
        (&boots["done"], &boots["failed"]),
        (&500.into(), &0.into()),
        "{reports:#?}"
    );
    assert!(
        stage(&reports, "boot server")["done"].as_u64() > Some(0),
        "UEFI asks port 4011"
    );
}

/// Each client takes the next of these block sizes, and each size comes with each window.
const BLOCKS: [u64; 6] = [512, 1024, 1428, 1468, 8192, 65464];
const WINDOWS: [u64; 6] = [1, 2, 4, 8, 16, 64];

/// F2, RFC 2348: every byte of every copy is compared. On a wire that carries the largest block there is each client
/// gets what it asks for; on an Ethernet, nothing larger than a frame holds, and those who asked for more take less.
#[test]
fn f2_a_thousand_clients_read_a_loader_at_once_in_blocks_and_windows_of_all_sizes() {
    let storm = Storm::new("storm-tftp", "dhcp").unwrap();
    let server = storm.start().unwrap();
    storm.allow_blocks_of_all_sizes(&server).unwrap();
    let loaders = storm.folder.join("data/loaders");
    let entry = fs::read_to_string(loaders.join("ipxe-undionly-bios.json")).unwrap();
    let entry: Value = serde_json::from_str(&entry).unwrap();
    let text = |name: &str| entry[name].as_str().unwrap().to_owned();
    let file = format!("boot/ipxe-undionly-bios/{}", text("file_name"));
    let copy = loaders.join(text("sha256"));
    for (mtu, largest) in [("1500", 1468), ("65535", 65464)] {
        for host in [&storm.server, &storm.clients] {
            host.ip(["link", "set", "wire0", "mtu", mtu]).unwrap();
        }
        let report = storm.tftp(&file, &copy, 1000).unwrap();
        assert_eq!(
            (&report["done"], &report["failed"]),
            (&1000.into(), &0.into()),
            "{mtu}: {report}"
        );
        let expected = agreed(1000, largest);
        assert_eq!(report["agreed"], expected, "{mtu}: {report}");
    }
    let memory = peak_mib(server.pid());
    assert!(memory < 256, "{memory} MiB");
}

/// What so many clients come to with the server, by block size and window, where no larger block passes.
fn agreed(clients: usize, largest: u64) -> Value {
    let mut shapes: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    let asked = WINDOWS
        .iter()
        .flat_map(|window| BLOCKS.iter().map(move |block| (*block, *window)));
    for (block, window) in asked.cycle().take(clients) {
        *shapes.entry((block.min(largest), window)).or_default() += 1;
    }
    let shape = |((block, window), times)| json!({ "blksize": block, "windowsize": window, "transfers": times });
    shapes.into_iter().map(shape).collect()
}
