//! Values of one's own in disk images, and the dry run that shows a machine's.

use axum::http::StatusCode;
use farrier_engine::model::Role;
use farrier_server::media::floppy::{Density, Floppy, VARIABLES};
use serde_json::{Value, json};

use crate::By;
use crate::world::{World, bearer, world};

const LAB_01: &str = "52:54:00:00:00:01";

/// The world with a floppy that has these files.
async fn with_floppy(files: &[(&str, &[u8])]) -> World {
    let world = world().await;
    let mut floppy = Floppy::blank(Density::High).unwrap();
    for (path, content) in files {
        floppy.put(path, content).unwrap();
    }
    let media = world.core.config.data_dir.join("media");
    std::fs::create_dir_all(&media).unwrap();
    std::fs::write(media.join("dos.img"), floppy.as_bytes()).unwrap();
    std::fs::write(media.join("disk.img"), vec![0; 1 << 20]).unwrap();
    world
}

async fn dry_run(world: &World, query: &str) -> (StatusCode, Value) {
    let path = format!("/api/v1/media/{query}");
    let viewer = By::Bearer(bearer(Role::Viewer));
    world.json("GET", &path, &viewer, "").await
}

fn of<'a>(shown: &'a Value, variable: &str) -> &'a Value {
    let mut values = shown["values"].as_array().unwrap().iter();
    let found = values.find(|value| value["variable"] == variable);
    found.unwrap_or_else(|| panic!("{variable}: {shown:#}"))
}

