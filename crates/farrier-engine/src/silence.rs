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
    /// A first sign of the loader that was fetched whole.
    Loader,
    /// The agent that was told to start.
    Agent,
}

impl Awaited {
    /// All of them, in the order of a boot.
    pub const ALL: [Self; 5] = [
        Self::Request,
        Self::Choice,
        Self::File,
        Self::Loader,
        Self::Agent,
    ];

    /// How long a healthy machine may take: firmware asks again after 4 s, iPXE in a ROM waits 13 s for IPv6 where
    /// nobody advertises a router, a loader brings its network up and may wait for a switch port, the agent's kernel
    /// starts and looks for its card.
    #[must_use]
    pub const fn patience(self) -> Duration {
        Duration::from_secs(match self {
            Self::Request | Self::Choice => 10,
            Self::File => 25,
            Self::Loader => 60,
            Self::Agent => 180,
        })
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
