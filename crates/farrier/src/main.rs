//! The `farrier` command. Data goes to stdout, talk to stderr; exit codes are those of [`exit`].

mod exit;
mod local;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Boots, images, installs and repairs every machine on a network.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve {
        #[arg(long, env = "FARRIER_CONFIG", default_value = "/etc/farrier/farrier.toml")]
        config: PathBuf,
    },
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        verb: local::ConfigVerb,
    },
    /// Boot programs: iPXE, shim, GRUB, PXELINUX, memory tests.
    Loader {
        #[command(subcommand)]
        verb: local::LoaderVerb,
    },
    /// The program that runs in the memory of a machine being worked on.
    Agent {
        #[command(subcommand)]
        verb: local::AgentVerb,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve { config } => local::serve(&config),
        Command::Config { verb } => local::config(&verb),
        Command::Loader { verb } => local::loader(&verb),
        Command::Agent { verb } => local::agent(&verb),
    };
    exit::code(done)
}
