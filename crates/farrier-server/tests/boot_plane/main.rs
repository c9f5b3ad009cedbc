//! The boot plane under strangers, noise and silence: T7, T8, T9 of the threat model, over loopback; and DHCPv6,
//! message by message.
#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]

mod amplification;
mod dhcp;
mod dhcp6;
mod http;
mod http_limits;
mod silence;
#[path = "../site/mod.rs"]
mod site;
mod strangers;
mod tftp;

use std::net::Ipv4Addr;

use crate::site::Site;

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

fn kernel(site: &Site) -> String {
    format!(
        "boot/agent/{}/vmlinuz",
        site.core.loaders.agent().as_ref().as_ref().unwrap().tag
    )
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
