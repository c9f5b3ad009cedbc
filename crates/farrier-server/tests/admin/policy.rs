//! Groups, rules and wishes over the interface, and the dry run.

use axum::http::StatusCode;
use farrier_engine::model::{Machine, Role};

use crate::world::{CSRF, bearer, session, world};
use crate::{By, FORM};

#[tokio::test]
async fn settings_come_from_site_group_rule_and_machine_and_say_so() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Admin));
    let machine = format!("/api/v1/machines/{}", world.machine);
    let origin = async |name: &str| {
        let (_, shown) = world.json("GET", &machine, &by, "").await;
        let all = shown["effective"].as_array().unwrap().clone();
        let found = all.into_iter().find(|s| s["name"] == name).unwrap();
        (
            found["value"].as_str().unwrap().to_owned(),
            found["origin"].as_str().unwrap().to_owned(),
        )
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(origin("menu").await, pair("on_key", "default"));

    let put = async |path: &str, body: &str| world.json("PUT", path, &by, body).await;
    let patch = async |body: &str| world.json("PATCH", &machine, &by, body).await;
    put("/api/v1/policy", r#"{"menu":"never"}"#).await;
    assert_eq!(origin("menu").await, pair("never", "site"));

    assert_eq!(origin("tftp_timeout_s").await, pair("measured", "default"));
    put("/api/v1/policy", r#"{"menu":"never","tftp_timeout_s":3}"#).await;
    assert_eq!(origin("tftp_timeout_s").await, pair("3", "site"));
    for wrong in [
        r#"{"tftp_timeout_s":0}"#,
        r#"{"tftp_timeout_s":31}"#,
        r#"{"image":"../x"}"#,
        r#"{"media":["../x"]}"#,
        r#"{"default_entry":"medium:"}"#,
        r#"{"default_entry":"disk"}"#,
    ] {
        let (status, refusal) = put("/api/v1/policy", wrong).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {refusal}");
    }

    // What was learned of its path is told with the machine and by the dry run.
    let mac = "52:54:00:00:00:01".parse().unwrap();
    world
        .core
        .sightings
        .stalled(mac, farrier_server::core::now());
    let (_, shown) = world.json("GET", &machine, &by, "").await;
    assert!(shown["small_blocks_until"].is_i64(), "{shown:#}");
    let explain = "/api/v1/policy/explain?mac=52:54:00:00:00:01";
    let (_, explained) = world.json("GET", explain, &by, "").await;
    assert!(explained.to_string().contains("no larger block arrived"));

    let (status, _) = patch(r#"{"group":"lab"}"#).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "no such group yet");
    let (status, _) = put("/api/v1/groups/lab", r#"{"menu":"always"}"#).await;
    assert_eq!(status, StatusCode::OK);
    let (status, shown) = patch(r#"{"group":"lab"}"#).await;
    assert_eq!(
        (status, shown["group"].as_str()),
        (StatusCode::OK, Some("lab"))
    );
    assert_eq!(origin("menu").await, pair("always", "group lab"));
    let path = format!("/machines/{}", world.machine);
    let viewer = By::Cookie(session(Role::Viewer));
    let (status, page) = world.page(&path, &viewer).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("<td>always</td><td>group lab</td>"), "{page}");

    let rules = r#"{"rules":[{"name":"labs","when":"machine.group == 'lab'","settings":{"menu":"never"}}]}"#;
    let (status, _) = put("/api/v1/policy/rules", rules).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(origin("menu").await, pair("never", "rule labs"));

    patch(r#"{"settings":{"menu":"on_key"}}"#).await;
    assert_eq!(origin("menu").await, pair("on_key", "machine"));

    let (status, refusal) = world.json("DELETE", "/api/v1/groups/lab", &by, "").await;
    assert_eq!(status, StatusCode::CONFLICT, "{refusal}");
    let (status, shown) = patch(r#"{"group":""}"#).await;
    assert_eq!((status, shown["group"].is_null()), (StatusCode::OK, true));
    let (status, _) = world.json("DELETE", "/api/v1/groups/lab", &by, "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn rules_that_cannot_be_used_are_refused_whole_with_their_place() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Admin));
    let put = async |body: &str| world.json("PUT", "/api/v1/policy/rules", &by, body).await;
    let good = r#"{"rules":[{"name":"a","when":"true"}]}"#;
    assert_eq!(put(good).await.0, StatusCode::OK);
    for (body, words) in [
        (
            r#"{"rules":[{"name":"b","when":"true"},{"name":"c","when":"true &&\n fact.mac == ''"}]}"#,
            "rule c, line 2, column 2: there is no fact",
        ),
        (r#"{"rules":[{"name":"a b","when":"true"}]}"#, "not a name"),
        (
            r#"{"rules":[{"name":"d","when":"true"},{"name":"d","when":"true"}]}"#,
            "two rules are called d",
        ),
    ] {
        let (status, refusal) = put(body).await;
        assert!(status.is_client_error(), "{body}: {status}");
        assert!(refusal.to_string().contains(words), "{refusal}");
        let (_, kept) = world.json("GET", "/api/v1/policy/rules", &by, "").await;
        assert_eq!(kept[0]["name"], "a", "nothing was changed");
    }
}

#[tokio::test]
async fn the_dry_run_shows_each_kind_of_firmware_until_one_is_known() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Viewer));
    let explain = async |query: &str| {
        let path = format!("/api/v1/policy/explain?mac={query}");
        world.json("GET", &path, &by, "").await.1
    };
    let unknown = explain("52:54:00:99:99:99").await;
    let kinds = unknown["firmware"].as_array().unwrap();
    assert!(kinds.len() > 4, "{unknown}");
    assert!(kinds.iter().all(|kind| kind["last_seen"] == false));
    let bios = explain("52:54:00:99:99:99&firmware=bios").await;
    let kinds = bios["firmware"].as_array().unwrap();
    assert_eq!(
        (kinds.len(), &kinds[0]["asks_as"]),
        (1, &"BIOS x86-64 by PXE".into())
    );
    assert!(kinds[0]["rules"].as_array().unwrap().len() > 3);
}

/// Whoever sets such a rule can see whose disks it costs, before any machine boots.
#[tokio::test]
async fn z25_what_is_deployed_by_itself_can_be_seen_before_it_is() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Admin));
    let rules = |settings: &str| {
        format!(r#"{{"rules":[{{"name":"lab","when":"true","settings":{settings}}}]}}"#)
    };
    let set = async |settings: &str| {
        let path = "/api/v1/policy/rules";
        world.confirmed("PUT", path, &by, &rules(settings)).await
    };
    let (status, refusal) = set(r#"{"deploy":"once"}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refusal}");
    assert!(refusal.to_string().contains("no `image` is set beside it"));
    let list = async || {
        let path = "/api/v1/policy/deployments";
        let (_, found) = world
            .json("GET", path, &By::Bearer(bearer(Role::Viewer)), "")
            .await;
        found.as_array().unwrap().clone()
    };
    assert!(list().await.is_empty());
    let (status, said) = set(r#"{"deploy":"once","image":"lab-debian"}"#).await;
    assert!(status.is_success(), "{said}");
    let found = list().await;
    let lab = found.iter().find(|one| one["name"] == "lab-03").unwrap();
    assert_eq!(lab["starts"], false, "{lab}");

    let mac = "52:54:00:00:00:03".parse().unwrap();
    let id = world.core.fleet.candidates(&[mac], None)[0].id;
    let one_blank_disk = |machine: &mut Machine| {
        let inventory = machine.inventory.as_mut().unwrap();
        inventory.disks.truncate(1);
        inventory.disks[0].table = None;
        inventory.disks[0].removable = false;
    };
    world
        .core
        .fleet
        .change_machine(id, one_blank_disk)
        .await
        .unwrap();
    let found = list().await;
    let lab = found.iter().find(|one| one["name"] == "lab-03").unwrap();
    assert_eq!(lab["starts"], true, "{lab}");
    let words = "lab-debian version 2 is deployed by itself, once, as the rule lab says";
    assert!(lab["why"].as_str().unwrap().contains(words), "{lab}");
    let path = "/api/v1/policy/explain?mac=52:54:00:00:00:03";
    let (_, explained) = world.json("GET", path, &by, "").await;
    assert_eq!(explained["deployment"]["starts"], true, "{explained}");
    let (_, tasks) = world.json("GET", "/api/v1/tasks", &by, "").await;
    let mut tasks = tasks["items"].as_array().unwrap().iter();
    assert!(
        tasks.all(|task| task["machine"] != id.to_string()),
        "to look starts nothing"
    );
}

/// Nobody need carry the machine into the office to see what it would get there.
#[tokio::test]
async fn z25_the_dry_run_takes_a_machine_to_be_where_it_is_told() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Admin));
    let rules = r#"{"rules":[{"name":"office","when":"in_subnet('10.1.0.0/16')","settings":{"menu":"never"}}]}"#;
    let (status, said) = world.json("PUT", "/api/v1/policy/rules", &by, rules).await;
    assert!(status.is_success(), "{said}");
    let explain = async |more: &str| {
        let path = format!("/api/v1/policy/explain?mac=52:54:00:00:00:01{more}");
        world.json("GET", &path, &by, "").await
    };
    let menu = |found: &serde_json::Value| {
        let rows = found["effective"].as_array().unwrap().iter();
        let row = rows.clone().find(|row| row["name"] == "menu").unwrap();
        row["origin"].as_str().unwrap().to_owned()
    };
    let (_, found) = explain("&address=10.1.0.7").await;
    assert_eq!(
        (menu(&found).as_str(), &found["address"]),
        ("rule office", &"10.1.0.7".into())
    );
    let (_, found) = explain("&address=10.2.0.7").await;
    assert_eq!(menu(&found), "default");
    let (_, found) = explain("").await;
    assert_eq!(menu(&found), "default");
    assert!(
        found["rules"]
            .to_string()
            .contains("not known where the machine is"),
        "{found}"
    );
    let (status, refusal) = explain("&address=office").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refusal}");

    let wrong = rules.replace("10.1.0.0/16", "10.1.0.1/16");
    let (status, refusal) = world.json("PUT", "/api/v1/policy/rules", &by, &wrong).await;
    assert!(status.is_client_error());
    let words =
        "rule office, line 1, column 12: \\\"10.1.0.1/16\\\" has bits set behind its prefix";
    assert!(refusal.to_string().contains(words), "{refusal}");
}

#[tokio::test]
async fn a_wish_is_bounded_and_can_be_taken_back() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Operator));
    let path = format!("/api/v1/machines/{}/intent", world.machine);
    for bad in [
        r#"{"entry":"memory_test","boots":0,"minutes":5}"#,
        r#"{"entry":"memory_test","boots":1,"minutes":0}"#,
        r#"{"entry":"memory_test","boots":101,"minutes":5}"#,
        r#"{"entry":"format_disk","boots":1,"minutes":5}"#,
    ] {
        let (status, _) = world.json("PUT", &path, &by, bad).await;
        assert!(status.is_client_error(), "{bad}: {status}");
    }
    let wish = r#"{"entry":"memory_test","boots":3,"minutes":5,"until":"inventoried"}"#;
    let (status, shown) = world.json("PUT", &path, &by, wish).await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    assert_eq!(shown["intent"]["boots_left"], 3);
    let (status, shown) = world.json("DELETE", &path, &by, "").await;
    assert_eq!((status, shown["intent"].is_null()), (StatusCode::OK, true));
}

