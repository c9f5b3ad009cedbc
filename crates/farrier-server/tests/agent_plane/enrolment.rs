//! An agent is let in: once for each token, for its own machine, by a key it made, after a person compared a code
//! where policy wants one.

use std::sync::Arc;
use std::time::Duration;

use farrier_api::agent::{EnrolAnswer, Inventory, LogLines, Order};
use farrier_api::client::{AgentClient, AgentClientError, CaPin};
use farrier_db::BootToken;
use farrier_engine::WallTime;
use farrier_engine::model::Registration;
use farrier_engine::timeline::Kind;
use farrier_server::core::now;
use farrier_server::http::agent::{code, token_hash};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{MAC, OTHER};
use crate::site::{self, Site, new_key, status};

#[tokio::test]
async fn t12_a_boot_token_lets_one_key_in() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let boot = site.boot(MAC).await;
    let key = new_key();
    let agent = boot.enrolled(&key).await;
    agent.client.inventory(&Inventory::default()).await.unwrap();
    assert_eq!(
        status(boot.enrol(&new_key()).await),
        401,
        "the token was used"
    );
    // The answer may have been lost: the same key gets another.
    let again = boot.enrolled(&key).await;
    assert_eq!(again.machine, agent.machine);
    again
        .client
        .log(&LogLines {
            lines: vec!["up".to_owned()],
        })
        .await
        .unwrap();
    agent
        .client
        .inventory(&Inventory::default())
        .await
        .expect("it is the same key");
    assert_eq!(
        site.core
            .db
            .agent_sessions(agent.machine)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn t12_tokens_that_are_not_good_let_nobody_in() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let boot = site.boot(MAC).await;
    for token in [
        "",
        "0",
        &"a".repeat(32),
        &"a".repeat(100_000),
        "'; DROP TABLE boot_token; --",
        "\u{0}",
    ] {
        let forged = site::Boot {
            token: token.to_owned(),
            ..boot.clone()
        };
        assert_eq!(status(forged.enrol(&new_key()).await), 401);
    }
    let late = BootToken {
        hash: token_hash("late"),
        machine: site.machine_of(MAC),
        task: None,
        intent: "register".to_owned(),
        created: WallTime(now().0 - 2000),
        expires: WallTime(now().0 - 1000),
    };
    site.core.db.create_boot_token(&late).await.unwrap();
    let expired = site::Boot {
        token: "late".to_owned(),
        ..boot.clone()
    };
    assert_eq!(status(expired.enrol(&new_key()).await), 401);
    assert!(
        boot.enrol(&new_key()).await.is_ok(),
        "none of this used the good one up"
    );
}

#[tokio::test]
async fn t3_a_token_is_good_for_its_own_machine_only() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let boot = site.boot(MAC).await;
    site.boot(OTHER).await;
    for mac in [OTHER, "52:54:00:00:00:99", "", "zz", &"5".repeat(1 << 16)] {
        let boot = site.boot(MAC).await;
        let stolen = site::Boot {
            mac: mac.to_owned(),
            ..boot
        };
        assert_eq!(status(stolen.enrol(&new_key()).await), 401, "{mac:.20}");
    }
    site.told(
        site.machine_of(MAC),
        Kind::Refused,
        "another hardware address",
    )
    .await;
    assert!(boot.enrol(&new_key()).await.is_ok());
}

#[tokio::test]
async fn t3_a_key_speaks_for_one_machine_only() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let key = new_key();
    let agent = site.boot(MAC).await.enrolled(&key).await;
    let refused = site.boot(OTHER).await.enrol(&key).await;
    assert!(
        (400..500).contains(&status(refused)),
        "what a client does is no fault of the server"
    );
    agent
        .client
        .inventory(&Inventory::default())
        .await
        .expect("the first is not disturbed");
}

#[tokio::test]
async fn t12_only_tls_1_3_and_only_the_pinned_authority() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let boot = site.boot(MAC).await;
    let old = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let stream = TcpStream::connect(site.agents).await.unwrap();
    let refused = TlsConnector::from(Arc::new(old))
        .connect(ServerName::from(site.agents.ip()), stream)
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");

    let elsewhere = site::Boot {
        ca: CaPin([7; 32]),
        ..boot.clone()
    };
    let error = elsewhere.enrol(&new_key()).await.unwrap_err();
    assert!(
        matches!(error, AgentClientError::Untrusted { .. }),
        "{error}"
    );
    assert!(
        boot.enrol(&new_key()).await.is_ok(),
        "a refusal costs no token"
    );
}

#[tokio::test]
async fn m4_after_leave_the_next_boot_enrols_at_once_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let first = site.agent(MAC).await;
    first.client.inventory(&Inventory::default()).await.unwrap();
    assert!(matches!(
        first.client.work(Duration::ZERO).await.unwrap(),
        Order::Leave { .. }
    ));
    let second = site.agent(MAC).await;
    assert!(matches!(
        second.client.work(Duration::ZERO).await.unwrap(),
        Order::Leave { .. }
    ));
    site.kill().await;
    let site = Site::open(data.path()).await;
    site.agent(MAC).await;
}

#[tokio::test]
async fn t12_approval_compares_one_code_on_both_screens() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let boot = site.boot(MAC).await;
    let machine = site.machine_of(MAC);
    let key = new_key();
    let mut shown = String::new();
    for _ in 0..4 {
        match boot.enrol(&key).await.unwrap() {
            EnrolAnswer::Pending { code, .. } => shown = code,
            enrolled @ EnrolAnswer::Enrolled { .. } => panic!("{enrolled:?}"),
        }
    }
    assert_eq!(
        site.core.fleet.machine(machine).unwrap().registration,
        Registration::Pending
    );
    let told = site.told(machine, Kind::Agent, "waits for approval").await;
    assert!(told.text.contains(&shown), "{} has no {shown}", told.text);
    let sessions = site.core.db.agent_sessions(machine).await.unwrap();
    assert_eq!(
        sessions
            .iter()
            .map(|session| code(&session.key.0))
            .collect::<Vec<_>>(),
        [shown.clone()]
    );
    let timeline = site.core.db.timeline(machine, None, 500).await.unwrap();
    assert_eq!(
        timeline
            .iter()
            .filter(|e| e.value.text.contains("waits for approval"))
            .count(),
        1
    );

    // Somebody else asks in the machine's name, again and again, while the person looks at the code.
    for _ in 0..20 {
        let other = site.boot(MAC).await;
        assert_eq!(
            status(other.enrol(&new_key()).await),
            409,
            "one code at a time"
        );
    }
    site.told(machine, Kind::Warning, "A second agent").await;
    let sessions = site.core.db.agent_sessions(machine).await.unwrap();
    assert!(sessions.len() <= 17, "{} rows", sessions.len());
    assert!(sessions.iter().any(|s| code(&s.key.0) == shown));

    // Not approved: the key has a session, but it opens nothing.
    let signed = site
        .core
        .ca
        .sign_agent(&boot.request(&key).csr, machine.0)
        .unwrap();
    let client = AgentClient::new(
        boot.server,
        boot.ca,
        Some(site::identity(&signed.chain, &key)),
    )
    .unwrap();
    assert_eq!(status(client.work(Duration::ZERO).await), 401);

    site.set_registration(machine, Registration::Approved).await;
    assert_eq!(
        status(boot.enrol(&new_key()).await),
        401,
        "another key with the same token"
    );
    boot.enrolled(&key)
        .await
        .client
        .inventory(&Inventory::default())
        .await
        .unwrap();
}
