//! IPv6 networks, from what is written to what is used.

use std::net::Ipv6Addr;
use std::str::FromStr;

use farrier_engine::address6::{Holder6, Prefix, Reserved6};

use super::convert::{Collector, lease_seconds, short_name};
use super::convert_holder::Evidence;
use super::{Subnet6Config, file};

pub(super) fn subnets(written: &[file::Subnet6], faults: &mut Collector<'_>) -> Vec<Subnet6Config> {
    let mut subnets: Vec<Subnet6Config> = Vec::new();
    for (i, one) in written.iter().enumerate() {
        let key = |field: &str| format!("subnet6[{i}].{field}");
        let remedy = "Write a network of 64 bits, such as fd00:1:2:3::/64.";
        let Some(Network(network)) = faults.parse(&key("network"), &one.network, remedy) else {
            continue;
        };
        let prefix = Prefix::of(network);
        if subnets.iter().any(|other| other.prefix == prefix) {
            let at = Some(one.network.span());
            faults.add(&key("network"), at, "is there twice", "Keep one of them.");
        }
        let name = short_name(&key("name"), one.name.as_ref(), faults);
        let dns = one.dns.iter().enumerate().filter_map(|(n, address)| {
            let key = format!("subnet6[{i}].dns[{n}]");
            faults.parse(&key, address, "Write an IPv6 address.")
        });
        subnets.push(Subnet6Config {
            prefix,
            network,
            name,
            dns: dns.collect(),
            lease_seconds: lease_seconds(&key("lease_seconds"), one.lease_seconds.as_ref(), faults),
            router_advertisement: one.router_advertisement,
            reserved: reserved(&format!("subnet6[{i}]"), prefix, &one.reservation, faults),
        });
    }
    subnets
}

fn reserved(
    subnet: &str,
    network: Prefix,
    written: &[file::Reservation6],
    faults: &mut Collector<'_>,
) -> Reserved6 {
    let mut reserved = Reserved6::default();
    for (i, one) in written.iter().enumerate() {
        let key = format!("{subnet}.reservation[{i}]");
        let at = Some(one.address.span());
        let remedy = "Write an IPv6 address of this network.";
        let address = faults.parse(&format!("{key}.address"), &one.address, remedy);
        let holder = holder(&key, one, faults);
        let (Some(address), Some(holder)) = (address, holder) else {
            continue;
        };
        // Zeros are the routers' own (RFC 4291 section 2.6.1).
        if !network.contains(address) || address.to_bits().trailing_zeros() >= 64 {
            let what = format!("{address} is not in this network");
            faults.add(&format!("{key}.address"), at, &what, remedy);
        } else if let Err(twice) = reserved.keep(address, holder) {
            faults.add(&key, at, &twice.to_string(), "Keep one of them.");
        }
    }
    reserved
}

/// The one piece of evidence that `written` names.
fn holder(key: &str, written: &file::Reservation6, faults: &mut Collector<'_>) -> Option<Holder6> {
    match (&written.mac, &written.uuid, &written.duid) {
        (Some(mac), None, None) => {
            let remedy = "Write six hex bytes such as 52:54:00:12:34:56.";
            let mac = faults.parse(&format!("{key}.mac"), mac, remedy);
            mac.map(Holder6::Mac)
        }
        (None, Some(uuid), None) => {
            let remedy = "Write it as the firmware's setup shows it.";
            let uuid = faults.parse(&format!("{key}.uuid"), uuid, remedy);
            uuid.map(Holder6::Uuid)
        }
        (None, None, Some(duid)) => {
            let remedy = "Write its bytes, such as \"00:03:00:01:52:54:00:12:34:56\".";
            let duid = faults.parse(&format!("{key}.duid"), duid, remedy);
            duid.map(|Evidence(bytes)| Holder6::Duid(bytes))
        }
        _ => {
            let at = Some(written.address.span());
            let what = "must name exactly one of mac, uuid and duid";
            faults.add(key, at, what, "Say whom the address is kept for.");
            None
        }
    }
}

struct Network(Ipv6Addr);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').ok_or("has no prefix length")?;
        let address: Ipv6Addr = address.parse().map_err(|e| format!("{address:?}: {e}"))?;
        if prefix != "64" {
            return Err(format!("the prefix length is {prefix}, not 64"));
        }
        if address.is_multicast() || address.is_unicast_link_local() {
            return Err("it is no network that hosts can have addresses in".to_owned());
        }
        if address.to_bits().trailing_zeros() < 64 {
            return Err("there are bits set behind the prefix".to_owned());
        }
        Ok(Self(address))
    }
}
