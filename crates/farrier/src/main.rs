//! The `farrier` command. Data goes to stdout, talk to stderr; exit codes are those of [`exit`].
//!
//! Each noun has a file with its verbs: their definition for the parser, what they ask the server, and how
//! the answer reads. [`connection`] finds the server and the credential; [`local`] is what works on this
//! host's files without a server.
#![forbid(unsafe_code)]

mod bench;
mod connection;
mod credentials;
mod db;
mod doctor;
mod exit;
mod group;
mod image;
mod image_content;
mod image_export;
mod image_import;
mod lease;
mod loader;
mod local;
mod login;
mod machine;
mod media;
mod output;
mod policy;
mod secret;
mod setting;
mod task;
#[cfg(test)]
mod tests;
mod user;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Boots, images, installs and repairs every machine on a network.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: connection::Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Machines: look, name, let in, keep out, forget.
    #[command(subcommand)]
    Machine(machine::Verb),
    /// Groups of machines that share settings.
    #[command(subcommand)]
    Group(group::Verb),
    /// Work for machines: inventory, capture, deploy, repair.
    #[command(subcommand)]
    Task(task::Verb),
    /// Images: list, verify, import, export, delete, prune.
    #[command(subcommand)]
    Image(image::Verb),
    /// What decides a boot, and why.
    #[command(subcommand)]
    Policy(policy::Verb),
    /// Addresses that are lent.
    #[command(subcommand)]
    Lease(lease::Verb),
    /// Boot programs: iPXE, shim, GRUB, PXELINUX, memory tests.
    #[command(subcommand)]
    Loader(loader::Verb),
    /// Disk images that machines start: floppies, hard disks, CDs.
    #[command(subcommand)]
    Media(media::Verb),
    /// People who may use the server.
    #[command(subcommand)]
    User(user::UserVerb),
    /// Tokens for programs.
    #[command(subcommand)]
    Token(user::TokenVerb),
    /// Sign in to a server and pin its certificate authority.
    Login(login::Login),
    /// End the session.
    Logout,
    /// Check the server and its networks; say what is wrong and what to do.
    Doctor(doctor::Options),
    /// Measure a server with many virtual machines.
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Run the server.
    Serve {
        #[arg(
            long,
            env = "FARRIER_CONFIG",
            default_value = "/etc/farrier/farrier.toml"
        )]
        config: PathBuf,
    },
    /// Look at the configuration.
    #[command(subcommand)]
    Config(local::ConfigVerb),
    /// The program that runs in the memory of a machine being worked on.
    #[command(subcommand)]
    Agent(local::AgentVerb),
    /// Copies of the database.
    #[command(subcommand)]
    Db(db::Verb),
}

fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    let done = match command {
        Command::Serve { config } => local::serve(&config),
        Command::Config(verb) => local::config(&verb),
        Command::Agent(verb) => local::agent(&verb, &options.data()),
        Command::Media(verb) => media::run(&verb, &options),
        command => in_runtime(ask(command, options)),
    };
    exit::code(done)
}

fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(work)
}

async fn ask(command: Command, options: connection::Options) -> anyhow::Result<()> {
    match command {
        Command::Machine(verb) => machine::run(&options.session()?, verb).await,
        Command::Group(verb) => group::run(&options.session()?, verb).await,
        Command::Task(verb) => task::run(&options.session()?, verb).await,
        Command::Image(verb) => image::run(&options, verb).await,
        Command::Policy(verb) => policy::run(&options.session()?, verb).await,
        Command::Lease(verb) => lease::run(&options.session()?, verb).await,
        Command::Loader(verb) => loader::run(&options, verb).await,
        Command::User(verb) => user::users(&options.session()?, verb).await,
        Command::Token(verb) => user::tokens(&options.session()?, verb).await,
        Command::Login(login) => login::login(&options, login).await,
        Command::Logout => login::logout(&options).await,
        Command::Bench(verb) => bench::run(verb, options.json).await,
        Command::Doctor(wanted) => doctor::run(&options.session()?, &wanted).await,
        Command::Db(verb) => db::run(&options.data(), verb).await,
        Command::Serve { .. } | Command::Config(_) | Command::Agent(_) | Command::Media(_) => {
            Ok(())
        }
    }
}

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  refused, or the answer is no
  2  usage or configuration
  3  the server cannot be reached
  4  a task failed";
