//! `cargo xtask bench known`: what a packet costs, how long a start takes and how much memory an idle server has,
//! from ten to a hundred thousand known machines.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use farrier_e2e::{Program, command::command, command::run, report::say};

use super::server::farrier_config;
use super::{Bench, CLIENTS, Options, Report, SERVER, cpu::Group, grouped};
use crate::build;

pub(crate) fn run_all(options: &Options) -> Result<()> {
    let bench = Bench::new(options)?;
    let what = ["--package", "farrier-db", "--example", "many_machines"];
    let fill = build::build("dev", &what)?.join("examples/many_machines");
    say("  machines              start ms   idle MiB   CPU us/offer     p99 ms");
    for (machines, kind) in KINDS {
        let of = bench.known(&fill, machines, kind)?;
        say(&format!(
            "{machines:>10} {kind:<12}{:>10.0}{:>11.1}{:>15.1}{:>11.2}",
            of.start.as_secs_f64() * 1e3,
            of.idle_mib,
            of.cpu_us,
            of.p99_ms
        ));
    }
    Ok(())
}

struct Known {
    start: Duration,
    idle_mib: f64,
    cpu_us: f64,
    p99_ms: f64,
}

impl Bench {
    fn known(&self, fill: &Path, machines: u32, kind: &str) -> Result<Known> {
        let scratch = self.folder.join("known");
        let _ = fs::remove_dir_all(&scratch);
        let data = scratch.join("data");
        fs::create_dir_all(&data)?;
        run(command("cp", ["-a"])
            .arg(self.folder.join("imported/loaders"))
            .arg(&data))?;
        let mut fill = command(&fill.display().to_string(), [data.join("farrier.db")]);
        run(fill.args([&machines.to_string(), kind]))?;
        let config = scratch.join("farrier.toml");
        fs::write(
            &config,
            farrier_config(&data.display().to_string(), "proxy"),
        )?;

        let group = Group::new()?;
        let mut serve = grouped(&self.server, &group, &self.farrier.display().to_string());
        serve.args(["serve", "--config"]).arg(&config);
        let began = Instant::now();
        let running = Program::start("farrier", serve, &scratch)?;
        running.wait_for("serving", Duration::from_secs(30))?;
        let start = began.elapsed();
        std::thread::sleep(Duration::from_secs(2));
        let idle_mib = resident_mib(running.pid())?;
        let before = group.used()?;
        let report = self.offers()?;
        let used = group.used()? - before;
        Ok(Known {
            start,
            idle_mib,
            cpu_us: used.as_secs_f64() * 1e6 / report.done.max(1) as f64,
            p99_ms: report.p99_ms,
        })
    }

    fn offers(&self) -> Result<Report> {
        let mut clients = self.clients.command(&self.farrier.display().to_string());
        clients.args([
            "bench",
            "--json",
            "dhcp",
            &SERVER.to_string(),
            "--offers-only",
        ]);
        clients.arg(format!("--relay={CLIENTS}"));
        let output = clients.args(["--rate=2000", "--count=10000"]).output()?;
        let printed = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(printed.trim()).context("the clients print JSON")
    }
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.context("the kernel tells VmRSS")?.parse::<f64>()? / 1024.0)
}

/// How many machines, and whether the agent has told what is in them.
const KINDS: [(u32, &str); 5] = [
    (10, "bare"),
    (1000, "bare"),
    (10_000, "bare"),
    (100_000, "bare"),
    (100_000, "inventories"),
];
