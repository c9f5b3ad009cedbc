//! Groups, rules, wishes for the next boots, and machines that go in circles.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::tests::{NOW, machine, script, snapshot, task};
use super::{
    AGENT_LIMIT, AgentPurpose, BootIntent, DEPLOY_LIMIT, Judged, Known, MenuEntry, MenuMode,
    Origin, Rule, ScriptAction, Settings, ShortName, Snapshot, Until, Verdict, decide_script,
    media_values, resolve,
};
use crate::medium_value::{ValueName, ValueText};
use crate::model::{Inventory, Machine, Registration};
use crate::task::{DiskSelector, State, Work};
use crate::{Reason, WallTime};

fn name(text: &str) -> ShortName {
    ShortName::try_from(text.to_owned()).unwrap()
}

fn menu(mode: MenuMode) -> Settings {
    Settings {
        menu: Some(mode),
        ..Settings::default()
    }
}

fn rule(text: &str) -> Rule {
    Rule {
        name: name(text),
        when: "true".to_owned(),
        settings: Settings::default(),
        refuse_boot: false,
        refuse_tasks: false,
    }
}

fn intent(boots_left: u16, until: Until) -> BootIntent {
    BootIntent {
        entry: MenuEntry::Register,
        boots_left,
        expires: NOW + Duration::from_secs(60),
        until,
        set_at: NOW,
        set_by: "ada".to_owned(),
        counted: None,
    }
}

fn decide(machine: &Machine, known: Known<'_>) -> ScriptAction {
    let known = Known {
        machine: Some(machine),
        ..known
    };
    decide_script(
        &script("efi", "x86_64", "1"),
        None,
        &known,
        &snapshot(),
        NOW,
    )
    .action
}

fn refused(action: &ScriptAction) -> Option<Reason> {
    match action {
        ScriptAction::Message { reason, .. } => Some(*reason),
        _ => None,
    }
}

fn values(rows: &[(&str, &str)]) -> Settings {
    let value = |&(name, text): &(&str, &str)| {
        let name = ValueName::new(name).unwrap();
        (name, ValueText::new(text).unwrap())
    };
    Settings {
        media_values: Some(rows.iter().map(value).collect()),
        ..Settings::default()
    }
}

#[test]
fn r9_a_machine_that_sets_one_value_keeps_the_others_of_its_group_and_site() {
    let lab = values(&[("home", "lab"), ("drive", "F:")]);
    let snapshot = Snapshot {
        site: values(&[("home", "site"), ("dept", "school")]),
        groups: BTreeMap::from([(name("lab"), lab)]),
        ..snapshot()
    };
    let machine = Machine {
        group: Some(name("lab")),
        settings: values(&[("home", "own")]),
        ..machine(Registration::Approved)
    };
    let of = |machine: Option<&Machine>, rules: &[Judged<'_>]| -> Vec<String> {
        let found = media_values(&snapshot, machine, rules).into_iter();
        found
            .map(|(name, (text, origin))| format!("{name}={text} ({origin})"))
            .collect()
    };
    assert_eq!(
        of(Some(&machine), &[]),
        [
            "dept=school (site)",
            "drive=F: (group lab)",
            "home=own (machine)"
        ]
    );
    let rule = Rule {
        settings: values(&[("dept", "ruled"), ("home", "ruled")]),
        ..rule("all")
    };
    let judged = [Judged {
        rule: &rule,
        verdict: Verdict::Holds,
    }];
    assert_eq!(
        of(Some(&machine), &judged),
        [
            "dept=ruled (rule all)",
            "drive=F: (group lab)",
            "home=own (machine)"
        ]
    );
    assert_eq!(of(None, &[]), ["dept=school (site)", "home=site (site)"]);
}

/// The one place where the order of inheritance is written down: each layer hides all behind it.
#[test]
fn the_nearest_of_machine_rule_group_site_and_default_counts() {
    let rule = Rule {
        settings: menu(MenuMode::Never),
        ..rule("lab-pcs")
    };
    let group = name("lab");
    for layers in 0_u8..16 {
        let has = |bit: u8| layers & (1 << bit) != 0;
        let set = |bit, mode| {
            if has(bit) {
                menu(mode)
            } else {
                Settings::default()
            }
        };
        let snapshot = Snapshot {
            site: set(0, MenuMode::Always),
            groups: BTreeMap::from([(group.clone(), set(1, MenuMode::OnKey))]),
            ..snapshot()
        };
        let verdict = if has(2) {
            Verdict::Holds
        } else {
            Verdict::DoesNot
        };
        let rules = [Judged {
            rule: &rule,
            verdict,
        }];
        let machine = Machine {
            group: Some(group.clone()),
            settings: set(3, MenuMode::Always),
            ..machine(Registration::Approved)
        };
        let found = resolve(&snapshot, Some(&machine), &rules);
        let expected = match layers.checked_ilog2() {
            Some(3) => Origin::Machine,
            Some(2) => Origin::Rule(name("lab-pcs")),
            Some(1) => Origin::Group(group.clone()),
            Some(_) => Origin::Site,
            None => Origin::Default,
        };
        assert_eq!(found.origins.menu, expected, "{layers:#b}");
        assert_eq!(found.origins.enrolment, Origin::Default, "what nobody set");
    }
}

