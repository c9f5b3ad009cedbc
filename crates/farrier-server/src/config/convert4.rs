//! IPv4 networks and who gets what in them, from what is written to what is used.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use farrier_engine::lease::{
    AddressRange, Admits, ClassRange, Classes, LeaseBook, Reservation, Subnet,
};
use farrier_engine::parameter::{OptionSet, Origin, Sent, Setting};
use farrier_engine::policy::{Rule, Settings, ShortName};
use farrier_proto::wire::option;
use toml::{Spanned, Value};

use super::convert::{Collector, lease_seconds, short_name};
use super::options::{Options, Place};
use super::{ClassConfig, SubnetConfig, convert_holder, file, options};
use crate::rules::Rules;

/// Classes and subnets.
pub(super) fn lending(
    written: &file::File,
    faults: &mut Collector<'_>,
) -> (Vec<ClassConfig>, Vec<SubnetConfig>) {
    let classes = classes(&written.class, faults);
    let site = set("options", Origin::Site, &written.options, faults);
    let shared = shared_networks(&written.shared_network, &site, faults);
    let surroundings = Surroundings {
        site,
        shared,
        classes: classes
            .iter()
            .map(|class| class.rule.name.to_string())
            .collect(),
    };
    let subnets: Vec<_> = written
        .subnet
        .iter()
        .enumerate()
        .filter_map(|(i, s)| Some((i, subnet(i, s, &surroundings, faults)?)))
        .collect();
    for (n, (i, one)) in subnets.iter().enumerate() {
        let at = written.subnet.get(*i).map(|s| s.network.span());
        let mut earlier = subnets[..n].iter().map(|(_, other)| other);
        if let Some(other) = earlier.find(|other| {
            other.subnet.contains(one.subnet.network) || one.subnet.contains(other.subnet.network)
        }) {
            let what = format!("{} overlaps {}", one.subnet.network, other.subnet.network);
            let remedy = "Make them distinct networks, or join them into one.";
            faults.add(&format!("subnet[{i}].network"), at, &what, remedy);
            continue;
        }
        let shared = subnets[..n].iter().filter(|(_, other)| {
            one.subnet.shared.is_some() && other.subnet.shared == one.subnet.shared
        });
        let wire: Vec<Subnet> = shared
            .map(|(_, other)| &other.subnet)
            .chain([&one.subnet])
            .cloned()
            .collect();
        if let Err(e) = LeaseBook::new(wire) {
            faults.add(
                &format!("subnet[{i}]"),
                at,
                &e.to_string(),
                "Correct the subnet.",
            );
        }
    }
    (
        classes,
        subnets.into_iter().map(|(_, subnet)| subnet).collect(),
    )
}

/// What holds around a subnet.
struct Surroundings {
    site: OptionSet,
    shared: HashMap<String, OptionSet>,
    classes: Vec<String>,
}

fn classes(written: &[file::Class], faults: &mut Collector<'_>) -> Vec<ClassConfig> {
    let mut classes: Vec<ClassConfig> = Vec::new();
    for (i, one) in written.iter().enumerate() {
        let key = |field: &str| format!("class[{i}].{field}");
        let name = match ShortName::try_from(one.name.get_ref().clone()) {
            Ok(name) => name,
            Err(error) => {
                let at = Some(one.name.span());
                faults.add(
                    &key("name"),
                    at,
                    &format!("is {error}"),
                    "Give it a short name.",
                );
                continue;
            }
        };
        if classes.iter().any(|other| other.rule.name == name) {
            let what = format!("{name} is named twice");
            faults.add(
                &key("name"),
                Some(one.name.span()),
                &what,
                "Keep one of them.",
            );
        }
        if classes.len() == Classes::MAX {
            let remedy = "Join classes that mean the same.";
            faults.add(
                &key("name"),
                Some(one.name.span()),
                "is one class too many: 64 are the most",
                remedy,
            );
            break;
        }
        let origin = Origin::Class(name.to_string());
        let rule = Rule {
            name,
            when: one.when.get_ref().clone(),
            settings: Settings::default(),
            refuse_boot: false,
            refuse_tasks: false,
        };
        for fault in Rules::of(std::slice::from_ref(&rule)).faults() {
            let what = format!(
                "line {}, column {}: {}",
                fault.line, fault.column, fault.message
            );
            let remedy = "Correct the expression; docs/operations/dhcp.md has the facts.";
            faults.add(&key("when"), Some(one.when.span()), &what, remedy);
        }
        classes.push(ClassConfig {
            rule,
            options: set(&key("options"), origin, &one.options, faults),
        });
    }
    classes
}