/// The page's forms: what is wrong is said in the form, with what was typed still there.
#[tokio::test]
async fn groups_rules_and_wishes_are_edited_on_the_page() {
    let world = world().await;
    let by = By::Cookie(session(Role::Admin));
    let post = async |path: &str, fields: &str| {
        let body = format!("csrf={CSRF}&{fields}");
        let response = world.send("POST", path, &by, Some((FORM, &body))).await;
        (response.status(), crate::text(response).await)
    };
    let done = |(status, page): (StatusCode, String)| {
        assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    };
    let refused = |(status, page): (StatusCode, String), why: &str, typed: &str| {
        assert_eq!(status, StatusCode::OK, "{page}");
        assert!(
            page.contains("role=\"alert\"") && page.contains(why),
            "{why}: {page}"
        );
        assert!(page.contains(typed), "{typed}: {page}");
    };
    let policy = async || world.page("/policy", &by).await.1;

    done(post("/policy/site", "menu=never&menu_timeout_s=7").await);
    refused(
        post("/policy/site", "tftp_windowsize=65").await,
        "TFTP window: a number from 1 to 64",
        "Settings of the site",
    );
    assert!(
        policy()
            .await
            .contains("<td>7</td><td class=\"dim\">site</td>")
    );

    done(post("/policy/groups", "name=lab-2&menu=always").await);
    refused(
        post("/policy/groups", "name=a+b&secure_boot=true").await,
        "a b",
        "value=\"true\" selected",
    );
    assert!(policy().await.contains("Menu: at each boot"));

    done(post("/policy/rules", "name=one&when=true&refuse_tasks=true").await);
    refused(
        post("/policy/rules", "name=two&when=facts.mac+%3D%3D").await,
        "two",
        "facts.mac ==",
    );
    done(post("/policy/rules", "name=two&when=false&menu=never").await);
    done(post("/policy/rules/move", "name=two&to=earlier").await);
    done(post("/policy/rules", "was=one&name=first&when=true").await);
    let rules = async || {
        let (_, rules) = world.json("GET", "/api/v1/policy/rules", &by, "").await;
        let names = rules["rules"]
            .as_array()
            .or(rules.as_array())
            .unwrap()
            .clone();
        let name = |rule: &serde_json::Value| rule["name"].as_str().unwrap().to_owned();
        names.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(rules().await, ["two", "first"]);
    done(post("/policy/rules/remove", "name=two").await);
    assert_eq!(rules().await, ["first"]);

    let machine = format!("/machines/{}", world.machine);
    done(post(&format!("{machine}/settings"), "group=lab-2&strategy=d").await);
    done(
        post(
            &format!("{machine}/wish"),
            "entry=memory_test&boots=2&minutes=5",
        )
        .await,
    );
    let page = world.page(&machine, &by).await.1;
    assert!(
        page.contains("<td>always</td><td>group lab-2</td>"),
        "{page}"
    );
    assert!(page.contains("<td>d</td><td>machine</td>"), "{page}");
    assert!(
        page.contains("<b>memory_test</b> at the next 2 boots"),
        "{page}"
    );
    refused(
        post(
            &format!("{machine}/wish"),
            "entry=memory_test&boots=x&minutes=5",
        )
        .await,
        "1 to 100",
        "Next boots",
    );
    done(post(&format!("{machine}/wish/drop"), "").await);
    let in_use = post("/policy/groups/remove", "name=lab-2").await;
    assert_eq!(in_use.0, StatusCode::CONFLICT, "machines are in it");
    done(post(&format!("{machine}/settings"), "group=").await);
    done(post("/policy/groups/remove", "name=lab-2").await);
    let page = world.page(&machine, &by).await.1;
    assert!(
        !page.contains("<td>group lab-2</td>") && !page.contains("<b>memory_test</b>"),
        "{page}"
    );
}
