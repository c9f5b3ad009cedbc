//! Settings of machine, rules, group, site and program become one policy.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Judged, Policy, Settings, ShortName, Snapshot};
use crate::medium_value::{ValueName, ValueText};
use crate::model::Machine;

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Set on the machine, or (for `secure_boot`) found on it.
    Machine,
    Rule(ShortName),
    Group(ShortName),
    Site,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("machine"),
            Self::Rule(name) => write!(f, "rule {name}"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::Site => f.write_str("site"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Where each value of a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origins {
    pub menu: Origin,
    pub menu_timeout: Origin,
    pub default_entry: Origin,
    pub menu_code: Origin,
    pub unknown_machine: Origin,
    pub enrolment: Origin,
    pub first_loader: Origin,
    pub ipxe_variant: Origin,
    pub tftp_blksize: Origin,
    pub tftp_windowsize: Origin,
    pub tftp_timeout_s: Origin,
    pub secure_boot: Origin,
    pub strategy: Origin,
    pub rom_menu: Origin,
    pub media: Origin,
    pub image: Origin,
    pub deploy: Origin,
    pub deploy_over: Origin,
    pub deploy_disk: Origin,
    pub boot_tls: Origin,
    pub local_boot: Origin,
}

/// A policy with the origin of each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub policy: Policy,
    pub origins: Origins,
}

/// Everybody who may set a value, the nearest first.
pub(super) struct Layers<'a>(Vec<(Origin, &'a Settings)>);

/// Decides every value: the machine's own, else that of the first rule that holds, else its group's, else the
/// site's, else [`Policy::DEFAULT`].
#[must_use]
pub fn resolve(snapshot: &Snapshot, machine: Option<&Machine>, rules: &[Judged<'_>]) -> Resolved {
    let found = machine.and_then(|machine| machine.inventory.as_ref()?.secure_boot);
    let layers = Layers::of(snapshot, machine, rules);
    let default = Policy::DEFAULT;
    let (menu, menu_origin) = layers.pick(|s| s.menu, default.menu);
    let (menu_timeout, menu_timeout_origin) = layers.pick(
        |s| s.menu_timeout_s.map(|s| Duration::from_secs(s.into())),
        default.menu_timeout,
    );
    let (default_entry, default_entry_origin) =
        layers.pick(|s| s.default_entry, default.default_entry);
    let (menu_code, menu_code_origin) = layers.pick(|s| s.menu_code, default.menu_code);
    let (unknown_machine, unknown_machine_origin) =
        layers.pick(|s| s.unknown_machine, default.unknown_machine);
    let (enrolment, enrolment_origin) = layers.pick(|s| s.enrolment, default.enrolment);
    let (first_loader, first_loader_origin) = layers.pick(|s| s.first_loader, default.first_loader);
    let (ipxe_variant, ipxe_variant_origin) = layers.pick(|s| s.ipxe_variant, default.ipxe_variant);
    let (tftp_blksize, tftp_blksize_origin) = layers.pick(|s| s.tftp_blksize, default.tftp_blksize);
    let (tftp_windowsize, tftp_windowsize_origin) =
        layers.pick(|s| s.tftp_windowsize, default.tftp_windowsize);
    let (strategy, strategy_origin) = layers.pick(|s| s.strategy, default.strategy);
    let (rom_menu, rom_menu_origin) = layers.pick(|s| s.rom_menu, default.rom_menu);
    let (tftp_timeout_s, tftp_timeout_origin) =
        layers.pick(|s| s.tftp_timeout_s.map(Some), default.tftp_timeout_s);
    let (image, image_origin) = layers.pick(|s| s.image.clone().map(Some), default.image);
    let (deploy, deploy_origin) = layers.pick(|s| s.deploy, default.deploy);
    let (deploy_over, deploy_over_origin) = layers.pick(|s| s.deploy_over, default.deploy_over);
    let (deploy_disk, deploy_disk_origin) =
        layers.pick(|s| s.deploy_disk.clone().map(Some), default.deploy_disk);
    let (media, media_origin) = layers.pick(|s| s.media.clone(), default.media);
    let (boot_tls, boot_tls_origin) = layers.pick(|s| s.boot_tls, default.boot_tls);
    let (local_boot, local_boot_origin) = layers.pick(|s| s.local_boot, default.local_boot);
    // What the machine's agent found is known better than what anybody assumes from afar.
    let own = machine
        .and_then(|machine| machine.settings.secure_boot)
        .or(found);
    let (secure_boot, secure_boot_origin) = match own {
        Some(own) => (own, Origin::Machine),
        None => layers.pick(|s| s.secure_boot, default.secure_boot),
    };
    Resolved {
        policy: Policy {
            menu,
            menu_timeout,
            default_entry,
            menu_code,
            unknown_machine,
            enrolment,
            first_loader,
            ipxe_variant,
            tftp_blksize,
            tftp_windowsize,
            secure_boot,
            strategy,
            rom_menu,
            media,
            image,
            deploy,
            deploy_over,
            deploy_disk,
            tftp_timeout_s,
            boot_tls,
            local_boot,
        },
        origins: Origins {
            menu: menu_origin,
            menu_timeout: menu_timeout_origin,
            default_entry: default_entry_origin,
            menu_code: menu_code_origin,
            unknown_machine: unknown_machine_origin,
            enrolment: enrolment_origin,
            first_loader: first_loader_origin,
            ipxe_variant: ipxe_variant_origin,
            tftp_blksize: tftp_blksize_origin,
            tftp_windowsize: tftp_windowsize_origin,
            secure_boot: secure_boot_origin,
            strategy: strategy_origin,
            rom_menu: rom_menu_origin,
            media: media_origin,
            image: image_origin,
            deploy: deploy_origin,
            deploy_over: deploy_over_origin,
            deploy_disk: deploy_disk_origin,
            tftp_timeout_s: tftp_timeout_origin,
            boot_tls: boot_tls_origin,
            local_boot: local_boot_origin,
        },
    }
}

/// Every value of people's own for what a machine starts, each of the nearest who sets it.
#[must_use]
pub fn media_values<'a>(
    snapshot: &'a Snapshot,
    machine: Option<&'a Machine>,
    rules: &[Judged<'a>],
) -> BTreeMap<&'a ValueName, (&'a ValueText, Origin)> {
    let mut values = BTreeMap::new();
    // The nearest last, so that it counts.
    for (origin, settings) in Layers::of(snapshot, machine, rules).0.into_iter().rev() {
        for (name, text) in settings.media_values.iter().flatten() {
            values.insert(name, (text, origin.clone()));
        }
    }
    values
}

