//! How many strangers may become machines.
//!
//! Whoever fetches a script is entered as a machine, and a hardware address costs nothing to invent. So the
//! entries are rationed: by the network that asks, by the interface it asks at, and by how many machines
//! there are that nobody has confirmed. A machine on record never comes here for that. Scripts that start the
//! agent are rationed by address for everybody, since each leaves a token in the database.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use farrier_engine::Reason;
use farrier_proto::{Instant, MacAddr};
use tokio::sync::OwnedMutexGuard;

use crate::boot_tree::Asker;
use crate::bucket::{Buckets, Rate, network};

/// The ration of new machines.
#[derive(Debug)]
pub struct Admission {
    buckets: Mutex<Rations>,
    /// Where strangers wait for one another, by hardware address.
    queues: [Arc<tokio::sync::Mutex<()>>; QUEUES],
    started: tokio::time::Instant,
}

#[derive(Debug)]
struct Rations {
    networks: Buckets<IpAddr>,
    /// By our address there.
    interfaces: Buckets<IpAddr>,
    /// Apart for machines that somebody confirmed: strangers behind the same address take nothing from them.
    agents: Buckets<(IpAddr, bool)>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            buckets: Mutex::new(Rations {
                networks: Buckets::new(NETWORK, MAX_NETWORKS),
                interfaces: Buckets::new(INTERFACE, MAX_INTERFACES),
                agents: Buckets::new(AGENTS, MAX_ADDRESSES),
            }),
            queues: std::array::from_fn(|_| Arc::default()),
            started: tokio::time::Instant::now(),
        }
    }
}

impl Admission {
    /// Waits until nobody else with this address is being entered: a loader that asks twice at once is one machine.
    pub async fn turn_of(&self, mac: MacAddr) -> OwnedMutexGuard<()> {
        let queue = &self.queues[usize::from(mac.0[5]) % QUEUES];
        Arc::clone(queue).lock_owned().await
    }

    /// Lets one stranger in, while `unconfirmed` machines wait for somebody to confirm them.
    pub fn admit(&self, asker: Asker, unconfirmed: usize) -> Result<(), Reason> {
        self.admit_at(asker, unconfirmed, self.now())
    }

    /// Lets this address start one more agent.
    pub fn start_agent(&self, asker: Asker, confirmed: bool) -> Result<(), Reason> {
        let now = self.now();
        let mut rations = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let agents = rations.agents.of((asker.ip, confirmed), now);
        if agents.left(now) == 0 {
            return Err(Reason::TooManyBoots);
        }
        agents.take(1);
        Ok(())
    }

    fn now(&self) -> Instant {
        let elapsed = self.started.elapsed().as_millis();
        Instant(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn admit_at(&self, asker: Asker, unconfirmed: usize, now: Instant) -> Result<(), Reason> {
        if unconfirmed >= MAX_UNCONFIRMED {
            return Err(Reason::TooManyUnconfirmed);
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Rations {
            networks,
            interfaces,
            ..
        } = &mut *buckets;
        let network = networks.of(network(asker.ip), now);
        let interface = interfaces.of(asker.server, now);
        if network.left(now) == 0 || interface.left(now) == 0 {
            return Err(Reason::TooManyStrangers);
        }
        network.take(1);
        interface.take(1);
        Ok(())
    }
}

/// A network of new machines that are switched on together, and then somebody who plugs in more by hand.
const NETWORK: Rate = Rate {
    size: 256,
    per_second: 4,
};
/// Ten thousand new machines within a minute.
const INTERFACE: Rate = Rate {
    size: 2048,
    per_second: 160,
};
/// The machines behind one address that is translated.
const AGENTS: Rate = Rate {
    size: 256,
    per_second: 8,
};
const MAX_ADDRESSES: usize = 16_384;
const MAX_NETWORKS: usize = 4096;
const MAX_INTERFACES: usize = 256;
/// Each costs a row in the database and some kilobytes of memory.
pub const MAX_UNCONFIRMED: usize = 16_384;

/// Enough that machines seldom wait for another one's.
const QUEUES: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use farrier_engine::Reason;
    use farrier_proto::Instant;

    use super::{Admission, MAX_UNCONFIRMED};
    use crate::boot_tree::Asker;

    fn asker(network: u16, host: u8) -> Asker {
        let [b, c] = network.to_be_bytes();
        Asker {
            ip: Ipv4Addr::new(10, b, c, host).into(),
            server: Ipv4Addr::new(10, 0, 0, 1).into(),
            by: crate::boot_tree::Channel::Http,
        }
    }

    #[test]
    fn t10_one_network_gets_its_ration_and_no_other_goes_short() {
        let admission = Admission::default();
        let told = |n: u32, network, now| {
            let host = u8::try_from(n % 250).unwrap();
            admission.admit_at(asker(network, host), 0, Instant(now))
        };
        let entered = (0..5000).filter(|n| told(*n, 0, 0).is_ok()).count();
        assert_eq!(entered, 256);
        assert_eq!(told(1, 0, 200), Err(Reason::TooManyStrangers));
        assert_eq!(told(1, 1, 200), Ok(()), "the next network");
        assert_eq!(told(1, 0, 250), Ok(()), "four a second come back");
        let entered = (0..60_000u16)
            .filter(|n| told(1, n % 2000, 1000).is_ok())
            .count();
        assert!(entered <= 2048, "{entered} on one interface");
    }

    #[test]
    fn r17_ten_thousand_new_machines_within_a_minute_are_entered() {
        let admission = Admission::default();
        for n in 0..10_000u16 {
            let told = admission.admit_at(asker(n / 250, 1), 0, Instant(u64::from(n) * 6));
            assert_eq!(told, Ok(()), "{n}");
        }
    }

    #[test]
    fn t10_unconfirmed_machines_are_bounded() {
        let admission = Admission::default();
        let told = admission.admit_at(asker(0, 1), MAX_UNCONFIRMED, Instant(0));
        assert_eq!(told, Err(Reason::TooManyUnconfirmed));
        assert_eq!(
            admission.admit_at(asker(0, 1), MAX_UNCONFIRMED - 1, Instant(0)),
            Ok(())
        );
    }
}
