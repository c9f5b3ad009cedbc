//! `farrier policy`: what decides a boot.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use farrier_api::admin::{
    ExplainQuery, Explained, ExplainedFirmware, ExplainedRule, MachineDeployment, Rule, Rules,
    SitePolicy,
};
use farrier_server::ui::text::shown;

use crate::connection::Session;
use crate::exit::Failure;
use crate::output::Table;
use crate::setting::{Setting, apply, effective, pairs};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Show the site's settings and what each comes to.
    Show,
    /// Change the site's settings.
    Set {
        /// menu=always, unknown-machine=register, enrolment=automatic ...; an empty value means the default.
        #[arg(required = true, value_name = "NAME=VALUE")]
        settings: Vec<Setting>,
        /// Do it where it starts deployments by itself; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
    /// Show the site's rules, or put those of a file in place of all others.
    Rules {
        /// A TOML file with [[rules]]: name, when (an expression in CEL), settings, refuse_boot, refuse_tasks.
        #[arg(long, value_name = "FILE")]
        set: Option<PathBuf>,
        /// Put them in place where they start deployments by themselves; without this, the plan is shown.
        #[arg(long, requires = "set")]
        yes: bool,
    },
    /// List machines whose disks are overwritten at their next boot without anybody's order, and those held back.
    Deployments,
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
        /// As if it spoke from there. Default: where it was last heard, or holds a lease.
        #[arg(long)]
        address: Option<String>,
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
        Verb::Set { settings, yes } => {
            let known: SitePolicy = client.get(&["policy"]).await?.read()?;
            let settings = apply(&known.settings, &settings)?;
            let answer = session.put_policy(&["policy"], &settings, yes).await?;
            session.show(&answer, show)
        }
        Verb::Rules { set: None, .. } => session
            .show(&client.get(&["policy", "rules"]).await?, |found| {
                rules(found)
            }),
        Verb::Rules {
            set: Some(file),
            yes,
        } => {
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            let wanted: Rules = toml::from_str(&text)
                .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
            let path = ["policy", "rules"];
            let answer = session.put_policy(&path, &wanted, yes).await?;
            session.show(&answer, rules)
        }
        Verb::Deployments => session
            .show(&client.get(&["policy", "deployments"]).await?, |found| {
                deployments(found)
            }),
        Verb::Explain {
            mac,
            machine,
            firmware,
            address,
        } => {
            let mac = match (mac, machine) {
                (Some(mac), _) => mac,
                (None, machine) => first_mac(session, &machine.unwrap_or_default()).await?,
            };
            let firmware = firmware.map(|firmware| match firmware {
                Firmware::Bios => "bios".to_owned(),
                Firmware::Uefi => "uefi".to_owned(),
            });
            let query = ExplainQuery {
                mac,
                firmware,
                address,
            };
            let answer = client.ask(&["policy", "explain"], &query).await?;
            session.show(&answer, explained)
        }
    }
}

