//! What works on this host's files, without asking a server: `serve`, the configuration, loaders, the agent.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use farrier_image::key::SigningKey;
use farrier_image::store::{Access, Store, StoreKeys, StoreOptions};
use farrier_server::agent_image::{Ingredients, KernelPackage, build};
use farrier_server::boards::{Boards, Imported};
use farrier_server::ca::Ca;
use farrier_server::config::{Config, EXAMPLE};
use farrier_server::loaders::{
    Loaders, read_catalogue, read_loader, read_package, store as store_loaders, trust_report,
};
use farrier_server::reservations;
use farrier_server::ui::text::bytes;
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Report every fault of a configuration file.
    Check {
        #[arg(default_value = "/etc/farrier/farrier.toml")]
        file: PathBuf,
    },
    /// Print the reservations of another DHCP server's file as ours, to be put into the configuration.
    /// All of them, or the faults with their lines.
    Reservations {
        file: PathBuf,
        /// Whose file it is.
        #[arg(long, value_enum)]
        from: Source,
        /// The configuration whose subnets they belong to.
        #[arg(long, default_value = "/etc/farrier/farrier.toml")]
        config: PathBuf,
    },
    /// Print a commented example with every key and its default.
    Reference,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Source {
    /// A table whose first line names the columns mac or uuid, address, name.
    Csv,
    /// ISC's dhcpd.conf.
    Dhcpd,
    /// dhcp-host lines.
    Dnsmasq,
    /// Kea's JSON.
    Kea,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Build the agent's kernel and initial RAM disk from a distribution's kernel package.
    Build {
        /// A Debian `linux-image-*` package, or the folder it was unpacked to.
        #[arg(long)]
        kernel: PathBuf,
        /// The agent program. Default: `farrier-agent` beside this command.
        #[arg(long)]
        agent: Option<PathBuf>,
        /// A folder with firmware files, as in /lib/firmware.
        #[arg(long)]
        firmware: Option<PathBuf>,
    },
}

pub(crate) fn serve(config: &Path) -> anyhow::Result<()> {
    // The TLS library warns of every oddity of boot programs, edk2's wrong server names among them.
    let usual = || EnvFilter::new("info,rustls=error");
    let filter = EnvFilter::try_from_env("FARRIER_LOG").unwrap_or_else(|_| usual());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    let config = Config::load(config)?;
    tokio::runtime::Runtime::new()?.block_on(farrier_server::run(config))
}

pub(crate) fn config(verb: &ConfigVerb) -> anyhow::Result<()> {
    match verb {
        ConfigVerb::Check { file } => {
            let config = Config::load(file)?;
            let (interfaces, subnets) = (config.interfaces.len(), config.subnets.len());
            output::data(&format!(
                "{} is good: {interfaces} interfaces, {subnets} subnets",
                file.display()
            ))
        }
        ConfigVerb::Reference => output::data(EXAMPLE),
        ConfigVerb::Reservations { file, from, config } => import(file, *from, config),
    }
}

fn import(file: &Path, from: Source, config: &Path) -> anyhow::Result<()> {
    let subnets = Config::load(config)?.subnets;
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let format = match from {
        Source::Csv => reservations::Format::Csv,
        Source::Dhcpd => reservations::Format::Dhcpd,
        Source::Dnsmasq => reservations::Format::Dnsmasq,
        Source::Kea => reservations::Format::Kea,
    };
    match reservations::read(format, &text, &subnets) {
        Ok(found) if found.is_empty() => {
            anyhow::bail!(
                "{} has no reservation with an address; is --from right?",
                file.display()
            )
        }
        Ok(found) => output::data(reservations::render(&found, &subnets).trim_end()),
        Err(faults) => {
            let told: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            anyhow::bail!(
                "nothing of {} is taken over; correct it and try again:{}",
                file.display(),
                told.concat()
            )
        }
    }
}

