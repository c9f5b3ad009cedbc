//! A running server and somebody who imports boot programs beside it.

mod site;

use std::sync::Arc;
use std::time::{Duration, Instant};

use farrier_server::loaders::{read_loader, store, watch};
use site::Site;

#[tokio::test]
async fn a_running_server_notices_what_was_imported() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let watching = tokio::spawn(watch(Arc::clone(&site.core), stopped));
    let before = site.core.snapshot.load().catalogue.iter().count();
    tokio::time::sleep(Duration::from_millis(200)).await;

    let loader = read_loader("undionly.kpxe", "file", "unknown", vec![7; 4096]).unwrap();
    store(&data.path().join("loaders"), &[loader]).unwrap();

    let begin = Instant::now();
    while site.core.snapshot.load().catalogue.iter().count() == before {
        assert!(begin.elapsed() < Duration::from_secs(20), "nobody noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.send(true).unwrap();
    watching.await.unwrap();
}
