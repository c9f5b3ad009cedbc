//! What the boot script told us, from the kernel's command line.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use farrier_api::agent::argument;
use farrier_api::client::{CaPin, ServerAddress};
use farrier_proto::MacAddr;

/// Everything the agent is told before it talks to anybody.
#[derive(Clone, Debug)]
pub struct Arguments {
    pub server: ServerAddress,
    pub ca: CaPin,
    pub token: String,
    pub mac: MacAddr,
    /// Without it the agent asks DHCP, or waits for a router where the server is reached by IPv6.
    pub address: Option<StaticAddress>,
    /// The server's clock when the script was made.
    pub time: Option<SystemTime>,
}

/// The boot NIC's address, as the loader had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    pub address: IpAddr,
    pub prefix: u8,
    pub gateway: Option<IpAddr>,
}

/// A kernel argument is missing or unreadable. Without it the agent cannot know whom to trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentError {
    #[error("the kernel argument {0} is missing; boot this machine through Farrier's boot script")]
    Missing(&'static str),
    #[error("the kernel argument {name} says '{value}', which is not {expected}")]
    Unreadable {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
}

impl Arguments {
    /// Reads them from `/proc/cmdline`'s text. The last of several equal names counts, as in the kernel.
    pub fn parse(line: &str) -> Result<Self, ArgumentError> {
        let find = |name: &'static str| {
            line.split_ascii_whitespace()
                .filter_map(|word| word.split_once('='))
                .rfind(|(key, _)| *key == name)
        };
        let required = |name| {
            find(name)
                .map(|(_, value)| value)
                .ok_or(ArgumentError::Missing(name))
        };
        let optional = |name| {
            find(name)
                .map(|(_, value)| value)
                .filter(|value| !value.is_empty())
        };
        let server = required(argument::SERVER)?;
        let ca = required(argument::CA)?;
        let mac = required(argument::MAC)?;
        Ok(Self {
            server: server.parse().map_err(|_| {
                unreadable(
                    argument::SERVER,
                    server,
                    "https:// with a literal address and a port",
                )
            })?,
            ca: ca
                .parse()
                .map_err(|_| unreadable(argument::CA, ca, "a SHA-256 of 64 hex digits"))?,
            token: required(argument::TOKEN)?.to_owned(),
            mac: mac
                .parse()
                .map_err(|_| unreadable(argument::MAC, mac, "a hardware address"))?,
            address: optional(argument::ADDRESS)
                .map(|text| {
                    let expected = "address/prefix,gateway";
                    StaticAddress::parse(text)
                        .ok_or_else(|| unreadable(argument::ADDRESS, text, expected))
                })
                .transpose()?,
            time: optional(argument::TIME).and_then(time),
        })
    }
}

fn unreadable(name: &'static str, value: &str, expected: &'static str) -> ArgumentError {
    ArgumentError::Unreadable {
        name,
        value: value.chars().take(80).collect(),
        expected,
    }
}

/// A clock that nobody believes is no reason to stop, so nonsense counts as not given.
fn time(text: &str) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::from(text.parse::<u32>().ok()?)))
}

impl StaticAddress {
    fn parse(text: &str) -> Option<Self> {
        let (network, gateway) = text.split_once(',').unwrap_or((text, ""));
        let (address, prefix) = network.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix
            .parse()
            .ok()
            .filter(|prefix| (1..=most).contains(prefix))?;
        let gateway: Option<IpAddr> = if gateway.is_empty() {
            None
        } else {
            Some(gateway.parse().ok()?)
        };
        let gateway = gateway.filter(|gateway| !gateway.is_unspecified());
        let is_one_host = match address {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        };
        let fits = gateway.is_none_or(|gateway| gateway.is_ipv4() == address.is_ipv4());
        (is_one_host && fits).then_some(Self {
            address,
            prefix,
            gateway,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, SystemTime};

    use super::{ArgumentError, Arguments, StaticAddress};

    fn line(extra: &str) -> String {
        let ca = "ab".repeat(32);
        format!(
            "quiet farrier.server=https://192.0.2.1:8444 farrier.ca={ca} farrier.token=t0 \
             farrier.mac=52:54:00:12:34:56 {extra}"
        )
    }

    #[test]
    fn a_whole_line_is_read() {
        let read = Arguments::parse(&line(
            "farrier.address=192.0.2.9/24,192.0.2.1 farrier.time=1700000000\n",
        ))
        .unwrap();
        let address = StaticAddress {
            address: Ipv4Addr::new(192, 0, 2, 9).into(),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
        };
        assert_eq!(read.address, Some(address));
        assert_eq!(
            read.time,
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000))
        );
        assert_eq!(read.token, "t0");
    }

    #[test]
    fn a_gateway_may_be_left_out_and_nonsense_may_not_be_put_in() {
        for (text, good) in [
            ("10.0.0.1/8,", true),
            ("10.0.0.1/8", true),
            ("10.0.0.1/8,0.0.0.0", true),
            ("10.0.0.1/33,", false),
            ("10.0.0.1", false),
            ("0.0.0.0/0,", false),
            ("10.0.0.1/8,gateway", false),
            ("fd77::1/64", true),
            ("fd77::1/64,fe80::1", true),
            ("fd77::1/129", false),
            ("fd77::1/64,10.0.0.1", false),
            ("ff02::1/64", false),
            ("::/64", false),
        ] {
            assert_eq!(
                Arguments::parse(&line(&format!("farrier.address={text}"))).is_ok(),
                good,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = line("").replace("farrier.ca=", "other=");
        assert_eq!(
            Arguments::parse(&without).unwrap_err(),
            ArgumentError::Missing("farrier.ca")
        );
        let named = line("farrier.server=https://server.example:8444");
        let error = Arguments::parse(&named).unwrap_err().to_string();
        assert!(error.contains("literal address"), "{error}");
    }
}