#[tokio::test]
async fn r9_a_dry_run_shows_what_a_machine_would_get_and_from_whom() {
    let ini: &[u8] = b"name={{FARRIER_NAME}} home={{FARRIER_HOME}} and {{FARRIER_HOME     }}\r\n{{FARRIER_OTHER}}";
    let world = with_floppy(&[("NET.INI", ini)]).await;
    let admin = By::Bearer(bearer(Role::Admin));
    let put =
        async |path: &str, body: Value| world.json("PUT", path, &admin, &body.to_string()).await;
    let site = json!({ "media_values": { "home": r"\\srv\guest", "unused": "x" } });
    let (status, said) = put("/api/v1/policy", site.clone()).await;
    assert_eq!(status, StatusCode::OK, "{said:#}");
    assert_eq!(said["settings"], site);
    let (_, shown) = dry_run(
        &world,
        &format!("dos.img/values?mac={LAB_01}&address=10.0.0.7"),
    )
    .await;
    assert_eq!(shown["address"], "10.0.0.7");
    assert_eq!(
        (&shown["batch"], &shown["refused"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(shown["values"].as_array().unwrap().len(), 3, "{shown:#}");
    let expected = json!({ "variable": "FARRIER_NAME", "value": "lab-01", "origin": "machine", "widths": [16] });
    assert_eq!(*of(&shown, "FARRIER_NAME"), expected);
    let home = json!({ "variable": "FARRIER_HOME", "value": r"\\srv\guest", "origin": "site", "widths": [16, 21] });
    assert_eq!(*of(&shown, "FARRIER_HOME"), home);
    assert_eq!(of(&shown, "FARRIER_OTHER")["value"], Value::Null);
    assert_eq!(of(&shown, "FARRIER_OTHER")["origin"], "nobody has set it");

    // Of a group's values a machine can set one, and keeps the others.
    let group = json!({ "media_values": { "home": r"\\srv\lab", "other": "lab" } });
    put("/api/v1/groups/lab", group).await;
    let machine = format!("/api/v1/machines/{}", world.machine);
    let own =
        json!({ "group": "lab", "settings": { "media_values": { "home": r"\\srv\lab\pc01" } } });
    let (status, known) = world
        .json("PATCH", &machine, &admin, &own.to_string())
        .await;
    assert_eq!(status, StatusCode::OK, "{known:#}");
    let effective = |name: &str| {
        let mut all = known["effective"].as_array().unwrap().iter();
        let found = all.find(|setting| setting["name"] == name).unwrap();
        (found["value"].clone(), found["origin"].clone())
    };
    assert_eq!(
        effective("media_values.home"),
        (json!(r"\\srv\lab\pc01"), json!("machine"))
    );
    assert_eq!(
        effective("media_values.other"),
        (json!("lab"), json!("group lab"))
    );
    assert_eq!(
        effective("media_values.unused"),
        (json!("x"), json!("site"))
    );
    let (_, shown) = dry_run(&world, &format!("dos.img/values?mac={LAB_01}")).await;
    assert_eq!(of(&shown, "FARRIER_HOME")["origin"], "machine");
    assert_eq!(of(&shown, "FARRIER_OTHER")["value"], "lab");
    // A stranger has the site's.
    let (_, shown) = dry_run(&world, "dos.img/values?mac=52:54:00:00:00:77").await;
    assert_eq!(of(&shown, "FARRIER_HOME")["value"], r"\\srv\guest");
    assert_eq!(
        of(&shown, "FARRIER_NAME")["origin"],
        "the machine has no name"
    );

    let long = json!({ "settings": { "media_values": { "home": r"\\srv\home\of\pc01" } } });
    world
        .json("PATCH", &machine, &admin, &long.to_string())
        .await;
    let (_, shown) = dry_run(&world, &format!("dos.img/values?mac={LAB_01}")).await;
    let refused = shown["refused"].as_str().unwrap();
    assert!(
        refused.starts_with("FARRIER_HOME has 18 characters here, and a place for it only 16"),
        "{refused}"
    );
}

#[tokio::test]
async fn r9_a_batch_file_gets_every_value_and_other_images_none() {
    let world = with_floppy(&[(VARIABLES, b"")]).await;
    let (_, shown) = dry_run(
        &world,
        &format!("dos.img/values?mac={LAB_01}&address=10.0.0.7"),
    )
    .await;
    assert_eq!(shown["batch"], true);
    assert_eq!(of(&shown, "FARRIER_ADDRESS")["value"], "10.0.0.7");
    assert_eq!(of(&shown, "FARRIER_ROUTER")["value"], Value::Null);
    assert_eq!(
        of(&shown, "FARRIER_ROUTER")["origin"],
        "another server lent its address"
    );
    for (query, expected) in [
        (
            "disk.img/values?mac=52:54:00:00:00:01",
            StatusCode::CONFLICT,
        ),
        (
            "gone.img/values?mac=52:54:00:00:00:01",
            StatusCode::NOT_FOUND,
        ),
        ("dos.img/values?mac=x", StatusCode::BAD_REQUEST),
        ("dos.img/values", StatusCode::BAD_REQUEST),
    ] {
        let (status, said) = dry_run(&world, query).await;
        assert_eq!(status, expected, "{query}: {said:#}");
    }
}

#[tokio::test]
async fn r9_names_and_values_that_an_image_could_not_hold_are_refused() {
    let world = world().await;
    let admin = By::Bearer(bearer(Role::Admin));
    let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("v{n}"), json!("x"))).collect();
    for (values, why) in [
        (json!({ "Home": "x" }), "lower-case letters"),
        (json!({ "home dir": "x" }), "lower-case letters"),
        (json!({ "home": "a & DEL C:" }), "signs other than"),
        (json!({ "home": "a\r\nDEL C:" }), "signs other than"),
        (json!({ "home": "{{FARRIER_NAME}}" }), "signs other than"),
        (json!({ "home": "" }), "1 to 80"),
        (json!({ "home": "x".repeat(81) }), "1 to 80"),
        (Value::Object(many), "at most 16"),
    ] {
        let body = json!({ "media_values": values }).to_string();
        let (status, said) = world.json("PUT", "/api/v1/policy", &admin, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {said:#}");
        let message = said["message"].as_str().unwrap();
        assert!(
            message.contains("media_values") && message.contains(why),
            "{message}"
        );
    }
}