fn shared_networks(
    written: &[file::SharedNetwork],
    site: &OptionSet,
    faults: &mut Collector<'_>,
) -> HashMap<String, OptionSet> {
    let mut networks = HashMap::new();
    for (i, one) in written.iter().enumerate() {
        let name = one.name.get_ref().clone();
        let key = format!("shared_network[{i}].options");
        let origin = Origin::SharedNetwork(name.clone());
        let options = set(&key, origin, &one.options, faults).over(site);
        if networks.insert(name.clone(), options).is_some() {
            let (key, at) = (format!("shared_network[{i}].name"), Some(one.name.span()));
            faults.add(
                &key,
                at,
                &format!("{name} is named twice"),
                "Keep one of them.",
            );
        }
    }
    networks
}

fn subnet(
    i: usize,
    written: &file::Subnet,
    around: &Surroundings,
    faults: &mut Collector<'_>,
) -> Option<SubnetConfig> {
    let key = |field: &str| format!("subnet[{i}].{field}");
    let remedy = "Write network and prefix length, such as 10.0.0.0/24.";
    let Network { address, prefix } = faults.parse(&key("network"), &written.network, remedy)?;
    let mut subnet = Subnet::new(address, prefix);
    let mut wider = &around.site;
    if let Some(name) = &written.shared_network {
        subnet.shared = Some(Arc::from(name.get_ref().as_str()));
        match around.shared.get(name.get_ref()) {
            Some(options) => wider = options,
            None => {
                let what = format!("there is no shared network {}", name.get_ref());
                let remedy = "Correct the name, or add a [[shared_network]] of this name.";
                faults.add(&key("shared_network"), Some(name.span()), &what, remedy);
            }
        }
    }
    for (n, pool) in written.pools.iter().enumerate() {
        let key = key(&format!("pools[{n}]"));
        match read_pool(pool.get_ref(), &around.classes) {
            Ok((range, admits)) if admits == Admits::default() => subnet.ranges.push(range),
            Ok((range, admits)) => subnet.class_ranges.push(ClassRange { range, admits }),
            Err((what, remedy)) => faults.add(&key, Some(pool.span()), &what, remedy),
        }
    }
    let mut reserved = HashMap::new();
    for (n, written) in written.reservation.iter().enumerate() {
        let key = format!("subnet[{i}].reservation[{n}]");
        let options = format!("{key}.options");
        let options = set(&options, Origin::Reservation, &written.options, faults);
        let Some(reservation) = reservation(&key, written, faults) else {
            continue;
        };
        if !options.is_empty() {
            reserved.insert(reservation.ip, options);
        }
        subnet.reservations.push(reservation);
    }
    let seconds = lease_seconds(
        &key("lease_seconds"),
        written.lease_seconds.as_ref(),
        faults,
    );
    subnet.lease_time = Duration::from_secs(seconds.into());
    let own = set(&key("options"), Origin::Subnet, &written.options, faults);
    let options = shorthands(i, written, own, faults).over(wider);
    Some(SubnetConfig {
        subnet,
        name: short_name(&key("name"), written.name.as_ref(), faults),
        options,
        reserved,
        probe: written.probe.unwrap_or(true),
    })
}

fn set(key: &str, origin: Origin, written: &Options, faults: &mut Collector<'_>) -> OptionSet {
    let place = Place {
        key,
        origin: &origin,
    };
    options::convert(&place, written, faults)
}

