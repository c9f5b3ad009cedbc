//! What should come next in a boot, and what to tell when it does not.
//!
//! The longest searches of an operator are for packets that never came. After each answer something is
//! expected of the machine; when it stays away, that is an entry on the timeline with the usual causes.

use std::time::Duration;

/// What a machine is expected to do after our last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Awaited {
    /// A DHCPREQUEST for the address that was offered.
    Request,
    /// Port 4011 or a file, after an offer beside another DHCP server.
    Choice,
    /// A request for the boot file that was named.
    File,
    /// A REQUEST for the IPv6 address that was offered.
    Request6,
    /// A request for the boot file that was named by DHCPv6.
    File6,
    /// A first sign of the loader that was fetched whole.
    Loader,
    /// The agent that was told to start.
    Agent,
}

/// By what a machine asked. Firmware and loaders ask by DHCP and DHCPv6 at once, and either may come to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// Or by BOOTP.
    Dhcp,
    Dhcpv6,
    /// It fetched a program, or the script that starts one.
    Fetching,
}

impl Awaited {
    /// All of them, in the order of a boot.
    pub const ALL: [Self; 7] = [
        Self::Request,
        Self::Choice,
        Self::File,
        Self::Request6,
        Self::File6,
        Self::Loader,
        Self::Agent,
    ];

    /// How long a healthy machine may take: firmware asks again after 4 s, iPXE in a ROM waits 13 s for IPv6 where
    /// nobody advertises a router, a loader brings its network up and may wait for a switch port, the agent's kernel
    /// starts and looks for its card.
    #[must_use]
    pub const fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Request | Self::Choice | Self::Request6 => 10,
            Self::File | Self::File6 => 25,
            Self::Loader => 60,
            Self::Agent => 180,
        })
    }

    /// By what it asked before we answered.
    #[must_use]
    pub const fn by(self) -> By {
        match self {
            Self::Request | Self::Choice | Self::File => By::Dhcp,
            Self::Request6 | Self::File6 => By::Dhcpv6,
            Self::Loader | Self::Agent => By::Fetching,
        }
    }

    /// A whole sentence for the timeline.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Request => {
                "An address was offered, but no request for it came within 10 s: the machine took another server's \
                 offer, or our answer did not reach it."
            }
            Self::Choice => {
                "A boot file was offered, but nothing came within 10 s: the firmware ignores a second offer, or got \
                 no address from the DHCP server beside us."
            }
            Self::File => {
                "It was told what to load, but asked for no file within 25 s: a firewall between us, another server \
                 named in its answer, or firmware that wants the address in another field."
            }
            Self::Request6 => {
                "An IPv6 address was offered, but no request for it came within 10 s: the machine took the offer of \
                 another DHCPv6 server, or a firewall or relay lost ours. Let UDP ports 546 and 547 through between us."
            }
            Self::File6 => {
                "It was told over IPv6 what to load, but asked for no file within 25 s: a firewall between us stops TFTP \
                 or HTTP over IPv6, another DHCPv6 server answered too, or no router tells it which addresses are near: \
                 switch on router_advertisement where none does."
            }
            Self::Loader => {
                "It fetched its loader whole, but the loader gave no sign within 60 s: the firmware refused to start \
                 it (Secure Boot), or it has no driver for the network card."
            }
            Self::Agent => {
                "It was told to start the agent, but the agent did not report within 180 s: its kernel has no driver \
                 for the network card, or port 8444 is blocked."
            }
        }
    }

    /// For programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Request => "no_request",
            Self::Choice => "no_choice",
            Self::File => "no_file_request",
            Self::Request6 => "no_request_by_dhcpv6",
            Self::File6 => "no_file_request_over_ipv6",
            Self::Loader => "loader_silent",
            Self::Agent => "agent_silent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Awaited;

    #[test]
    fn every_silence_is_a_sentence_with_its_patience_and_a_cause() {
        for awaited in Awaited::ALL {
            let sentence = awaited.sentence();
            let seconds = format!("{} s", awaited.patience().as_secs());
            assert!(sentence.contains(&seconds), "{awaited:?}");
            assert!(
                sentence.contains(": ") && sentence.ends_with('.'),
                "{awaited:?}"
            );
            assert!(sentence.chars().count() <= 400, "{awaited:?} would be cut");
        }
    }
}
