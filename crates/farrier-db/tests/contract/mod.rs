//! What every engine behind the door must do, as bodies over an empty database.

pub(crate) mod access;
pub(crate) mod agents;
pub(crate) mod audit;
pub(crate) mod concurrency;
pub(crate) mod hostile;
pub(crate) mod leases;
pub(crate) mod machines;
pub(crate) mod site;
pub(crate) mod tasks;
pub(crate) mod timeline;
pub(crate) mod tokens;

use std::time::Duration;

use farrier_db::Db;
use farrier_engine::model::{Machine, MachineId, Registration, TaskId};
use farrier_engine::task::{Progress, State, Task, Then, Work};
use farrier_engine::{MacAddr, WallTime};
use uuid::Uuid;

pub(crate) const NOW: WallTime = WallTime(1_790_000_000_000);

pub(crate) fn machine_id(n: u128) -> MachineId {
    MachineId(Uuid::from_u128(n))
}

pub(crate) fn task_id(n: u128) -> TaskId {
    TaskId(Uuid::from_u128(n))
}

pub(crate) fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, last])
}

pub(crate) fn machine(n: u128) -> Machine {
    Machine {
        id: machine_id(n),
        name: None,
        registration: Registration::Seen,
        macs: vec![],
        uuid: None,
        firmware: None,
        arch: None,
        group: None,
        settings: Default::default(),
        intent: None,
        learned: None,
        inventory: None,
        first_seen: NOW,
        last_seen: NOW,
        revision: 0,
    }
}

pub(crate) async fn stored_machine(db: &Db, n: u128) -> Machine {
    db.create_machine(&machine(n)).await.unwrap()
}

pub(crate) fn task(n: u128, machine: MachineId) -> Task {
    Task {
        id: task_id(n),
        machine,
        work: Work::Inventory,
        state: State::Queued,
        fence: 0,
        attempts: 0,
        max_attempts: 3,
        created: NOW,
        created_by: "test".into(),
        by_policy: false,
        expires: NOW + Duration::from_secs(3600),
        heard: None,
        progress: Progress::default(),
        reason: None,
        ended: None,
        then: Then::LocalBoot,
        revision: 0,
    }
}
