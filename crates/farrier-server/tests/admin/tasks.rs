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
