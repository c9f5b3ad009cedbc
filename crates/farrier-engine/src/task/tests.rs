//! The task machine, row by row and under random events.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn task(state: State) -> Task {
    Task {
        id: TaskId(Uuid::from_u128(1)),
        machine: MachineId(Uuid::from_u128(2)),
        work: Work::Inventory,
        state,
        fence: 5,
        attempts: 1,
        max_attempts: 3,
        created: WallTime(0),
        created_by: "anna".into(),
        by_policy: false,
        expires: WallTime(1000),
        heard: None,
        progress: Progress::default(),
        reason: None,
        ended: None,
        then: Then::LocalBoot,
        revision: 7,
    }
}

fn progress() -> Progress {
    Progress {
        phase: "writing".into(),
        done_bytes: 1,
        total_bytes: 2,
        ..Progress::default()
    }
}

fn failed(may_retry: bool) -> Outcome {
    Outcome::Failed {
        reason: "the network broke".into(),
        may_retry,
    }
}

#[test]
fn events_by_state() {
    use Refused::{Ended, NotExpired, NotRunning, Queued as InQueue, StaleFence};
    use State::{Cancelled, Done, Expired, Failed, Lost, Queued, Running};
    let by = || "anna".to_owned();
    let finished = |outcome| Event::Finished { fence: 5, outcome };
    let rows: [(State, Event, i64, Result<State, Refused>); 30] = [
        (Queued, Event::Claim, 10, Ok(Running)),
        (Queued, Event::Claim, 1000, Ok(Expired)),
        (
            Queued,
            Event::Progress {
                fence: 5,
                progress: progress(),
            },
            10,
            Err(NotRunning),
        ),
        (Queued, finished(Outcome::Done), 10, Err(NotRunning)),
        (Queued, Event::Silent, 10, Err(NotRunning)),
        (Queued, Event::Resume { fence: 5 }, 10, Err(NotRunning)),
        (Queued, Event::Expire, 999, Err(NotExpired)),
        (Queued, Event::Expire, 1000, Ok(Expired)),
        (Queued, Event::Retry { by: by() }, 10, Err(InQueue)),
        (Queued, Event::Cancel { by: by() }, 10, Ok(Cancelled)),
        (Running, Event::Claim, 10, Ok(Running)),
        (
            Running,
            Event::Progress {
                fence: 5,
                progress: progress(),
            },
            10,
            Ok(Running),
        ),
        (
            Running,
            Event::Progress {
                fence: 4,
                progress: progress(),
            },
            10,
            Err(StaleFence),
        ),
        (
            Running,
            Event::Progress {
                fence: 6,
                progress: progress(),
            },
            10,
            Err(StaleFence),
        ),
        (Running, finished(Outcome::Done), 5000, Ok(Done)),
        (Running, finished(failed(true)), 10, Ok(Queued)),
        (Running, finished(failed(false)), 10, Ok(Failed)),
        (Running, Event::Silent, 10, Ok(Lost)),
        (Running, Event::Expire, 2000, Err(NotExpired)),
        (Running, Event::Retry { by: by() }, 10, Ok(Queued)),
        (Running, Event::Cancel { by: by() }, 10, Ok(Cancelled)),
        (Lost, Event::Claim, 10, Ok(Running)),
        (Lost, Event::Resume { fence: 5 }, 2000, Ok(Running)),
        (Lost, Event::Resume { fence: 4 }, 10, Err(StaleFence)),
        (Lost, finished(Outcome::Done), 10, Ok(Done)),
        (Lost, Event::Expire, 1000, Ok(Expired)),
        (Lost, Event::Retry { by: by() }, 10, Ok(Queued)),
        (Lost, Event::Silent, 10, Err(NotRunning)),
        (Done, Event::Claim, 10, Err(Ended)),
        (Failed, Event::Retry { by: by() }, 10, Err(Ended)),
    ];
    for (state, event, at, expected) in rows {
        let name = format!("{state:?} + {event:?} at {at}");
        let before = task(state);
        let result = apply(&before, event, WallTime(at));
        assert_eq!(
            result.as_ref().map(|a| a.task.state).map_err(|e| *e),
            expected,
            "{name}"
        );
        if let Ok(Applied { task, said }) = result {
            assert_eq!(task.revision, 7, "{name}: storing raises it");
            assert_eq!(task.ended.is_some(), task.state.is_ended(), "{name}");
            assert!(said.iter().all(|words| !words.is_empty()), "{name}");
            if task.state != state {
                assert!(!said.is_empty(), "{name}: a change of state is told");
            }
        }
    }
}

#[test]
fn the_last_attempt_ends_it() {
    let last = Task {
        attempts: 3,
        ..task(State::Running)
    };
    let reboot = apply(&last, Event::Claim, WallTime(10)).unwrap();
    assert_eq!(reboot.task.state, State::Failed);
    assert_eq!(
        reboot.said,
        ["The task was started 3 times and did not finish."]
    );
    let outcome = failed(true);
    let failure = apply(&last, Event::Finished { fence: 5, outcome }, WallTime(10)).unwrap();
    assert_eq!(
        failure.task.reason.as_deref(),
        Some("The task failed: the network broke")
    );
}

