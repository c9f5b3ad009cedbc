//! Whose request it is; a stranger that came as far as a loader of ours becomes a machine.

use farrier_engine::Reason;
use farrier_engine::facts::BootFacts;
use farrier_engine::identity::Evidence;
use farrier_engine::model::{Machine, MachineId, Registration};
use farrier_engine::policy::Settings;
use farrier_engine::strategy::Learned;
use farrier_engine::timeline::Entry;
use tokio::sync::OwnedMutexGuard;

use crate::boot_tree::Asker;
use crate::core::{Core, Recognised, new_id, now};
use crate::fleet::FleetError;

/// The machine that asks; a stranger that came this far becomes one, since it runs a loader of ours, unless
/// there are too many of them.
pub(super) async fn known(
    core: &Core,
    asker: Asker,
    facts: &BootFacts,
) -> Result<Recognised, Reason> {
    let evidence = Evidence::of_facts(facts);
    let mut who = core.recognise(&evidence);
    let mut turn = None;
    if who.machine.is_none() && who.conflict.is_empty() {
        turn = Some(core.admission.turn_of(facts.mac).await);
        // It may have become one while it waited.
        who = core.recognise(&evidence);
    }
    let done = match &who.machine {
        Some(machine) => update(core, machine, facts).await,
        None if who.conflict.is_empty() => {
            admit(core, asker).await?;
            add(core, facts, turn).await
        }
        None => return Ok(who),
    };
    match done {
        Ok(()) => Ok(core.recognise(&evidence)),
        Err(error) => {
            tracing::warn!(mac = %facts.mac, %error, "a machine could not be stored; it boots all the same");
            Ok(who)
        }
    }
}

/// Whether there is room for one more; where there is none, what was seen once and never again makes it.
async fn admit(core: &Core, asker: Asker) -> Result<(), Reason> {
    let count = core.fleet.unconfirmed_count();
    let told = core.admission.admit(asker, count);
    if told != Err(Reason::TooManyUnconfirmed) {
        return told;
    }
    let Some(stale) = core.fleet.stalest(now() - SILENT) else {
        return told;
    };
    match core.fleet.delete_machine(stale).await {
        Ok(_) => core.admission.admit(asker, count - 1),
        Err(error) => {
            tracing::warn!(%error, "a machine that was seen once could not be forgotten");
            told
        }
    }
}

/// `turn` ends when everybody can see the machine, even if the loader has hung up by then.
async fn add(
    core: &Core,
    facts: &BootFacts,
    turn: Option<OwnedMutexGuard<()>>,
) -> Result<(), FleetError> {
    let machine = Machine {
        id: MachineId(new_id()),
        name: None,
        registration: Registration::Seen,
        macs: vec![facts.mac],
        uuid: facts.usable_uuid(),
        firmware: facts.firmware,
        arch: facts.arch,
        group: None,
        settings: Settings::default(),
        intent: None,
        learned: learn(core, None, facts),
        inventory: None,
        first_seen: now(),
        last_seen: now(),
        revision: 0,
    };
    let machine = core.fleet.add_holding(machine, turn).await?;
    for entry in core.sightings.take(facts.mac) {
        core.note_entry(Entry {
            machine: machine.id,
            ..entry
        });
    }
    Ok(())
}

async fn update(core: &Core, machine: &Machine, facts: &BootFacts) -> Result<(), FleetError> {
    let changed = core.fleet.change_machine(machine.id, |machine| {
        machine.firmware = facts.firmware.or(machine.firmware);
        machine.arch = facts.arch.or(machine.arch);
        machine.uuid = machine.uuid.or_else(|| facts.usable_uuid());
        machine.learned = learn(core, machine.learned, facts);
    });
    let changed = changed.await?;
    let strategy = |machine: &Machine| machine.learned.map(|learned| learned.strategy);
    if let Some(learned) = strategy(&changed).filter(|_| strategy(&changed) != strategy(machine)) {
        core.note_entry(Entry::strategy_learned(machine.id, now(), learned));
    }
    Ok(())
}

/// What is known of the machine's firmware, now that it runs a loader.
fn learn(core: &Core, before: Option<Learned>, facts: &BootFacts) -> Option<Learned> {
    let Some(strategy) = core.strategies.worked(facts.mac) else {
        return before;
    };
    let heard = core.sightings.kind(facts.mac);
    let firmware = heard.and_then(|(_, firmware)| firmware).or(facts.firmware);
    let is_same = |learned: &Learned| (learned.strategy, learned.firmware) == (strategy, firmware);
    let found = || Learned {
        strategy,
        firmware,
        since: now(),
    };
    Some(before.filter(is_same).unwrap_or_else(found))
}

/// A machine that boots is heard again sooner than this.
const SILENT: std::time::Duration = std::time::Duration::from_secs(3600);
