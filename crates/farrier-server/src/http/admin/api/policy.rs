//! Settings, rules and groups.

use axum::Json;
use axum::http::StatusCode;
use farrier_api::admin as words;
use farrier_api::admin::{ConfirmQuery, ExplainQuery, MediumValuesQuery, Settings};

use super::{Answer, Asked, Body, Named};
use crate::service::{Desk, Refusal};

pub(in crate::http::admin) async fn policy(desk: Desk) -> Answer<words::SitePolicy> {
    desk.policy().await.map(Json)
}

pub(in crate::http::admin) async fn set_policy(
    desk: Desk,
    Asked(asked): Asked<ConfirmQuery>,
    Body(settings): Body<Settings>,
) -> Answer<words::SitePolicy> {
    let confirm = asked.confirm.as_deref();
    desk.set_policy(settings, confirm).await.map(Json)
}

pub(in crate::http::admin) async fn explain(
    desk: Desk,
    Asked(query): Asked<ExplainQuery>,
) -> Answer<words::Explained> {
    desk.explain(&query).await.map(Json)
}

pub(in crate::http::admin) async fn medium_values(
    desk: Desk,
    Named(name): Named<String>,
    Asked(query): Asked<MediumValuesQuery>,
) -> Answer<words::MediumValues> {
    desk.medium_values(&name, &query).await.map(Json)
}

pub(in crate::http::admin) async fn deployments(
    desk: Desk,
) -> Answer<Vec<words::MachineDeployment>> {
    desk.deployments().await.map(Json)
}

pub(in crate::http::admin) async fn rules(desk: Desk) -> Answer<Vec<words::Rule>> {
    desk.rules().await.map(Json)
}

pub(in crate::http::admin) async fn set_rules(
    desk: Desk,
    Asked(asked): Asked<ConfirmQuery>,
    Body(rules): Body<words::Rules>,
) -> Answer<Vec<words::Rule>> {
    let confirm = asked.confirm.as_deref();
    desk.set_rules(rules, confirm).await.map(Json)
}

pub(in crate::http::admin) async fn groups(desk: Desk) -> Answer<Vec<words::Group>> {
    desk.groups().await.map(Json)
}

pub(in crate::http::admin) async fn group(
    desk: Desk,
    Named(name): Named<String>,
) -> Answer<words::GroupDetail> {
    desk.group(&name).await.map(Json)
}

pub(in crate::http::admin) async fn set_group(
    desk: Desk,
    Named(name): Named<String>,
    Asked(asked): Asked<ConfirmQuery>,
    Body(settings): Body<Settings>,
) -> Answer<words::Group> {
    let confirm = asked.confirm.as_deref();
    desk.set_group(&name, settings, confirm).await.map(Json)
}

pub(in crate::http::admin) async fn delete_group(
    desk: Desk,
    Named(name): Named<String>,
) -> Result<StatusCode, Refusal> {
    desk.delete_group(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
