//! What a DHCP, ProxyDHCP or BOOTP request is answered with.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use super::{
    BootTls, Decision, Explanation, Known, Policy, ScriptAction, Snapshot, UnknownMachine,
    decide_script, resolve,
};
use crate::catalogue::LoaderFile;
use crate::facts::{BootFacts, Protocol, Stage};
use crate::medium::{MediumName, MediumStart};
use crate::model::{FirmwareKind, Registration};
use crate::{Reason, WallTime};

/// In which part we were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// We lend addresses: there may be an answer without anything to boot.
    Dhcp,
    /// Somebody else lends them (ProxyDHCP, port 4011): nothing to boot means no answer.
    Proxy,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DhcpAction {
    /// An address (from [`Service::Dhcp`]) and this to boot.
    Boot(Boot),
    /// An address and nothing to boot.
    AddressOnly(Reason),
    /// No answer.
    Ignore(Reason),
}

/// What is named as boot file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// A boot program by TFTP.
    Loader(LoaderFile),
    /// A boot program by HTTP, for UEFI HTTP Boot.
    HttpLoader(LoaderFile),
    /// A disk image of people's own by HTTP, of which UEFI HTTP Boot makes a RAM disk.
    Medium(MediumName),
    /// The same by HTTPS.
    HttpsMedium(MediumName),
    /// A boot program by HTTPS.
    HttpsLoader(LoaderFile),
    /// The URL of the first script, for an iPXE that is able to run it.
    Script,
    /// The same by HTTPS.
    HttpsScript,
}

impl Boot {
    /// Whether it is a URL of the HTTPS listener.
    #[must_use]
    pub fn is_https(&self) -> bool {
        matches!(
            self,
            Self::HttpsLoader(_) | Self::HttpsMedium(_) | Self::HttpsScript
        )
    }

    /// The same by HTTPS, where that is wanted of this client and can be.
    fn secured(
        self,
        facts: &BootFacts,
        policy: &Policy,
        snapshot: &Snapshot,
        told: &mut Explanation,
    ) -> Self {
        let firmware = matches!(self, Self::HttpLoader(_) | Self::Medium(_));
        let able = match &facts.stage {
            Stage::Ipxe { features, .. } => features.https,
            _ => firmware,
        };
        let (https, why) = match policy.boot_tls {
            BootTls::Never => return self,
            _ if matches!(self, Self::Loader(_)) => (false, "It loads by TFTP first."),
            _ if !snapshot.https => (
                false,
                "HTTPS is wanted, but the configuration has no [boot.tls]: plain HTTP it is.",
            ),
            _ if !able => (false, "It does not say that it speaks HTTPS."),
            BootTls::Firmware if !firmware => (false, "Only firmware is to use HTTPS."),
            _ => (true, "It gets a URL of HTTPS."),
        };
        told.passed("boot tls", why);
        match self {
            Self::HttpLoader(file) if https => Self::HttpsLoader(file),
            Self::Medium(name) if https => Self::HttpsMedium(name),
            Self::Script if https => Self::HttpsScript,
            other => other,
        }
    }
}

/// So many loaders sent to one hardware address within [`LOOP_WINDOW`] are a loop: the loader comes
/// up, does not get on, and the firmware starts over.
pub const LOOP_LIMIT: usize = 3;
pub const LOOP_WINDOW: Duration = Duration::from_secs(60);

/// Decides one packet. DHCPDISCOVER and DHCPREQUEST are decided each by itself, since SLOF, s390x
/// and some U-Boot builds tell their architecture in the second only (`firmware.md` T5).
#[must_use]
pub fn decide_dhcp(
    facts: &BootFacts,
    service: Service,
    known: &Known<'_>,
    snapshot: &Snapshot,
    now: WallTime,
) -> Decision<DhcpAction> {
    let mut explanation = Explanation::default();
    let action = action(facts, service, known, snapshot, now, &mut explanation);
    Decision {
        action,
        explanation,
    }
}

/// The same without the explanation, for packets: its sentences cost more than the decision.
#[must_use]
pub fn dhcp_action(
    facts: &BootFacts,
    service: Service,
    known: &Known<'_>,
    snapshot: &Snapshot,
    now: WallTime,
) -> DhcpAction {
    let mut untold = Explanation::untold();
    action(facts, service, known, snapshot, now, &mut untold)
}

fn action(
    facts: &BootFacts,
    service: Service,
    known: &Known<'_>,
    snapshot: &Snapshot,
    now: WallTime,
    told: &mut Explanation,
) -> DhcpAction {
    match rules(facts, known, snapshot, now, told) {
        Ok(boot) => DhcpAction::Boot(boot),
        Err(Reason::UnknownMachine) => DhcpAction::Ignore(Reason::UnknownMachine),
        Err(reason) if service == Service::Proxy => DhcpAction::Ignore(reason),
        Err(reason) => DhcpAction::AddressOnly(reason),
    }
}