#[test]
fn of_two_rules_the_first_counts_and_one_that_cannot_be_judged_sets_nothing() {
    let [broken, first, second] = [
        (rule("broken"), MenuMode::OnKey),
        (rule("first"), MenuMode::Never),
        (rule("second"), MenuMode::Always),
    ]
    .map(|(rule, mode)| Rule {
        settings: menu(mode),
        ..rule
    });
    let rules = [
        Judged {
            rule: &broken,
            verdict: Verdict::Failed("no such field".to_owned()),
        },
        Judged {
            rule: &first,
            verdict: Verdict::Holds,
        },
        Judged {
            rule: &second,
            verdict: Verdict::Holds,
        },
    ];
    let found = resolve(&snapshot(), None, &rules);
    assert_eq!(found.policy.menu, MenuMode::Never);
    assert_eq!(found.origins.menu, Origin::Rule(name("first")));
}

#[test]
fn a_group_that_is_gone_sets_nothing() {
    let machine = Machine {
        group: Some(name("gone")),
        ..machine(Registration::Approved)
    };
    let found = resolve(&snapshot(), Some(&machine), &[]);
    assert_eq!(found.origins.menu, Origin::Default);
}

#[test]
fn a_rule_can_refuse_the_boot_and_is_named_in_the_explanation() {
    let rule = Rule {
        refuse_boot: true,
        ..rule("not-these")
    };
    let approved = machine(Registration::Approved);
    for (verdict, expected) in [
        (Verdict::Holds, Some(Reason::RefusedByRule)),
        (Verdict::DoesNot, None),
        (Verdict::Failed("too much work".to_owned()), None),
    ] {
        let rules = [Judged {
            rule: &rule,
            verdict: verdict.clone(),
        }];
        let known = Known {
            machine: Some(&approved),
            rules: &rules,
            ..Known::default()
        };
        let facts = script("efi", "x86_64", "1");
        let decision = decide_script(&facts, None, &known, &snapshot(), NOW);
        assert_eq!(refused(&decision.action), expected, "{verdict:?}");
        let step = decision
            .explanation
            .steps
            .iter()
            .find(|s| s.rule == "rule not-these");
        assert_eq!(step.unwrap().matched, expected.is_some());
    }
}

#[test]
fn a_rule_that_protects_disks_holds_when_it_cannot_be_judged() {
    let guard = Rule {
        refuse_tasks: true,
        ..rule("servers")
    };
    let plain = rule("other");
    for (rule, verdict, expected) in [
        (&guard, Verdict::Holds, true),
        (&guard, Verdict::Failed("no inventory".to_owned()), true),
        (&guard, Verdict::DoesNot, false),
        (&plain, Verdict::Holds, false),
    ] {
        let judged = Judged { rule, verdict };
        assert_eq!(judged.refuses_tasks().is_some(), expected, "{judged:?}");
    }
}

#[test]
fn a_wish_for_the_next_boots_ends_by_count_time_and_condition() {
    let inventoried = Inventory::default();
    let seen = machine(Registration::Seen);
    let approved = machine(Registration::Approved);
    let known = Machine {
        inventory: Some(inventoried),
        ..machine(Registration::Seen)
    };
    let late = BootIntent {
        expires: NOW,
        ..intent(2, Until::Used)
    };
    for (case, machine, intent, counts) in [
        ("fresh", &approved, intent(1, Until::Used), true),
        ("used up", &approved, intent(0, Until::Used), false),
        ("late", &approved, late, false),
        (
            "waits for approval",
            &seen,
            intent(1, Until::Approved),
            true,
        ),
        ("approved", &approved, intent(1, Until::Approved), false),
        (
            "waits for inventory",
            &seen,
            intent(1, Until::Inventoried),
            true,
        ),
        ("inventoried", &known, intent(1, Until::Inventoried), false),
    ] {
        assert_eq!(intent.end(machine, NOW).is_none(), counts, "{case}");
        let with = Machine {
            intent: Some(intent),
            ..machine.clone()
        };
        let agent = ScriptAction::Agent(AgentPurpose::Register);
        if machine.registration == Registration::Approved {
            assert_eq!(decide(&with, Known::default()) == agent, counts, "{case}");
        }
    }
}

