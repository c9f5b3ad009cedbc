use std::time::Duration;

use farrier_db::{Db, DbError, TaskQuery};
use farrier_engine::task::{Bottleneck, DiskSelector, Progress, State, Task, Then, Work};

use super::{NOW, machine_id, stored_machine, task, task_id};

pub(crate) async fn a_task_comes_back_equal(db: &Db) {
    let machine = stored_machine(db, 1).await.id;
    let disk = DiskSelector {
        serial: Some("S'1".into()),
        min_bytes: Some(u64::MAX),
        ..DiskSelector::default()
    };
    let works = [
        Work::Inventory,
        Work::Capture {
            image: "base".into(),
            disk: disk.clone(),
        },
        Work::Deploy {
            image: "base".into(),
            version: Some(3),
            disk: disk.clone(),
        },
        Work::Repair {
            image: "base".into(),
            version: None,
            disk,
        },
    ];
    for (n, work) in (1..).zip(works) {
        let new = Task {
            work,
            state: State::Running,
            fence: 5,
            heard: Some(NOW),
            progress: Progress {
                phase: "reading the disk".into(),
                done_bytes: 1,
                total_bytes: u64::MAX,
                bytes_per_second: 9,
                bottleneck: Some(Bottleneck::Disk),
            },
            reason: Some("zurück".into()),
            then: Then::PowerOff,
            ..task(n, machine)
        };
        let stored = db.create_task(&new).await.unwrap();
        assert_eq!(stored, Task { revision: 1, ..new });
        assert_eq!(db.task(stored.id).await.unwrap(), Some(stored));
    }
    assert_eq!(db.task(task_id(99)).await.unwrap(), None);
}

pub(crate) async fn a_stale_change_is_refused_for_tasks(db: &Db) {
    let machine = stored_machine(db, 1).await.id;
    let read = db.create_task(&task(1, machine)).await.unwrap();
    let claimed = Task {
        fence: 1,
        state: State::Running,
        ..read.clone()
    };
    let claimed = db.update_task(&claimed).await.unwrap();
    assert_eq!(claimed.revision, 2);
    let refused = db
        .update_task(&Task {
            state: State::Cancelled,
            ..read
        })
        .await
        .unwrap_err();
    assert!(matches!(refused, DbError::Conflict { .. }), "{refused}");
    assert_eq!(db.task(claimed.id).await.unwrap(), Some(claimed));
    let missing = db.update_task(&task(2, machine)).await.unwrap_err();
    assert!(matches!(missing, DbError::Missing { .. }), "{missing}");
    let taken = db.create_task(&task(1, machine)).await.unwrap_err();
    assert!(matches!(taken, DbError::Taken { .. }), "{taken}");
}

pub(crate) async fn due_and_unfinished_follow_state_and_expiry(db: &Db) {
    let machine = stored_machine(db, 1).await.id;
    let other = stored_machine(db, 2).await.id;
    let states = [
        (State::Queued, true, false),
        (State::Running, true, true),
        (State::Lost, true, false),
        (State::Done, false, false),
        (State::Failed, false, false),
        (State::Cancelled, false, false),
        (State::Expired, false, false),
    ];
    for (n, (state, _, _)) in (1..).zip(states) {
        db.create_task(&Task {
            state,
            ..task(n, machine)
        })
        .await
        .unwrap();
    }
    db.create_task(&task(50, other)).await.unwrap();

    let later = NOW + Duration::from_secs(3600);
    for (at, expected) in [
        (NOW, [1, 2, 3].as_slice()),
        // At the expiry itself only what an agent holds is left.
        (later, [2].as_slice()),
    ] {
        let due: Vec<_> = db
            .tasks_due(machine, at)
            .await
            .unwrap()
            .iter()
            .map(|t| t.id)
            .collect();
        assert_eq!(
            due,
            expected.iter().map(|n| task_id(*n)).collect::<Vec<_>>(),
            "{at:?}"
        );
    }
    let unfinished: Vec<_> = db
        .unfinished_tasks()
        .await
        .unwrap()
        .iter()
        .map(|t| t.id)
        .collect();
    assert_eq!(unfinished, [1, 2, 3, 50].map(task_id));

    let running = db.task(task_id(2)).await.unwrap().unwrap();
    db.update_task(&Task {
        state: State::Done,
        ..running
    })
    .await
    .unwrap();
    assert_eq!(db.tasks_due(machine, later).await.unwrap(), []);
    assert_eq!(db.unfinished_tasks().await.unwrap().len(), 3);
}

