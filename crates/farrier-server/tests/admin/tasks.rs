//! Plan, show, execute.

use axum::http::StatusCode;
use farrier_engine::model::Role;

use crate::By;
use crate::world::{bearer, image, world};

#[tokio::test]
async fn a_deployment_is_done_only_as_it_was_confirmed() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Operator));
    let order = |confirm: &str| {
        format!(
            r#"{{"machines":["{}"],"work":{{"kind":"deploy","image":"lab-debian","disk":{{"serial":"S676NX0R"}}}},"confirm":{confirm}}}"#,
            world.machine
        )
    };
    let (status, refusal) = world
        .json("POST", "/api/v1/tasks", &by, &order("null"))
        .await;
    assert_eq!(
        (status, refusal["code"].as_str()),
        (StatusCode::CONFLICT, Some("confirm_needed"))
    );
    let (status, plan) = world
        .json("POST", "/api/v1/tasks/plan", &by, &order("null"))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(plan["summary"], "Deploy lab-debian version 2.");
    assert_eq!(plan["destructive"], true);
    assert!(
        plan["steps"][0]
            .as_str()
            .unwrap()
            .contains("OVERWRITE Samsung PM9A1 (476 GiB, serial S676NX0R)"),
        "{plan}"
    );

    // Somebody captures a newer version while the plan is looked at: "the newest" is another one now.
    image(&world.core, "lab-debian", 9).await;
    let confirm = plan["confirm"].to_string();
    let (status, refusal) = world
        .json("POST", "/api/v1/tasks", &by, &order(&confirm))
        .await;
    assert_eq!(
        (status, refusal["code"].as_str()),
        (StatusCode::CONFLICT, Some("plan_changed"))
    );

    let (_, plan) = world
        .json("POST", "/api/v1/tasks/plan", &by, &order("null"))
        .await;
    let (status, made) = world
        .json(
            "POST",
            "/api/v1/tasks",
            &by,
            &order(&plan["confirm"].to_string()),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["tasks"][0]["work"]["version"], 3);
    let id = made["tasks"][0]["id"].as_str().unwrap().to_owned();

    let (status, task) = world
        .json("POST", &format!("/api/v1/tasks/{id}/cancel"), &by, "")
        .await;
    assert_eq!(
        (status, task["state"].as_str()),
        (StatusCode::OK, Some("cancelled"))
    );
    let (status, refusal) = world
        .json("POST", &format!("/api/v1/tasks/{id}/cancel"), &by, "")
        .await;
    assert_eq!(
        (status, refusal["code"].as_str()),
        (StatusCode::CONFLICT, Some("not_possible"))
    );

    let (_, audit) = world
        .json("GET", "/api/v1/audit", &By::Bearer(bearer(Role::Admin)), "")
        .await;
    let actions: Vec<_> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["task.cancel", "task.create"]);
}

#[tokio::test]
async fn an_ambiguous_disk_is_said_before_anything_is_ordered() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Operator));
    let order = format!(
        r#"{{"machines":["{}"],"work":{{"kind":"deploy","image":"lab-debian"}}}}"#,
        world.machine
    );
    let (_, plan) = world.json("POST", "/api/v1/tasks/plan", &by, &order).await;
    let warnings = plan["warnings"].to_string();
    assert!(warnings.contains("2 disks fit the choice"), "{warnings}");
    let order = order.replace("lab-debian", "no-such-image");
    let (status, refusal) = world.json("POST", "/api/v1/tasks/plan", &by, &order).await;
    assert_eq!(
        (status, refusal["code"].as_str()),
        (StatusCode::NOT_FOUND, Some("not_found"))
    );
}

