//! `farrier bench dhcp`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::profile::Firmware;
use super::relay::{Dora, Relay, arrivals, mac};
use super::tally::{Report, Tally};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The server to ask.
    #[arg(value_name = "SERVER")]
    target: Ipv4Addr,
    /// An address of this host, for the relay agent that the machines seem to be behind.
    #[arg(long)]
    relay: Ipv4Addr,
    /// How many machines.
    #[arg(long, default_value_t = 10_000)]
    count: u32,
    /// How many new ones a second.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    #[arg(long, value_enum, default_value_t = Firmware::Edk2X64)]
    firmware: Firmware,
    /// DISCOVER and OFFER only, as beside another DHCP server.
    #[arg(long)]
    offers_only: bool,
    /// Other numbers are other machines.
    #[arg(long, default_value_t = 1)]
    seed: u16,
}

pub(super) async fn run(options: Options) -> anyhow::Result<Vec<Report>> {
    let relay = Relay::open(options.target, options.relay).await?;
    let profile = options.firmware.profile();
    let started = Instant::now();
    let tallies = arrivals(options.count, options.rate, |number| {
        let (relay, mac) = (Arc::clone(&relay), mac(options.seed, number));
        tokio::spawn(async move {
            let mut dora = Dora::default();
            // Failures are counted where they happen.
            if options.offers_only {
                let _ = relay.offer(&profile, mac, &mut dora.offers).await;
            } else {
                let _ = relay.lease(&profile, mac, &mut dora).await;
            }
            dora
        })
    })
    .await;
    let (mut offers, mut acks) = (Tally::default(), Tally::default());
    for dora in tallies {
        offers.add(dora.offers);
        acks.add(dora.acks);
    }
    let mut reports = vec![offers.report("offer", started)];
    if !options.offers_only {
        reports.push(acks.report("ack", started));
    }
    Ok(reports)
}
