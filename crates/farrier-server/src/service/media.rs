//! What a machine's own copy of a disk image would hold, by the functions that make it in earnest.

use std::net::{IpAddr, Ipv4Addr};

use farrier_api::admin::{MediumValue, MediumValues, MediumValuesQuery};
use farrier_engine::medium_value::ValueName;
use farrier_net::interface;

use super::machines::parse_mac;
use super::{Code, Desk, Refusal};
use crate::auth::Action;
use crate::core::now;
use crate::media::floppy::{Floppy, FloppyError, SIZES};
use crate::media::shelf::ShelfError;
use crate::media::values::{OwnValue, Whose};

impl Desk {
    pub async fn medium_values(
        &self,
        name: &str,
        query: &MediumValuesQuery,
    ) -> Result<MediumValues, Refusal> {
        self.allow(Action::Look)?;
        let core = &self.core;
        let mac = parse_mac(&query.mac)?;
        let image = core.media.image(name, now()).await;
        let image = image.map_err(|error| not_read(name, &error))?;
        if !SIZES.contains(&image.len()) {
            let message = format!("{name} is no floppy of 1.44 or 2.88 MB");
            return Err(Refusal::new(Code::NotPossible, message)
                .hint("other images go to every machine as they are"));
        }
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
        let floppy = Floppy::from_bytes(image.to_vec());
        let looked = tokio::task::spawn_blocking(move || {
            let places = floppy.places().unwrap_or_default();
            let refused = match floppy.for_machine(&values) {
                Err(why @ (FloppyError::TooNarrow(_) | FloppyError::Write(..))) => Some(why),
                _ => None,
            };
            (values, places, floppy.has_variables(), refused)
        });
        let (values, places, batch, refused) = looked
            .await
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let shown = |value: &OwnValue| MediumValue {
            variable: value.name.variable(),
            value: value.text.as_ref().map(ToString::to_string),
            origin: value.origin.to_string(),
            widths: widths(&places, &value.name),
        };
        let known = values.iter().map(shown);
        let mut shown: Vec<_> = known.filter(|v| batch || !v.widths.is_empty()).collect();
        for (name, _) in &places {
            let variable = name.variable();
            if !shown.iter().any(|value| value.variable == variable) {
                shown.push(MediumValue {
                    variable,
                    value: None,
                    origin: "nobody has set it".to_owned(),
                    widths: widths(&places, name),
                });
            }
        }
        Ok(MediumValues {
            address: address.map(|address| address.to_string()),
            batch,
            values: shown,
            refused: refused.map(|why| why.to_string()),
        })
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

fn widths(places: &[(ValueName, usize)], wanted: &ValueName) -> Vec<u32> {
    let of_it = places.iter().filter(|(name, _)| name == wanted);
    of_it
        .map(|(_, width)| u32::try_from(*width).unwrap_or(u32::MAX))
        .collect()
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
