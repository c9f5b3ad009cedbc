//! What capture, second capture, deploy, repair and verify of a disk cost, for `cargo xtask bench image`:
//!
//! ```text
//! image_bench DISK STORE [--second DISK2] [--target FILE] [--json]
//! ```
//!
//! `DISK` is a raw or qcow2 file, `STORE` a folder for a new store, `FILE` a disk to write over. With `--second` another version of
//! the disk is captured after the first, and the target is brought from the one to the other. CPU is
//! that of the whole process (user and system), the store included.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout)]

use std::collections::HashSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use farrier_image::apply::{self, Applied, Mode, NoSource};
use farrier_image::capture::{self, CaptureOptions};
use farrier_image::chunk::ChunkId;
use farrier_image::device::{Access, BlockDevice, FileDevice};
use farrier_image::import;
use farrier_image::key::SigningKey;
use farrier_image::manifest::Manifest;
use farrier_image::store::{LocalSink, LocalSource, Store, StoreKeys, StoreOptions};
use farrier_image::transport::{ChunkSource, Unwatched};

type Failure = Box<dyn Error>;

struct Arguments {
    disk: PathBuf,
    store: PathBuf,
    second: Option<PathBuf>,
    target: Option<PathBuf>,
    json: bool,
}

fn main() -> Result<(), Failure> {
    let arguments = arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let key = SigningKey::generate()?;
    let keys = StoreKeys {
        trusted: vec![key.verifying_key()],
        signing: Some(key),
    };
    let store = runtime.block_on(Store::open_local(
        &arguments.store,
        keys,
        StoreOptions::default(),
    ))?;
    let bench = Bench {
        store,
        runtime: runtime.handle().clone(),
        json: arguments.json,
    };

    let disk = import::open(&arguments.disk)?;
    let first = bench.capture("capture", &*disk)?;
    let second_disk = arguments.second.as_ref().map(import::open).transpose()?;
    let again = bench.capture("second-capture", second_disk.as_deref().unwrap_or(&*disk))?;

    let kept = tempfile_beside(&arguments.store);
    let target = match &arguments.target {
        Some(path) => FileDevice::open(path, Access::ReadWrite)?,
        None => FileDevice::create(&kept, disk.size())?,
    };
    let target = target.with_sector(disk.logical_sector());
    let source = LocalSource::new(bench.store.clone(), bench.runtime.clone());
    bench.unpack("unpack", &first, &source)?;
    bench.apply("deploy", &target, &first, Mode::Deploy, &source)?;
    bench.apply("repair", &target, &again, Mode::Repair, &source)?;
    let verified = bench.apply("verify", &target, &again, Mode::Verify, &NoSource)?;
    if arguments.target.is_none() {
        std::fs::remove_file(&kept)?;
    }
    match verified.proven {
        true => Ok(()),
        false => Err("the target is not the image".into()),
    }
}

fn arguments() -> Result<Arguments, Failure> {
    let usage = "usage: image_bench DISK STORE [--second DISK2] [--target FILE] [--json]";
    let mut words = std::env::args_os().skip(1);
    let disk = words.next().ok_or(usage)?.into();
    let store = words.next().ok_or(usage)?.into();
    let mut arguments = Arguments {
        disk,
        store,
        second: None,
        target: None,
        json: false,
    };
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--second") => arguments.second = Some(words.next().ok_or(usage)?.into()),
            Some("--target") => arguments.target = Some(words.next().ok_or(usage)?.into()),
            Some("--json") => arguments.json = true,
            _ => return Err(usage.into()),
        }
    }
    Ok(arguments)
}

fn tempfile_beside(store: &Path) -> PathBuf {
    store.with_extension("bench-target")
}

struct Bench {
    store: Store,
    runtime: tokio::runtime::Handle,
    json: bool,
}

impl Bench {
    fn capture(&self, job: &str, disk: &dyn BlockDevice) -> Result<Manifest, Failure> {
        warm_up();
        let clock = Clock::start();
        let sink = LocalSink::new(self.store.clone(), self.runtime.clone(), now_ms);
        let plan = capture::plan(disk, &CaptureOptions::new("bench".parse()?))?;
        let captured = capture::capture(disk, &plan, &sink, &Unwatched)?;
        let moved = ("stored", captured.stored_bytes);
        self.report(
            job,
            &clock,
            captured.read_bytes,
            &[moved, ("new_chunks", captured.new_chunks)],
        );
        Ok(captured.signed.open(&self.store.trusted())?.0)
    }

    fn apply(
        &self,
        job: &str,
        target: &dyn BlockDevice,
        manifest: &Manifest,
        mode: Mode,
        source: &dyn ChunkSource,
    ) -> Result<Applied, Failure> {
        warm_up();
        let clock = Clock::start();
        let plan = apply::plan(target, manifest, mode)?;
        let applied = apply::apply(target, manifest, &plan, source, &Unwatched)?;
        let bytes = [
            ("fetched", applied.fetched_bytes),
            ("written", applied.written_bytes),
            ("zeroed", applied.zeroed_bytes),
            ("checked", applied.checked_bytes),
        ];
        self.report(job, &clock, manifest.used_bytes(), &bytes);
        Ok(applied)
    }

    /// Fetches, unpacks and proves every chunk, and writes none.
    fn unpack(
        &self,
        job: &str,
        manifest: &Manifest,
        source: &dyn ChunkSource,
    ) -> Result<(), Failure> {
        warm_up();
        let clock = Clock::start();
        // In the order of the disk, as a deployment asks.
        let mut seen = HashSet::new();
        let ids: Vec<ChunkId> = manifest.chunk_ids().filter(|id| seen.insert(*id)).collect();
        let (mut content, mut len, mut damaged) = (vec![], 0, 0);
        source.fetch(&ids, &mut |chunk| {
            damaged += u64::from(chunk.open(&mut content).is_err());
            len += content.len() as u64;
            true
        })?;
        self.report(job, &clock, len, &[("damaged", damaged)]);
        Ok(())
    }

    fn report(&self, job: &str, clock: &Clock, content: u64, bytes: &[(&str, u64)]) {
        let (cpu, wall) = clock.stop();
        if self.json {
            let fields: String = bytes
                .iter()
                .map(|(name, value)| format!(",\"{name}\":{value}"))
                .collect();
            println!(
                "{{\"job\":\"{job}\",\"cpu_s\":{cpu:.3},\"wall_s\":{wall:.3},\"content\":{content}{fields}}}"
            );
            return;
        }
        let fields: String = bytes
            .iter()
            .map(|(name, value)| format!("  {name} {value}"))
            .collect();
        let rate = content as f64 / 1e6 / cpu.max(0.001);
        println!(
            "{job:<15} {cpu:7.2} CPU-s {wall:7.2} s {rate:8.0} MB per CPU-s  content {content}{fields}"
        );
    }
}

/// In a virtual machine, memory that the guest has not touched lately comes from the host page by page, at a tenth of
/// the speed of everything else here. Touched and given back, it is at hand for the job.
fn warm_up() {
    let memory = vec![1_u8; 1 << 30];
    std::hint::black_box(&memory);
}

/// CPU of all threads of this process, ended ones included, and time on the wall.
struct Clock {
    cpu: f64,
    wall: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            cpu: cpu_seconds(),
            wall: Instant::now(),
        }
    }

    fn stop(&self) -> (f64, f64) {
        (cpu_seconds() - self.cpu, self.wall.elapsed().as_secs_f64())
    }
}

fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
