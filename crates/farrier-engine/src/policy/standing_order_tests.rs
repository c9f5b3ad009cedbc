//! What the policy deploys by itself, and everything that holds it back.

use std::time::Duration;

use super::tests::{NOW, machine, snapshot, task};
use super::{
    AutoDeploy, DEPLOY_LIMIT, DeployOver, Held, Judged, Origin, Rule, Settings, ShortName,
    StandingOrder, Verdict, standing_order,
};
use crate::model::{Disk, Machine, Registration};
use crate::task::{DiskSelector, State, Task, Work};

fn name(text: &str) -> ShortName {
    ShortName::try_from(text.to_owned()).unwrap()
}

fn settings(deploy: Option<AutoDeploy>, image: Option<&str>) -> Settings {
    Settings {
        deploy,
        image: image.map(str::to_owned),
        ..Settings::default()
    }
}

fn rule(text: &str, settings: Settings) -> Rule {
    Rule {
        name: name(text),
        when: "true".to_owned(),
        settings,
        refuse_boot: false,
        refuse_tasks: false,
    }
}

fn ours() -> Machine {
    machine(Registration::Approved)
}

fn judged(rules: &[(Rule, Verdict)]) -> Vec<Judged<'_>> {
    let each = rules.iter().map(|(rule, verdict)| Judged {
        rule,
        verdict: verdict.clone(),
    });
    each.collect()
}

fn failed() -> Verdict {
    Verdict::Failed("no such key".to_owned())
}

const ONCE: Option<AutoDeploy> = Some(AutoDeploy::Once);

fn lab(mode: AutoDeploy) -> StandingOrder {
    StandingOrder {
        image: "lab".to_owned(),
        mode,
        over: DeployOver::Blank,
        disk: DiskSelector::default(),
        by: Origin::Rule(name("blank")),
    }
}

#[test]
fn z25_nothing_is_deployed_unless_somebody_says_so_and_names_the_image() {
    let snapshot = snapshot();
    let none = standing_order(&snapshot, &ours(), &[]);
    assert_eq!(none, Ok(None), "off by default");

    let image_only = [(rule("a", settings(None, Some("lab"))), Verdict::Holds)];
    assert_eq!(
        standing_order(&snapshot, &ours(), &judged(&image_only)),
        Ok(None)
    );

    let wants = [(rule("blank", settings(ONCE, Some("lab"))), Verdict::Holds)];
    let found = standing_order(&snapshot, &ours(), &judged(&wants));
    assert_eq!(found, Ok(Some(lab(AutoDeploy::Once))));

    let does_not = [(rule("blank", settings(ONCE, Some("lab"))), Verdict::DoesNot)];
    assert_eq!(
        standing_order(&snapshot, &ours(), &judged(&does_not)),
        Ok(None)
    );

    let bare = [
        (rule("blank", settings(ONCE, None)), Verdict::Holds),
        (rule("image", settings(None, Some("lab"))), Verdict::Holds),
    ];
    let found = standing_order(&snapshot, &ours(), &judged(&bare));
    let by = Origin::Rule(name("blank"));
    assert_eq!(
        found,
        Err(Held::NoImage { by }),
        "an image from elsewhere is a guess"
    );
}

#[test]
fn z25_whatever_is_unclear_holds_back_what_comes_after_it() {
    let snapshot = snapshot();
    let wants = || (rule("blank", settings(ONCE, Some("lab"))), Verdict::Holds);
    let held = |rules: &[(Rule, Verdict)], machine: &Machine| {
        standing_order(&snapshot, machine, &judged(rules))
    };
    for first in [
        settings(ONCE, Some("other")),
        settings(Some(AutoDeploy::Never), None),
        settings(None, Some("other")),
    ] {
        let rules = [(rule("first", first), failed()), wants()];
        let found = held(&rules, &ours());
        assert!(matches!(found, Err(Held::Unclear { .. })), "{found:?}");
    }
    let menu = [(rule("first", Settings::default()), failed()), wants()];
    assert!(held(&menu, &ours()).is_ok(), "it has nothing to do with it");
    let after = [
        wants(),
        (rule("after", settings(ONCE, Some("x"))), failed()),
    ];
    assert!(held(&after, &ours()).is_ok(), "the first one counts");
    let alone = [(rule("first", settings(ONCE, Some("lab"))), failed())];
    assert!(matches!(held(&alone, &ours()), Err(Held::Unclear { .. })));

    // The machine's own word is nearer than any rule.
    let mut own = ours();
    own.settings = settings(Some(AutoDeploy::Never), None);
    assert_eq!(held(&[wants()], &own), Ok(None));
    assert_eq!(held(&alone, &own), Ok(None));
    own.settings = settings(None, Some("mine"));
    let found = held(&[wants()], &own);
    assert!(matches!(found, Err(Held::OtherImage { .. })), "{found:?}");
}

