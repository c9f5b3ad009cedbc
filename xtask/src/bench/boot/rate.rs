//! `cargo xtask bench rate`: how many DHCP exchanges a second each server manages with fewer than one in a hundred
//! packets sent again. A search, one run for each rate, so that it finds the size of a figure and not its last digit.

use anyhow::Result;
use farrier_e2e::report::say;

use super::rows::Work;
use super::server::Peer;
use super::{Bench, Options};

pub(crate) fn run_all(options: &Options) -> Result<()> {
    let bench = Bench::new(options)?;
    for round in 0..options.rounds {
        for peer in bench.peers.in_turn(PEERS, round) {
            match search(|rate| bench.manages(peer, rate)) {
                Ok(best) => say(&format!("{peer:?}: {best} exchanges/s")),
                Err(error) => say(&format!("{peer:?} is left out: {error:#}")),
            }
        }
    }
    Ok(())
}

impl Bench {
    fn manages(&self, peer: Peer, rate: u32) -> Result<bool> {
        let count = rate.saturating_mul(SECONDS).clamp(LEAST, POOL);
        let ran = self.exchange(peer, Work::Dora { rate, count })?;
        let lost: u64 = ran.reports.iter().map(|r| r.failed + r.resent).sum();
        let asked: u64 = ran.reports.iter().map(|r| r.done + r.failed).sum();
        let good = lost * 100 < asked;
        say(&format!(
            "  {peer:?} {rate}/s: {:.0}/s, {lost} of {asked} not answered at once, {:.0} us of CPU each",
            ran.whole.per_second,
            ran.cpu_s * 1e6 / ran.whole.done.max(1) as f64
        ));
        // Clients that could not ask so fast say nothing of the server.
        Ok(good && ran.whole.per_second >= f64::from(rate) * KEPT_UP)
    }
}

/// The highest rate that is managed: doubled until it is not, then halved in between.
fn search(mut manages: impl FnMut(u32) -> Result<bool>) -> Result<u32> {
    let (mut good, mut bad) = (0, FIRST);
    while manages(bad)? {
        (good, bad) = (bad, bad * 2);
    }
    for _ in 0..HALVINGS {
        let middle = good + (bad - good) / 2;
        if manages(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

const PEERS: &[Peer] = &[Peer::Farrier, Peer::Kea, Peer::Isc, Peer::Dnsmasq];
const FIRST: u32 = 250;
const HALVINGS: u32 = 3;
const SECONDS: u32 = 3;
const LEAST: u32 = 1000;
/// All servers have 20,480 addresses, of which ours keeps a quarter for known machines.
const POOL: u32 = 15_000;
const KEPT_UP: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::search;

    #[test]
    fn the_search_ends_within_an_eighth_of_the_limit() {
        for limit in [0, 100, 250, 251, 900, 7_000, 31_000] {
            let found = search(|rate| Ok(rate <= limit)).unwrap();
            assert!(found <= limit, "{found} of {limit}");
            assert!(limit - found <= (limit / 8).max(32), "{found} of {limit}");
        }
        assert!(search(|_| anyhow::bail!("gone")).is_err());
    }
}
