//! Images, and the store they lie in.

use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use farrier_api::admin as words;
use farrier_api::admin::{Confirm, Plan};

use super::{Answer, Body, Named};
use crate::service::{Desk, Refusal};

pub(in crate::http::admin) async fn images(desk: Desk) -> Answer<words::Images> {
    desk.images().await.map(Json)
}

pub(in crate::http::admin) async fn image(
    desk: Desk,
    Named(name): Named<String>,
) -> Answer<words::ImageSummary> {
    desk.image(&name).await.map(Json)
}

type Version = Named<(String, String)>;

pub(in crate::http::admin) async fn image_version(
    desk: Desk,
    Named((name, version)): Version,
) -> Answer<words::ImageDetail> {
    desk.image_version(&name, &version).await.map(Json)
}

pub(in crate::http::admin) async fn verify_image(
    desk: Desk,
    Named((name, version)): Version,
) -> Answer<words::Verified> {
    desk.verify_image(&name, &version).await.map(Json)
}

pub(in crate::http::admin) async fn plan_delete_image(
    desk: Desk,
    Named((name, version)): Version,
) -> Answer<Plan> {
    desk.plan_delete_image(&name, &version).await.map(Json)
}

pub(in crate::http::admin) async fn delete_image(
    desk: Desk,
    Named((name, version)): Version,
    Body(yes): Body<Confirm>,
) -> Result<StatusCode, Refusal> {
    desk.delete_image(&name, &version, Some(&yes.confirm))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http::admin) async fn plan_prune(desk: Desk) -> Answer<Plan> {
    desk.plan_prune().await.map(Json)
}

pub(in crate::http::admin) async fn prune(
    desk: Desk,
    Body(yes): Body<Confirm>,
) -> Result<StatusCode, Refusal> {
    desk.prune(Some(&yes.confirm)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http::admin) async fn missing(desk: Desk, ids: Bytes) -> Result<Vec<u8>, Refusal> {
    desk.upload()?.missing(&ids)
}

pub(in crate::http::admin) async fn put_chunks(
    desk: Desk,
    frames: Bytes,
) -> Result<StatusCode, Refusal> {
    desk.upload()?.put(frames).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http::admin) async fn commit(
    desk: Desk,
    manifest: Bytes,
) -> Result<Vec<u8>, Refusal> {
    desk.upload()?.commit(&manifest).await
}

pub(in crate::http::admin) async fn fetch(desk: Desk, ids: Bytes) -> Result<Bytes, Refusal> {
    desk.fetch(&ids).await
}

pub(in crate::http::admin) async fn manifest(
    desk: Desk,
    Named((image, version)): Version,
) -> Result<Vec<u8>, Refusal> {
    desk.signed_manifest(&image, &version).await
}
