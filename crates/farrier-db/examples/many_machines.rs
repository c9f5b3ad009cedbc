//! A database with many machines, to measure a server that knows them.
//!
//! `cargo run -p farrier-db --example many_machines -- FILE NUMBER`. The addresses are those that
//! `farrier bench --seed 1` uses, so that its first machines are known ones.

use std::path::PathBuf;

use farrier_db::{Db, Options};
use farrier_engine::model::{Arch, FirmwareKind, Machine, MachineId, Registration};
use farrier_engine::policy::Settings;
use farrier_engine::{MacAddr, WallTime};
use uuid::Uuid;

#[allow(clippy::print_stdout, reason = "the count is what it says")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let file = arguments.next().map(PathBuf::from).ok_or("name the file")?;
    let number = arguments
        .next()
        .and_then(|n| n.to_str()?.parse::<u32>().ok());
    let number = number.ok_or("say how many")?;
    let db = Db::open(&file, Options::default()).await?;
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(create(db.clone(), caller, number)))
        .collect();
    for caller in callers {
        caller.await??;
    }
    db.close().await;
    println!("{number} machines in {}", file.display());
    Ok(())
}

async fn create(db: Db, caller: u32, number: u32) -> Result<(), farrier_db::DbError> {
    for n in (caller..number).step_by(CALLERS as usize) {
        db.create_machine(&machine(n)).await?;
    }
    Ok(())
}

fn machine(n: u32) -> Machine {
    let [_, a, b, c] = n.to_be_bytes();
    Machine {
        id: MachineId(Uuid::from_u128(1 << 100 | u128::from(n))),
        name: None,
        registration: Registration::Approved,
        macs: vec![MacAddr([2, 0, 1, a, b, c])],
        uuid: None,
        firmware: Some(FirmwareKind::Uefi),
        arch: Some(Arch::X86_64),
        group: None,
        settings: Settings::default(),
        intent: None,
        learned: None,
        inventory: None,
        first_seen: WallTime(0),
        last_seen: WallTime(0),
        revision: 0,
    }
}

/// As many as one transaction takes.
const CALLERS: u32 = 256;
