//! The page with a made-up site, over plain HTTP on loopback: for its browser tests and for looking at it.
//!
//! `cargo run -p farrier-server --example page -- 127.0.0.1:8099` prints how to sign in.

#[path = "../tests/admin/world.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod world;

use std::io::Write as _;
use std::time::Duration;

use farrier_api::admin::SetUp;
use farrier_engine::model::{Registration, TaskId};

#[tokio::main]
async fn main() {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8099".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let mut site = world::empty(folder.path()).await;
    let token = farrier_server::service::first_start(&site.core)
        .await
        .unwrap()
        .unwrap();
    let first = SetUp {
        token,
        name: "ada".to_owned(),
        password: PASSWORD.to_owned(),
    };
    site.door.set_up(&first, None).await.unwrap();
    world::seed(&mut site).await;
    for n in 5..70u8 {
        let state = if n % 9 == 0 {
            Registration::Seen
        } else {
            Registration::Approved
        };
        let (mac, name) = (format!("52:54:00:00:01:{n:02x}"), format!("room-{n:02}"));
        world::machine(&site.core, &mac, Some(&name), state, &format!("PF3K{n:04}")).await;
    }
    let task = TaskId(site.task);
    let core = std::sync::Arc::clone(&site.core);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(400)).await;
            core.fleet.show_progress(task, |task| {
                let total = task.progress.total_bytes;
                task.progress.done_bytes = (task.progress.done_bytes + (130 << 20)) % total;
            });
        }
    });
    let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "http://{address} ada {PASSWORD}").unwrap();
    out.flush().unwrap();
    axum::serve(listener, site.router).await.unwrap();
}

const PASSWORD: &str = "correct-horse-battery";
