//! Passwords, sessions, forms of other sites, the first administrator.

use axum::http::{StatusCode, header};
use farrier_engine::model::Role;
use farrier_server::service::first_start;

use crate::world::{CSRF, bearer, fresh, session, world};
use crate::{By, FORM, text};

#[tokio::test]
async fn the_setup_token_is_good_once() {
    let world = fresh().await;
    let token = first_start(&world.core)
        .await
        .unwrap()
        .expect("nobody is there yet");
    let asked = |token: &str, name: &str| {
        format!(r#"{{"token":"{token}","name":"{name}","password":"correct horse"}}"#)
    };
    let (status, refusal) = world
        .json(
            "POST",
            "/api/v1/setup",
            &By::Nothing,
            &asked("wrong", "eve"),
        )
        .await;
    assert_eq!(
        (status, refusal["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("setup_token"))
    );
    let (status, made) = world
        .json("POST", "/api/v1/setup", &By::Nothing, &asked(&token, "ada"))
        .await;
    assert_eq!(
        (status, made["role"].as_str()),
        (StatusCode::OK, Some("admin"))
    );
    let (status, _) = world
        .json("POST", "/api/v1/setup", &By::Nothing, &asked(&token, "eve"))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(first_start(&world.core).await.unwrap(), None);
    let by = By::Bearer(made["token"].as_str().unwrap().to_owned());
    let (_, users) = world.json("GET", "/api/v1/users", &by, "").await;
    assert_eq!(users.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_unknown_name_and_a_wrong_password_get_the_same_answer_and_too_many_get_none() {
    let world = fresh().await;
    let token = first_start(&world.core).await.unwrap().unwrap();
    let asked = format!(r#"{{"token":"{token}","name":"ada","password":"correct horse"}}"#);
    world
        .json("POST", "/api/v1/setup", &By::Nothing, &asked)
        .await;
    let try_as =
        |name: &str, password: &str| format!(r#"{{"name":"{name}","password":"{password}"}}"#);
    let (good, _) = world
        .json(
            "POST",
            "/api/v1/sessions",
            &By::Nothing,
            &try_as("ada", "correct horse"),
        )
        .await;
    assert_eq!(good, StatusCode::OK);
    let mut answers = Vec::new();
    for name in ["ada", "nobody"] {
        let (status, mut body) = world
            .json(
                "POST",
                "/api/v1/sessions",
                &By::Nothing,
                &try_as(name, "wrong horse"),
            )
            .await;
        body["request"] = serde_json::Value::Null;
        answers.push((status, body));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, StatusCode::UNAUTHORIZED);
    for _ in 0..8 {
        world
            .json(
                "POST",
                "/api/v1/sessions",
                &By::Nothing,
                &try_as("nobody", "wrong horse"),
            )
            .await;
    }
    let (status, body) = world
        .json(
            "POST",
            "/api/v1/sessions",
            &By::Nothing,
            &try_as("ada", "correct horse"),
        )
        .await;
    assert_eq!(
        (status, body["code"].as_str()),
        (StatusCode::TOO_MANY_REQUESTS, Some("too_many_attempts"))
    );
}

#[tokio::test]
async fn a_form_needs_the_secret_of_its_session() {
    let world = world().await;
    let by = By::Cookie(session(Role::Admin));
    let path = format!("/machines/{}/rename", world.machine);
    for body in ["name=eves", "csrf=&name=eves", "csrf=wrong&name=eves"] {
        let response = world.send("POST", &path, &by, Some((FORM, body))).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{body}");
    }
    let api = format!("/api/v1/machines/{}", world.machine);
    let (status, refusal) = world.json("PATCH", &api, &by, r#"{"name":"eves"}"#).await;
    assert_eq!(
        (status, refusal["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("csrf"))
    );
    let (_, machine) = world.json("GET", &api, &by, "").await;
    assert_eq!(machine["name"], "lab-01");
    let good = format!("csrf={CSRF}&name=lab-77");
    let response = world.send("POST", &path, &by, Some((FORM, &good))).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let (_, machine) = world.json("GET", &api, &by, "").await;
    assert_eq!(machine["name"], "lab-77");
}

#[tokio::test]
async fn the_cookie_is_for_this_host_and_no_script() {
    let world = fresh().await;
    let token = first_start(&world.core).await.unwrap().unwrap();
    let form = format!("token={token}&name=ada&password=correct+horse");
    let response = world
        .send("POST", "/setup", &By::Nothing, Some((FORM, &form)))
        .await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let cookie = response.headers()[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(cookie.starts_with("__Host-farrier="));
    for attribute in ["; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let token = cookie.split(['=', ';']).nth(1).unwrap().to_owned();
    let by = By::Cookie(token);
    let (status, page) = world.page("/", &by).await;
    assert_eq!(status, StatusCode::OK);
    let csrf = page
        .split("name=\"csrf\" value=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let response = world
        .send(
            "POST",
            "/logout",
            &by,
            Some((FORM, &format!("csrf={csrf}"))),
        )
        .await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(world.page("/", &by).await.0, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_token_of_the_servers_host_opens_everything() {
    let world = world().await;
    let router = farrier_server::http::admin::router(std::sync::Arc::clone(&world.core));
    let secret = std::fs::read_to_string(world.core.config.data_dir.join("admin.token")).unwrap();
    let local = crate::world::World { router, ..world };
    let (status, me) = local
        .json("GET", "/api/v1/me", &By::Bearer(secret), "")
        .await;
    assert_eq!(
        (status, me["via"].as_str(), me["role"].as_str()),
        (StatusCode::OK, Some("local"), Some("admin"))
    );
}

#[tokio::test]
async fn refusals_say_what_to_do_and_under_which_id_the_log_has_more() {
    let world = world().await;
    let response = world
        .send(
            "GET",
            "/api/v1/users",
            &By::Bearer(bearer(Role::Viewer)),
            None,
        )
        .await;
    let id = response.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(body["request"], id.as_str());
    assert_eq!(
        body["message"],
        "this needs the role admin, and you have viewer"
    );
    assert!(body["hint"].as_str().unwrap().contains("administrator"));
}
