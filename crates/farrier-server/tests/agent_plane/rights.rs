//! Who is heard after enrolment, and who no longer is.

use std::time::Duration;

use farrier_api::agent::Inventory;
use farrier_api::client::{AgentClient, AgentClientError, CaPin};
use farrier_engine::model::Registration;
use uuid::Uuid;

use super::{MAC, OTHER};
use crate::site::wire::ask;
use crate::site::{self, Site, new_key, status};

/// The routes, from the table of the interface's documentation.
pub(crate) fn routes() -> Vec<(String, String)> {
    let table = include_str!("../../../farrier-api/src/agent.rs");
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next());
    rows.map(|row| {
        let (method, path) = row.split_once(' ').unwrap();
        let task = Uuid::nil().to_string();
        let path = path
            .replace("{id}", &task)
            .replace("{n}", "1")
            .replace("{image}", "debian")
            .replace("{version}", "1");
        (method.to_owned(), path)
    })
    .collect()
}

#[tokio::test]
async fn t3_every_route_but_enrol_wants_a_certificate_of_a_live_session() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    // A certificate of our own authority whose key never enrolled.
    let ghost = new_key();
    let signed = site
        .core
        .ca
        .sign_agent(&agent.boot.request(&ghost).csr, agent.machine.0)
        .unwrap();
    let routes = routes();
    assert!(routes.len() > 10);
    for (method, path) in routes.iter().filter(|(_, path)| path != "/agent/v1/enrol") {
        let pin = agent.boot.ca;
        for who in [None, Some(site::identity(&signed.chain, &ghost))] {
            let answer = ask(site.agents, pin, who, method, path, b"{}").await;
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
        }
        let known = ask(
            site.agents,
            pin,
            Some(agent.identity()),
            method,
            path,
            b"{}",
        )
        .await;
        assert_ne!(
            known.status,
            401,
            "{method} {path} is there: {}",
            known.text()
        );
        assert!(
            known.status != 404 || path.contains("manifests"),
            "{method} {path}: {}",
            known.text()
        );
    }
}

#[tokio::test]
async fn t3_a_certificate_of_another_authority_is_not_even_heard() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (site, foreign) = (
        Site::open(ours.path()).await,
        Site::open(theirs.path()).await,
    );
    foreign.let_everybody_in().await;
    let agent = foreign.agent(MAC).await;
    let pin: CaPin = site.core.ca.fingerprint().parse().unwrap();
    let server = farrier_api::client::ServerAddress(site.agents);
    let client = AgentClient::new(server, pin, Some(agent.identity())).unwrap();
    let error = client.work(Duration::ZERO).await.unwrap_err();
    assert!(
        !matches!(error, AgentClientError::Refused { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn t3_machines_that_are_disabled_or_gone_and_ended_sessions_are_shut_out() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    let hello = || async { agent.client.inventory(&Inventory::default()).await };
    for registration in [
        Registration::Disabled,
        Registration::Pending,
        Registration::Seen,
    ] {
        site.set_registration(agent.machine, registration).await;
        assert_eq!(status(hello().await), 401, "{registration:?}");
    }
    site.set_registration(agent.machine, Registration::Approved)
        .await;
    hello().await.unwrap();

    let waiting = site.boot(OTHER).await;
    site.set_registration(site.machine_of(OTHER), Registration::Disabled)
        .await;
    assert_eq!(status(waiting.enrol(&new_key()).await), 403);

    // The next boot's agent ends the session of the last.
    agent.client.work(Duration::ZERO).await.unwrap();
    let next = site.agent(MAC).await;
    assert_eq!(status(hello().await), 401);
    next.client.inventory(&Inventory::default()).await.unwrap();

    site.core.fleet.delete_machine(next.machine).await.unwrap();
    assert_eq!(
        status(next.client.inventory(&Inventory::default()).await),
        401
    );
    assert_eq!(status(next.client.work(Duration::ZERO).await), 401);
}
