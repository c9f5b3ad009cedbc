//! `farrier bench`: many virtual machines that boot from a server, each as its firmware would.
//!
//! [`profile`] has the habits of firmware; [`relay`] speaks DHCP for many machines through one socket, as a
//! relay agent does; [`tftp`] and [`http`] fetch; [`storm`] strings all of it together; [`tally`] counts.
//! Nothing here is specific to our own server: the same work can be given to any other.

mod dhcp;
mod http;
mod profile;
mod relay;
mod storm;
mod tally;
mod tftp;

use clap::Subcommand;

use crate::exit::Failure;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Machines that ask for an address, at a steady rate.
    Dhcp(dhcp::Options),
    /// Machines that fetch a file by TFTP.
    Tftp(tftp::Options),
    /// Machines that fetch a file by HTTP.
    Http(http::Options),
    /// Machines that boot: DHCP, loader, DHCP of the loader, script.
    Storm(storm::Options),
}

pub(crate) async fn run(verb: Verb, json: bool) -> anyhow::Result<()> {
    // A machine that starts over has failed in one stage and boots all the same.
    let only_the_end_counts = matches!(verb, Verb::Storm(_));
    let reports = match verb {
        Verb::Dhcp(options) => dhcp::run(options).await?,
        Verb::Tftp(options) => tftp::run(options).await?,
        Verb::Http(options) => http::run(options).await?,
        Verb::Storm(options) => storm::run(options).await?,
    };
    if json {
        for report in &reports {
            output::data(&serde_json::to_string(report)?)?;
        }
    } else {
        output::data(&tally::table(&reports).to_string())?;
        for report in &reports {
            for agreed in &report.agreed {
                output::talk(&format!("{}: {agreed}", report.what));
            }
        }
    }
    for report in &reports {
        for (why, times) in &report.failures {
            output::talk(&format!("{}: {times} x {why}", report.what));
        }
    }
    let counted = match reports.as_slice() {
        [.., boots] if only_the_end_counts => std::slice::from_ref(boots),
        all => all,
    };
    match counted.iter().map(|report| report.failed).sum::<u64>() {
        0 => Ok(()),
        failed => Err(Failure::refused(format!("{failed} of the requests failed")).into()),
    }
}

// Where boot services listen, on every network.
const TFTP_PORT: u16 = 69;
const DHCP_PORT: u16 = 67;
const BOOT_SERVER_PORT: u16 = 4011;