#[tokio::test]
async fn an_image_that_a_task_needs_stays() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Admin));
    let (status, refusal) = world
        .json("GET", "/api/v1/images/lab-debian/2/delete", &by, "")
        .await;
    assert_eq!(
        (status, refusal["code"].as_str()),
        (StatusCode::CONFLICT, Some("image_in_use"))
    );
    let (status, plan) = world
        .json("GET", "/api/v1/images/frontdesk/1/delete", &by, "")
        .await;
    assert_eq!(status, StatusCode::OK);
    let yes = format!(r#"{{"confirm":{}}}"#, plan["confirm"]);
    let (status, _) = world
        .json("POST", "/api/v1/images/frontdesk/1/delete", &by, &yes)
        .await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = world.json("GET", "/api/v1/images/frontdesk", &by, "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

/// The first rule that holds chooses; a person orders, and sees who chose before anything is overwritten.
#[tokio::test]
async fn z25_rules_choose_the_image_of_a_task_that_names_none() {
    let world = world().await;
    let by = By::Bearer(bearer(Role::Admin));
    let set = async |rules: &[(&str, &str, &str)]| {
        let rules: Vec<_> = rules
            .iter()
            .map(|(name, when, image)| {
                serde_json::json!({ "name": name, "when": when, "settings": { "image": image } })
            })
            .collect();
        let body = serde_json::json!({ "rules": rules }).to_string();
        let path = "/api/v1/policy/rules";
        let (status, said) = world.json("PUT", path, &by, &body).await;
        assert_eq!(status, StatusCode::OK, "{said}");
    };
    let order = |confirm: &str| {
        format!(
            r#"{{"machines":["{}"],"work":{{"kind":"deploy","disk":{{"serial":"S676NX0R"}}}},"confirm":{confirm}}}"#,
            world.machine
        )
    };
    let plan = async || {
        let path = "/api/v1/tasks/plan";
        world.json("POST", path, &by, &order("null")).await
    };

    let (status, refusal) = plan().await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{refusal}");
    assert!(
        refusal["message"]
            .to_string()
            .contains("no setting or rule chooses one")
    );

    let model = "inventory.system.product == 'ThinkCentre M70q Gen 3'";
    let asset = "inventory.system.chassis_asset == 'IT-0042'";
    for (when, holds) in [
        (model, true),
        ("inventory.memory_bytes >= 8000000000", true),
        ("machine.macs.exists(m, m.startsWith('52:54:00'))", true),
        ("machine.name.startsWith('lab-')", true),
        (asset, false),
        ("inventory.memory_bytes < 8000000000", false),
    ] {
        set(&[
            ("wanted", when, "frontdesk"),
            ("rest", "true", "lab-debian"),
        ])
        .await;
        let (status, plan) = plan().await;
        assert_eq!(status, StatusCode::OK, "{plan}");
        let (image, rule) = if holds {
            ("frontdesk version 1", "wanted")
        } else {
            ("lab-debian version 2", "rest")
        };
        let step = plan["steps"][0].as_str().unwrap();
        let expected = format!("lab-01: deploy {image}, chosen by rule {rule}");
        assert_eq!(step, expected, "{when}");
        assert_eq!(plan["destructive"], true);
    }

    // The dry run says who chose.
    let explain = "/api/v1/policy/explain?mac=52:54:00:00:00:01";
    let (_, explained) = world.json("GET", explain, &by, "").await;
    let row = serde_json::json!({ "name": "image", "value": "lab-debian", "origin": "rule rest" });
    let effective = explained["effective"].as_array().unwrap();
    assert!(effective.contains(&row), "{explained:#}");

    // One that cannot be judged might have chosen another image: none is chosen.
    set(&[
        ("unclear", "inventory.nothing > 3", "frontdesk"),
        ("rest", "true", "lab-debian"),
    ])
    .await;
    let (status, refusal) = plan().await;
    assert_eq!(status, StatusCode::CONFLICT, "{refusal}");
    assert!(refusal["message"].to_string().contains("rule unclear"));

    // Between plan and order the rule changes: what was confirmed is not what would be done.
    set(&[("rest", "true", "lab-debian")]).await;
    let confirm = plan().await.1["confirm"].to_string();
    set(&[("rest", "true", "frontdesk")]).await;
    let (status, refusal) = world
        .json("POST", "/api/v1/tasks", &by, &order(&confirm))
        .await;
    assert_eq!(
        (status, refusal["code"].as_str()),
        (StatusCode::CONFLICT, Some("plan_changed"))
    );
    let confirm = plan().await.1["confirm"].to_string();
    let (status, made) = world
        .json("POST", "/api/v1/tasks", &by, &order(&confirm))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let work = &made["tasks"][0]["work"];
    assert_eq!(
        (work["image"].as_str(), &work["version"]),
        (Some("frontdesk"), &1.into())
    );
}
