//! `farrier policy`: what decides a boot.

use clap::{Subcommand, ValueEnum};
use farrier_api::admin::{ExplainQuery, Explained, SitePolicy};
use farrier_server::ui::text::shown;

use crate::connection::Session;
use crate::exit::Failure;
use crate::output::Table;
use crate::setting::{Setting, apply, effective};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show the site's settings and what each comes to.
    Show,
    /// Change the site's settings.
    Set {
        /// menu=always, unknown-machine=register, enrolment=automatic ...; an empty value means the default.
        #[arg(required = true, value_name = "NAME=VALUE")]
        settings: Vec<Setting>,
    },
    /// Say what a machine would get if it booted now, and why.
    Explain {
        /// The machine's hardware address; it need not be known.
        #[arg(long, required_unless_present = "machine")]
        mac: Option<String>,
        /// A known machine: its id, name or address.
        #[arg(conflicts_with = "mac")]
        machine: Option<String>,
        /// Default: what the machine last told, or uefi.
        #[arg(long)]
        firmware: Option<Firmware>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Firmware {
    Bios,
    Uefi,
}

pub(crate) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::Show => session.show(&client.get(&["policy"]).await?, show),
        Verb::Set { settings } => {
            let known: SitePolicy = client.get(&["policy"]).await?.read()?;
            let settings = apply(&known.settings, &settings)?;
            session.show(&client.put(&["policy"], &settings).await?, show)
        }
        Verb::Explain {
            mac,
            machine,
            firmware,
        } => {
            let mac = match (mac, machine) {
                (Some(mac), _) => mac,
                (None, machine) => first_mac(session, &machine.unwrap_or_default()).await?,
            };
            let firmware = firmware.map(|firmware| match firmware {
                Firmware::Bios => "bios".to_owned(),
                Firmware::Uefi => "uefi".to_owned(),
            });
            let answer = client
                .ask(&["policy", "explain"], &ExplainQuery { mac, firmware })
                .await?;
            session.show(&answer, explained)
        }
    }
}

async fn first_mac(session: &Session, machine: &str) -> anyhow::Result<String> {
    let known = session.machine(machine).await?.summary;
    let first = known.macs.into_iter().next();
    first.ok_or_else(|| {
        Failure::refused("that machine has no hardware address yet")
            .hint("use --mac")
            .into()
    })
}

fn show(policy: &SitePolicy) -> String {
    effective(&policy.effective)
}

fn explained(explained: &Explained) -> String {
    let mut rules = Table::new(["RULE", "", "WHY"]);
    for rule in &explained.rules {
        let mark = if rule.matched { "applies" } else { "no" };
        rules.row([rule.rule.clone(), mark.to_owned(), rule.why.clone()]);
    }
    let decision = shown(&explained.decision);
    format!("{decision}\n\n{rules}\n{}", effective(&explained.effective))
}

#[cfg(test)]
mod tests {
    use farrier_api::admin::{EffectiveSetting, Explained, ExplainedRule};

    #[test]
    fn an_explanation_says_the_decision_then_each_rule_then_the_settings() {
        let text = super::explained(&Explained {
            decision: "Start from the local disk.".to_owned(),
            rules: vec![
                ExplainedRule {
                    rule: "task".to_owned(),
                    matched: false,
                    why: "no task is due".to_owned(),
                },
                ExplainedRule {
                    rule: "local disk".to_owned(),
                    matched: true,
                    why: "name \u{1b}[1m".to_owned(),
                },
            ],
            effective: vec![EffectiveSetting {
                name: "menu".to_owned(),
                value: "never".to_owned(),
                origin: "default".to_owned(),
            }],
        });
        assert_eq!(
            text,
            "Start from the local disk.\n\n\
             RULE                 WHY\n\
             task        no       no task is due\n\
             local disk  applies  name ⟨U+001B⟩[1m\n\
             \nSETTING  VALUE  FROM\nmenu     never  default\n"
        );
    }
}
