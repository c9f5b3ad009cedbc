//! The page: what strangers call themselves is shown as it is, and nothing foreign runs.

use axum::http::{StatusCode, header};
use farrier_engine::model::Role;

use crate::By;
use crate::world::{World, session, world};

fn paths(world: &World) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/",
        "/machines",
        "/tasks",
        "/images",
        "/images/lab-debian",
        "/network",
        "/policy",
        "/policy/site",
        "/policy/groups",
        "/policy/rules",
        "/policy/explain?mac=52:54:00:00:00:01",
        "/policy/explain?mac=%22%3E%3Cscript%3Ealert(1)",
        "/store/prune",
    ]
    .map(str::to_owned)
    .to_vec();
    for id in [world.machine, world.pending] {
        paths.push(format!("/machines/{id}"));
        paths.push(format!("/machines/{id}/order?kind=deploy"));
        paths.push(format!("/machines/{id}/delete"));
        paths.push(format!("/machines/{id}/settings"));
        paths.push(format!("/machines/{id}/wish"));
        paths.push(format!("/fragments/machines/{id}"));
    }
    paths.push(format!("/tasks/{}", world.task));
    paths.push(format!("/fragments/tasks/{}", world.task));
    paths
}

#[tokio::test]
async fn t5_hostile_texts_are_shown_literally() {
    let world = world().await;
    let by = By::Cookie(session(Role::Admin));
    let mut seen = String::new();
    for path in paths(&world) {
        let (status, page) = world.page(&path, &by).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        for bad in ["<script>alert", "<img src=x", "\u{202e}"] {
            assert!(!page.contains(bad), "{path} has {bad:?}");
        }
        seen.push_str(&page);
    }
    assert!(seen.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
    assert!(seen.contains("innocent⟨U+202E⟩gnp.exe"));
    assert!(seen.contains("&#34;&#62;&#60;img src=x onerror=alert(1)&#62;"));
    let (_, found) = world.page("/machines?search=%22%3E%3Cscript%3E", &by).await;
    assert!(!found.contains("<script>") && found.contains("&#34;&#62;&#60;script&#62;"));
}

#[tokio::test]
async fn pages_carry_nothing_that_the_policy_forbids() {
    let world = world().await;
    let by = By::Cookie(session(Role::Admin));
    for path in paths(&world) {
        let response = world.send("GET", &path, &by, None).await;
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let page = crate::text(response).await;
        for bad in [" style=", " onclick=", "javascript:", "http://", "https://"] {
            assert!(!page.contains(bad), "{path} has {bad}");
        }
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script src=\"/assets/").count(),
            "{path}"
        );
        for asset in page.split('"').filter(|part| part.starts_with("/assets/")) {
            let response = world.send("GET", asset, &By::Nothing, None).await;
            assert_eq!(response.status(), StatusCode::OK, "{asset}");
            assert!(
                response.headers()[header::CACHE_CONTROL]
                    .to_str()
                    .unwrap()
                    .contains("immutable")
            );
        }
    }
}

#[tokio::test]
async fn a_viewer_sees_no_button_that_would_refuse() {
    let world = world().await;
    let (_, page) = world
        .page(
            &format!("/machines/{}", world.machine),
            &By::Cookie(session(Role::Viewer)),
        )
        .await;
    for button in ["Deploy…", "Disable", "Forget…", "Rename"] {
        assert!(!page.contains(button), "{button}");
    }
    let (_, page) = world
        .page(
            &format!("/machines/{}", world.machine),
            &By::Cookie(session(Role::Operator)),
        )
        .await;
    assert!(page.contains("Deploy…") && !page.contains("Forget…"));
}