pub(crate) async fn first_mac(session: &Session, machine: &str) -> anyhow::Result<String> {
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

fn rules(found: &Vec<Rule>) -> String {
    let mut table = Table::new(["RULE", "WHEN", "THEN"]);
    for rule in found {
        let mut then: Vec<String> = pairs(&rule.settings)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if rule.refuse_boot {
            then.push("refuse the boot".to_owned());
        }
        if rule.refuse_tasks {
            then.push("refuse tasks that write".to_owned());
        }
        table.row([rule.name.clone(), rule.when.clone(), then.join(", ")]);
    }
    table.to_string()
}

/// One line for each kind of firmware, and the way to it where only one can be meant.
fn firmware(kinds: &[ExplainedFirmware]) -> String {
    let mut table = Table::new(["FIRMWARE", "", "GETS", "AS"]);
    for kind in kinds {
        let seen = if kind.last_seen {
            "last seen"
        } else {
            "if it is"
        };
        table.row([
            kind.asks_as.clone(),
            seen.to_owned(),
            kind.decision.clone(),
            kind.answer.clone(),
        ]);
    }
    let mut text = table.to_string();
    // Where its class depends on the firmware, they are not the same for all.
    if let [first, rest @ ..] = kinds
        && rest.iter().all(|other| other.options == first.options)
    {
        for option in &first.options {
            text.push_str(&format!("option {}\n", shown(option)));
        }
    }
    if let [only] = kinds {
        text.push('\n');
        text.push_str(&steps(&only.rules));
    }
    text
}

fn steps(found: &[ExplainedRule]) -> String {
    let mut table = Table::new(["RULE", "", "WHY"]);
    for rule in found {
        let mark = if rule.matched { "applies" } else { "no" };
        table.row([rule.rule.clone(), mark.to_owned(), rule.why.clone()]);
    }
    table.to_string()
}

/// What is written to its disk without anybody's order.
fn deployment(explained: &Explained) -> String {
    let found = explained.deployment.as_ref();
    found.map_or_else(String::new, |found| format!("{}\n", shown(&found.why)))
}

fn deployments(found: &Vec<MachineDeployment>) -> String {
    let mut table = Table::new(["MACHINE", "OVERWRITTEN", "WHY"]);
    for one in found {
        let starts = if one.starts { "yes" } else { "no" };
        table.row([one.name.clone(), starts.to_owned(), one.why.clone()]);
    }
    table.to_string()
}

/// Where it is taken to be: rules may ask for that.
fn place(explained: &Explained) -> String {
    let subnet = match explained.subnet.as_str() {
        "" => "in no configured subnet".to_owned(),
        name => format!("in the subnet {}", shown(name)),
    };
    match &explained.address {
        Some(address) => format!("It is at {}, {subnet}.\n", shown(address)),
        None => String::new(),
    }
}

fn explained(explained: &Explained) -> String {
    let before = match explained.firmware.as_slice() {
        [] => String::new(),
        kinds => format!("{}\nThen, when its loader asks:\n", firmware(kinds)),
    };
    let decision = shown(&explained.decision);
    let rules = steps(&explained.rules);
    let at = deployment(explained) + &place(explained);
    format!(
        "{before}{decision}\n{at}\n{rules}\n{}",
        effective(&explained.effective)
    )
}

#[cfg(test)]
mod tests {
    use farrier_api::admin::{
        EffectiveSetting, Explained, ExplainedFirmware, ExplainedRule, SelfDeployment,
    };

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
            firmware: vec![ExplainedFirmware {
                asks_as: "BIOS x86-64 by PXE".to_owned(),
                last_seen: true,
                decision: "Load undionly.".to_owned(),
                answer: "the file name".to_owned(),
                options: vec!["routers (3) = 10.0.0.1, from subnet".to_owned()],
                rules: Vec::new(),
            }],
            deployment: Some(SelfDeployment {
                starts: false,
                why: "Nothing is deployed.".to_owned(),
            }),
            address: Some("10.1.0.7".to_owned()),
            subnet: "office".to_owned(),
            effective: vec![EffectiveSetting {
                name: "menu".to_owned(),
                value: "never".to_owned(),
                origin: "default".to_owned(),
            }],
        });
        assert_eq!(
            text,
            "FIRMWARE                       GETS            AS\n\
             BIOS x86-64 by PXE  last seen  Load undionly.  the file name\n\
             option routers (3) = 10.0.0.1, from subnet\n\
             \nRULE    WHY\n\
             \nThen, when its loader asks:\n\
             Start from the local disk.\n\
             Nothing is deployed.\n\
             It is at 10.1.0.7, in the subnet office.\n\n\
             RULE                 WHY\n\
             task        no       no task is due\n\
             local disk  applies  name ⟨U+001B⟩[1m\n\
             \nSETTING  VALUE  FROM\nmenu     never  default\n"
        );
    }
}
