//! The handlers of `/api/v1`. Each takes a request apart, calls the service, and puts the answer together.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use farrier_api::admin as words;
use farrier_api::admin::{
    Confirm, ExplainQuery, LeaseQuery, MachineChange, MachineQuery, NewMachine, NewTasks, NewToken,
    NewUser, Plan, Settings, TaskQuery, TimelineQuery, UserChange,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Shared;
use crate::http::session::From;
use crate::service::{Code, Desk, Refusal, SignedInSession};

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

pub(super) async fn machines(
    desk: Desk,
    Asked(query): Asked<MachineQuery>,
) -> Answer<words::Page<words::MachineSummary>> {
    desk.machines(&query).await.map(Json)
}

pub(super) async fn add_machine(
    desk: Desk,
    Body(new): Body<NewMachine>,
) -> Answer<words::MachineDetail> {
    desk.add_machine(new).await.map(Json)
}

/// `id` may be a name or an address too, so that people need not look ids up.
pub(super) async fn machine(desk: Desk, Named(id): Named<String>) -> Answer<words::MachineDetail> {
    desk.find_machine(&id).await.map(Json)
}

pub(super) async fn change_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(change): Body<MachineChange>,
) -> Answer<words::MachineDetail> {
    desk.change_machine(id, change).await.map(Json)
}

pub(super) async fn approve_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::MachineDetail> {
    desk.approve_machine(id).await.map(Json)
}

pub(super) async fn wake_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(wake): Body<words::Wake>,
) -> Answer<words::Woken> {
    desk.wake_machine(id, &wake).await.map(Json)
}

pub(super) async fn menu_code(desk: Desk, Named(id): Named<Uuid>) -> Answer<words::IssuedCode> {
    desk.menu_code(id).await.map(Json)
}

pub(super) async fn disable_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::MachineDetail> {
    desk.disable_machine(id).await.map(Json)
}

pub(super) async fn timeline(
    desk: Desk,
    Named(id): Named<Uuid>,
    Asked(query): Asked<TimelineQuery>,
) -> Answer<words::Page<words::TimelineEntry>> {
    desk.timeline(id, &query).await.map(Json)
}

pub(super) async fn doctor_lines(
    desk: Desk,
    Named(server): Named<String>,
) -> Result<String, Refusal> {
    desk.doctor_lines(&server)
}

/// For Wireshark and tcpdump.
pub(super) async fn capture(desk: Desk, Named(id): Named<Uuid>) -> Result<Response, Refusal> {
    let file = desk.capture(id)?;
    let name = format!("attachment; filename=\"{id}.pcap\"");
    let kind = "application/vnd.tcpdump.pcap".to_owned();
    Ok((
        [
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_DISPOSITION, name),
        ],
        file,
    )
        .into_response())
}

