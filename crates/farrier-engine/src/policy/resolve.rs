//! Settings of machine, site and program become one policy.

use std::time::Duration;

use serde::Serialize;

use super::{Policy, Settings};
use crate::model::Machine;

/// Who set a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Set on the machine, or (for `secure_boot`) found on it.
    Machine,
    Site,
    Default,
}

/// Where each value of a policy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Origins {
    pub menu: Origin,
    pub menu_timeout: Origin,
    pub default_entry: Origin,
    pub unknown_machine: Origin,
    pub enrolment: Origin,
    pub ipxe_variant: Origin,
    pub secure_boot: Origin,
}

/// A policy with the origin of each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub policy: Policy,
    pub origins: Origins,
}

/// Decides every value: the machine's own, else the site's, else [`Policy::DEFAULT`].
#[must_use]
pub fn resolve(site: &Settings, machine: Option<&Machine>) -> Resolved {
    let unset = Settings::default();
    let own = machine.map_or(&unset, |machine| &machine.settings);
    let found = machine.and_then(|machine| machine.inventory.as_ref()?.secure_boot);

    let default = Policy::DEFAULT;
    let (menu, menu_origin) = pick(own.menu, site.menu, default.menu);
    let seconds = |value: Option<u16>| value.map(|s| Duration::from_secs(s.into()));
    let (menu_timeout, menu_timeout_origin) = pick(
        seconds(own.menu_timeout_s),
        seconds(site.menu_timeout_s),
        default.menu_timeout,
    );
    let (default_entry, default_entry_origin) =
        pick(own.default_entry, site.default_entry, default.default_entry);
    let (unknown_machine, unknown_machine_origin) = pick(
        own.unknown_machine,
        site.unknown_machine,
        default.unknown_machine,
    );
    let (enrolment, enrolment_origin) = pick(own.enrolment, site.enrolment, default.enrolment);
    let (ipxe_variant, ipxe_variant_origin) =
        pick(own.ipxe_variant, site.ipxe_variant, default.ipxe_variant);
    let (secure_boot, secure_boot_origin) = pick(
        own.secure_boot.or(found),
        site.secure_boot,
        default.secure_boot,
    );
    Resolved {
        policy: Policy {
            menu,
            menu_timeout,
            default_entry,
            unknown_machine,
            enrolment,
            ipxe_variant,
            secure_boot,
        },
        origins: Origins {
            menu: menu_origin,
            menu_timeout: menu_timeout_origin,
            default_entry: default_entry_origin,
            unknown_machine: unknown_machine_origin,
            enrolment: enrolment_origin,
            ipxe_variant: ipxe_variant_origin,
            secure_boot: secure_boot_origin,
        },
    }
}

fn pick<T>(own: Option<T>, site: Option<T>, default: T) -> (T, Origin) {
    match (own, site) {
        (Some(value), _) => (value, Origin::Machine),
        (None, Some(value)) => (value, Origin::Site),
        (None, None) => (default, Origin::Default),
    }
}
