//! `[tftp]`, `[tftp.multicast]` and `[tftp.mtftp]`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use farrier_engine::lease::AddressRange;
use toml::Spanned;

use super::convert::Collector;
use super::convert4::{Network, Range};
use super::{Groups, MtftpConfig, TftpConfig, file};
use crate::transfer::Habits;

pub(super) fn tftp(written: &file::Tftp, faults: &mut Collector<'_>) -> TftpConfig {
    let config = TftpConfig {
        habits: Habits {
            single_port: written.single_port,
            path_mtu: path_mtu(written.path_mtu.as_ref(), faults),
        },
        multicast: written.multicast.as_ref().map(|m| Groups {
            range: groups(
                "tftp.multicast.groups",
                m.groups.as_ref(),
                MULTICAST_GROUPS,
                faults,
            ),
            port: port("tftp.multicast.port", m.port.as_ref(), CLIENT_PORT, faults),
        }),
        mtftp: written.mtftp.as_ref().map(|m| mtftp(m, faults)),
    };
    if let (Some(one), Some(other)) = (&config.multicast, &config.mtftp)
        && one.overlaps(&other.groups)
    {
        let at = written.mtftp.as_ref().and_then(|m| m.groups.as_ref());
        faults.add(
            "tftp.mtftp.groups",
            at.map(Spanned::span),
            "shares addresses and port with tftp.multicast",
            "Give each its own: a client of one would hear the files of the other.",
        );
    }
    config
}

fn path_mtu(written: Option<&Spanned<u16>>, faults: &mut Collector<'_>) -> Option<u16> {
    let written = written?;
    if *written.get_ref() < MIN_PATH_MTU {
        let remedy = "Write 576 or more: every path takes that (RFC 791).";
        let at = Some(written.span());
        faults.add("tftp.path_mtu", at, "is below 576", remedy);
    }
    Some(*written.get_ref())
}

fn mtftp(written: &file::Mtftp, faults: &mut Collector<'_>) -> MtftpConfig {
    let server_port = port(
        "tftp.mtftp.server_port",
        written.server_port.as_ref(),
        SERVER_PORT,
        faults,
    );
    if server_port == crate::bind::TFTP_PORT {
        let at = written.server_port.as_ref().map(Spanned::span);
        faults.add(
            "tftp.mtftp.server_port",
            at,
            "is the port of plain TFTP",
            "Choose another, such as 1759: requests there open a stream.",
        );
    }
    let mut seconds = |key: &str, written: Option<&Spanned<u8>>| {
        let seconds = written.map_or(SECONDS, |s| *s.get_ref());
        if seconds == 0 {
            let remedy =
                "Wait for a second or more: a running stream sends a block every few milliseconds.";
            faults.add(key, written.map(Spanned::span), "is 0", remedy);
        }
        Duration::from_secs(seconds.into())
    };
    let timeout = seconds("tftp.mtftp.timeout", written.timeout.as_ref());
    let delay = seconds("tftp.mtftp.delay", written.delay.as_ref());
    let networks = written.networks.as_ref().map(|networks| {
        let each = networks.iter().enumerate();
        let parsed = each.filter_map(|(n, network)| {
            let key = format!("tftp.mtftp.networks[{n}]");
            let remedy = "Write network and prefix length, such as 10.0.0.0/24.";
            let Network { address, prefix } = faults.parse(&key, network, remedy)?;
            Some((farrier_net::interface::network(address, prefix), prefix))
        });
        parsed.collect()
    });
    MtftpConfig {
        networks,
        groups: Groups {
            range: groups(
                "tftp.mtftp.groups",
                written.groups.as_ref(),
                MTFTP_GROUPS,
                faults,
            ),
            port: port(
                "tftp.mtftp.client_port",
                written.client_port.as_ref(),
                CLIENT_PORT,
                faults,
            ),
        },
        server_port,
        timeout,
        delay,
    }
}

fn groups(
    key: &str,
    written: Option<&Spanned<String>>,
    default: AddressRange,
    faults: &mut Collector<'_>,
) -> AddressRange {
    let Some(written) = written else {
        return default;
    };
    let remedy = "Write first and last address, such as 239.255.67.1-239.255.67.32.";
    let Some(Range(range)) = faults.parse(key, written, remedy) else {
        return default;
    };
    let (first, last) = (u32::from(range.first), u32::from(range.last));
    let what = if !(range.first.is_multicast() && range.last.is_multicast()) {
        "is no range of multicast addresses"
    } else if last < first {
        "ends before it begins"
    } else if range.first.octets()[..3] == [224, 0, 0] {
        "holds addresses of routers (224.0.0.0/24)"
    } else if last - first >= MAX_GROUPS {
        "has more than 256 addresses"
    } else {
        return range;
    };
    faults.add(key, Some(written.span()), what, remedy);
    default
}

fn port(
    key: &str,
    written: Option<&Spanned<u16>>,
    default: u16,
    faults: &mut Collector<'_>,
) -> u16 {
    let port = written.map_or(default, |port| *port.get_ref());
    if port == 0 {
        let at = written.map(Spanned::span);
        faults.add(
            key,
            at,
            "is 0",
            "Choose a port from 1 to 65535: clients are told it.",
        );
    }
    port
}

impl Groups {
    fn overlaps(&self, other: &Self) -> bool {
        self.port == other.port
            && self.range.first <= other.range.last
            && other.range.first <= self.range.last
    }

    /// Every group, with its port.
    pub fn all(&self) -> impl Iterator<Item = SocketAddrV4> + use<> {
        let (first, last, port) = (self.range.first, self.range.last, self.port);
        (u32::from(first)..=u32::from(last))
            .map(move |group| SocketAddrV4::new(Ipv4Addr::from(group), port))
    }
}

impl MtftpConfig {
    /// Whether clients on the network of this address are told.
    #[must_use]
    pub fn serves(&self, link: Ipv4Addr) -> bool {
        self.networks.as_ref().is_none_or(|networks| {
            let inside = |(network, prefix): &(Ipv4Addr, u8)| {
                farrier_net::interface::network(link, *prefix) == *network
            };
            networks.iter().any(inside)
        })
    }
}

/// Of the addresses that a site may use as it likes (RFC 2365 section 6.1).
const MULTICAST_GROUPS: AddressRange = AddressRange {
    first: Ipv4Addr::new(239, 255, 67, 1),
    last: Ipv4Addr::new(239, 255, 67, 32),
};
const MTFTP_GROUPS: AddressRange = AddressRange {
    first: Ipv4Addr::new(239, 255, 67, 65),
    last: Ipv4Addr::new(239, 255, 67, 80),
};
const MAX_GROUPS: u32 = 256;
const MIN_PATH_MTU: u16 = 576;
/// `tftp-mcast`, registered for RFC 2090, and what MTFTP clients use too.
const CLIENT_PORT: u16 = 1758;
const SERVER_PORT: u16 = 1759;
const SECONDS: u8 = 2;
