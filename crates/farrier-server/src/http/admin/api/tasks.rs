//! Tasks.

use axum::Json;
use axum::http::StatusCode;
use farrier_api::admin as words;
use farrier_api::admin::{Confirm, NewTasks, Plan, TaskQuery};
use uuid::Uuid;

use super::{Answer, Asked, Body, Named};
use crate::service::{Desk, Refusal};

pub(in crate::http::admin) async fn tasks(
    desk: Desk,
    Asked(query): Asked<TaskQuery>,
) -> Answer<words::Page<words::TaskSummary>> {
    desk.tasks(&query).await.map(Json)
}

pub(in crate::http::admin) async fn plan_tasks(
    desk: Desk,
    Body(new): Body<NewTasks>,
) -> Answer<Plan> {
    desk.plan_tasks(&new).await.map(Json)
}

pub(in crate::http::admin) async fn create_tasks(
    desk: Desk,
    Body(new): Body<NewTasks>,
) -> Result<(StatusCode, Json<words::TasksCreated>), Refusal> {
    Ok((StatusCode::CREATED, Json(desk.create_tasks(&new).await?)))
}

pub(in crate::http::admin) async fn task(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::TaskSummary> {
    desk.task(id).await.map(Json)
}

pub(in crate::http::admin) async fn cancel_task(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::TaskSummary> {
    desk.cancel_task(id).await.map(Json)
}

pub(in crate::http::admin) async fn requeue_task(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::TaskSummary> {
    desk.requeue_task(id).await.map(Json)
}

pub(in crate::http::admin) async fn plan_retry(desk: Desk, Named(id): Named<Uuid>) -> Answer<Plan> {
    desk.plan_retry(id).await.map(Json)
}

pub(in crate::http::admin) async fn retry_task(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(yes): Body<Confirm>,
) -> Answer<words::TasksCreated> {
    desk.retry_task(id, Some(yes.confirm)).await.map(Json)
}
