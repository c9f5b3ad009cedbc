//! `cargo xtask bench boot`: what our boot plane costs, next to the servers that people use today, on the same work.
//!
//! Two network namespaces joined by one cable; in one a server, in the other `farrier bench`. Servers take turns
//! within a round, so that a busy machine is unfair to all alike, and each lives in a CPU group of its own, so that
//! every thread and child of it counts. CPU is what is compared. Never part of a test.

mod cpu;
pub(crate) mod known;
pub(crate) mod rate;
mod rows;
mod server;
mod verdict;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use farrier_e2e::{Debs, Host, Lab, Lan, command::command, command::run, report::say};
use serde::Deserialize;

use crate::build;
use cpu::Group;
use rows::{ROWS, Row, Work};
use server::{Files, Peer, Peers};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often everything is run; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only rows whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// A `farrier` that is built already.
    #[arg(long)]
    farrier: Option<PathBuf>,
}

/// One server on one piece of work.
#[derive(Clone, Debug)]
struct Measured {
    row: &'static Row,
    peer: Peer,
    cpu_s: f64,
    report: Report,
}

/// A line that `farrier bench --json` prints; the last one is the whole.
#[derive(Clone, Debug, Default, Deserialize)]
struct Report {
    done: u64,
    failed: u64,
    resent: u64,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    bytes: u64,
    seconds: f64,
}

/// What came of some work: the stages, and the last of them, which is the whole.
#[derive(Debug)]
struct Ran {
    cpu_s: f64,
    reports: Vec<Report>,
    whole: Report,
}

/// The machine of the server and the machine of the clients.
#[derive(Debug)]
struct Bench {
    /// Removed with everything in it when dropped.
    _lan: Lan,
    server: Host,
    clients: Host,
    farrier: PathBuf,
    folder: PathBuf,
    files: Files,
    peers: Peers,
}

pub(crate) fn run_all(options: &Options) -> Result<()> {
    if options.rounds == 0 {
        bail!("no rounds, no figures: give --rounds 1 or more");
    }
    let bench = Bench::new(options)?;
    let wanted = |row: &&Row| {
        options
            .only
            .as_deref()
            .is_none_or(|only| row.name.contains(only))
    };
    let mut measured = Vec::new();
    for round in 0..options.rounds {
        for row in ROWS.iter().filter(wanted) {
            for peer in bench.peers.in_turn(row.peers, round) {
                match bench.measure(row, peer) {
                    Ok(result) => {
                        say(&verdict::line(&result));
                        measured.push(result);
                    }
                    Err(error) => say(&format!(
                        "{} with {peer:?} is left out: {error:#}",
                        row.name
                    )),
                }
            }
        }
    }
    say(&verdict::table(&measured));
    Ok(())
}

impl Bench {
    fn new(options: &Options) -> Result<Self> {
        let farrier = match &options.farrier {
            Some(built) => built.clone(),
            None => build::shipped_programs()?.farrier,
        };
        let folder = build::workspace()?.join("target/bench-boot");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let lab = Lab::open()?;
        let loaders = Debs::open(&lab)?.loaders()?.into_iter().map(|deb| deb.path);
        let mut import = Command::new(&farrier);
        import
            .args(["loader", "import", "--data"])
            .arg(folder.join("imported"));
        run(import.args(loaders)).context("the boot programs cannot be imported")?;
        let lan = Lan::new()?;
        let (server, clients) = (lan.host("server", None)?, lan.host("clients", None)?);
        server.wire(&clients, (SERVER, 16), (CLIENTS, 16))?;
        server.ip(["route", "add", "10.80.0.0/16", "via", "10.79.0.2"])?;
        clients.ip(["route", "add", "local", "10.80.0.0/16", "dev", "lo"])?;
        // atftpd lets the routes choose where a group is.
        server.ip(["route", "add", "239.255.0.0/16", "dev", "wire0"])?;
        Ok(Self {
            files: Files::make(&folder)?,
            peers: Peers::find(&lab, &folder)?,
            _lan: lan,
            server,
            clients,
            farrier,
            folder,
        })
    }

    fn measure(&self, row: &'static Row, peer: Peer) -> Result<Measured> {
        let ran = self.exchange(peer, row.work)?;
        Ok(Measured {
            row,
            peer,
            cpu_s: ran.cpu_s,
            report: Report {
                // Who got no offer never asked for an address.
                failed: ran.reports.iter().map(|report| report.failed).sum(),
                ..ran.whole
            },
        })
    }

    /// Starts a server, gives it the work, ends it.
    fn exchange(&self, peer: Peer, work: Work) -> Result<Ran> {
        let scratch = self.folder.join("run");
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch)?;
        let group = Group::new()?;
        let running = self.start(peer, work, &scratch, &group)?;
        // What a server does to start is not what is asked about.
        std::thread::sleep(SETTLE);
        let before = group.used()?;
        let mut clients = self.clients.command(&self.farrier.display().to_string());
        clients.args(["bench", "--json"]);
        clients.args(work.arguments(peer, &self.files));
        let output = clients.output().context("cannot start the clients")?;
        let after = group.used()?;
        drop(running);
        let printed = String::from_utf8_lossy(&output.stdout);
        let reports: Result<Vec<Report>, _> = printed.lines().map(serde_json::from_str).collect();
        let reports = reports.context("the clients print JSON")?;
        let whole = reports
            .last()
            .with_context(|| format!("no figures: {}", String::from_utf8_lossy(&output.stderr)))?
            .clone();
        Ok(Ran {
            cpu_s: (after - before).as_secs_f64(),
            whole,
            reports,
        })
    }
}

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 1);
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 2);
const SETTLE: Duration = Duration::from_millis(300);

/// A command whose whole family counts in `group`. The group is joined first: inside of a network namespace the control
/// groups cannot be seen.
fn grouped(host: &Host, group: &Group, program: &str) -> Command {
    let inside = host.command(program);
    let mut shell = command("sh", ["-c", "echo $$ > \"$0\" && exec \"$@\""]);
    shell.arg(group.processes()).arg(inside.get_program());
    shell.args(inside.get_args());
    shell
}
