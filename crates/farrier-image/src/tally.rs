//! Counts what the threads of a capture or deployment do, and tells the watcher.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::transport::{Phase, Progress, Watch};

/// Shared by all threads of one run.
pub(crate) struct Tally<'a> {
    watch: &'a dyn Watch,
    phase: AtomicU8,
    total: AtomicU64,
    done: AtomicU64,
    moved: AtomicU64,
    written: AtomicU64,
    read: AtomicU64,
    busy_us: [AtomicU64; 3],
}

/// What a thread was busy with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Busy {
    Disk,
    Cpu,
    Network,
}

const PHASES: [Phase; 5] = [
    Phase::Planning,
    Phase::Reading,
    Phase::Writing,
    Phase::Verifying,
    Phase::Committing,
];

impl<'a> Tally<'a> {
    pub(crate) fn new(watch: &'a dyn Watch) -> Self {
        Self {
            watch,
            phase: AtomicU8::new(0),
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            written: AtomicU64::new(0),
            read: AtomicU64::new(0),
            busy_us: Default::default(),
        }
    }

    /// Starts a phase that deals with `total` bytes.
    pub(crate) fn start(&self, phase: Phase, total: u64) {
        let number = PHASES.iter().position(|known| *known == phase).unwrap_or(0);
        self.phase.store(number as u8, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.tell();
    }

    /// Runs `f` and books its time.
    pub(crate) fn time<T>(&self, busy: Busy, f: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = f();
        let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.busy_us[busy as usize].fetch_add(us, Ordering::Relaxed);
        result
    }

    pub(crate) fn done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn moved(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn read_bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn progress(&self) -> Progress {
        let ms = |busy: Busy| {
            let us = self.busy_us[busy as usize].load(Ordering::Relaxed);
            u64::try_from(Duration::from_micros(us).as_millis()).unwrap_or(u64::MAX)
        };
        Progress {
            phase: PHASES[usize::from(self.phase.load(Ordering::Relaxed)) % PHASES.len()],
            done_bytes: self.done.load(Ordering::Relaxed),
            total_bytes: self.total.load(Ordering::Relaxed),
            moved_bytes: self.moved.load(Ordering::Relaxed),
            written_bytes: self.written.load(Ordering::Relaxed),
            disk_ms: ms(Busy::Disk),
            cpu_ms: ms(Busy::Cpu),
            network_ms: ms(Busy::Network),
        }
    }

    /// Tells the watcher how far it is.
    pub(crate) fn tell(&self) {
        self.watch.progress(&self.progress());
    }

    /// The watcher's reason to stop now.
    pub(crate) fn stop(&self) -> Option<String> {
        self.watch.stop()
    }
}
