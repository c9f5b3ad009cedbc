//! `cargo xtask up`: the main job where it can be watched.
//!
//! On a private virtual LAN a blank machine with real firmware boots from the network, registers itself, receives an
//! operating system and starts it; then its disk is broken and repaired. With `--interface` the server serves a
//! real LAN instead.

use std::{
    fs, io,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use farrier_e2e::{
    Bus, Disk, Firmware, Lan, Machine, Mode, Site, Steps, Vm, damage::overwrite_blocks,
    golden::LOGIN, report::say, site,
};
use serde_json::json;

use crate::{build, prepare};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Ends after the repair instead of staying up for the page to be looked at.
    #[arg(long)]
    once: bool,
    /// Serves the real LAN on this interface instead, beside its DHCP server.
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
}

const BOOT: Duration = Duration::from_secs(180);
const WORK: Duration = Duration::from_secs(400);
const IMAGE: &str = "golden";
const DISK: u64 = 3 << 30;
const PAGE: u16 = 8443;

pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(interface) = &options.interface {
        return serve_real_lan(interface);
    }
    let mut steps = Steps::new(prepare::STEPS + 7);
    let prepared = prepare::with(&mut steps)?;
    steps.step("building farrier and its agent");
    build::programs()?;

    steps.step("a private LAN with the server on it");
    let folder = prepared.lab.scratch("up")?;
    let lan = Lan::new()?;
    let host = lan.server()?;
    let relay = host.relay(PAGE)?;
    let _router = lan.router(&folder)?;
    let site = Site::start(&prepared.lab, host, &folder, Mode::Dhcp)?;
    say_page(&site, &relay.address.to_string());

    steps.step("an image in the store, from the golden disk");
    say(&site.farrier(&[
        "image",
        "import",
        "--as",
        IMAGE,
        &prepared.golden.image.display().to_string(),
    ])?);

    steps.step("a blank machine is switched on: it boots from the network and registers itself");
    let disk = Disk::blank(folder.join("pupil.raw"), DISK, Bus::Nvme, "PUPIL")?;
    let path = disk.path().to_path_buf();
    let machine = Machine::new("pupil", Firmware::UefiPxe4, 1).disk(disk);
    let mut watch = Watch {
        site: &site,
        mac: machine.mac().to_owned(),
        told: 0,
    };
    let mut vm = machine.start(&lan, &folder)?;
    say(&format!(
        "      its console: tail -f {}",
        folder.join("pupil.console").display()
    ));
    watch.until("It sent its inventory", BOOT)?;

    steps.step("it receives an operating system, and starts it from its own disk");
    let deploy = json!({ "kind": "deploy", "image": IMAGE, "disk": { "serial": "PUPIL" } });
    let vm2 = watch.work(&mut vm, &deploy)?;
    started(vm2, &steps)?;
    vm.power_off()?;

    steps.step(
        "five of a hundred blocks of its disk are overwritten with noise; then it is repaired",
    );
    let broken = overwrite_blocks(&path, 5, 42)?;
    steps.detail(&format!("{} MiB are broken", broken >> 20));
    let repair = json!({ "kind": "repair", "image": IMAGE, "disk": { "serial": "PUPIL" } });
    let task = site.order(machine.mac(), &repair, "local_boot")?;
    let mut vm = machine.start(&lan, &folder)?;
    watch.until_ended(&task)?;
    started(&mut vm, &steps)?;

    steps.step("done");
    if options.once {
        return Ok(());
    }
    say_page(&site, &relay.address.to_string());
    say("Press Enter to end the virtual LAN.");
    io::stdin()
        .read_line(&mut String::new())
        .context("cannot read from the terminal")?;
    Ok(())
}

/// Tells how to look at the page.
fn say_page(site: &Site, address: &str) {
    say(&format!(
        "      the page: https://{address}/ (its certificate is the site's own)"
    ));
    let log = site.log();
    if let Some(token) = log
        .lines()
        .find_map(|line| line.split_once("use this token once: "))
        .map(|(_, token)| token)
    {
        say(&format!(
            "      first visit: https://{address}/setup with the token {token}"
        ));
    }
}

fn started(vm: &mut Vm, steps: &Steps) -> Result<()> {
    vm.wait_for(LOGIN, BOOT)?;
    steps.detail("the operating system shows its login prompt");
    Ok(())
}

/// Shows a machine's timeline as it grows.
struct Watch<'a> {
    site: &'a Site,
    mac: String,
    told: usize,
}

impl Watch<'_> {
    fn show(&mut self) -> Vec<String> {
        let told = self.site.timeline(&self.mac).unwrap_or_default();
        let new = told.get(self.told..).unwrap_or_default().to_vec();
        for sentence in new
            .iter()
            .filter(|sentence| !sentence.starts_with("Console: "))
        {
            say(&format!("      | {sentence}"));
        }
        self.told = self.told.max(told.len());
        new
    }

    fn until(&mut self, words: &str, patience: Duration) -> Result<()> {
        let started = Instant::now();
        while !self.show().iter().any(|sentence| sentence.contains(words)) {
            if started.elapsed() > patience {
                bail!("{words:?} did not happen within {patience:?}");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    /// Orders work for a machine that is on, and restarts it so that it is done.
    fn work<'v>(&mut self, vm: &'v mut Vm, work: &serde_json::Value) -> Result<&'v mut Vm> {
        let task = self.site.order(&self.mac, work, "local_boot")?;
        vm.reset()?;
        self.until_ended(&task)?;
        Ok(vm)
    }

    fn until_ended(&mut self, task: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            self.show();
            let now = self.site.get(&format!("tasks/{task}")).unwrap_or_default();
            match now["state"].as_str() {
                Some("done") => return Ok(()),
                Some("failed" | "cancelled" | "expired") => {
                    bail!("the task did not succeed: {now:#}")
                }
                _ if started.elapsed() > WORK => {
                    bail!("the task takes longer than {WORK:?}: {now:#}")
                }
                _ => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }
}

/// Runs the server on a real interface, beside the DHCP server that is there. Nothing on the LAN changes but that
/// machines which boot from the network get an answer.
fn serve_real_lan(interface: &str) -> Result<()> {
    let mut steps = Steps::new(prepare::STEPS + 2);
    let prepared = prepare::with(&mut steps)?;
    steps.step("building farrier and its agent");
    let programs = build::programs()?;
    steps.step(&format!(
        "serving {interface} beside its DHCP server; end it with Ctrl-C"
    ));
    let folder = prepared.lab.subfolder("site")?;
    let data = folder.join("data");
    fs::create_dir_all(&data).context("cannot make the data folder")?;
    site::fill(
        &prepared.lab,
        &site::Programs {
            farrier: programs.farrier.clone(),
            agent: programs.agent,
        },
        &data,
    )?;
    let config = folder.join("farrier.toml");
    let text = format!(
        "data_dir = {:?}\n\n[[interface]]\nname = {interface:?}\nmode = \"proxy\"\n",
        data.display().to_string()
    );
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    say(&format!("      configuration: {}", config.display()));
    let status = Command::new(&programs.farrier)
        .args(["serve", "--config"])
        .arg(&config)
        .status();
    let status = status.context("cannot start farrier")?;
    if status.success() {
        Ok(())
    } else {
        bail!("farrier ended with {status}; its own words are above")
    }
}