pub(crate) async fn pages_are_newest_first(db: &Db) {
    let one = stored_machine(db, 1).await.id;
    let two = stored_machine(db, 2).await.id;
    for n in 1..=6 {
        let machine = if n % 2 == 0 { two } else { one };
        let state = if n > 4 { State::Done } else { State::Queued };
        db.create_task(&Task {
            state,
            ..task(n, machine)
        })
        .await
        .unwrap();
    }
    let ids = async |query: TaskQuery, before: Option<u128>, limit| -> Vec<u128> {
        let page = db.tasks(&query, before.map(task_id), limit).await.unwrap();
        page.iter().map(|t| t.id.0.as_u128()).collect()
    };
    let all = TaskQuery::default();
    assert_eq!(ids(all.clone(), None, 4).await, [6, 5, 4, 3]);
    assert_eq!(ids(all, Some(3), 4).await, [2, 1]);
    assert_eq!(
        ids(
            TaskQuery {
                machine: Some(two),
                ..TaskQuery::default()
            },
            None,
            9
        )
        .await,
        [6, 4, 2]
    );
    assert_eq!(
        ids(
            TaskQuery {
                state: Some(State::Done),
                ..TaskQuery::default()
            },
            None,
            9
        )
        .await,
        [6, 5]
    );
    assert_eq!(
        ids(
            TaskQuery {
                machine: Some(one),
                state: Some(State::Queued),
                ..TaskQuery::default()
            },
            None,
            9
        )
        .await,
        [3, 1]
    );
    let of = |machines: &[_]| TaskQuery {
        machines: Some(machines.to_vec()),
        ..TaskQuery::default()
    };
    assert_eq!(ids(of(&[two]), None, 2).await, [6, 4]);
    assert_eq!(ids(of(&[two, one]), Some(6), 2).await, [5, 4]);
    assert_eq!(ids(of(&[]), None, 9).await, []);
    let newest = async |machines: &[_]| {
        let found = db.newest_tasks(machines).await.unwrap();
        let mut ids: Vec<_> = found.iter().map(|t| t.id.0.as_u128()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(newest(&[one, two]).await, [5, 6]);
    assert_eq!(newest(&[one]).await, [5]);
    assert_eq!(newest(&[]).await, []);
}

pub(crate) async fn a_task_needs_its_machine(db: &Db) {
    let missing = db.create_task(&task(1, machine_id(404))).await.unwrap_err();
    assert!(
        matches!(
            missing,
            DbError::Missing {
                what: "machine",
                ..
            }
        ),
        "{missing}"
    );
}

pub(crate) async fn starts_of_the_agent_are_kept_for_a_while(db: &Db) {
    let machine = stored_machine(db, 1).await.id;
    let one = db.create_task(&task(1, machine)).await.unwrap().id;
    let two = db.create_task(&task(2, machine)).await.unwrap().id;
    let at = |seconds| NOW + Duration::from_secs(seconds);
    for (task, seconds) in [(one, 1), (two, 2), (one, 3)] {
        db.note_agent_start(task, at(seconds), NOW).await.unwrap();
    }
    let all = db.agent_starts(NOW).await.unwrap();
    assert_eq!(all, [(one, at(1)), (two, at(2)), (one, at(3))]);
    // What is older than the window goes with the next one.
    db.note_agent_start(two, at(9), at(3)).await.unwrap();
    assert_eq!(
        db.agent_starts(NOW).await.unwrap(),
        [(one, at(3)), (two, at(9))]
    );
    db.forget_agent_starts(two).await.unwrap();
    assert_eq!(db.agent_starts(NOW).await.unwrap(), [(one, at(3))]);
    db.delete_machine(machine).await.unwrap();
    assert_eq!(db.agent_starts(NOW).await.unwrap(), []);
}