pub(super) async fn compare_boots(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::BootComparison> {
    desk.compare_boots(id).await.map(Json)
}

pub(super) async fn plan_delete_machine(desk: Desk, Named(id): Named<Uuid>) -> Answer<Plan> {
    desk.plan_delete_machine(id).map(Json)
}

pub(super) async fn delete_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(yes): Body<Confirm>,
) -> Result<StatusCode, Refusal> {
    desk.delete_machine(id, Some(&yes.confirm)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn tasks(
    desk: Desk,
    Asked(query): Asked<TaskQuery>,
) -> Answer<words::Page<words::TaskSummary>> {
    desk.tasks(&query).await.map(Json)
}

pub(super) async fn plan_tasks(desk: Desk, Body(new): Body<NewTasks>) -> Answer<Plan> {
    desk.plan_tasks(&new).await.map(Json)
}

pub(super) async fn create_tasks(
    desk: Desk,
    Body(new): Body<NewTasks>,
) -> Result<(StatusCode, Json<words::TasksCreated>), Refusal> {
    Ok((StatusCode::CREATED, Json(desk.create_tasks(&new).await?)))
}

pub(super) async fn task(desk: Desk, Named(id): Named<Uuid>) -> Answer<words::TaskSummary> {
    desk.task(id).await.map(Json)
}

pub(super) async fn cancel_task(desk: Desk, Named(id): Named<Uuid>) -> Answer<words::TaskSummary> {
    desk.cancel_task(id).await.map(Json)
}

pub(super) async fn requeue_task(desk: Desk, Named(id): Named<Uuid>) -> Answer<words::TaskSummary> {
    desk.requeue_task(id).await.map(Json)
}

pub(super) async fn plan_retry(desk: Desk, Named(id): Named<Uuid>) -> Answer<Plan> {
    desk.plan_retry(id).await.map(Json)
}

pub(super) async fn retry_task(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(yes): Body<Confirm>,
) -> Answer<words::TasksCreated> {
    desk.retry_task(id, Some(yes.confirm)).await.map(Json)
}

pub(super) async fn images(desk: Desk) -> Answer<words::Images> {
    desk.images().await.map(Json)
}

pub(super) async fn image(desk: Desk, Named(name): Named<String>) -> Answer<words::ImageSummary> {
    desk.image(&name).await.map(Json)
}

type Version = Named<(String, String)>;

pub(super) async fn image_version(
    desk: Desk,
    Named((name, version)): Version,
) -> Answer<words::ImageDetail> {
    desk.image_version(&name, &version).await.map(Json)
}

pub(super) async fn verify_image(
    desk: Desk,
    Named((name, version)): Version,
) -> Answer<words::Verified> {
    desk.verify_image(&name, &version).await.map(Json)
}

pub(super) async fn plan_delete_image(desk: Desk, Named((name, version)): Version) -> Answer<Plan> {
    desk.plan_delete_image(&name, &version).await.map(Json)
}

pub(super) async fn delete_image(
    desk: Desk,
    Named((name, version)): Version,
    Body(yes): Body<Confirm>,
) -> Result<StatusCode, Refusal> {
    desk.delete_image(&name, &version, Some(&yes.confirm))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn plan_prune(desk: Desk) -> Answer<Plan> {
    desk.plan_prune().await.map(Json)
}

pub(super) async fn prune(desk: Desk, Body(yes): Body<Confirm>) -> Result<StatusCode, Refusal> {
    desk.prune(Some(&yes.confirm)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn missing(desk: Desk, ids: Bytes) -> Result<Vec<u8>, Refusal> {
    desk.upload()?.missing(&ids)
}

pub(super) async fn put_chunks(desk: Desk, frames: Bytes) -> Result<StatusCode, Refusal> {
    desk.upload()?.put(frames).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn commit(desk: Desk, manifest: Bytes) -> Result<Vec<u8>, Refusal> {
    desk.upload()?.commit(&manifest).await
}

pub(super) async fn fetch(desk: Desk, ids: Bytes) -> Result<Bytes, Refusal> {
    desk.fetch(&ids).await
}

pub(super) async fn manifest(
    desk: Desk,
    Named((image, version)): Version,
) -> Result<Vec<u8>, Refusal> {
    desk.signed_manifest(&image, &version).await
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

pub(super) async fn policy(desk: Desk) -> Answer<words::SitePolicy> {
    desk.policy().await.map(Json)
}

pub(super) async fn set_policy(
    desk: Desk,
    Body(settings): Body<Settings>,
) -> Answer<words::SitePolicy> {
    desk.set_policy(settings).await.map(Json)
}

pub(super) async fn explain(
    desk: Desk,
    Asked(query): Asked<ExplainQuery>,
) -> Answer<words::Explained> {
    desk.explain(&query).await.map(Json)
}

pub(super) async fn rules(desk: Desk) -> Answer<Vec<words::Rule>> {
    desk.rules().await.map(Json)
}

pub(super) async fn set_rules(
    desk: Desk,
    Body(rules): Body<words::Rules>,
) -> Answer<Vec<words::Rule>> {
    desk.set_rules(rules).await.map(Json)
}

pub(super) async fn groups(desk: Desk) -> Answer<Vec<words::Group>> {
    desk.groups().await.map(Json)
}

pub(super) async fn set_group(
    desk: Desk,
    Named(name): Named<String>,
    Body(settings): Body<Settings>,
) -> Answer<words::Group> {
    desk.set_group(&name, settings).await.map(Json)
}

pub(super) async fn delete_group(
    desk: Desk,
    Named(name): Named<String>,
) -> Result<StatusCode, Refusal> {
    desk.delete_group(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn set_intent(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(wish): Body<words::NewIntent>,
) -> Answer<words::MachineDetail> {
    desk.set_intent(id, wish).await.map(Json)
}

pub(super) async fn drop_intent(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::MachineDetail> {
    desk.drop_intent(id).await.map(Json)
}

pub(super) async fn users(desk: Desk) -> Answer<Vec<words::User>> {
    desk.users().await.map(Json)
}

pub(super) async fn add_user(desk: Desk, Body(new): Body<NewUser>) -> Answer<words::User> {
    desk.add_user(new).await.map(Json)
}

pub(super) async fn change_user(
    desk: Desk,
    Named(name): Named<String>,
    Body(change): Body<UserChange>,
) -> Answer<words::User> {
    desk.change_user(&name, change).await.map(Json)
}

pub(super) async fn delete_user(
    desk: Desk,
    Named(name): Named<String>,
) -> Result<StatusCode, Refusal> {
    desk.delete_user(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn tokens(desk: Desk) -> Answer<Vec<words::ApiToken>> {
    desk.tokens().await.map(Json)
}

pub(super) async fn add_token(desk: Desk, Body(new): Body<NewToken>) -> Answer<words::TokenMade> {
    desk.add_token(new).await.map(Json)
}

pub(super) async fn delete_token(
    desk: Desk,
    Named(name): Named<String>,
) -> Result<StatusCode, Refusal> {
    desk.delete_token(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
