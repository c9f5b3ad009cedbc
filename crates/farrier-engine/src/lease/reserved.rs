//! Which address is kept for whom, by whatever tells a client apart.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use farrier_proto::MacAddr;
use uuid::Uuid;

use super::{Client, Reservation};

/// Whom an address is kept for. Where several fit a client, the first in this order counts: what is closest to
/// the machine itself, and of the places it may be plugged in the most exactly named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    Mac(MacAddr),
    Uuid(Uuid),
    /// Option 61 as it is on the wire, with its first byte.
    ClientId(Vec<u8>),
    /// Whatever is plugged in there, as the relay or switch names it in option 82.
    Port {
        circuit_id: Option<Vec<u8>>,
        remote_id: Option<Vec<u8>>,
    },
}

impl Holder {
    /// Whether `client` is meant.
    #[must_use]
    pub fn is(&self, client: &Client) -> bool {
        match self {
            Self::Mac(mac) => *mac == client.mac,
            Self::Uuid(uuid) => client.uuid == Some(*uuid),
            Self::ClientId(id) => client.client_id.as_ref() == Some(id),
            Self::Port {
                circuit_id,
                remote_id,
            } => {
                let fits = |told: &Option<Vec<u8>>, wanted: &Option<Vec<u8>>| {
                    wanted.is_none() || told == wanted
                };
                fits(&client.circuit_id, circuit_id)
                    && fits(&client.remote_id, remote_id)
                    && (circuit_id.is_some() || remote_id.is_some())
            }
        }
    }
}

/// The reservations of a subnet, found by what a client says of itself without a look at each.
#[derive(Debug, Default)]
pub(super) struct Reserved {
    by_mac: HashMap<MacAddr, Ipv4Addr>,
    by_uuid: HashMap<Uuid, Ipv4Addr>,
    by_client_id: HashMap<Vec<u8>, Ipv4Addr>,
    by_port: HashMap<Holder, Ipv4Addr>,
    holders: HashMap<Ipv4Addr, Holder>,
}

impl Reserved {
    pub(super) fn of(reservations: &[Reservation]) -> Self {
        let mut all = Self::default();
        for Reservation { ip, holder } in reservations {
            match holder {
                Holder::Mac(mac) => all.by_mac.insert(*mac, *ip),
                Holder::Uuid(uuid) => all.by_uuid.insert(*uuid, *ip),
                Holder::ClientId(id) => all.by_client_id.insert(id.clone(), *ip),
                Holder::Port { .. } => all.by_port.insert(holder.clone(), *ip),
            };
            all.holders.insert(*ip, holder.clone());
        }
        all
    }

    pub(super) fn address_for(&self, client: &Client) -> Option<Ipv4Addr> {
        let by_uuid = || client.uuid.and_then(|uuid| self.by_uuid.get(&uuid));
        let by_client_id = || {
            let id = client.client_id.as_ref()?;
            self.by_client_id.get(id)
        };
        self.by_mac
            .get(&client.mac)
            .or_else(by_uuid)
            .or_else(by_client_id)
            .or_else(|| self.by_port(client))
            .copied()
    }

    /// Whether `ip` is kept for `client`.
    pub(super) fn is_for(&self, ip: Ipv4Addr, client: &Client) -> bool {
        self.holders
            .get(&ip)
            .is_some_and(|holder| holder.is(client))
    }

    fn by_port(&self, client: &Client) -> Option<&Ipv4Addr> {
        if self.by_port.is_empty() {
            return None;
        }
        let (circuit, remote) = (&client.circuit_id, &client.remote_id);
        let whole = circuit.is_some() && remote.is_some();
        let named = [
            whole.then_some((circuit, remote)),
            circuit.as_ref().map(|_| (circuit, &None)),
            remote.as_ref().map(|_| (&None, remote)),
        ];
        named.into_iter().flatten().find_map(|(circuit, remote)| {
            self.by_port.get(&Holder::Port {
                circuit_id: circuit.clone(),
                remote_id: remote.clone(),
            })
        })
    }
}
