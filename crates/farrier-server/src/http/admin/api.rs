//! The handlers of `/api/v1`. Each takes a request apart, calls the service, and puts the answer together.

mod images;
mod machines;
mod people;
mod policy;
mod tasks;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use farrier_api::admin as words;
use farrier_api::admin::{Confirm, LeaseQuery, Plan, TimelineQuery};
use serde::de::DeserializeOwned;

use super::Shared;
use crate::http::session::From;
use crate::service::{Code, Desk, Refusal, SignedInSession};

pub(super) use images::*;
pub(super) use machines::*;
pub(super) use people::*;
pub(super) use policy::*;
pub(super) use tasks::*;

type Answer<T> = Result<Json<T>, Refusal>;

/// A JSON body; what is wrong with it is said in our own form.
pub(super) struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(e) if e.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Refusal::new(Code::TooLarge, e.body_text()))
            }
            Err(e) => Err(Refusal::bad(e.body_text())),
        }
    }
}

/// A query; likewise.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(e) => Err(Refusal::bad(e.body_text())),
        }
    }
}

/// A part of the path; one that is no id names nothing there is.
pub(super) struct Named<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(Refusal::new(Code::NotFound, "there is nothing here")),
        }
    }
}

pub(super) async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok" }))
}

fn signed_in(session: SignedInSession) -> words::SignedIn {
    use farrier_engine::model::Role;
    words::SignedIn {
        token: session.token.0,
        expires: session.ends.0,
        name: session.name,
        role: match session.role {
            Role::Viewer => words::Role::Viewer,
            Role::Operator => words::Role::Operator,
            Role::Admin => words::Role::Admin,
        },
    }
}

pub(super) async fn sign_in(
    State(door): State<Shared>,
    From(from): From,
    Body(asked): Body<words::SignIn>,
) -> Answer<words::SignedIn> {
    Ok(Json(signed_in(door.sign_in(&asked, from).await?)))
}

pub(super) async fn set_up(
    State(door): State<Shared>,
    From(from): From,
    Body(asked): Body<words::SetUp>,
) -> Answer<words::SignedIn> {
    Ok(Json(signed_in(door.set_up(&asked, from).await?)))
}

pub(super) async fn sign_out(
    State(door): State<Shared>,
    desk: Desk,
) -> Result<StatusCode, Refusal> {
    door.sign_out(desk.who()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn me(desk: Desk) -> Json<words::Me> {
    Json(desk.me())
}

pub(super) async fn status(desk: Desk) -> Answer<words::ServerStatus> {
    desk.status().await.map(Json)
}

pub(super) async fn doctor(desk: Desk) -> Answer<words::Doctor> {
    desk.doctor().await.map(Json)
}

pub(super) async fn audit(
    desk: Desk,
    Asked(query): Asked<TimelineQuery>,
) -> Answer<words::Page<words::AuditEntry>> {
    desk.audit_log(&query).await.map(Json)
}

pub(super) async fn latest(
    desk: Desk,
    Asked(query): Asked<TimelineQuery>,
) -> Answer<words::Page<words::TimelineEntry>> {
    desk.latest(&query).await.map(Json)
}

pub(super) async fn leases(
    desk: Desk,
    Asked(query): Asked<LeaseQuery>,
) -> Answer<Vec<words::Lease>> {
    desk.leases(&query).await.map(Json)
}

pub(super) async fn plan_release_lease(desk: Desk, Named(ip): Named<String>) -> Answer<Plan> {
    desk.plan_release_lease(&ip).await.map(Json)
}

pub(super) async fn release_lease(
    desk: Desk,
    Named(ip): Named<String>,
    Body(yes): Body<Confirm>,
) -> Result<StatusCode, Refusal> {
    desk.release_lease(&ip, Some(&yes.confirm)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn loaders(desk: Desk) -> Answer<Vec<words::Loader>> {
    desk.loaders().map(Json)
}
