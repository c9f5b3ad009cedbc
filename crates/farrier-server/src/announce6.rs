//! Router advertisements: "there is IPv6 here, ask DHCPv6" (RFC 4861 section 6.2), where asked for.

use std::time::Duration;

use farrier_net::router::{ALL_NODES, RouterSocket};
use farrier_proto::MacAddr;
use farrier_proto::wire::ndp::{Advertisement, Discovery};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Subnet6Config;

/// Sends them until `stop` changes: now and then, and when somebody asks.
pub async fn run(
    socket: RouterSocket,
    subnet: Subnet6Config,
    mac: Option<MacAddr>,
    mut stop: watch::Receiver<bool>,
) {
    let message = Advertisement {
        network: subnet.network,
        lifetime_s: subnet.lease_seconds,
        source: mac,
    }
    .encode();
    let mut last = None;
    loop {
        if let Err(error) = socket.advertise(&message, ALL_NODES).await {
            tracing::debug!(%error, "a router advertisement could not be sent");
        }
        let sent = Instant::now();
        let started = *last.get_or_insert(sent);
        // The first few come quickly (MAX_INITIAL_RTR_ADVERT_INTERVAL).
        let pause = if sent - started < INITIAL {
            INITIAL_PAUSE
        } else {
            PAUSE
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            asked = solicited(&socket) => {
                if let Err(error) = asked {
                    tracing::debug!(%error, "router solicitations");
                    tokio::time::sleep(MIN_PAUSE).await;
                }
                // One answer to all who ask at once, and no flood (MIN_DELAY_BETWEEN_RAS).
                tokio::time::sleep_until(sent + MIN_PAUSE).await;
            }
            _ = stop.changed() => return,
        }
    }
}

async fn solicited(socket: &RouterSocket) -> std::io::Result<()> {
    while socket.receive().await?.1 == Discovery::Advertisement {}
    Ok(())
}

const INITIAL: Duration = Duration::from_secs(40);
const INITIAL_PAUSE: Duration = Duration::from_secs(16);
const PAUSE: Duration = Duration::from_secs(200);
const MIN_PAUSE: Duration = Duration::from_secs(3);