#[test]
fn a_new_claim_shuts_the_old_agent_out() {
    let first = apply(&task(State::Queued), Event::Claim, WallTime(1))
        .unwrap()
        .task;
    let second = apply(&first, Event::Claim, WallTime(2)).unwrap().task;
    assert!(second.fence > first.fence);
    let late = Event::Finished {
        fence: first.fence,
        outcome: Outcome::Done,
    };
    assert_eq!(apply(&second, late, WallTime(3)), Err(Refused::StaleFence));
}

#[test]
fn due_or_not() {
    for (state, at, due) in [
        (State::Queued, 999, true),
        (State::Queued, 1000, false),
        (State::Running, 5000, true),
        (State::Lost, 5000, true),
        (State::Done, 0, false),
        (State::Failed, 0, false),
        (State::Cancelled, 0, false),
        (State::Expired, 0, false),
    ] {
        assert_eq!(task(state).is_due(WallTime(at)), due, "{state:?} at {at}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    assert_eq!(
        Refused::StaleFence.to_string(),
        "the task was started anew since: leave it and ask for work again"
    );
    assert_eq!(
        Refused::Ended.to_string(),
        "the task has ended: create a new one"
    );
}

#[test]
fn r10_a_clock_put_back_harms_nothing() {
    let running = Task {
        heard: Some(WallTime(900)),
        ..task(State::Running)
    };
    let event = Event::Progress {
        fence: 5,
        progress: progress(),
    };
    let applied = apply(&running, event, WallTime(-86_400_000)).unwrap();
    assert_eq!(applied.task.state, State::Running);
    assert_eq!(
        apply(&task(State::Queued), Event::Expire, WallTime(-1)),
        Err(Refused::NotExpired)
    );
}

#[test]
fn a_task_survives_storage() {
    let selector = DiskSelector {
        bus: Some("nvme".into()),
        min_bytes: Some(1),
        ..DiskSelector::default()
    };
    let deploy = Task {
        work: Work::Deploy {
            image: "debian".into(),
            version: Some(2),
            disk: selector,
        },
        ..task(State::Lost)
    };
    let json = serde_json::to_value(&deploy).unwrap();
    assert_eq!(
        (&json["work"]["kind"], &json["state"]),
        (&"deploy".into(), &"lost".into())
    );
    assert_eq!(serde_json::from_value::<Task>(json).unwrap(), deploy);
    let typo = r#"{"serail":"S1"}"#;
    assert!(
        serde_json::from_str::<DiskSelector>(typo).is_err(),
        "a misspelt disk selector must not match every disk"
    );
}

fn event() -> impl Strategy<Value = Event> {
    let fence = 0u64..12;
    prop_oneof![
        4 => Just(Event::Claim),
        2 => fence.clone().prop_map(|fence| Event::Progress { fence, progress: progress() }),
        1 => fence.clone().prop_map(|fence| Event::Finished { fence, outcome: Outcome::Done }),
        2 => (fence.clone(), any::<bool>())
            .prop_map(|(fence, may_retry)| Event::Finished { fence, outcome: failed(may_retry) }),
        2 => Just(Event::Silent),
        2 => fence.prop_map(|fence| Event::Resume { fence }),
        1 => Just(Event::Cancel { by: "anna".into() }),
        1 => Just(Event::Expire),
        2 => Just(Event::Retry { by: "anna".into() }),
    ]
}

fn fence_of(event: &Event) -> Option<u64> {
    match event {
        Event::Progress { fence, .. } | Event::Finished { fence, .. } | Event::Resume { fence } => {
            Some(*fence)
        }
        _ => None,
    }
}

proptest! {
    #[test]
    fn any_course_of_events_keeps_the_rules(
        events in prop::collection::vec((event(), 0i64..200), 1..40),
        max_attempts in 1u32..5,
    ) {
        let mut task = Task { attempts: 0, fence: 0, max_attempts, ..task(State::Queued) };
        let mut now = WallTime(0);
        let mut claims = 0;
        for (event, wait) in events {
            now = WallTime(now.0 + wait);
            let before = task.clone();
            let fence = fence_of(&event);
            let is_claim = event == Event::Claim;
            let result = apply(&before, event, now);
            if before.state.is_ended() {
                prop_assert_eq!(&result, &Err(Refused::Ended), "ended tasks never restart");
            }
            if fence.is_some_and(|fence| fence != before.fence) {
                prop_assert!(result.is_err(), "a stale fence never changes anything");
            }
            let Ok(applied) = result else { continue };
            task = applied.task;
            claims += u32::from(is_claim && task.state == State::Running);
            prop_assert!(task.fence >= before.fence, "fences only rise");
            prop_assert_eq!(task.revision, before.revision);
            prop_assert_eq!(task.attempts, claims);
            prop_assert!(task.attempts <= max_attempts, "attempts are bounded");
            prop_assert!(!(is_claim && task.state == State::Running && now >= task.expires));
            prop_assert_eq!(task.ended.is_some(), task.state.is_ended());
        }
    }
}
