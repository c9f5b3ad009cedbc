//! Why a client did not get what it asked for. Every silence and every refusal has one of these.

use serde::{Deserialize, Serialize};

/// Why we stayed silent, said no or gave less. Each has a counter label and a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Beside another DHCPv6 server only what has no address in it is ours to say.
    AddressesElsewhere,
    /// The agent was started again and again for one task without an end.
    AgentLoop,
    /// Somebody else answers for each address that was tried.
    AddressInUse,
    /// A TFTP request without options, from an address that may be forged.
    AddressNotProven,
    /// Too much has left for a network that acknowledged nothing.
    AnswerBudget,
    /// The client is told its address, but nothing to boot, since its architecture is not known yet.
    ArchitectureUnknown,
    /// RFC 951 has no lease time: an address lent to a BOOTP client is lost for good.
    BootpNeedsReservation,
    ChoseOtherServer,
    /// The message has the DUID of another DHCPv6 server in it.
    NamesOtherServer,
    /// Two machines show the same evidence, so that we cannot tell whose turn it is.
    IdentityConflict,
    LeaseNotOurs,
    LoaderLoop,
    MachineDisabled,
    Malformed,
    /// There is no agent for this architecture.
    NoAgent,
    /// There cannot be one: it is not made for such machines.
    NoAgentForMachine,
    /// A ROM with Boot Integrity Services wants a signature beside the file (PXE 2.1 section 2.2.5).
    NoBootCredentials,
    NoBootLayer,
    NoLeaseOnRecord,
    NoLoader,
    NoMemoryTest,
    NoSubnet,
    /// An entry of the menu wants a code, and this loader cannot ask for one.
    NoCodePrompt,
    /// A message that is never answered, such as DHCPRELEASE.
    NoAnswerDue,
    /// The loader that runs can neither take this image into memory nor read it over the network.
    MediumNeedsIpxe,
    /// The image has nothing that this kind of firmware starts.
    MediumNotForFirmware,
    NoMedium,
    NoMemdisk,
    NotABootClient,
    NotApproved,
    /// The lease could not be made durable, so it must not be acknowledged.
    NotStored,
    /// Too many clients hold an offer that they did not take up.
    OfferLimit,
    /// A boot item that another boot server answers for.
    OtherBootServer,
    /// A boot program that brings its own next step, such as GRUB.
    OtherLoader,
    PoolExhausted,
    /// What is left of the pool is kept for machines we know.
    PoolReserved,
    RefusedByRule,
    ReinstallLoop,
    /// Too many agents are started from one address.
    TooManyBoots,
    /// Too many hardware addresses that nobody knows ask from one network.
    TooManyStrangers,
    /// There are too many machines that nobody has confirmed.
    TooManyUnconfirmed,
    TaskRefusedByRule,
    /// The handshake ended for a reason that neither side told.
    TlsFailed,
    /// The certificate's key is of a kind that the boot program cannot check.
    TlsKeyKind,
    /// The boot program does not know who signed our certificate.
    TlsNotTrusted,
    /// It speaks no version or no cipher of TLS that is still safe.
    TlsTooOld,
    UnknownMachine,
    WrongAddress,
    WrongNetwork,
}

impl Reason {
    /// All of them, for the list of counters.
    pub const ALL: [Self; 49] = [
        Self::AddressesElsewhere,
        Self::AddressInUse,
        Self::AddressNotProven,
        Self::AnswerBudget,
        Self::AgentLoop,
        Self::ArchitectureUnknown,
        Self::BootpNeedsReservation,
        Self::ChoseOtherServer,
        Self::NamesOtherServer,
        Self::IdentityConflict,
        Self::LeaseNotOurs,
        Self::LoaderLoop,
        Self::MachineDisabled,
        Self::Malformed,
        Self::NoAgent,
        Self::NoAgentForMachine,
        Self::NoBootCredentials,
        Self::NoBootLayer,
        Self::NoLeaseOnRecord,
        Self::NoLoader,
        Self::NoMemoryTest,
        Self::NoSubnet,
        Self::NoCodePrompt,
        Self::NoAnswerDue,
        Self::MediumNeedsIpxe,
        Self::MediumNotForFirmware,
        Self::NoMedium,
        Self::NoMemdisk,
        Self::NotABootClient,
        Self::NotApproved,
        Self::NotStored,
        Self::OfferLimit,
        Self::OtherBootServer,
        Self::OtherLoader,
        Self::PoolExhausted,
        Self::PoolReserved,
        Self::RefusedByRule,
        Self::ReinstallLoop,
        Self::TooManyBoots,
        Self::TooManyStrangers,
        Self::TooManyUnconfirmed,
        Self::TaskRefusedByRule,
        Self::TlsFailed,
        Self::TlsKeyKind,
        Self::TlsNotTrusted,
        Self::TlsTooOld,
        Self::UnknownMachine,
        Self::WrongAddress,
        Self::WrongNetwork,
    ];

