//! Users and tokens.

use axum::Json;
use axum::http::StatusCode;
use farrier_api::admin as words;
use farrier_api::admin::{NewToken, NewUser, UserChange};

use super::{Answer, Body, Named};
use crate::service::{Desk, Refusal};

pub(in crate::http::admin) async fn users(desk: Desk) -> Answer<Vec<words::User>> {
    desk.users().await.map(Json)
}

pub(in crate::http::admin) async fn add_user(
    desk: Desk,
    Body(new): Body<NewUser>,
) -> Answer<words::User> {
    desk.add_user(new).await.map(Json)
}

pub(in crate::http::admin) async fn change_user(
    desk: Desk,
    Named(name): Named<String>,
    Body(change): Body<UserChange>,
) -> Answer<words::User> {
    desk.change_user(&name, change).await.map(Json)
}

pub(in crate::http::admin) async fn delete_user(
    desk: Desk,
    Named(name): Named<String>,
) -> Result<StatusCode, Refusal> {
    desk.delete_user(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http::admin) async fn tokens(desk: Desk) -> Answer<Vec<words::ApiToken>> {
    desk.tokens().await.map(Json)
}

pub(in crate::http::admin) async fn add_token(
    desk: Desk,
    Body(new): Body<NewToken>,
) -> Answer<words::TokenMade> {
    desk.add_token(new).await.map(Json)
}

pub(in crate::http::admin) async fn delete_token(
    desk: Desk,
    Named(name): Named<String>,
) -> Result<StatusCode, Refusal> {
    desk.delete_token(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
