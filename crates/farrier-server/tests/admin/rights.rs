//! T1 and T17: every route, from the list that the router is made of, with no credential, with bad ones,
//! and with each role.

use axum::http::StatusCode;
use farrier_engine::model::Role;
use farrier_server::http::admin::routes::{self, Access, Route};

use crate::world::{CSRF, ENDED, ENDED_TOKEN, World, bearer, session, world};
use crate::{By, FORM, JSON};

/// Reviewed by hand: what answers a stranger with success, and why that is harmless.
const FOR_STRANGERS: [(&str, &str); 4] = [
    // Says that the server lives, nothing else.
    ("GET", "/api/v1/health"),
    // Style, script and icon.
    ("GET", "/assets/{name}"),
    // The door itself; shows no name.
    ("GET", "/login"),
    ("GET", "/setup"),
];

fn path(route: &Route, world: &World) -> String {
    let style = &farrier_server::ui::assets::ASSETS.style.path;
    let name = match route.path {
        p if p.starts_with("/assets") => style.trim_start_matches("/assets/"),
        p if p.contains("/images") => "lab-debian",
        _ => "extra",
    };
    let id = match route.path {
        p if p.contains("/tasks/") && p.ends_with("/retry") => world.ended,
        p if p.contains("/tasks/") => world.task,
        _ => world.machine,
    };
    route
        .path
        .replace("{id}", &id.to_string())
        .replace("{name}", name)
        .replace("{image}", "lab-debian")
        .replace("{version}", "latest")
        .replace("{ip}", "10.0.0.50")
}

