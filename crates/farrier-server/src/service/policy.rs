//! The site's settings, and what they come to for one machine.

use farrier_api::admin::{
    EffectiveSetting, ExplainQuery, Explained, ExplainedRule, Settings, SitePolicy,
};
use farrier_engine::facts::BootFacts;
use farrier_engine::model::FirmwareKind;
use farrier_engine::policy::{self, Judged, Known, ScriptAction, Snapshot, decide_script, resolve};
use serde::Serialize;

use super::machines::parse_mac;
use super::{Desk, Refusal, convert};
use crate::auth::Action;
use crate::core::now;

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

    pub async fn set_policy(&self, settings: Settings) -> Result<SitePolicy, Refusal> {
        self.allow(Action::SetPolicy)?;
        self.core
            .set_site(convert::settings_back(&settings))
            .await?;
        let shown = serde_json::to_string(&settings).unwrap_or_default();
        self.audit(Action::SetPolicy, shown).await;
        self.policy().await
    }

    /// What a client with this address would get if its loader asked for a script now. The same function
    /// decides in earnest.
    pub fn explain(&self, query: &ExplainQuery) -> Result<Explained, Refusal> {
        self.allow(Action::Look)?;
        let mac = parse_mac(&query.mac)?;
        let candidates = self.core.fleet.candidates(&[mac], None);
        let conflict = candidates.len() > 1;
        let machine = candidates.first().filter(|_| !conflict);
        let told = machine.and_then(|m| m.firmware);
        let platform = match (query.firmware.as_deref(), told) {
            (Some("bios"), _) | (None, Some(FirmwareKind::Bios)) => "pcbios",
            (Some("uefi") | None, _) => "efi",
            (Some(_), _) => return Err(Refusal::bad("`firmware` is bios or uefi")),
        };
        let text = mac.to_string();
        let said = [
            ("mac", text.as_str()),
            ("platform", platform),
            ("buildarch", "x86_64"),
        ];
        let facts = BootFacts::from_http(said).map_err(|e| Refusal::bad(e.to_string()))?;
        let due = machine.and_then(|m| self.core.fleet.queue(m.id).into_iter().next());
        let known = Known {
            machine: machine.map(AsRef::as_ref),
            due: due.as_deref(),
            recent_loads: &[],
            conflict,
            ..Known::default()
        };
        let snapshot = self.core.snapshot.load();
        let decision = decide_script(&facts, None, &known, &snapshot, now());
        let rules = decision.explanation.steps.into_iter();
        Ok(Explained {
            decision: action_words(&decision.action),
            rules: rules
                .map(|s| ExplainedRule {
                    rule: s.rule.into_owned(),
                    matched: s.matched,
                    why: s.why,
                })
                .collect(),
            effective: effective(&snapshot, machine.map(AsRef::as_ref), &[]),
        })
    }
}

fn action_words(action: &ScriptAction) -> String {
    match action {
        ScriptAction::Agent(policy::AgentPurpose::Task(id)) => {
            format!("Start the agent for the task {id}.")
        }
        ScriptAction::Agent(policy::AgentPurpose::Register) => {
            "Start the agent to register the machine.".to_owned()
        }
        ScriptAction::Menu {
            default,
            timeout,
            on_key,
            ..
        } => {
            let when = if *on_key {
                "The menu if a key is pressed"
            } else {
                "The menu"
            };
            format!("{when}; after {} s {}.", timeout.as_secs(), word(default))
        }
        ScriptAction::LocalDisk(_) => "Start from the local disk.".to_owned(),
        ScriptAction::MemoryTest(_) => "Start the memory test.".to_owned(),
        ScriptAction::Diagnostics { .. } => {
            "Show what is decided here, then the local disk.".to_owned()
        }
        ScriptAction::Message { reason, .. } => {
            format!("Show a message, then the local disk: {}", reason.sentence())
        }
    }
}

fn effective(
    snapshot: &Snapshot,
    machine: Option<&farrier_engine::model::Machine>,
    rules: &[Judged<'_>],
) -> Vec<EffectiveSetting> {
    let resolved = resolve(snapshot, machine, rules);
    let (p, o) = (&resolved.policy, &resolved.origins);
    [
        ("menu", word(&p.menu), &o.menu),
        (
            "menu_timeout_s",
            p.menu_timeout.as_secs().to_string(),
            &o.menu_timeout,
        ),
        ("default_entry", word(&p.default_entry), &o.default_entry),
        (
            "unknown_machine",
            word(&p.unknown_machine),
            &o.unknown_machine,
        ),
        ("enrolment", word(&p.enrolment), &o.enrolment),
        ("ipxe_variant", word(&p.ipxe_variant), &o.ipxe_variant),
        ("secure_boot", p.secure_boot.to_string(), &o.secure_boot),
    ]
    .into_iter()
    .map(|(name, value, origin)| EffectiveSetting {
        name: name.to_owned(),
        value,
        origin: origin.to_string(),
    })
    .collect()
}

/// The name that a value has in settings.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}
