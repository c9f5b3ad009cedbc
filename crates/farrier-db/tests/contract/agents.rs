use std::time::Duration;

use farrier_db::{AgentSession, Db, DbError, KeyFingerprint};

use super::{NOW, machine_id, stored_machine};

fn session(machine: u128, key: u8) -> AgentSession {
    AgentSession {
        machine: machine_id(machine),
        key: KeyFingerprint([key; 32]),
        serial: "0a1b".into(),
        enrolled: NOW,
        heard: NOW,
    }
}

pub(crate) async fn t3_a_key_speaks_for_one_machine(db: &Db) {
    stored_machine(db, 1).await;
    stored_machine(db, 2).await;
    db.save_agent_session(&session(1, 7)).await.unwrap();
    let taken = db.save_agent_session(&session(2, 7)).await.unwrap_err();
    assert!(matches!(taken, DbError::Taken { .. }), "{taken}");
    assert_eq!(
        db.agent_session(KeyFingerprint([7; 32])).await.unwrap(),
        Some(session(1, 7))
    );
    let missing = db.save_agent_session(&session(404, 8)).await.unwrap_err();
    assert!(matches!(missing, DbError::Missing { .. }), "{missing}");

    // A new certificate for the same key is the same session.
    let renewed = AgentSession {
        serial: "0a1c".into(),
        heard: NOW + Duration::from_secs(1),
        ..session(1, 7)
    };
    db.save_agent_session(&renewed).await.unwrap();
    assert_eq!(db.agent_sessions(machine_id(1)).await.unwrap(), [renewed]);
}

pub(crate) async fn sessions_are_heard_and_end(db: &Db) {
    stored_machine(db, 1).await;
    for key in [1, 2, 3] {
        db.save_agent_session(&session(1, key)).await.unwrap();
    }
    let later = NOW + Duration::from_secs(9);
    assert!(
        db.agent_heard(KeyFingerprint([2; 32]), later)
            .await
            .unwrap()
    );
    assert!(db.agent_heard(KeyFingerprint([2; 32]), NOW).await.unwrap());
    assert!(
        !db.agent_heard(KeyFingerprint([9; 32]), later)
            .await
            .unwrap()
    );
    let sessions = db.agent_sessions(machine_id(1)).await.unwrap();
    assert_eq!(
        sessions[0],
        AgentSession {
            heard: later,
            ..session(1, 2)
        }
    );
    assert_eq!(sessions.len(), 3);

    assert!(db.end_agent_session(KeyFingerprint([1; 32])).await.unwrap());
    assert!(!db.end_agent_session(KeyFingerprint([1; 32])).await.unwrap());
    assert_eq!(
        db.agent_session(KeyFingerprint([1; 32])).await.unwrap(),
        None
    );
    assert_eq!(db.purge_agent_sessions(later).await.unwrap(), 1);
    assert_eq!(db.agent_sessions(machine_id(1)).await.unwrap().len(), 1);
}
