//! Z25: whatever makes machines deploy by themselves is shown with the machines that it means, and done when exactly
//! that was confirmed.

use axum::http::StatusCode;
use farrier_engine::model::{Machine, MachineId, Registration, Role};
use farrier_server::core::{new_id, now};
use serde_json::{Value, json};

use crate::world::{CSRF, World, bearer, session, world};
use crate::{By, FORM, text};

const RULES: &str = "/api/v1/policy/rules";
const SITE: &str = "/api/v1/policy";

fn admin() -> By {
    By::Bearer(bearer(Role::Admin))
}

fn rule(when: &str, settings: Value) -> Value {
    json!({ "name": "lab", "when": when, "settings": settings })
}

fn once() -> Value {
    json!({ "deploy": "once", "image": "lab-debian" })
}

fn rules(of: &[Value]) -> String {
    json!({ "rules": of }).to_string()
}

fn lines(plan: &Value, what: &str) -> Vec<String> {
    let lines = plan[what].as_array().unwrap().iter();
    lines.map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn step_of(plan: &Value, machine: &str) -> Option<String> {
    let steps = lines(plan, "steps").into_iter();
    steps.into_iter().find(|step| step.starts_with(machine))
}

fn id_of(world: &World, mac: &str) -> MachineId {
    world.core.fleet.candidates(&[mac.parse().unwrap()], None)[0].id
}

async fn change(world: &World, mac: &str, change: impl FnMut(&mut Machine)) {
    let id = id_of(world, mac);
    world.core.fleet.change_machine(id, change).await.unwrap();
}

fn one_blank_disk(machine: &mut Machine) {
    let inventory = machine.inventory.as_mut().unwrap();
    inventory.disks.truncate(1);
    inventory.disks[0].table = None;
    inventory.disks[0].removable = false;
}

const LAB_03: &str = "52:54:00:00:00:03";

#[tokio::test]
async fn z25_rules_that_deploy_are_shown_before_they_count() {
    let world = world().await;
    let by = admin();
    change(&world, LAB_03, one_blank_disk).await;
    let wanted = rules(&[rule("true", once())]);
    let (status, said) = world.json("PUT", RULES, &by, &wanted).await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    assert_eq!(said["code"], "confirm_needed");
    let plan = &said["plan"];
    assert_eq!(plan["destructive"], true);
    let step = step_of(plan, "lab-03").unwrap();
    let words = "OVERWRITE its disk at its next boot: lab-debian version 2, once, only over a blank disk or our own, \
                 as the rule lab says.";
    assert!(step.ends_with(words), "{step}");
    let steps = lines(plan, "steps");
    assert!(
        steps[0].contains("OVERWRITE"),
        "these come first: {steps:?}"
    );
    // It had this image, whatever came of it.
    assert_eq!(step_of(plan, "lab-01"), None, "{steps:?}");
    let strangers = steps
        .iter()
        .filter(|step| step.contains("once it is approved: "));
    assert_eq!(strangers.count(), 2, "{steps:?}");
    let warnings = lines(plan, "warnings");
    assert!(
        warnings[0].contains("Machines that nobody knows yet get it, too, when somebody approves")
    );
    assert!(
        warnings[0].ends_with("Who decides that: rule lab."),
        "{warnings:?}"
    );
    let (_, kept) = world.json("GET", RULES, &by, "").await;
    assert_eq!(kept, json!([]), "nothing was changed");

    let confirm = plan["confirm"].as_str().unwrap().to_owned();
    let path = |confirm: &str| format!("{RULES}?confirm={confirm}");
    let (status, said) = world.json("PUT", &path("0123"), &by, &wanted).await;
    assert_eq!(
        (status, &said["code"]),
        (StatusCode::CONFLICT, &json!("plan_changed"))
    );
    // It is for this change and no other.
    let other = rules(&[rule("machine.known", once())]);
    let (_, said) = world.json("PUT", &path(&confirm), &by, &other).await;
    assert_eq!(said["code"], "plan_changed");
    // And for these machines and no other.
    change(&world, "52:54:00:00:00:04", one_blank_disk).await;
    let (_, said) = world.json("PUT", &path(&confirm), &by, &wanted).await;
    assert_eq!(said["code"], "plan_changed");
    let newer = said["plan"]["confirm"].as_str().unwrap();
    let (status, said) = world.json("PUT", &path(newer), &by, &wanted).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    assert_eq!(said[0]["settings"]["deploy"], "once");
}

#[tokio::test]
async fn z25_only_what_starts_more_than_before_is_asked_for() {
    let world = world().await;
    let by = admin();
    change(&world, LAB_03, one_blank_disk).await;
    let set = async |of: &[Value]| world.json("PUT", RULES, &by, &rules(of)).await;
    let put = async |of: &[Value]| {
        let (status, said) = world.confirmed("PUT", RULES, &by, &rules(of)).await;
        assert_eq!(status, StatusCode::OK, "{said}");
    };
    let lab = |settings| rule("true", settings);
    put(&[lab(once())]).await;
    let guard =
        json!({ "name": "guard", "when": "machine.name == 'lab-03'", "refuse_tasks": true });
    let never = json!({ "name": "not-here", "when": "machine.name == 'lab-03'", "settings": { "deploy": "never" } });
    let menu = json!({ "name": "menu", "when": "true", "settings": { "menu": "always" } });
    let less = [
        vec![lab(once())],
        vec![menu.clone(), lab(once())],
        vec![guard.clone(), lab(once())],
        vec![guard.clone(), never.clone(), lab(once())],
    ];
    for rules in less {
        let (status, said) = set(&rules).await;
        assert_eq!(status, StatusCode::OK, "{rules:?}: {said}");
    }
    // The guard goes, and what it kept is what is shown.
    let (_, said) = set(&[never, lab(once())]).await;
    assert_eq!(said["code"], "confirm_needed", "{said}");
    let (_, said) = set(&[lab(once())]).await;
    assert!(
        step_of(&said["plan"], "lab-03")
            .unwrap()
            .contains("OVERWRITE"),
        "{said}"
    );
    put(&[lab(once())]).await;

    let mut more = once();
    more["deploy_over"] = json!("anything");
    let (_, said) = set(&[lab(more.clone())]).await;
    let step = step_of(&said["plan"], "lab-03").unwrap();
    assert!(step.contains("over anything"), "{step}");
    let step = step_of(&said["plan"], "frontdesk");
    assert_eq!(step, None);
    put(&[lab(more.clone())]).await;
    let (status, said) = set(&[]).await;
    assert_eq!(status, StatusCode::OK, "to take away asks nothing: {said}");

    // What it had counts for `once`, and not for each newer version.
    more["deploy"] = json!("each_version");
    let (_, said) = set(&[lab(more)]).await;
    let step = step_of(&said["plan"], "lab-01").unwrap();
    assert!(
        step.contains("not now: lab-debian, and each newer version, over anything"),
        "{step}"
    );
}

#[tokio::test]
async fn z25_a_rule_that_no_known_machine_fits_still_opens_the_door() {
    let world = world().await;
    let by = admin();
    let of_lab = rules(&[rule("facts.mac.startsWith('02:')", once())]);
    let (status, said) = world.json("PUT", RULES, &by, &of_lab).await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    let plan = &said["plan"];
    assert_eq!(
        plan["summary"],
        "Starts deployments by itself, of no machine that is known."
    );
    assert_eq!(lines(plan, "steps"), Vec::<String>::new());
    assert_eq!(lines(plan, "warnings").len(), 1);
    let (status, _) = world.confirmed("PUT", RULES, &by, &of_lab).await;
    assert_eq!(status, StatusCode::OK);

    // Who lets strangers in, lets them in to that.
    let (status, said) = world.json("PUT", SITE, &by, r#"{"menu":"always"}"#).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let automatic = r#"{"menu":"always","enrolment":"automatic"}"#;
    let (_, said) = world.json("PUT", SITE, &by, automatic).await;
    let warning = &lines(&said["plan"], "warnings")[0];
    assert!(warning.contains("without anybody's approval"), "{warning}");
    let (status, _) = world.confirmed("PUT", SITE, &by, automatic).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = world
        .json("PUT", SITE, &by, r#"{"enrolment":"approve"}"#)
        .await;
    assert_eq!(status, StatusCode::OK, "to close it asks nothing");
    let (status, said) = world.json("PUT", SITE, &by, &once().to_string()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    assert!(lines(&said["plan"], "warnings")[0].ends_with("rule lab, site."));
}

/// It is not known where any of them is, so that the rule may hold when they boot.
#[tokio::test]
async fn z25_what_cannot_be_judged_now_is_shown_as_what_may_come() {
    let world = world().await;
    let by = admin();
    change(&world, LAB_03, one_blank_disk).await;
    let wanted = rules(&[rule("machine.subnet == 'lab'", once())]);
    let (_, said) = world.json("PUT", RULES, &by, &wanted).await;
    let step = step_of(&said["plan"], "lab-03").unwrap();
    assert!(
        step.contains("not now: The rule lab comes first and cannot be judged"),
        "{step}"
    );
    change(&world, LAB_03, |machine| machine.inventory = None).await;
    let (_, said) = world.json("PUT", RULES, &by, &wanted).await;
    let step = step_of(&said["plan"], "lab-03").unwrap();
    assert!(step.contains("take its inventory, which decides"), "{step}");
    let (status, _) = world.confirmed("PUT", RULES, &by, &wanted).await;
    assert_eq!(status, StatusCode::OK);
    let (status, said) = world.json("PUT", RULES, &by, &wanted).await;
    assert_eq!(status, StatusCode::OK, "as unclear as before: {said}");
}

#[tokio::test]
async fn z25_groups_and_machines_that_deploy_are_shown_too() {
    let world = world().await;
    let by = admin();
    change(&world, LAB_03, one_blank_disk).await;
    let machine = format!("/api/v1/machines/{}", id_of(&world, LAB_03).0);
    let group = "/api/v1/groups/room";
    let patch = async |body: &Value| world.json("PATCH", &machine, &by, &body.to_string()).await;
    let put = async |body: &Value| world.json("PUT", group, &by, &body.to_string()).await;

    // Nobody is in it yet, and who comes into it is asked for then.
    let (status, said) = put(&once()).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let (status, said) = patch(&json!({ "group": "room" })).await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    let step = step_of(&said["plan"], "lab-03").unwrap();
    assert!(step.ends_with("as the group room says."), "{step}");
    assert_eq!(lines(&said["plan"], "warnings"), Vec::<String>::new());
    let (status, _) = put(&json!({})).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _) = patch(&json!({ "group": "room" })).await;
    assert_eq!(status, StatusCode::OK);
    let (_, said) = put(&once()).await;
    assert!(step_of(&said["plan"], "lab-03").is_some(), "{said}");
    assert_eq!(lines(&said["plan"], "steps").len(), 1);

    let (status, said) = patch(&json!({ "settings": once() })).await;
    assert_eq!(status, StatusCode::CONFLICT, "{said}");
    assert!(
        step_of(&said["plan"], "lab-03")
            .unwrap()
            .ends_with("as the machine says.")
    );
    let (_, kept) = world.json("GET", &machine, &by, "").await;
    assert_eq!(kept["settings"], json!({}), "nothing was changed");

    // A name is something that rules ask for.
    let named = rules(&[rule("machine.name == 'kiosk'", once())]);
    let (status, _) = world.confirmed("PUT", RULES, &by, &named).await;
    assert_eq!(status, StatusCode::OK);
    let (_, said) = patch(&json!({ "name": "kiosk" })).await;
    assert_eq!(said["code"], "confirm_needed", "{said}");
    let (status, _) = patch(&json!({ "name": "desk" })).await;
    assert_eq!(status, StatusCode::OK);
    let path = format!(
        "{machine}?confirm={}",
        said["plan"]["confirm"].as_str().unwrap()
    );
    let kiosk = json!({ "name": "kiosk" }).to_string();
    let (status, said) = world.json("PATCH", &path, &by, &kiosk).await;
    assert_eq!(status, StatusCode::OK, "{said}");
}

/// The same words as `--disk` of a task, with where they were set.
#[tokio::test]
async fn z25_the_disk_is_named_in_a_setting() {
    let world = world().await;
    let by = admin();
    let machine = format!("/api/v1/machines/{}", id_of(&world, LAB_03).0);
    let (status, said) = world
        .json("PUT", SITE, &by, r#"{"deploy_disk":"serial=a,name=sda"}"#)
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .starts_with("`deploy_disk`: \"name\" is nothing"),
        "{said}"
    );
    let disk_of = async || {
        let (_, shown) = world.json("GET", &machine, &by, "").await;
        let all = shown["effective"].as_array().unwrap().clone();
        let found = all
            .into_iter()
            .find(|one| one["name"] == "deploy_disk")
            .unwrap();
        (found["value"].clone(), found["origin"].clone())
    };
    assert_eq!(disk_of().await, (json!(""), json!("default")));
    let (status, said) = world
        .json(
            "PUT",
            SITE,
            &by,
            r#"{"deploy_disk":"bus=nvme, min=200GiB"}"#,
        )
        .await;
    assert_eq!(status, StatusCode::OK, "{said}");
    assert_eq!(said["settings"]["deploy_disk"], "bus=nvme,min=200G");
    assert_eq!(disk_of().await, (json!("bus=nvme,min=200G"), json!("site")));

    // Which disk is part of what is confirmed.
    change(&world, LAB_03, one_blank_disk).await;
    let inventory = world
        .core
        .fleet
        .machine(id_of(&world, LAB_03))
        .unwrap()
        .inventory
        .clone()
        .unwrap();
    let serial = inventory.disks[0].serial.clone();
    let mut wanted = once();
    wanted["deploy_disk"] = json!(format!("serial={serial}"));
    let set = async |settings: &Value| {
        let body = rules(&[rule("true", settings.clone())]);
        world.json("PUT", RULES, &by, &body).await
    };
    let (_, said) = set(&wanted).await;
    let step = step_of(&said["plan"], "lab-03").unwrap();
    assert!(
        step.contains(&format!(
            "lab-debian version 2 to the disk serial={serial}, once"
        )),
        "{step}"
    );
    wanted["deploy_disk"] = json!("bus=none-of-these");
    let (_, said) = set(&wanted).await;
    let step = step_of(&said["plan"], "lab-03").unwrap();
    assert!(step.contains("the machine has no such disk"), "{step}");
}

#[tokio::test]
async fn z25_a_long_list_is_cut_and_counted_and_confirmed_whole() {
    let world = world().await;
    let by = admin();
    change(&world, LAB_03, one_blank_disk).await;
    let like = world.core.fleet.machine(id_of(&world, LAB_03)).unwrap();
    for n in 0..70 {
        let machine = Machine {
            id: MachineId(new_id()),
            name: Some(format!("pc-{n}").try_into().unwrap()),
            macs: vec![format!("52:54:00:00:01:{n:02x}").parse().unwrap()],
            uuid: None,
            registration: Registration::Approved,
            first_seen: now(),
            ..(*like).clone()
        };
        world.core.fleet.add_machine(machine).await.unwrap();
    }
    let wanted = rules(&[rule("machine.known", once())]);
    let (_, said) = world.json("PUT", RULES, &by, &wanted).await;
    let plan = &said["plan"];
    let steps = lines(plan, "steps");
    assert_eq!(steps.len(), 51);
    // lab-03, seventy of its kind, and two that hold no blank disk.
    assert_eq!(steps[50], "and 23 more");
    let summary = plan["summary"].as_str().unwrap();
    assert!(
        summary.contains("71 overwritten at the next boot, 2 held back for now"),
        "{summary}"
    );
    // The last one is not shown, and counts all the same.
    change(&world, "52:54:00:00:01:45", |machine| {
        machine.name = Some("other".to_owned().try_into().unwrap());
    })
    .await;
    let path = format!("{RULES}?confirm={}", plan["confirm"].as_str().unwrap());
    let (_, said) = world.json("PUT", &path, &by, &wanted).await;
    assert_eq!(said["code"], "plan_changed", "{said}");
}

/// What a plan on the page sends when its button is pressed.
fn hidden(page: &str) -> Vec<(String, String)> {
    let fields = page.split("<input type=\"hidden\" name=\"").skip(1);
    let field = |text: &str| {
        let (name, rest) = text.split_once("\" value=\"").unwrap();
        (name.to_owned(), rest.split('"').next().unwrap().to_owned())
    };
    fields.map(field).collect()
}

#[tokio::test]
async fn z25_the_page_shows_the_plan_and_keeps_what_was_typed() {
    let world = world().await;
    let by = By::Cookie(session(Role::Admin));
    change(&world, LAB_03, one_blank_disk).await;
    let send = async |path: &str, form: &str| {
        let form = format!("csrf={CSRF}&{form}");
        let response = world.send("POST", path, &by, Some((FORM, &form))).await;
        (response.status(), text(response).await)
    };
    let typed = "deploy=once&image=lab-debian";
    let machine = format!("/machines/{}", id_of(&world, LAB_03).0);
    for (path, form) in [
        ("/policy/site", typed.to_owned()),
        ("/policy/rules", format!("was=&name=lab&when=true&{typed}")),
        (&*format!("{machine}/settings"), format!("group=&{typed}")),
    ] {
        let (status, page) = send(path, &form).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(
            page.contains("OVERWRITE its disk at its next boot: lab-debian version 2"),
            "{page}"
        );
        let fields = hidden(&page);
        assert!(
            fields.contains(&("deploy".to_owned(), "once".to_owned())),
            "{fields:?}"
        );
        assert!(
            !fields.iter().any(|(name, _)| name == "confirm"),
            "{fields:?}"
        );
        let (_, again) = send(path, &form).await;
        assert!(again.contains("OVERWRITE"), "sent twice is not confirmed");
        let (_, back) = send(path, &format!("{form}&change=yes")).await;
        assert!(back.contains("<option value=\"once\" selected>"), "{back}");
        assert!(back.contains("value=\"lab-debian\""), "{back}");
        let confirm = page.split("name=\"confirm\" value=\"").nth(1).unwrap();
        let confirm = confirm.split('"').next().unwrap();
        let (status, page) = send(path, &format!("{form}&confirm={confirm}")).await;
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
        let (_, found) = world
            .json("GET", "/api/v1/policy/deployments", &admin(), "")
            .await;
        let lab = found
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "lab-03");
        assert_eq!(lab.unwrap()["starts"], true, "{found}");
        // The next one begins where nothing deploys.
        for (method, path, body) in [
            ("PUT", SITE, "{}"),
            ("PUT", RULES, r#"{"rules":[]}"#),
            ("PATCH", &*format!("/api/v1{machine}"), r#"{"settings":{}}"#),
        ] {
            let (status, said) = world.json(method, path, &admin(), body).await;
            assert_eq!(status, StatusCode::OK, "{said}");
        }
    }

    // Buttons without a form ask just the same.
    let never = json!({ "name": "never", "when": "true", "settings": { "deploy": "never" } });
    let both = rules(&[never, rule("true", once())]);
    let (status, said) = world.confirmed("PUT", RULES, &admin(), &both).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    for (path, form) in [
        ("/policy/rules/move", "name=lab&to=earlier"),
        ("/policy/rules/remove", "name=never"),
    ] {
        let (status, page) = send(path, form).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("OVERWRITE"), "{page}");
        let (name, value) = hidden(&page)
            .into_iter()
            .find(|(name, _)| name == "confirm")
            .unwrap();
        let (status, _) = send(path, &format!("{form}&{name}={value}")).await;
        assert_eq!(status, StatusCode::SEE_OTHER);
        let (status, _) = world.confirmed("PUT", RULES, &admin(), &both).await;
        assert_eq!(status, StatusCode::OK);
    }
}
