//! Ends the wait of boot programs for an IPv6 router that is not there ([`farrier_engine::router_wait`]).
//!
//! Only a machine that we told over IPv4 what to load, and that has not asked for it yet, is answered, under the address
//! that boot programs make of their hardware address: no other host of the link hears of it.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use farrier_engine::router_wait::{RouterWaits, Solicited};
use farrier_engine::timeline::Entry;
use farrier_net::router::RouterSocket;
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv6::mac_of_link_local;
use farrier_proto::wire::ndp::{self, Discovery};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::core::{Core, now};

/// Answers on one link until `stop` changes.
pub(crate) async fn run(core: Arc<Core>, socket: RouterSocket, mut stop: watch::Receiver<bool>) {
    let mut routers = Routers {
        socket,
        asked: None,
    };
    // Whoever advertises here is known before the first machine asks.
    routers.ask().await;
    let mut waits = RouterWaits::default();
    loop {
        let received = tokio::select! {
            received = routers.socket.receive() => received,
            _ = stop.changed() => return,
        };
        match received {
            // Whoever sends it, and be it under a wrong address, as dnsmasq does at its start: it only keeps us silent.
            Ok((_, Discovery::Advertisement)) => waits.advertised(now()),
            Ok((from, Discovery::Solicitation { source: Some(mac) }))
                if mac_of_link_local(from) == Some(mac) =>
            {
                let now = now();
                match waits.solicited(mac, core.silences.awaits_file(mac, now), now) {
                    Solicited::Leave => {}
                    Solicited::AskToo => routers.ask().await,
                    Solicited::Tell { again } => {
                        routers.tell_that_there_is_none(mac, from).await;
                        if !again {
                            record(&core, mac);
                        }
                    }
                }
            }
            Ok((_, Discovery::Solicitation { .. })) => {}
            Err(error) => {
                tracing::debug!(%error, "router solicitations");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

struct Routers {
    socket: RouterSocket,
    asked: Option<Instant>,
}

impl Routers {
    /// Asks all of them to advertise themselves, one question for all who ask at once.
    async fn ask(&mut self) {
        if self.asked.is_some_and(|at| at.elapsed() < ASKED_FOR) {
            return;
        }
        self.asked = Some(Instant::now());
        if let Err(error) = self.socket.solicit().await {
            tracing::debug!(%error, "routers could not be solicited");
        }
    }

    async fn tell_that_there_is_none(&self, mac: MacAddr, to: Ipv6Addr) {
        if let Err(error) = self.socket.advertise(&ndp::NOTHING, to).await {
            tracing::debug!(%error, %mac, "no answer to a router solicitation");
        }
    }
}

fn record(core: &Core, mac: MacAddr) {
    let machines = core.fleet.candidates(&[mac], None);
    let machine = match machines.as_slice() {
        [machine] => Some(machine.as_ref()),
        _ => None,
    };
    core.tell_of(mac, machine, |machine| Entry::no_router(machine, now()));
}

/// After an error, such as of an interface that is down.
const PAUSE: Duration = Duration::from_secs(1);
/// A router that was asked has answered by then, and a machine that asks a moment later is not told anything yet.
const ASKED_FOR: Duration = Duration::from_millis(500);
