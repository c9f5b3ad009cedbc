//! One task, from the order to the result. Everything that can go wrong becomes a reason in words; nothing is
//! written before the disk is chosen, the image's signature proven and the plan made.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use farrier_api::agent::{Disk, DiskSelector, Outcome, Work};
use farrier_image::apply::{self, Mode};
use farrier_image::capture::{self, CaptureOptions};
use farrier_image::device::{Access, FileDevice};
use farrier_image::key::VerifyingKey;
use farrier_image::manifest::{ImageName, MAX_PLAIN, Manifest, SignedManifest, Table};
use uuid::Uuid;

use super::report::Reporter;
use super::transport::{HttpSink, HttpSource};
use super::{Agent, choose};
use crate::inventory;
use crate::leave::EfiSystemPartition;
use crate::screen::bytes;

/// How a task ended, and what the machine may start from now.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) outcome: Outcome,
    pub(super) start_from: Option<EfiSystemPartition>,
}

/// Why a task failed.
#[derive(Debug)]
struct Failure {
    reason: String,
    retry: bool,
}

type Done = Result<Finished, Failure>;

impl Failure {
    /// With the causes below `error`, each once.
    fn of(error: &dyn std::error::Error, retry: bool) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason += &format!(": {cause}");
            source = cause.source();
        }
        Self { reason, retry }
    }

    fn final_reason(reason: impl Display) -> Self {
        Self {
            reason: reason.to_string(),
            retry: false,
        }
    }
}

/// Runs `work` and tells on the screen how it ended.
pub(super) async fn run(agent: &Agent, task: Uuid, fence: u64, work: &Work) -> Finished {
    let reporter = Arc::new(Reporter::default());
    let reports = tokio::spawn(Arc::clone(&reporter).report(agent.clone(), task, fence));
    let done = match work {
        Work::Inventory => inventory(agent).await,
        Work::Capture { image, disk } => capture(agent, task, fence, &reporter, image, disk).await,
        Work::Deploy {
            image,
            version,
            root,
            disk,
        } => {
            let wanted = Wanted {
                image,
                version: *version,
                root,
                mode: Mode::Deploy,
            };
            apply(agent, &reporter, wanted, disk).await
        }
        Work::Repair {
            image,
            version,
            root,
            disk,
        } => {
            let wanted = Wanted {
                image,
                version: *version,
                root,
                mode: Mode::Repair,
            };
            apply(agent, &reporter, wanted, disk).await
        }
    };
    reports.abort();
    let kind = kind(work);
    match done {
        Ok(finished) => {
            agent.screen.show(format!("{kind} done"));
            finished
        }
        Err(Failure { reason, retry }) => {
            agent.screen.say(format!("{kind} failed: {reason}"));
            Finished {
                outcome: Outcome::Failed { reason, retry },
                start_from: None,
            }
        }
    }
}

fn kind(work: &Work) -> &'static str {
    match work {
        Work::Inventory => "inventory",
        Work::Capture { .. } => "capture",
        Work::Deploy { .. } => "deploy",
        Work::Repair { .. } => "repair",
    }
}

async fn inventory(agent: &Agent) -> Done {
    let sent = agent
        .client
        .inventory(&inventory::read(&agent.root, agent.mac))
        .await;
    sent.map_err(|error| Failure::of(&error, error.may_retry()))?;
    let outcome = Outcome::Done {
        root: None,
        disk: None,
        read_bytes: 0,
        written_bytes: 0,
        moved_bytes: 0,
        bottleneck: None,
    };
    Ok(Finished {
        outcome,
        start_from: None,
    })
}

async fn capture(
    agent: &Agent,
    task: Uuid,
    fence: u64,
    reporter: &Arc<Reporter>,
    image: &str,
    selector: &DiskSelector,
) -> Done {
    let image: ImageName = image.parse().map_err(Failure::final_reason)?;
    let disk = choose(selector, inventory::disks(&agent.root), 0).map_err(Failure::final_reason)?;
    let keys = keys(agent);
    let sink = HttpSink::new(agent.client.clone(), task, fence, Arc::clone(&agent.screen));
    let (agent, reporter) = (agent.clone(), Arc::clone(reporter));
    blocking(move || {
        let device = open(&agent.root, &disk, Access::ReadOnly)?;
        let mut options = CaptureOptions::new(image);
        options.source = format!("{} of {}", described(&disk), agent.mac);
        let plan = capture::plan(&device, &options)
            .map_err(|error| Failure::of(&error, error.may_retry()))?;
        warn(&agent, &plan.warnings);
        let used = bytes(plan.used_bytes());
        agent
            .screen
            .say(format!("capturing {used} in use of {}", described(&disk)));
        let captured = capture::capture(&device, &plan, &sink, &*reporter)
            .map_err(|error| Failure::of(&error, error.may_retry()))?;
        let (_, root) = captured
            .signed
            .open(&keys)
            .map_err(|error| Failure::of(&error, false))?;
        let outcome = Outcome::Done {
            root: Some(root.to_string()),
            disk: Some(disk.name),
            read_bytes: captured.read_bytes,
            written_bytes: 0,
            moved_bytes: captured.stored_bytes,
            bottleneck: reporter.bottleneck(),
        };
        Ok(Finished {
            outcome,
            start_from: None,
        })
    })
    .await
}