#[test]
fn z25_only_approved_machines_that_no_rule_protects() {
    let snapshot = snapshot();
    let wants = || (rule("blank", settings(ONCE, Some("lab"))), Verdict::Holds);
    for registration in [
        Registration::Seen,
        Registration::Pending,
        Registration::Disabled,
    ] {
        let rules = [wants()];
        let found = standing_order(&snapshot, &machine(registration), &judged(&rules));
        assert_eq!(found, Err(Held::NotApproved));
    }
    for (verdict, expected) in [
        (Verdict::Holds, true),
        (failed(), true),
        (Verdict::DoesNot, false),
    ] {
        let mut guard = rule("guard", Settings::default());
        guard.refuse_tasks = true;
        let rules = [wants(), (guard, verdict)];
        let found = standing_order(&snapshot, &ours(), &judged(&rules));
        assert_eq!(
            matches!(found, Err(Held::Refused(_))),
            expected,
            "{found:?}"
        );
    }
}

fn deployed(image: &str, version: u32, state: State) -> Task {
    let work = Work::Deploy {
        image: image.to_owned(),
        version: Some(version),
        disk: DiskSelector::default(),
    };
    Task {
        work,
        ended: Some(NOW),
        ..task(state, NOW)
    }
}

#[test]
fn z25_a_machine_gets_each_image_or_each_version_once_however_it_ended() {
    let later = NOW + Duration::from_secs(30 * 24 * 3600);
    let open = |mode, version, tasks: &[Task]| lab(mode).is_open(version, tasks, later);
    let (once, each) = (AutoDeploy::Once, AutoDeploy::EachVersion);
    assert_eq!(open(once, 1, &[]), Ok(()));
    for state in [
        State::Queued,
        State::Running,
        State::Lost,
        State::Failed,
        State::Cancelled,
        State::Expired,
    ] {
        let tasks = [deployed("lab", 1, state)];
        for mode in [once, each] {
            let found = open(mode, 1, &tasks).unwrap_err();
            assert!(matches!(found, Held::Tried { .. }) && found.is_news());
            assert!(found.to_string().contains("lab version 1"), "{found}");
        }
        assert!(open(once, 2, &tasks).is_err());
        assert_eq!(open(each, 2, &tasks), Ok(()));
    }
    let done = [
        deployed("other", 5, State::Done),
        deployed("lab", 1, State::Done),
    ];
    let found = open(once, 2, &done).unwrap_err();
    assert!(matches!(found, Held::Done { .. }) && !found.is_news());
    assert_eq!(open(each, 2, &done), Ok(()));
    assert!(open(each, 1, &done).is_err());
    let newer = [deployed("lab", 3, State::Done)];
    assert!(
        open(each, 2, &newer).is_err(),
        "version 3 was deleted since"
    );
    let only_other = [deployed("other", 1, State::Failed)];
    assert_eq!(open(once, 1, &only_other), Ok(()));
}

#[test]
fn z25_new_versions_in_quick_succession_are_a_loop() {
    let lately: Vec<_> = (1..=DEPLOY_LIMIT)
        .map(|version| deployed("lab", u32::try_from(version).unwrap(), State::Done))
        .collect();
    let order = lab(AutoDeploy::EachVersion);
    assert_eq!(order.is_open(9, &lately, NOW), Err(Held::Loop));
    let later = NOW + Duration::from_secs(3 * 3600);
    assert_eq!(order.is_open(9, &lately, later), Ok(()));
}

#[test]
fn z25_a_disk_with_something_on_it_is_kept_unless_its_order_says_so() {
    let disk = |table: Option<&str>| Disk {
        name: "sda".to_owned(),
        size_bytes: 1 << 30,
        logical_sector: 512,
        physical_sector: 512,
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        bus: "sata".to_owned(),
        rotational: false,
        removable: false,
        table: table.map(str::to_owned),
    };
    let order = lab(AutoDeploy::EachVersion);
    assert_eq!(order.may_overwrite(&disk(None), &[]), Ok(()));
    let ours = [deployed("other", 1, State::Done)];
    assert_eq!(order.may_overwrite(&disk(Some("gpt")), &ours), Ok(()));
    for tasks in [vec![], vec![deployed("lab", 1, State::Failed)]] {
        let held = order.may_overwrite(&disk(Some("gpt")), &tasks);
        let words = held.unwrap_err().to_string();
        assert!(words.contains("not blank (gpt)"), "{words}");
    }
    let anything = StandingOrder {
        over: DeployOver::Anything,
        ..order
    };
    assert_eq!(anything.may_overwrite(&disk(Some("gpt")), &[]), Ok(()));

    // What another place says of it is not meant for this order.
    let snapshot = snapshot();
    let mut elsewhere = settings(None, None);
    elsewhere.deploy_over = Some(DeployOver::Anything);
    let disk = DiskSelector {
        serial: Some("S5".to_owned()),
        ..DiskSelector::default()
    };
    elsewhere.deploy_disk = Some(disk.clone());
    let mut beside = settings(ONCE, Some("lab"));
    let rules = [
        (rule("elsewhere", elsewhere), Verdict::Holds),
        (rule("blank", beside.clone()), Verdict::Holds),
    ];
    let found = standing_order(&snapshot, &self::ours(), &judged(&rules));
    assert_eq!(found, Ok(Some(lab(AutoDeploy::Once))));
    beside.deploy_disk = Some(disk.clone());
    let rules = [(rule("blank", beside), Verdict::Holds)];
    let found = standing_order(&snapshot, &self::ours(), &judged(&rules));
    assert_eq!(
        found.map(|order| order.map(|order| order.disk)),
        Ok(Some(disk))
    );
}
