//! In which way an offer is made (`farrier_engine::strategy`).

use farrier_engine::facts::Stage;
use farrier_engine::policy::{Service, resolve};
use farrier_engine::strategy::{Given, Standing, Strategy, order};
use farrier_engine::timeline::Entry;
use farrier_proto::reply::{self, BootStyle};

use super::{Asked, Outcome};
use crate::config::Mode;

impl Asked<'_> {
    /// An offer beside another server's: with an address of ours where nothing else leads on.
    pub(super) async fn offer_beside(&self) -> Outcome {
        let decided = self.decide(Service::Proxy);
        let can_lend = self.standing() == Standing::BesideWithPool;
        if can_lend && self.needs_our_address(&decided) {
            return self.offer().await;
        }
        if let Err(reason) = decided
            && !self.knows_its_files(Service::Proxy, reason)
        {
            return Outcome::Ignore(reason);
        }
        let strategy = self.strategy_to_offer();
        if strategy == Strategy::D
            && let offer @ Outcome::Reply { .. } = self.offer().await
        {
            return offer;
        }
        match self.boot_decided(decided, Service::Proxy, self.style(strategy)) {
            Ok(boot) => self.reply(reply::proxy_dhcp::offer(
                &self.request,
                self.port.address,
                &boot,
            )),
            Err(reason) => Outcome::Ignore(reason),
        }
    }

    /// The way in which this offer is made. Firmware that does not act on one is tried with the next.
    pub(super) fn strategy_to_offer(&self) -> Strategy {
        let given = self.given();
        if self.facts.stage != Stage::Firmware || !self.facts.wants_boot() {
            return given.current(None, self.now);
        }
        let known = self.who.machine.is_some();
        let strategies = &self.port.core.strategies;
        let (strategy, change) = strategies.offer(self.facts.mac, known, &given, self.now);
        if let Some(change) = change {
            self.tell(|machine| Entry::strategy_changed(machine, self.now, &change));
        }
        strategy
    }

    /// The way in which an answer goes that is no offer.
    pub(super) fn strategy_now(&self) -> Strategy {
        let given = self.given();
        match self.facts.stage {
            Stage::Firmware => {
                let strategies = &self.port.core.strategies;
                strategies.current(self.facts.mac, &given, self.now)
            }
            _ => given.current(None, self.now),
        }
    }

    pub(super) fn style(&self, strategy: Strategy) -> BootStyle {
        strategy.style(&self.facts, self.standing())
    }

    /// The machine acts on what it was offered.
    pub(super) fn note_progress(&self) {
        let strategies = &self.port.core.strategies;
        match self.facts.stage {
            Stage::Firmware => strategies.went_on(self.facts.mac, self.now),
            // Firmware that is iPXE itself was never tried in several ways.
            Stage::Ipxe { .. } | Stage::Loader(_) => strategies.fetched(self.facts.mac, self.now),
            Stage::Os => {}
        }
    }

    fn given(&self) -> Given {
        let core = &self.port.core;
        let machine = self.who.machine.as_deref();
        let rules = core.rules.load();
        let judged = rules.judge(Some(&self.facts), machine, || self.place());
        let policy = resolve(&core.snapshot.load(), machine, &judged).policy;
        Given {
            order: order(&self.facts, self.standing()),
            pinned: policy.strategy.pinned(),
            learned: machine.and_then(|machine| machine.learned_strategy(self.facts.firmware)),
        }
    }

    fn standing(&self) -> Standing {
        if self.port.mode == Mode::Dhcp {
            return Standing::Server;
        }
        let pool = self.port.core.leases.subnet_of(self.link());
        match pool {
            Some(pool) if !pool.subnet.ranges.is_empty() => Standing::BesideWithPool,
            _ => Standing::Beside,
        }
    }
}
