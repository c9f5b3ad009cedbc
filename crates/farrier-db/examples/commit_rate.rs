//! How many lease writes per second are made durable, by how many callers at once.
//!
//! `cargo run -p farrier-db --example commit_rate --release -- FOLDER`

use std::path::PathBuf;
use std::time::{Duration, Instant};

use farrier_db::{Db, Options};
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::{MacAddr, WallTime};

const TIME: Duration = Duration::from_secs(3);

#[allow(clippy::print_stdout, reason = "the figures are what it is run for")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    for callers in [1, 4, 16, 64, 256] {
        let path = folder.join(format!("commit-rate-{}-{callers}.db", std::process::id()));
        let db = Db::open(&path, Options::default()).await?;
        let start = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|caller| tokio::spawn(write(db.clone(), caller, start)))
            .collect();
        let mut written = 0;
        for task in tasks {
            written += task.await??;
        }
        println!(
            "{callers:4} callers: {:8.0} leases/s",
            f64::from(written) / start.elapsed().as_secs_f64()
        );
        db.close().await;
        for ending in ["", ".lock"] {
            std::fs::remove_file(format!("{}{ending}", path.display()))?;
        }
    }
    Ok(())
}

async fn write(db: Db, caller: u32, start: Instant) -> Result<u32, farrier_db::DbError> {
    let mut written = 0;
    while start.elapsed() < TIME {
        let lease = Lease {
            ip: (caller * 0x1_0000 + written % 50).into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            client_id: None,
            hostname: Some("workstation".into()),
            state: LeaseState::Active,
            starts: WallTime(0),
            ends: WallTime(written.into()),
        };
        db.save_lease(&lease).await?;
        written += 1;
    }
    Ok(written)
}
