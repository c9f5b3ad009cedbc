//! The site's settings, and what they come to for one machine.

use farrier_api::admin::{AutoDeploy, BootTls, EffectiveSetting, Settings, SitePolicy};
use farrier_engine::model::Machine;
use farrier_engine::policy::{Judged, Snapshot, media_values, resolve};
use serde::Serialize;

use super::{Code, Desk, Refusal, convert};
use crate::auth::Action;

impl Desk {
    pub async fn policy(&self) -> Result<SitePolicy, Refusal> {
        self.allow(Action::Look)?;
        let stored = self.core.db.site_settings().await?;
        Ok(SitePolicy {
            effective: effective(&self.core.snapshot.load(), None, &[]),
            settings: convert::settings(&stored.settings),
            revision: stored.revision,
        })
    }

    /// The disk images that menus can offer.
    pub(crate) fn media_names(&self) -> Vec<String> {
        let snapshot = self.core.snapshot.load();
        snapshot.media.keys().map(ToString::to_string).collect()
    }

    /// Sets the site's settings; what starts deployments by it wants to be confirmed.
    pub async fn set_policy(
        &self,
        settings: Settings,
        confirm: Option<&str>,
    ) -> Result<SitePolicy, Refusal> {
        self.allow(Action::SetPolicy)?;
        self.can_hold(&settings)?;
        let wanted = convert::settings_back(&settings)?;
        let one_change = self.core.standing_orders.one_change().await;
        let before = self.core.ground().lean();
        let after = before.with_site(wanted.clone());
        let change = format!("site {wanted:?}");
        self.agree_to_policy(&change, (&before, &after), confirm)
            .await?;
        self.core.set_site(wanted).await?;
        drop(one_change);
        let shown = serde_json::to_string(&settings).unwrap_or_default();
        self.audit(Action::SetPolicy, shown).await;
        self.policy().await
    }
}

impl Desk {
    /// Refuses settings that this server cannot keep, and such as nobody can mean.
    pub(super) fn can_hold(&self, settings: &Settings) -> Result<(), Refusal> {
        let deploys = settings
            .deploy
            .is_some_and(|deploy| deploy != AutoDeploy::Never);
        if deploys && settings.image.is_none() {
            let message = "`deploy` starts deployments by itself, and no `image` is set beside it";
            return Err(Refusal::bad(message).hint(
                "name the image in the same place: one that is set elsewhere would be a guess",
            ));
        }
        let wants_https = settings.boot_tls.is_some_and(|who| who != BootTls::Never);
        if wants_https && self.core.config.boot_tls.is_none() {
            let message = "`boot_tls` wants HTTPS, and this server has no listener for it";
            return Err(Refusal::new(Code::NotPossible, message)
                .hint("write the table [boot.tls] into its configuration and start it again"));
        }
        Ok(())
    }
}

/// What each setting comes to, and from whom.
pub(super) fn effective(
    snapshot: &Snapshot,
    machine: Option<&Machine>,
    rules: &[Judged<'_>],
) -> Vec<EffectiveSetting> {
    let resolved = resolve(snapshot, machine, rules);
    let (p, o) = (&resolved.policy, &resolved.origins);
    let settings = [
        ("menu", word(&p.menu), &o.menu),
        (
            "menu_timeout_s",
            p.menu_timeout.as_secs().to_string(),
            &o.menu_timeout,
        ),
        ("default_entry", word(&p.default_entry), &o.default_entry),
        ("menu_code", p.menu_code.to_string(), &o.menu_code),
        (
            "unknown_machine",
            word(&p.unknown_machine),
            &o.unknown_machine,
        ),
        ("enrolment", word(&p.enrolment), &o.enrolment),
        ("first_loader", word(&p.first_loader), &o.first_loader),
        ("ipxe_variant", word(&p.ipxe_variant), &o.ipxe_variant),
        ("tftp_blksize", p.tftp_blksize.to_string(), &o.tftp_blksize),
        (
            "tftp_windowsize",
            p.tftp_windowsize.to_string(),
            &o.tftp_windowsize,
        ),
        ("secure_boot", p.secure_boot.to_string(), &o.secure_boot),
        ("strategy", word(&p.strategy), &o.strategy),
        ("rom_menu", p.rom_menu.to_string(), &o.rom_menu),
        (
            "tftp_timeout_s",
            p.tftp_timeout_s
                .map_or_else(|| "measured".to_owned(), |s| s.to_string()),
            &o.tftp_timeout_s,
        ),
        ("image", p.image.clone().unwrap_or_default(), &o.image),
        ("deploy", word(&p.deploy), &o.deploy),
        ("deploy_over", word(&p.deploy_over), &o.deploy_over),
        (
            "deploy_disk",
            p.deploy_disk
                .as_ref()
                .map(|disk| convert::selector(disk).to_string())
                .unwrap_or_default(),
            &o.deploy_disk,
        ),
        (
            "media",
            p.media
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            &o.media,
        ),
        ("boot_tls", word(&p.boot_tls), &o.boot_tls),
        ("local_boot", word(&p.local_boot), &o.local_boot),
    ];
    let settings = settings.into_iter();
    let settings = settings.map(|(name, value, origin)| EffectiveSetting {
        name: name.to_owned(),
        value,
        origin: origin.to_string(),
    });
    // Each comes from where it comes from.
    let values = media_values(snapshot, machine, rules).into_iter();
    let values = values.map(|(name, (text, origin))| EffectiveSetting {
        name: format!("media_values.{name}"),
        value: text.to_string(),
        origin: origin.to_string(),
    });
    settings.chain(values).collect()
}

/// The name that a value has in settings.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}