/// A range by itself, or `{ range = …, allow = […], deny = […] }`.
fn read_pool(
    written: &Value,
    classes: &[String],
) -> Result<(AddressRange, Admits), (String, &'static str)> {
    let range = |text: &str| {
        let range = text.parse::<Range>().map(|range| range.0);
        range.map_err(|e| (format!("{text:?} cannot be used: {e}"), RANGE))
    };
    let table = match written {
        Value::String(text) => return Ok((range(text)?, Admits::default())),
        Value::Table(table) => table,
        other => return Err((format!("{other} cannot be used"), RANGE)),
    };
    let (mut found, mut admits) = (None, Admits::default());
    for (name, value) in table {
        match (name.as_str(), value) {
            ("range", Value::String(text)) => found = Some(range(text)?),
            ("allow", list) => admits.allow = named(list, classes)?,
            ("deny", list) => admits.deny = named(list, classes)?,
            _ => return Err((format!("{name} = {value} is no part of a pool"), RANGE)),
        }
    }
    let range = found.ok_or_else(|| ("has no range".to_owned(), RANGE))?;
    Ok((range, admits))
}

fn named(list: &Value, classes: &[String]) -> Result<Classes, (String, &'static str)> {
    let wrong = |what: String| (what, "Write a list with names of [[class]] tables.");
    let names = list
        .as_array()
        .ok_or_else(|| wrong(format!("{list} is no list")))?;
    names.iter().try_fold(Classes::default(), |all, name| {
        let number = classes
            .iter()
            .position(|class| name.as_str() == Some(class));
        let number = number.ok_or_else(|| wrong(format!("there is no class {name}")))?;
        Ok(all.with(number))
    })
}

/// `routers`, `dns` and `domain` are the options most subnets have, so they have keys of their own.
fn shorthands(
    i: usize,
    written: &file::Subnet,
    own: OptionSet,
    faults: &mut Collector<'_>,
) -> OptionSet {
    let key = |field: &str| format!("subnet[{i}].{field}");
    let mut addresses = |field: &str, written: &[Spanned<String>]| {
        let mut octets = Vec::new();
        for (n, address) in written.iter().enumerate() {
            let key = key(&format!("{field}[{n}]"));
            let address: Option<Ipv4Addr> = faults.parse(&key, address, "Write an IPv4 address.");
            octets.extend(address.into_iter().flat_map(|address| address.octets()));
        }
        octets
    };
    let rows = [
        (
            "routers",
            option::ROUTER,
            addresses("routers", &written.routers),
        ),
        (
            "dns",
            option::DOMAIN_NAME_SERVER,
            addresses("dns", &written.dns),
        ),
        (
            "domain",
            option::DOMAIN_NAME,
            written.domain.clone().unwrap_or_default().into_bytes(),
        ),
    ];
    let mut settings = Vec::new();
    for (field, code, value) in rows {
        if value.is_empty() {
            continue;
        }
        if own.find(code).is_some() {
            let remedy = "Keep the one or the other.";
            let at = Some(written.network.span());
            faults.add(
                &key(field),
                at,
                "is set in `options` of the subnet too",
                remedy,
            );
        }
        settings.push(Setting {
            code,
            value,
            sent: Sent::Asked,
            origin: Origin::Subnet,
        });
    }
    OptionSet::new(settings).over(&own)
}

fn reservation(
    key: &str,
    written: &file::Reservation,
    faults: &mut Collector<'_>,
) -> Option<Reservation> {
    let remedy = "Write an IPv4 address.";
    let ip = faults.parse(&format!("{key}.address"), &written.address, remedy);
    let holder = convert_holder::holder(key, written, faults);
    Some(Reservation {
        ip: ip?,
        holder: holder?,
    })
}

/// `10.0.0.0/24`
pub(super) struct Network {
    pub(super) address: Ipv4Addr,
    pub(super) prefix: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').ok_or("has no prefix length")?;
        let address = address.parse().map_err(|e| format!("{address:?}: {e}"))?;
        let prefix = prefix.parse().map_err(|e| format!("{prefix:?}: {e}"))?;
        Ok(Self { address, prefix })
    }
}

pub(super) struct Range(pub(super) AddressRange);

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let address = |text: &str| text.trim().parse().map_err(|e| format!("{text:?}: {e}"));
        Ok(Self(AddressRange {
            first: address(first)?,
            last: address(last)?,
        }))
    }
}

const RANGE: &str = "Write first and last address, such as \"10.0.0.100-10.0.0.199\", or { range = \"…\", allow = [\"class\"] }.";
