//! Waking machines by magic packets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use farrier_api::admin::{Wake, Woken};
use farrier_engine::model::{Machine, MachineId};
use farrier_engine::timeline::{Entry, Kind};
use farrier_net::interface::{self, Interface};
use farrier_net::wake::{broadcast_of, wake, wake_far};
use farrier_proto::MacAddr;
use farrier_proto::wire::wake::SecureOn;
use uuid::Uuid;

use super::{Code, Desk, Refusal, convert};
use crate::auth::Action;
use crate::core::{Core, now};

impl Desk {
    /// Sends magic packets to every hardware address of a machine, on every served interface and to the
    /// networks behind relays that it has a lease in.
    pub async fn wake_machine(&self, id: Uuid, wish: &Wake) -> Result<Woken, Refusal> {
        self.allow(Action::WakeMachine)?;
        let machine = self
            .core
            .fleet
            .machine(MachineId(id))
            .ok_or_else(|| Refusal::missing("machine", id))?;
        let password = wish.secure_on.as_deref().map(str::parse::<SecureOn>);
        let password = password
            .transpose()
            .map_err(|error| Refusal::bad(error.to_string()))?;
        let (core, waked) = (Arc::clone(&self.core), machine.clone());
        let woken = tokio::task::spawn_blocking(move || send(&core, &waked, password))
            .await
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        if woken.sent.is_empty() {
            let why = woken.failed.join("; ");
            let text = format!("No magic packet could be sent: {why}");
            return Err(Refusal::new(Code::NotPossible, text)
                .hint("serve an interface that reaches the machine, with CAP_NET_RAW"));
        }
        let entry = woken_entry(machine.id, &self.who.name, woken.clone());
        self.core.note_entry(entry);
        self.audit(Action::WakeMachine, convert::machine_name(&machine))
            .await;
        Ok(woken)
    }
}

/// What a plan says of it.
pub(super) fn wake_words(machines: usize) -> String {
    match machines {
        1 => "wake the machine by magic packets".to_owned(),
        many => format!(
            "wake {many} machines by magic packets, {} in a second",
            1000 / APART.as_millis()
        ),
    }
}

/// Wakes machines in the background, with pauses: a room that starts in one moment trips its fuse, and firmware of
/// hundreds that asks in one moment asks again and again.
pub(super) fn wake_one_after_another(core: Arc<Core>, machines: Vec<MachineId>, who: &str) {
    let who = who.to_owned();
    tokio::spawn(async move {
        for (place, id) in machines.into_iter().enumerate() {
            if place > 0 {
                tokio::time::sleep(APART).await;
            }
            let Some(machine) = core.fleet.machine(id) else {
                continue;
            };
            let sender = Arc::clone(&core);
            let woken = tokio::task::spawn_blocking(move || send(&sender, &machine, None)).await;
            core.note_entry(woken_entry(id, &who, woken.unwrap_or_default()));
        }
    });
}

fn woken_entry(machine: MachineId, who: &str, woken: Woken) -> Entry {
    if woken.sent.is_empty() {
        let why = woken.failed.join("; ");
        let told = format!("The machine could not be woken: no magic packet was sent. {why}");
        return Entry::new(machine, now(), Kind::Warning, told);
    }
    let told = format!("{who} sent magic packets to wake the machine.");
    Entry::new(machine, now(), Kind::Operator, told).with("packets", woken.sent.join(", "))
}

/// Between two machines that are woken.
const APART: Duration = Duration::from_millis(100);

fn send(core: &Core, machine: &Machine, password: Option<SecureOn>) -> Woken {
    let mut woken = Woken {
        sent: Vec::new(),
        failed: Vec::new(),
    };
    let served: Vec<Interface> = match interface::list() {
        Ok(all) => {
            let named = |i: &Interface| core.config.interfaces.iter().any(|c| c.name == i.name);
            all.into_iter().filter(named).collect()
        }
        Err(error) => {
            woken
                .failed
                .push(format!("the interfaces cannot be listed: {error}"));
            Vec::new()
        }
    };
    for mac in &machine.macs {
        for interface in &served {
            match wake(interface, *mac, password) {
                Ok(ways) => woken
                    .sent
                    .extend(ways.iter().map(|way| format!("{mac}: {way}"))),
                Err(error) => woken
                    .failed
                    .push(format!("{mac} on {}: {error}", interface.name)),
            }
        }
        for broadcast in far_networks(core, *mac, &served) {
            match wake_far(broadcast, *mac, password) {
                Ok(()) => woken.sent.push(format!("{mac}: {broadcast} by the route")),
                Err(error) => woken.failed.push(format!("{mac} to {broadcast}: {error}")),
            }
        }
    }
    woken
}

/// Where the machine has a lease, but no interface of ours is.
fn far_networks(core: &Core, mac: MacAddr, served: &[Interface]) -> BTreeSet<Ipv4Addr> {
    let held = core.leases.with_book(|book| {
        let of_machine = book.leases().filter(|lease| lease.mac == mac);
        of_machine.map(|lease| lease.ip).collect::<Vec<_>>()
    });
    held.into_iter()
        .filter(|ip| !served.iter().any(|interface| interface.reaches(*ip)))
        .filter_map(|ip| {
            let subnet = core.leases.subnet_of(ip)?;
            Some(broadcast_of(ip, subnet.subnet.prefix))
        })
        .collect()
}
