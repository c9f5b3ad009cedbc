//! What a machine's own copy of a disk image would hold, by the functions that make it in earnest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use farrier_api::admin::{MediumValue, MediumValues, MediumValuesQuery};
use farrier_engine::medium_value::ValueName;
use farrier_net::interface;

use super::machines::parse_mac;
use super::{Code, Desk, Refusal};
use crate::auth::Action;
use crate::core::now;
use crate::media::floppy::{Floppy, SIZES};
use crate::media::shelf::ShelfError;
use crate::media::values::{Values, Whose};

impl Desk {
    pub async fn medium_values(
        &self,
        name: &str,
        query: &MediumValuesQuery,
    ) -> Result<MediumValues, Refusal> {
        self.allow(Action::Look)?;
        let core = &self.core;
        let mac = parse_mac(&query.mac)?;
        // Others are not read for that: they may have hundreds of MiB.
        let size = core.media.size(name).map_err(|e| not_read(name, &e))?;
        if !usize::try_from(size).is_ok_and(|size| SIZES.contains(&size)) {
            let message = format!("{name} is no floppy of 1.44 or 2.88 MB");
            return Err(Refusal::new(Code::NotPossible, message)
                .hint("other images go to every machine as they are"));
        }
        let image = core.media.image(name, now()).await;
        let image = image.map_err(|error| not_read(name, &error))?;
        let machines = core.fleet.candidates(&[mac], None);
        let machine = machines.first().filter(|_| machines.len() == 1);
        let machine = machine.map(AsRef::as_ref);
        let address = self.place(query.address.as_deref(), mac, machine)?.address;
        let networks = self.own_networks();
        let values = core.media_values(&Whose {
            mac: Some(mac),
            machine,
            address,
            server: server_for(address, &networks),
            networks: &networks,
        });
        let looked = tokio::task::spawn_blocking(move || {
            let floppy = Floppy::from_bytes(image.to_vec());
            let batch = floppy.has_variables();
            // Where it cannot be told, the machine is refused it for the same reason.
            let asked = floppy.asked().unwrap_or_default();
            let refused = floppy.for_machine(&values).err();
            MediumValues {
                address: address.map(|address| address.to_string()),
                batch,
                values: rows(&values, asked.widths, batch),
                fault: asked.fault.map(|fault| fault.to_string()),
                refused: refused.map(|why| why.to_string()),
            }
        });
        looked
            .await
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))
    }

    /// The networks that we serve and are in, by our address in each.
    fn own_networks(&self) -> Vec<(Ipv4Addr, u8)> {
        let served = self.core.config.interfaces.iter();
        let found = served.filter_map(|served| interface::by_name(&served.name).ok()?);
        found.flat_map(|found| found.addresses).collect()
    }
}

/// The address of ours that a client in this place asks at; behind a relay it may be any.
fn server_for(address: Option<IpAddr>, networks: &[(Ipv4Addr, u8)]) -> Option<IpAddr> {
    let is_near = |(ours, prefix): &&(Ipv4Addr, u8)| match address {
        Some(IpAddr::V4(ip)) => {
            interface::network(ip, *prefix) == interface::network(*ours, *prefix)
        }
        _ => false,
    };
    let near = networks.iter().find(is_near).or_else(|| networks.first());
    near.map(|(ours, _)| (*ours).into())
}

/// Values with the widths of their places: those of the machine, then those that nobody has set.
fn rows(
    values: &Values,
    mut widths: BTreeMap<ValueName, BTreeSet<u32>>,
    batch: bool,
) -> Vec<MediumValue> {
    let list = |widths: BTreeSet<u32>| widths.into_iter().collect();
    let mut rows = Vec::new();
    for value in values.iter() {
        let widths = widths.remove(&value.name);
        if batch || widths.is_some() {
            rows.push(MediumValue {
                variable: value.name.variable(),
                value: value.text.as_ref().map(ToString::to_string),
                origin: value.origin.to_string(),
                widths: widths.map_or_else(Vec::new, list),
            });
        }
    }
    let unset = widths.into_iter().map(|(name, widths)| MediumValue {
        variable: name.variable(),
        value: None,
        origin: "nobody has set it".to_owned(),
        widths: list(widths),
    });
    rows.extend(unset);
    rows
}

fn not_read(name: &str, error: &ShelfError) -> Refusal {
    match error {
        ShelfError::Missing => Refusal::new(Code::NotFound, format!("there is no image {name}"))
            .hint("list those that there are, on the server: farrier media list"),
        ShelfError::Full => Refusal::new(Code::Unavailable, error.to_string()),
        ShelfError::TooLarge(_) => Refusal::new(Code::NotPossible, error.to_string()),
        ShelfError::Read(_) => Refusal::new(Code::Internal, error.to_string()),
    }
}