/// Which image, and what to do with it.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    image: &'a str,
    version: u32,
    root: &'a str,
    mode: Mode,
}

async fn apply(
    agent: &Agent,
    reporter: &Arc<Reporter>,
    wanted: Wanted<'_>,
    selector: &DiskSelector,
) -> Done {
    let manifest = manifest(agent, &wanted).await?;
    let disks = inventory::disks(&agent.root);
    let disk = choose(selector, disks, content_end(&manifest)).map_err(Failure::final_reason)?;
    let source = HttpSource::new(agent.client.clone(), Arc::clone(&agent.screen));
    let (agent, reporter, mode) = (agent.clone(), Arc::clone(reporter), wanted.mode);
    blocking(move || {
        let device = open(&agent.root, &disk, Access::ReadWrite)?;
        let plan = apply::plan(&device, &manifest, mode)
            .map_err(|error| Failure::of(&error, error.may_retry()))?;
        warn(&agent, &plan.warnings);
        agent.screen.say(format!(
            "writing {} to {}",
            bytes(plan.content_bytes),
            described(&disk)
        ));
        agent
            .screen
            .say(format!("what the disk holds now: {}", plan.replaces));
        let applied = apply::apply(&device, &manifest, &plan, &source, &*reporter)
            .map_err(|error| Failure::of(&error, error.may_retry()))?;
        if !applied.proven {
            return Err(Failure::final_reason(
                "the disk was not proven to hold the image; repair it",
            ));
        }
        let outcome = Outcome::Done {
            root: Some(applied.root.to_string()),
            disk: Some(disk.name),
            read_bytes: applied.checked_bytes,
            written_bytes: applied.written_bytes,
            moved_bytes: applied.fetched_bytes,
            bottleneck: reporter.bottleneck(),
        };
        Ok(Finished {
            outcome,
            start_from: system_partition(&manifest),
        })
    })
    .await
}

/// Fetches the manifest and proves that it is the one the task means: signed by a key we were given at
/// enrolment, and with the root hash that the order names.
async fn manifest(agent: &Agent, wanted: &Wanted<'_>) -> Result<Manifest, Failure> {
    // The name becomes part of a path, so it must be one.
    let image: ImageName = wanted.image.parse().map_err(Failure::final_reason)?;
    let bytes = super::persist(agent, async || {
        agent
            .client
            .manifest(image.as_str(), wanted.version, MAX_PLAIN)
            .await
    });
    let signed = SignedManifest {
        bytes: bytes.await.map_err(|error| Failure::of(&error, false))?,
    };
    let (manifest, root) = signed
        .open(&keys(agent))
        .map_err(|error| Failure::of(&error, false))?;
    if root.to_string() != wanted.root {
        let reason = format!(
            "the server sent an image with root {root}, the task is for {}",
            wanted.root
        );
        return Err(Failure::final_reason(reason));
    }
    Ok(manifest)
}

fn keys(agent: &Agent) -> Vec<VerifyingKey> {
    agent.image_keys.iter().copied().map(VerifyingKey).collect()
}

fn open(root: &Path, disk: &Disk, access: Access) -> Result<FileDevice, Failure> {
    let path = root.join("dev").join(&disk.name);
    FileDevice::open(path, access).map_err(|error| Failure {
        reason: format!("{} cannot be opened: {error}; is it in use?", disk.name),
        retry: true,
    })
}

fn described(disk: &Disk) -> String {
    let Disk {
        name,
        bus,
        model,
        serial,
        size_bytes,
        ..
    } = disk;
    format!(
        "{name} ({bus}, {model}, serial '{serial}', {})",
        bytes(*size_bytes)
    )
}

fn warn(agent: &Agent, warnings: &[String]) {
    for warning in warnings {
        agent.screen.say(format!("note: {warning}"));
    }
}

/// No smaller disk can hold the image; the plan knows exactly, since it places the table too.
fn content_end(manifest: &Manifest) -> u64 {
    let ends = manifest
        .volumes
        .iter()
        .map(|volume| volume.start_bytes.saturating_add(volume.len_bytes));
    ends.max().unwrap_or(0)
}

/// The first EFI system partition of the image, which is now at the same place on the disk.
fn system_partition(manifest: &Manifest) -> Option<EfiSystemPartition> {
    const EFI_SYSTEM: Uuid = Uuid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
    let Table::Gpt { entries, .. } = &manifest.table else {
        return None;
    };
    let entry = entries.iter().find(|entry| entry.type_guid == EFI_SYSTEM)?;
    Some(EfiSystemPartition {
        number: entry.slot.checked_add(1)?,
        first_sector: entry.first,
        sectors: entry.last.checked_sub(entry.first)?.checked_add(1)?,
        guid: entry.guid,
    })
}

/// Runs disk work beside the runtime. A panic there is a fault of ours, and the task's, not the agent's end.
async fn blocking(work: impl FnOnce() -> Done + Send + 'static) -> Done {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::final_reason(
            "the agent has a fault; see the machine's console, and report it",
        )),
    }
}
