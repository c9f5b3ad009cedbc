//! Work that is stopped or killed, and goes on.

use super::*;

/// Power is cut after every possible number of writes; the disk never looks whole before it is, and a
/// repair always ends proven.
#[test]
fn r2_killed_at_any_write_then_repaired_is_proven() {
    let source = raw_disk(6, &noise(8, 3 << 20));
    let store = MemStore::new();
    let manifest = take(&source, &store);
    let target = raw_disk(6, &noise(9, 5 << 20));
    for writes in 0.. {
        target.fail_writes_after(Some(writes));
        let result = go(&target, &manifest, Mode::Deploy, &store);
        target.fail_writes_after(None);
        if result.is_ok() {
            assert!(writes > 10, "the loop saw {writes} writes only");
            break;
        }
        assert!(result.unwrap_err().may_retry());
        if writes > 0 {
            assert_eq!(
                disk::read(&target).unwrap().table,
                Table::None,
                "after {writes} writes"
            );
        }
        let repaired = go(&target, &manifest, Mode::Repair, &store).unwrap();
        assert!(repaired.proven);
        assert!(
            content(&target) == content(&source),
            "after {writes} writes"
        );
        target.write_at(MIB, &noise(writes, 5 << 20)).unwrap();
    }
}

#[test]
fn r2_capture_and_deploy_outlive_a_server_that_restarts() {
    let source = raw_disk(40, &noise(3, 30 << 20));
    let store = MemStore::new();
    store.flaky.store(5, Ordering::Relaxed);
    let manifest = take(&source, &store);
    store.flaky.store(97, Ordering::Relaxed);
    let target = MemDevice::new(40 * MIB);
    let applied = go(&target, &manifest, Mode::Deploy, &store).unwrap();
    assert_eq!(
        applied.fetched_chunks, 120,
        "what came before the break is not fetched again"
    );
    assert!(content(&target) == content(&source));
}

/// Says stop after some calls.
struct Stopper {
    calls: AtomicUsize,
    after: usize,
    seen: Mutex<Vec<Progress>>,
}

impl Stopper {
    fn after(after: usize) -> Self {
        Self {
            calls: AtomicUsize::new(0),
            after,
            seen: Mutex::default(),
        }
    }
}

impl Watch for Stopper {
    fn progress(&self, progress: &Progress) {
        self.seen.lock().unwrap().push(*progress);
    }

    fn stop(&self) -> Option<String> {
        (self.calls.fetch_add(1, Ordering::Relaxed) >= self.after)
            .then(|| "the operator said so".to_owned())
    }
}

#[test]
fn r2_a_stopped_capture_goes_on_where_it_was() {
    let source = raw_disk(130, &noise(3, 120 << 20));
    let store = MemStore::new();
    let plan = capture::plan(&source, &options()).unwrap();
    let stopper = Stopper::after(5);
    let error = capture::capture(&source, &plan, &store, &stopper).unwrap_err();
    assert!(matches!(&error, CaptureError::Stopped(_)), "{error}");
    let first = store.puts.load(Ordering::Relaxed);
    assert!(first > 0 && first < 480);
    let watcher = Stopper::after(usize::MAX);
    let captured = capture::capture(&source, &plan, &store, &watcher).unwrap();
    assert_eq!(captured.new_chunks, 480 - first);
    assert_eq!(captured.read_bytes, plan.used_bytes());
    let seen = watcher.seen.lock().unwrap();
    assert!(
        seen.iter()
            .any(|p| p.done_bytes == p.total_bytes && p.phase == Phase::Reading)
    );
    assert!(
        seen.windows(2)
            .filter(|w| w[0].phase == w[1].phase)
            .all(|w| w[0].total_bytes == w[1].total_bytes)
    );
    assert_eq!(seen.last().unwrap().phase, Phase::Committing);
}