/// A request that would be good if the asker were. A new route that takes a body has to be added here.
fn body(route: &Route, world: &World) -> Option<(&'static str, String)> {
    let json = |text: String| Some((JSON, text));
    let (method, path) = (route.method.as_str(), route.path);
    match (method, path) {
        ("GET" | "DELETE", _) => None,
        ("POST", "/api/v1/sessions") => json(r#"{"name":"x","password":"y"}"#.to_owned()),
        ("POST", "/api/v1/setup") => {
            json(r#"{"token":"x","name":"y","password":"long enough for all"}"#.to_owned())
        }
        ("POST", "/api/v1/machines") => json(r#"{"macs":["52:54:00:00:09:09"]}"#.to_owned()),
        ("POST", "/api/v1/machines/{id}/wake") => json("{}".to_owned()),
        ("PATCH", "/api/v1/machines/{id}") => json(r#"{"name":"lab-99"}"#.to_owned()),
        ("POST", "/api/v1/tasks" | "/api/v1/tasks/plan") => json(format!(
            r#"{{"machines":["{}"],"work":{{"kind":"inventory"}}}}"#,
            world.machine
        )),
        ("PUT", "/api/v1/policy/rules") => json(r#"{"rules":[]}"#.to_owned()),
        ("PUT", "/api/v1/groups/{name}") => json(r#"{"menu":"never"}"#.to_owned()),
        ("PUT", "/api/v1/machines/{id}/intent") => {
            json(r#"{"entry":"memory_test","boots":1,"minutes":5}"#.to_owned())
        }
        ("PUT", "/api/v1/policy") => json(r#"{"menu":"never"}"#.to_owned()),
        ("POST", "/api/v1/users") => {
            json(r#"{"name":"extra","password":"long enough for all","role":"viewer"}"#.to_owned())
        }
        ("PATCH", "/api/v1/users/{name}") => json(r#"{"disabled":true}"#.to_owned()),
        ("POST", "/api/v1/tokens") => json(r#"{"name":"extra","role":"viewer"}"#.to_owned()),
        ("POST", p) if p.starts_with("/api/v1/store/") && p != "/api/v1/store/prune" => {
            Some(("application/octet-stream", String::new()))
        }
        ("POST", p) if p.starts_with("/api/") => json(r#"{"confirm":"0123"}"#.to_owned()),
        ("POST", "/login") => Some((FORM, "name=x&password=y".to_owned())),
        ("POST", "/setup") => Some((
            FORM,
            "token=x&name=y&password=long+enough+for+all".to_owned(),
        )),
        ("POST", "/machines/{id}/order") => {
            Some((FORM, format!("csrf={CSRF}&kind=inventory&then=local_boot")))
        }
        ("POST", "/orders") => Some((
            FORM,
            format!("csrf={CSRF}&kind=inventory&machines={}", world.machine),
        )),
        ("POST", "/policy/site" | "/policy/groups") => {
            Some((FORM, format!("csrf={CSRF}&name=extra&menu=never")))
        }
        ("POST", "/policy/rules") => Some((FORM, format!("csrf={CSRF}&name=extra&when=true"))),
        ("POST", "/policy/rules/move") => {
            Some((FORM, format!("csrf={CSRF}&name=extra&to=earlier")))
        }
        ("POST", "/policy/groups/remove" | "/policy/rules/remove") => {
            Some((FORM, format!("csrf={CSRF}&name=extra")))
        }
        ("POST", "/machines/{id}/settings") => Some((FORM, format!("csrf={CSRF}&menu=never"))),
        ("POST", "/machines/{id}/wish") => Some((
            FORM,
            format!("csrf={CSRF}&entry=memory_test&boots=1&minutes=5"),
        )),
        ("POST", "/machines/{id}/rename") => Some((FORM, format!("csrf={CSRF}&name=lab-98"))),
        ("POST", p) if !p.starts_with("/api/") => {
            Some((FORM, format!("csrf={CSRF}&confirm=0123&version=latest")))
        }
        other => panic!("say here what {other:?} takes"),
    }
}

async fn status(world: &World, route: &Route, by: &By) -> StatusCode {
    let body = body(route, world);
    let body = body.as_ref().map(|(kind, text)| (*kind, text.as_str()));
    // `explain` wants to know whom.
    let query = if route.path.ends_with("/explain") {
        "?mac=52:54:00:00:00:01"
    } else {
        ""
    };
    let path = format!("{}{query}", path(route, world));
    world
        .send(route.method.as_str(), &path, by, body)
        .await
        .status()
}

#[tokio::test]
async fn t1_a_stranger_gets_what_was_reviewed_and_nothing_else() {
    let world = world().await;
    let mut strangers = vec![
        By::Nothing,
        By::Bearer(String::new()),
        By::Bearer("farrier_guessed".to_owned()),
    ];
    strangers.push(By::Bearer(ENDED_TOKEN.to_owned()));
    strangers.extend(ENDED.map(|token| By::Cookie(token.to_owned())));
    strangers.extend(ENDED.map(|token| By::Bearer(token.to_owned())));
    // An API token is for the Authorization header: a cookie would make it usable by other sites' forms.
    strangers.push(By::Cookie(bearer(Role::Admin)));
    let all = routes::all();
    assert!(all.len() > 80);
    for route in &all {
        for by in &strangers {
            let status = status(&world, route, by).await;
            let reviewed = FOR_STRANGERS.contains(&(route.method.as_str(), route.path));
            assert_eq!(
                status.is_success(),
                reviewed,
                "{} {} {by:?}: {status}",
                route.method,
                route.path
            );
            if !reviewed && route.access != Access::Public {
                let leads_to_login =
                    status == StatusCode::SEE_OTHER && !route.path.starts_with("/api/");
                assert!(
                    status == StatusCode::UNAUTHORIZED || leads_to_login,
                    "{} {}: {status}",
                    route.method,
                    route.path
                );
            }
        }
    }
}

#[tokio::test]
async fn t17_each_role_gets_what_its_table_says() {
    for role in [Role::Viewer, Role::Operator, Role::Admin] {
        let world = world().await;
        for route in routes::all() {
            let Access::Needs(action) = route.access else {
                continue;
            };
            let page = !route.path.starts_with("/api/");
            let by = if page {
                By::Cookie(session(role))
            } else {
                By::Bearer(bearer(role))
            };
            let status = status(&world, &route, &by).await;
            let refused = status == StatusCode::FORBIDDEN;
            assert_ne!(
                status,
                StatusCode::UNAUTHORIZED,
                "{} {}",
                route.method,
                route.path
            );
            assert_eq!(
                refused,
                role < action.least_role(),
                "{role:?} {} {}: {status}",
                route.method,
                route.path
            );
            assert!(
                !status.is_server_error(),
                "{role:?} {} {}: {status}",
                route.method,
                route.path
            );
        }
    }
}

/// Browsers send cookies along with forms of other sites where SameSite is not enforced.
#[tokio::test]
async fn whatever_changes_something_by_cookie_needs_the_secret_of_the_session() {
    let world = world().await;
    let by = By::Cookie(session(Role::Admin));
    let mut changing = 0;
    for route in routes::all() {
        if route.access == Access::Public || route.method == "GET" {
            continue;
        }
        changing += 1;
        let body = body(&route, &world).map(|(kind, text)| (kind, text.replace(CSRF, "guessed")));
        let body = body.as_ref().map(|(kind, text)| (*kind, text.as_str()));
        let response = world
            .send(route.method.as_str(), &path(&route, &world), &by, body)
            .await;
        assert_eq!(
            response.status(),
            StatusCode::FORBIDDEN,
            "{} {}",
            route.method,
            route.path
        );
    }
    assert!(changing >= 35, "{changing}");
}

#[tokio::test]
async fn what_is_not_in_the_list_is_not_there() {
    let world = world().await;
    let admin = By::Bearer(bearer(Role::Admin));
    for path in [
        "/api/v1/nothing",
        "/.git/config",
        "/assets/../Cargo.toml",
        "/agent/v1/work",
        "/boot.ipxe",
        "/api/v1/tasks/not-an-id",
    ] {
        assert_eq!(
            world.send("GET", path, &admin, None).await.status(),
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    assert_eq!(
        world
            .send("DELETE", "/api/v1/status", &admin, None)
            .await
            .status(),
        StatusCode::NOT_FOUND
    );
}
