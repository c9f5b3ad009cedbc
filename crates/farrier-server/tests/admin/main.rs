//! The plane of people and programs, asked from outside.

mod doctor;
mod media;
mod pages;
mod policy;
mod policy_plans;
mod rights;
mod signing_in;
#[path = "../site/mod.rs"]
mod site;
mod tasks;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with the example that shows the page"
)]
mod world;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use tower::ServiceExt as _;

use world::World;

/// What a request brings to be recognised by.
#[derive(Clone, Debug)]
enum By {
    Nothing,
    Bearer(String),
    Cookie(String),
}

impl World {
    async fn send(
        &self,
        method: &str,
        path: &str,
        by: &By,
        body: Option<(&str, &str)>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        request = match by {
            By::Nothing => request,
            By::Bearer(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            By::Cookie(token) => request.header(header::COOKIE, format!("__Host-farrier={token}")),
        };
        if let Some((kind, _)) = body {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let body = Body::from(body.map(|(_, text)| text.to_owned()).unwrap_or_default());
        self.router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap()
    }

    async fn json(
        &self,
        method: &str,
        path: &str,
        by: &By,
        body: &str,
    ) -> (StatusCode, serde_json::Value) {
        let response = self.send(method, path, by, Some((JSON, body))).await;
        let status = response.status();
        (
            status,
            serde_json::from_str(&text(response).await).unwrap_or_default(),
        )
    }

    /// The same, confirmed where it wants to be.
    async fn confirmed(
        &self,
        method: &str,
        path: &str,
        by: &By,
        body: &str,
    ) -> (StatusCode, serde_json::Value) {
        let (status, said) = self.json(method, path, by, body).await;
        let Some(confirm) = said["plan"]["confirm"].as_str() else {
            return (status, said);
        };
        let path = format!("{path}?confirm={confirm}");
        self.json(method, &path, by, body).await
    }

    async fn page(&self, path: &str, by: &By) -> (StatusCode, String) {
        let response = self.send("GET", path, by, None).await;
        (response.status(), text(response).await)
    }
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24)
        .await
        .unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