/// Tells who vouches for the boot programs of the data folder, and for the agent's kernel.
pub(crate) fn show_loaders(ids: &[String], data: &Path) -> anyhow::Result<()> {
    let loaders = Loaders::open(data.join("loaders"), data.join("agent"))
        .with_context(|| format!("{} cannot be read", data.display()))?;
    let told = trust_report(&loaders, ids).context("a loader cannot be read")?;
    if told.is_empty() {
        anyhow::bail!(
            "no such loader in {}; `farrier loader import` adds some",
            data.display()
        );
    }
    output::data(&told.join("\n"))
}

/// Puts boot programs into the data folder.
pub(crate) fn import_loaders(files: &[PathBuf], data: &Path) -> anyhow::Result<()> {
    for file in files {
        let name = file
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let opened =
            || File::open(file).with_context(|| format!("{} cannot be opened", file.display()));
        let found = if name.ends_with(".deb") {
            read_package(opened()?).with_context(|| file.display().to_string())?
        } else {
            let bytes = std::fs::read(file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            vec![read_loader(name, "file", "unknown", bytes)?]
        };
        store_loaders(&data.join("loaders"), &found).context("the loaders cannot be stored")?;
        for (loader, _) in &found {
            let signer = loader.signer.as_deref().unwrap_or("unsigned");
            output::data(&format!(
                "{}  {} {}  {signer}",
                loader.id, loader.file_name, loader.version
            ))?;
        }
    }
    output::talk("a running server uses them within seconds");
    let catalogue =
        read_catalogue(&data.join("loaders")).context("the loaders cannot be read again")?;
    for slow in catalogue.slow_local_boots() {
        output::talk(&format!("{slow}\n  -> {}", slow.remedy()));
    }
    Ok(())
}

pub(crate) fn import_board(folder: &Path, data: &Path) -> anyhow::Result<()> {
    let Imported { files, bytes: size } = Boards::below(data).import(folder)?;
    let plural = if files == 1 { "" } else { "s" };
    output::data(&format!("{files} file{plural}, {}", bytes(size)))?;
    output::talk("a running server serves them from now on");
    Ok(())
}

pub(crate) fn agent(verb: &AgentVerb, data: &Path) -> anyhow::Result<()> {
    let AgentVerb::Build {
        kernel,
        agent,
        firmware,
    } = verb;
    let agent = match agent {
        Some(agent) => agent.clone(),
        None => std::env::current_exe()?.with_file_name("farrier-agent"),
    };
    if !agent.is_file() {
        let message = format!("there is no agent program at {}", agent.display());
        return Err(Failure::usage(message).hint("name it with --agent").into());
    }
    let kernel = KernelPackage::open(kernel)?;
    let image = build(
        &Ingredients {
            kernel,
            agent: &agent,
            firmware: firmware.as_deref(),
        },
        &data.join("agent"),
    )?;
    output::data(&format!(
        "agent built for Linux {}: kernel {} bytes, initial RAM disk {} bytes, {} modules",
        image.kernel_release,
        image.vmlinuz.bytes,
        image.initrd.bytes,
        image.modules.len()
    ))
}

/// The image store in a server's data folder.
pub(crate) async fn store(data: &Path, access: Access) -> anyhow::Result<Store> {
    let keys = data.join("ca");
    if !keys.is_dir() {
        let message = format!("{} is not a server's data folder", data.display());
        return Err(Failure::usage(message).hint("name it with --data").into());
    }
    let ca = Ca::open(&keys)?;
    let signing = match access {
        Access::Write => Some(SigningKey::from_pkcs8(&ca.image_key().to_pkcs8()?)?),
        Access::Read => None,
    };
    let keys = StoreKeys {
        trusted: vec![ca.image_verifying_key()],
        signing,
    };
    let options = StoreOptions {
        access,
        ..StoreOptions::default()
    };
    let opened = Store::open_local(&data.join("images"), keys, options).await;
    opened.context("the image store cannot be opened; if a server uses it, stop that first")
}
