//! Machines, their timelines and packets.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use farrier_api::admin as words;
use farrier_api::admin::{
    Confirm, ConfirmQuery, MachineChange, MachineQuery, NewMachine, Plan, TimelineQuery,
};
use uuid::Uuid;

use super::{Answer, Asked, Body, Named};
use crate::service::{Desk, Refusal};

pub(in crate::http::admin) async fn machines(
    desk: Desk,
    Asked(query): Asked<MachineQuery>,
) -> Answer<words::Page<words::MachineSummary>> {
    desk.machines(&query).await.map(Json)
}

pub(in crate::http::admin) async fn add_machine(
    desk: Desk,
    Body(new): Body<NewMachine>,
) -> Answer<words::MachineDetail> {
    desk.add_machine(new).await.map(Json)
}

/// `id` may be a name or an address too, so that people need not look ids up.
pub(in crate::http::admin) async fn machine(
    desk: Desk,
    Named(id): Named<String>,
) -> Answer<words::MachineDetail> {
    desk.find_machine(&id).await.map(Json)
}

pub(in crate::http::admin) async fn change_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
    Asked(asked): Asked<ConfirmQuery>,
    Body(change): Body<MachineChange>,
) -> Answer<words::MachineDetail> {
    let confirm = asked.confirm.as_deref();
    desk.change_machine(id, change, confirm).await.map(Json)
}

pub(in crate::http::admin) async fn approve_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::MachineDetail> {
    desk.approve_machine(id).await.map(Json)
}

pub(in crate::http::admin) async fn wake_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(wake): Body<words::Wake>,
) -> Answer<words::Woken> {
    desk.wake_machine(id, &wake).await.map(Json)
}

pub(in crate::http::admin) async fn menu_code(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::IssuedCode> {
    desk.menu_code(id).await.map(Json)
}

pub(in crate::http::admin) async fn disable_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::MachineDetail> {
    desk.disable_machine(id).await.map(Json)
}

pub(in crate::http::admin) async fn timeline(
    desk: Desk,
    Named(id): Named<Uuid>,
    Asked(query): Asked<TimelineQuery>,
) -> Answer<words::Page<words::TimelineEntry>> {
    desk.timeline(id, &query).await.map(Json)
}

pub(in crate::http::admin) async fn doctor_lines(
    desk: Desk,
    Named(server): Named<String>,
) -> Result<String, Refusal> {
    desk.doctor_lines(&server)
}

/// For Wireshark and tcpdump.
pub(in crate::http::admin) async fn capture(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Result<Response, Refusal> {
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

pub(in crate::http::admin) async fn compare_boots(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::BootComparison> {
    desk.compare_boots(id).await.map(Json)
}

pub(in crate::http::admin) async fn plan_delete_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<Plan> {
    desk.plan_delete_machine(id).map(Json)
}

pub(in crate::http::admin) async fn delete_machine(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(yes): Body<Confirm>,
) -> Result<StatusCode, Refusal> {
    desk.delete_machine(id, Some(&yes.confirm)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http::admin) async fn set_intent(
    desk: Desk,
    Named(id): Named<Uuid>,
    Body(wish): Body<words::NewIntent>,
) -> Answer<words::MachineDetail> {
    desk.set_intent(id, wish).await.map(Json)
}

pub(in crate::http::admin) async fn drop_intent(
    desk: Desk,
    Named(id): Named<Uuid>,
) -> Answer<words::MachineDetail> {
    desk.drop_intent(id).await.map(Json)
}