fn rules(
    facts: &BootFacts,
    known: &Known<'_>,
    snapshot: &Snapshot,
    now: WallTime,
    told: &mut Explanation,
) -> Result<Boot, Reason> {
    let mut policy = resolve(snapshot, known.machine, known.rules).policy;

    if !facts.wants_boot() {
        told.matched("boot client", Reason::NotABootClient.sentence());
        return Err(Reason::NotABootClient);
    }
    told.passed("boot client", "It asks to boot from the network.");

    if known.is(Registration::Disabled) {
        told.matched("machine enabled", Reason::MachineDisabled.sentence());
        return Err(Reason::MachineDisabled);
    }
    told.passed("machine enabled", "It is not disabled.");

    if told.refused_by_rule(known.rules) {
        return Err(Reason::RefusedByRule);
    }

    if !known.is_registered() && policy.unknown_machine == UnknownMachine::Ignore {
        told.matched("unknown machine", Reason::UnknownMachine.sentence());
        return Err(Reason::UnknownMachine);
    }
    told.passed(
        "unknown machine",
        if known.is_registered() {
            "It is registered."
        } else {
            "Unknown ones may boot."
        },
    );

    match &facts.stage {
        Stage::Ipxe { features, .. } if features.is_enough() => {
            told.matched("loader running", "It is iPXE and can run our script.");
            return Ok(Boot::Script.secured(facts, &policy, snapshot, told));
        }
        Stage::Ipxe { .. } => {
            told.passed(
                "loader running",
                "It is an iPXE without HTTP or kernel support: it gets ours.",
            );
        }
        Stage::Loader(name) if name.as_str() == "gPXE" => {
            told.passed(
                "loader running",
                "It is gPXE, the forerunner of iPXE: it gets ours.",
            );
        }
        Stage::Loader(_) | Stage::Os => {
            told.matched("loader running", Reason::OtherLoader.sentence());
            return Err(Reason::OtherLoader);
        }
        Stage::Firmware => told.passed("loader running", "It is firmware and needs a loader."),
    }

    let lately = known
        .recent_loads
        .iter()
        .filter(|at| now.since(**at) < LOOP_WINDOW)
        .count();
    if lately >= LOOP_LIMIT {
        told.matched("loader loop", Reason::LoaderLoop.sentence());
        return Err(Reason::LoaderLoop);
    }
    told.passed(
        "loader loop",
        format_args!("{lately} loaders sent within a minute."),
    );

    let mut facts = Cow::Borrowed(facts);
    if facts.protocol == Protocol::Bootp && facts.arch.is_none() {
        // RFC 951 has no word for it; what is known of the machine counts.
        let facts = facts.to_mut();
        facts.arch = known.machine.and_then(|machine| machine.arch);
        facts.firmware = known.machine.and_then(|machine| machine.firmware);
    }
    let facts = &*facts;
    let (Some(arch), firmware) = (facts.arch, facts.firmware) else {
        told.matched("architecture", Reason::ArchitectureUnknown.sentence());
        return Err(Reason::ArchitectureUnknown);
    };
    let shown = firmware.map_or("unknown firmware", FirmwareKind::name);
    told.passed("architecture", format_args!("{arch}, {shown}."));

    if known.wants_signature && !policy.secure_boot {
        policy.secure_boot = true;
        // Signed loaders run without Secure Boot as well, so a wrong guess costs nothing but speed.
        if snapshot.catalogue.choose(facts, &policy).is_ok() {
            told.passed(
                "signature",
                "It fetched an unsigned loader and did not run it: a signed one is tried.",
            );
        } else {
            policy.secure_boot = false;
            told.passed(
                "signature",
                "It did not run an unsigned loader, but there is no signed one: import shim-signed.",
            );
        }
    }

    if let Some(medium) = ram_disk(facts, known, snapshot, now) {
        told.matched(
            "medium",
            format_args!("The firmware makes a RAM disk of {medium} by itself."),
        );
        return Ok(Boot::Medium(medium).secured(facts, &policy, snapshot, told));
    }

    match snapshot.catalogue.choose(facts, &policy) {
        Ok(loader) => {
            told.matched(
                "loader",
                format_args!("{} {} fits.", loader.id, loader.version),
            );
            let boot = if facts.protocol == Protocol::Http {
                Boot::HttpLoader(LoaderFile::over_http(loader))
            } else {
                Boot::Loader(LoaderFile::from(loader))
            };
            Ok(boot.secured(facts, &policy, snapshot, told))
        }
        Err(none) => {
            told.matched("loader", format_args!("There is {none}."));
            Err(Reason::NoLoader)
        }
    }
}

/// The image that this machine starts without a menu, if it asks by UEFI HTTP Boot: no loader could keep it in memory
/// for the system on it, and the firmware can.
fn ram_disk(
    facts: &BootFacts,
    known: &Known<'_>,
    snapshot: &Snapshot,
    now: WallTime,
) -> Option<MediumName> {
    let asks_by_http = facts.stage == Stage::Firmware && facts.protocol == Protocol::Http;
    if !asks_by_http || snapshot.media.is_empty() {
        return None;
    }
    match decide_script(facts, None, known, snapshot, now).action {
        ScriptAction::Medium {
            medium,
            start: MediumStart::RamDisk,
            ..
        } => Some(medium.name),
        _ => None,
    }
}