proptest! {
    /// Whatever was wished, it is granted for so many boots and then never again, however often each of them asks.
    #[test]
    fn a_wish_is_granted_as_often_as_it_says(boots in 1_u16..50, fetches in 1_u64..4) {
        let mut machine = Machine {
            intent: Some(intent(boots, Until::Used)),
            ..machine(Registration::Approved)
        };
        for boot in 0..u64::from(boots) + 3 {
            // Within the hour for which it stands.
            let began = NOW + Duration::from_millis(boot * 100);
            for fetch in 0..fetches {
                let now = began + Duration::from_millis(fetch);
                let intent = machine.intent.clone().unwrap();
                let counted = intent.is_counted(Some(began), now);
                prop_assert_eq!(counted, boot < u64::from(boots) && fetch > 0);
                let granted = counted || intent.end(&machine, now).is_none();
                prop_assert_eq!(granted, boot < u64::from(boots));
                if granted && !counted {
                    machine.intent = Some(intent.used(now));
                }
            }
        }
    }

    /// Names of groups and rules can stand in a path, a script and a page without quoting.
    #[test]
    fn short_names_hold_nothing_live(text in ".{0,80}") {
        if let Ok(name) = ShortName::try_from(text.clone()) {
            prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            prop_assert!(!text.is_empty() && text.len() < 64);
        }
    }
}

#[test]
fn a_machine_that_never_ends_its_task_or_is_deployed_to_again_and_again_is_stopped() {
    let approved = machine(Registration::Approved);
    let deploy = crate::task::Task {
        work: Work::Deploy {
            image: "debian".to_owned(),
            version: None,
            disk: DiskSelector::default(),
        },
        ..task(State::Queued, NOW + Duration::from_secs(60))
    };
    let inventory = task(State::Queued, NOW + Duration::from_secs(60));
    let times = |count, age: u64| vec![WallTime(NOW.0 - i64::try_from(age * 1000).unwrap()); count];
    for (case, due, starts, deployments, expected) in [
        ("first", &deploy, vec![], vec![], None),
        ("twice", &deploy, times(AGENT_LIMIT - 1, 60), vec![], None),
        (
            "three times",
            &deploy,
            times(AGENT_LIMIT, 60),
            vec![],
            Some(Reason::AgentLoop),
        ),
        ("long ago", &deploy, times(AGENT_LIMIT, 3600), vec![], None),
        (
            "reinstalled",
            &deploy,
            vec![],
            times(DEPLOY_LIMIT, 3600),
            Some(Reason::ReinstallLoop),
        ),
        (
            "yesterday",
            &deploy,
            vec![],
            times(DEPLOY_LIMIT, 90_000),
            None,
        ),
        (
            "nothing is written",
            &inventory,
            vec![],
            times(DEPLOY_LIMIT, 60),
            None,
        ),
    ] {
        let known = Known {
            due: Some(due),
            agent_starts: &starts,
            deployments: &deployments,
            ..Known::default()
        };
        let action = decide(&approved, known);
        assert_eq!(refused(&action), expected, "{case}: {action:?}");
        let runs = matches!(action, ScriptAction::Agent(AgentPurpose::Task(id)) if id.0 == Uuid::from_u128(9));
        assert_eq!(runs, expected.is_none(), "{case}");
    }
}

#[test]
fn diagnostics_show_what_a_boot_without_a_choice_would_come_to() {
    let approved = machine(Registration::Approved);
    let known = Known {
        machine: Some(&approved),
        ..Known::default()
    };
    let facts = script("efi", "x86_64", "1");
    let choice = Some(MenuEntry::Diagnostics);
    let shown = decide_script(&facts, choice, &known, &snapshot(), NOW).action;
    let ScriptAction::Diagnostics { lines, .. } = shown else {
        panic!("{shown:?}")
    };
    assert!(lines[0].contains("Approved machine"), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("=> menu:")),
        "{lines:?}"
    );
    let stored = Settings {
        default_entry: choice,
        ..menu(MenuMode::Never)
    };
    let always = Snapshot {
        site: stored,
        ..snapshot()
    };
    let shown = decide_script(&facts, None, &known, &always, NOW).action;
    assert!(
        matches!(shown, ScriptAction::Diagnostics { .. }),
        "and do not go on for ever"
    );
}