impl<'a> Layers<'a> {
    pub(super) fn of(
        snapshot: &'a Snapshot,
        machine: Option<&'a Machine>,
        rules: &[Judged<'a>],
    ) -> Self {
        let mut layers: Vec<_> = machine
            .map(|machine| (Origin::Machine, &machine.settings))
            .into_iter()
            .collect();
        let holding = rules.iter().filter(|judged| judged.holds());
        layers.extend(holding.map(|judged| {
            let rule = judged.rule;
            (Origin::Rule(rule.name.clone()), &rule.settings)
        }));
        let group = machine.and_then(|machine| machine.group.as_ref());
        // A group that is gone sets nothing.
        layers.extend(group.and_then(|name| {
            let settings = snapshot.groups.get(name)?;
            Some((Origin::Group(name.clone()), settings))
        }));
        layers.push((Origin::Site, &snapshot.site));
        Self(layers)
    }

    fn pick<T>(&self, of: impl Fn(&Settings) -> Option<T>, default: T) -> (T, Origin) {
        self.first(of).unwrap_or((default, Origin::Default))
    }

    /// The nearest that is set.
    pub(super) fn first<T>(&self, of: impl Fn(&Settings) -> Option<T>) -> Option<(T, Origin)> {
        let mut layers = self.0.iter();
        layers.find_map(|(origin, settings)| Some((of(settings)?, origin.clone())))
    }

    /// What this one sets.
    pub(super) fn of_origin(&self, wanted: &Origin) -> Option<&'a Settings> {
        let mut layers = self.0.iter();
        layers.find_map(|(origin, settings)| (origin == wanted).then_some(*settings))
    }
}
