//! A server that is killed at any moment loses nothing that it acknowledged.
//!
//! This program runs itself again as the writer, reads what that acknowledges from a pipe, and kills it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use farrier_db::{Db, Options, TaskQuery};
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::model::{Machine, MachineId, Registration, TaskId};
use farrier_engine::task::{Progress, State, Task, Then, Work};
use farrier_engine::{MacAddr, WallTime};
use uuid::Uuid;

const PATH: &str = "FARRIER_DB_CRASH_PATH";
const ROUND: &str = "FARRIER_DB_CRASH_ROUND";
const KILLS: u32 = 30;
const WRITERS: u32 = 16;

/// Writer number and round make the address, so that no two writers share one; `n` is what is counted.
fn lease(round: u32, writer: u32, n: i64) -> Lease {
    Lease {
        ip: Ipv4Addr::from(round * 1000 + writer),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        client_id: None,
        hostname: Some("x".repeat(usize::try_from(n % 300).unwrap())),
        state: LeaseState::Active,
        starts: WallTime(0),
        ends: WallTime(n),
    }
}

fn machine() -> Machine {
    Machine {
        id: MachineId(Uuid::from_u128(1)),
        name: None,
        registration: Registration::Approved,
        macs: vec![],
        uuid: None,
        firmware: None,
        arch: None,
        group: None,
        settings: Default::default(),
        intent: None,
        learned: None,
        inventory: None,
        first_seen: WallTime(0),
        last_seen: WallTime(0),
        revision: 0,
    }
}

fn task(round: u32) -> Task {
    Task {
        id: TaskId(Uuid::from_u128(round.into())),
        machine: machine().id,
        work: Work::Inventory,
        state: State::Running,
        fence: 0,
        attempts: 0,
        max_attempts: 1,
        created: WallTime(0),
        created_by: "crash".into(),
        by_policy: false,
        expires: WallTime(i64::MAX),
        heard: None,
        progress: Progress::default(),
        reason: None,
        ended: None,
        then: Then::LocalBoot,
        revision: 0,
    }
}

/// The writer. Run as a test by itself it has nothing to do.
#[test]
fn writer_that_is_killed() {
    let (Ok(path), Ok(round)) = (std::env::var(PATH), std::env::var(ROUND)) else {
        return;
    };
    let round: u32 = round.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let db = Db::open(Path::new(&path), Options::default())
            .await
            .unwrap();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write_leases(db.clone(), round, writer)))
            .collect();
        write_task(db, round).await;
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write_leases(db: Db, round: u32, writer: u32) {
    for n in 0.. {
        db.save_lease(&lease(round, writer, n)).await.unwrap();
        acknowledge(&format!("lease {} {n}", round * 1000 + writer));
    }
}

async fn write_task(db: Db, round: u32) {
    if db.machine(machine().id).await.unwrap().is_none() {
        db.create_machine(&machine()).await.unwrap();
    }
    let mut task = db.create_task(&task(round)).await.unwrap();
    loop {
        acknowledge(&format!("task {round} {}", task.revision));
        task.fence += 1;
        task = db.update_task(&task).await.unwrap();
    }
}

/// One write to the pipe for one line: it is there whole or not at all.
fn acknowledge(line: &str) {
    std::io::stdout()
        .write_all(format!("ACK {line}\n").as_bytes())
        .unwrap();
    std::io::stdout().flush().unwrap();
}

/// What was acknowledged last, by kind and number.
type Acknowledged = BTreeMap<(String, u32), i64>;

#[test]
fn r1_nothing_acknowledged_is_lost_by_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("farrier.db");
    let mut acknowledged = Acknowledged::new();
    for round in 1..=KILLS {
        let before = acknowledged.len();
        run_and_kill(&path, round, &mut acknowledged);
        assert!(
            acknowledged.len() > before,
            "round {round} acknowledged nothing"
        );
        tokio::runtime::Runtime::new()
            .unwrap()
            .block_on(check(&path, &acknowledged));
    }
    let writes: i64 = acknowledged.values().sum();
    assert!(
        writes > i64::from(KILLS) * 20,
        "only {writes} writes: the test hardly tested anything"
    );
}

fn run_and_kill(path: &Path, round: u32, acknowledged: &mut Acknowledged) {
    let mut child = start_writer(path, round);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut lines = String::new();
    // Time counts from the first acknowledgement, so that a slow start is no wasted round.
    while !lines.contains("ACK") {
        assert!(
            output.read_line(&mut lines).unwrap() > 0,
            "the writer ended by itself: {lines}"
        );
    }
    let reader = std::thread::spawn(move || {
        output.read_to_string(&mut lines).unwrap();
        lines
    });
    std::thread::sleep(Duration::from_micros(random(round) % 120_000));
    child.kill().unwrap();
    child.wait().unwrap();
    for line in reader.join().unwrap().lines() {
        let Some((_, line)) = line.split_once("ACK ") else {
            continue;
        };
        let [kind, number, count] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let count: i64 = count.parse().unwrap();
        let highest = acknowledged
            .entry((kind.into(), number.parse().unwrap()))
            .or_insert(count);
        *highest = count.max(*highest);
    }
}

fn start_writer(path: &Path, round: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_that_is_killed", "--nocapture"])
        .env(PATH, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Opening runs the structure check; each thing must be as acknowledged or newer, never older.
async fn check(path: &Path, acknowledged: &Acknowledged) {
    let db = Db::open(path, Options::default()).await.unwrap();
    let leases: BTreeMap<u32, Lease> = db
        .all_leases()
        .await
        .unwrap()
        .into_iter()
        .map(|lease| (lease.ip.into(), lease))
        .collect();
    let tasks = db
        .tasks(&TaskQuery::default(), None, u32::MAX)
        .await
        .unwrap();
    for ((kind, number), count) in acknowledged {
        if kind == "task" {
            let task = tasks
                .iter()
                .find(|task| task.id.0.as_u128() == u128::from(*number));
            let task = task.unwrap_or_else(|| panic!("task {number} is gone"));
            assert!(
                i64::try_from(task.revision).unwrap() >= *count,
                "task {number} fell back to {}",
                task.revision
            );
            assert_eq!(task.revision, task.fence + 1, "task {number} is torn");
        } else {
            let found = leases
                .get(number)
                .unwrap_or_else(|| panic!("lease {number} is gone"));
            assert!(
                found.ends.0 >= *count,
                "lease {number} fell back from {count} to {}",
                found.ends.0
            );
            assert_eq!(
                *found,
                lease(number / 1000, number % 1000, found.ends.0),
                "lease {number} is torn"
            );
        }
    }
    db.close().await;
    integrity(path).await;
}

async fn integrity(path: &Path) {
    use sqlx::{ConnectOptions, Connection};
    let mut conn = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    let (found,): (String,) = sqlx::query_as("PRAGMA integrity_check")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(found, "ok");
    conn.close().await.unwrap();
}

/// Another moment in each run; the seed is the clock, and the moment is of no use for repeating anyway.
fn random(round: u32) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(round)
}
