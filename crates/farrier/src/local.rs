//! What works on this host's files, without asking a server: `serve`, the configuration, loaders, the agent.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;
use farrier_server::agent_image::{Ingredients, KernelPackage, build};
use farrier_server::config::{Config, DEFAULT_DATA_DIR, EXAMPLE};
use farrier_server::loaders::{read_loader, read_package, store};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Report every fault of a configuration file.
    Check {
        #[arg(default_value = "/etc/farrier/farrier.toml")]
        file: PathBuf,
    },
    /// Print a commented example with every key and its default.
    Reference,
}

#[derive(Debug, Subcommand)]
pub enum LoaderVerb {
    /// Take the boot programs out of Debian packages (or single files named as there).
    Import {
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The server's data folder. A running server notices after `farrier loader reload` or a restart.
        #[arg(long, env = "FARRIER_DATA", default_value = DEFAULT_DATA_DIR)]
        data: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum AgentVerb {
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
        #[arg(long, env = "FARRIER_DATA", default_value = DEFAULT_DATA_DIR)]
        data: PathBuf,
    },
}

pub fn serve(config: &Path) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("FARRIER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .init();
    let config = Config::load(config)?;
    tokio::runtime::Runtime::new()?.block_on(farrier_server::run(config))
}

#[allow(clippy::print_stdout, reason = "data goes to stdout")]
pub fn config(verb: &ConfigVerb) -> anyhow::Result<()> {
    match verb {
        ConfigVerb::Check { file } => {
            let config = Config::load(file)?;
            println!("{} is good: {} interfaces, {} subnets", file.display(), config.interfaces.len(), config.subnets.len());
        }
        ConfigVerb::Reference => print!("{EXAMPLE}"),
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "data goes to stdout")]
pub fn loader(verb: &LoaderVerb) -> anyhow::Result<()> {
    let LoaderVerb::Import { files, data } = verb;
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let opened = || File::open(file).with_context(|| format!("{} cannot be opened", file.display()));
        let found = if name.ends_with(".deb") {
            read_package(opened()?).with_context(|| file.display().to_string())?
        } else {
            let bytes = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
            vec![read_loader(name, "file", "unknown", bytes)?]
        };
        store(&data.join("loaders"), &found).context("the loaders cannot be stored")?;
        for (loader, _) in &found {
            let signer = loader.signer.as_deref().unwrap_or("unsigned");
            println!("{}  {} {}  {signer}", loader.id, loader.file_name, loader.version);
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "data goes to stdout")]
pub fn agent(verb: &AgentVerb) -> anyhow::Result<()> {
    let AgentVerb::Build { kernel, agent, firmware, data } = verb;
    let agent = match agent {
        Some(agent) => agent.clone(),
        None => std::env::current_exe()?.with_file_name("farrier-agent"),
    };
    if !agent.is_file() {
        bail!("there is no agent program at {}; name it with --agent", agent.display());
    }
    let kernel = KernelPackage::open(kernel)?;
    let image = build(&Ingredients { kernel, agent: &agent, firmware: firmware.as_deref() }, &data.join("agent"))?;
    println!(
        "agent built for Linux {}: kernel {} bytes, initial RAM disk {} bytes, {} modules",
        image.kernel_release,
        image.vmlinuz.bytes,
        image.initrd.bytes,
        image.modules.len()
    );
    Ok(())
}
