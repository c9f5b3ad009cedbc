//! IPv6 networks, from what is written to what is used.

use std::net::Ipv6Addr;
use std::str::FromStr;

use farrier_engine::address6::Prefix;

use super::convert::{Collector, lease_seconds, short_name};
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
        });
    }
    subnets
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