    /// Short, lower-case and stable, for counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::AddressesElsewhere => "addresses_elsewhere",
            Self::AddressInUse => "address_in_use",
            Self::AddressNotProven => "address_not_proven",
            Self::AnswerBudget => "answer_budget",
            Self::AgentLoop => "agent_loop",
            Self::ArchitectureUnknown => "architecture_unknown",
            Self::BootpNeedsReservation => "bootp_needs_reservation",
            Self::ChoseOtherServer => "chose_other_server",
            Self::NamesOtherServer => "names_other_server",
            Self::IdentityConflict => "identity_conflict",
            Self::LeaseNotOurs => "lease_not_ours",
            Self::LoaderLoop => "loader_loop",
            Self::MachineDisabled => "machine_disabled",
            Self::Malformed => "malformed",
            Self::NoAgent => "no_agent",
            Self::NoAgentForMachine => "no_agent_for_machine",
            Self::NoBootCredentials => "no_boot_credentials",
            Self::NoBootLayer => "no_boot_layer",
            Self::NoLeaseOnRecord => "no_lease_on_record",
            Self::NoLoader => "no_loader",
            Self::NoMemoryTest => "no_memory_test",
            Self::NoSubnet => "no_subnet",
            Self::NoCodePrompt => "no_code_prompt",
            Self::NoAnswerDue => "no_answer_due",
            Self::MediumNeedsIpxe => "medium_needs_ipxe",
            Self::MediumNotForFirmware => "medium_not_for_firmware",
            Self::NoMedium => "no_medium",
            Self::NoMemdisk => "no_memdisk",
            Self::NotABootClient => "not_a_boot_client",
            Self::NotApproved => "not_approved",
            Self::NotStored => "not_stored",
            Self::OfferLimit => "offer_limit",
            Self::OtherBootServer => "other_boot_server",
            Self::OtherLoader => "other_loader",
            Self::PoolExhausted => "pool_exhausted",
            Self::PoolReserved => "pool_reserved",
            Self::RefusedByRule => "refused_by_rule",
            Self::ReinstallLoop => "reinstall_loop",
            Self::TooManyBoots => "too_many_boots",
            Self::TooManyStrangers => "too_many_strangers",
            Self::TooManyUnconfirmed => "too_many_unconfirmed",
            Self::TaskRefusedByRule => "task_refused_by_rule",
            Self::TlsFailed => "tls_failed",
            Self::TlsKeyKind => "tls_key_kind",
            Self::TlsNotTrusted => "tls_not_trusted",
            Self::TlsTooOld => "tls_too_old",
            Self::UnknownMachine => "unknown_machine",
            Self::WrongAddress => "wrong_address",
            Self::WrongNetwork => "wrong_network",
        }
    }

    /// Whether somebody should act on it: something of the server's has run short.
    #[must_use]
    pub fn is_shortage(self) -> bool {
        matches!(
            self,
            Self::AnswerBudget
                | Self::NotStored
                | Self::OfferLimit
                | Self::PoolExhausted
                | Self::PoolReserved
                | Self::TooManyBoots
                | Self::TooManyStrangers
                | Self::TooManyUnconfirmed
        )
    }

    /// A whole sentence that ends with what to do, where something can be done.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::AddressesElsewhere => {
                "Another DHCPv6 server lends the addresses here, and we tell what to boot to those only who ask for no address: let that server name the boot file (option 59), or let us be the DHCP server (mode dhcp)."
            }
            Self::AddressInUse => {
                "Somebody else uses each address that it could have; find the hosts with fixed addresses in our ranges."
            }
            Self::AddressNotProven => {
                "It asked by TFTP without options, and its address has neither a lease nor a recent boot answer from here: use a client that asks with options, or let it boot by DHCP."
            }
            Self::AnswerBudget => {
                "Too much was sent to its network that nobody acknowledged: look for forged TFTP requests."
            }
            Self::AgentLoop => {
                "The agent was started three times within half an hour and did not end its task: look at its log, then cancel the task or give it a new attempt."
            }
            Self::ArchitectureUnknown => {
                "It has not told its architecture yet, so there is no boot file to name."
            }
            Self::BootpNeedsReservation => {
                "A BOOTP or RARP client keeps its address for ever: reserve one for it, or register the machine."
            }
            Self::ChoseOtherServer => "It accepted the offer of another DHCP server.",
            Self::NamesOtherServer => {
                "It turned to another DHCPv6 server, which it names: if none is to be there, find it and switch it off."
            }
            Self::IdentityConflict => {
                "Its evidence fits more than one machine: look at both and say which one it is."
            }
            Self::LeaseNotOurs => "The address it speaks of is not lent to it.",
            Self::LoaderLoop => {
                "It fetched a loader three times within a minute without going on: check the loader and its log."
            }
            Self::MachineDisabled => {
                "The machine is disabled: enable it to let it boot from the network."
            }
            Self::Malformed => "The request makes no sense by RFC 2131.",
            Self::NoAgent => "There is no agent for its architecture: build or import one.",
            Self::NoAgentForMachine => {
                "Network boot works, but the agent is for x86_64 PCs only: there is none for this machine."
            }
            Self::NoBootCredentials => {
                "Its firmware wants the credentials of a boot file (Boot Integrity Services), which there are none of: switch that off in its setup."
            }
            Self::NoBootLayer => {
                "It asks for a later layer of a boot item; ours have one layer, the loader: correct the boot menu of the other server."
            }
            Self::NoLeaseOnRecord => "It asks to keep an address that we have no record of.",
            Self::NoLoader => "There is no loader for its architecture and firmware: import one.",
            Self::NoMemoryTest => {
                "There is no memory test for its architecture and firmware: import one."
            }
            Self::NoSubnet => "No configured subnet holds the place it asks from: add the subnet.",
            Self::NoCodePrompt => {
                "This entry needs a code, and this loader cannot ask for one: order it by `farrier machine boot`."
            }
            Self::NoAnswerDue => "Such a message gets no answer.",
            Self::MediumNeedsIpxe => {
                "This loader cannot start such an image: let iPXE be the first loader, or on UEFI use HTTP Boot."
            }
            Self::MediumNotForFirmware => {
                "The image has nothing that this machine's firmware can start: `farrier media show` says what it is for."
            }
            Self::NoMedium => {
                "There is no image of that name: `farrier media list` shows those that there are."
            }
            Self::NoMemdisk => {
                "MEMDISK is missing: import the package syslinux-common by `farrier loader import`."
            }
            Self::NotABootClient => "It does not ask to boot from the network.",
            Self::NotApproved => "The machine waits for approval: approve it to start its work.",
            Self::NotStored => "Its lease could not be stored: look at the disk and the database.",
            Self::OfferLimit => {
                "Too many clients hold offers they have not taken up: look for a flood of requests."
            }
            Self::OtherBootServer => {
                "It asks for a boot item that is not one of ours (0xfa00 to 0xfa03): another boot server has to answer."
            }
            Self::OtherLoader => "It runs a boot program that finds its own next step.",
            Self::PoolExhausted => "All addresses of its subnet are taken: enlarge the range.",
            Self::PoolReserved => {
                "What is left of the range is kept for known machines: register this one, or enlarge the range."
            }
            Self::TooManyBoots => {
                "Too many machines start from its address at once: start it again in a minute."
            }
            Self::TooManyStrangers => {
                "Too many unknown machines ask from its network at once: start it again in a minute, or register it."
            }
            Self::TooManyUnconfirmed => {
                "Too many machines wait to be confirmed: approve or delete some, or register this one."
            }
            Self::RefusedByRule => {
                "A rule of the site refuses to boot such machines: `farrier policy explain` says which."
            }
            Self::ReinstallLoop => {
                "It was deployed to three times within two hours and is to be again: find out why it does not start from its disk. It goes on after two hours."
            }
            Self::TaskRefusedByRule => {
                "A rule of the site lets nothing be written to such machines: `farrier policy explain` says which."
            }
            Self::TlsFailed => {
                "HTTPS did not come about: try plain HTTP (the setting boot_tls), and look at the machine's screen."
            }
            Self::TlsKeyKind => {
                "It cannot check a certificate of our kind: set boot.tls.key to the other one in the configuration."
            }
            Self::TlsNotTrusted => {
                "It does not trust our certificate: enrol the authority in its firmware, or set boot_tls to never for it."
            }
            Self::TlsTooOld => {
                "It is too old for HTTPS: set boot_tls to never for it, or give it newer firmware or a newer loader."
            }
            Self::UnknownMachine => {
                "Nobody has registered it, and the policy says to ignore such machines."
            }
            Self::WrongAddress => "It asks for an address other than the one it was offered.",
            Self::WrongNetwork => "It asks for an address of another network.",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Reason;

    #[test]
    fn labels_are_distinct_and_fit_for_counters() {
        let labels: BTreeSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        for label in labels {
            assert!(
                label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{label}"
            );
        }
    }

    #[test]
    fn the_stored_name_is_the_label() {
        for reason in Reason::ALL {
            assert_eq!(
                serde_json::to_string(&reason).unwrap(),
                format!("\"{}\"", reason.label())
            );
        }
    }

    #[test]
    fn sentences_are_whole() {
        for reason in Reason::ALL {
            let sentence = reason.sentence();
            assert!(
                sentence.ends_with('.') && sentence.starts_with(|c: char| c.is_uppercase()),
                "{sentence}"
            );
        }
    }
}
