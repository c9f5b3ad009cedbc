//! What new tasks would do: which image, which disk, and what to be warned of before.

mod many;

use std::collections::{BTreeSet, HashMap};

use farrier_api::admin::{NewTasks, Plan};
use farrier_engine::model::{Disk, Machine, MachineId, Registration};
use farrier_engine::policy::{Judged, Origin, Verdict, resolve};
use farrier_engine::task::{DiskSelector, Work};

use super::convert::{self, Like};
use super::plan::{self, Draft};
use super::tasks::{describe, parse_image};
use super::wake::wake_words;
use super::{Code, Desk, Refusal};
use crate::ui::text::bytes;
use many::left_out;
pub(super) use many::left_out_by_id;

impl Desk {
    pub(super) async fn prepare(&self, new: &NewTasks) -> Result<Prepared, Refusal> {
        let ids = self.wanted_machines(new)?;
        let many = new.is_many();
        let wanted = convert::work_back(new.work.clone());
        if many && matches!(wanted, Work::Capture { .. }) {
            return Err(Refusal::bad("a capture is of one machine"));
        }
        let mut draft = Draft {
            destructive: matches!(wanted, Work::Deploy { .. } | Work::Repair { .. }),
            touches: vec![format!(
                "{wanted:?} {:?} {} {:?} {ids:?}",
                new.then, new.wake, new.group
            )],
            ..Draft::default()
        };
        if many {
            draft.once = plan::once(new.confirm.as_deref());
        }
        let mut settled = HashMap::new();
        let mut orders = Vec::with_capacity(ids.len());
        for id in ids {
            let machine = self.core.fleet.machine(MachineId(id));
            let machine = machine.ok_or_else(|| Refusal::missing("machine", id))?;
            let found = self.content_for(&wanted, &machine, &mut settled).await;
            let found = match found {
                Err(refusal) if many && is_of_one_machine(&wanted, &refusal) => {
                    let name = format!("{}: ", convert::machine_name(&machine));
                    let why = refusal.message.trim_start_matches(&name).to_owned();
                    draft.left_out.push(left_out(&machine, why, None));
                    continue;
                }
                other => other?,
            };
            if let Some(left) = self
                .against(&machine, &found.work, new.then.like())
                .filter(|_| many)
            {
                draft.left_out.push(left);
                continue;
            }
            if let Some(origin) = found.origin {
                let name = convert::machine_name(&machine);
                let what = describe(&found.work);
                draft
                    .steps
                    .push(format!("{name}: {what}, chosen by {origin}"));
            }
            self.plan_one(&mut draft, &machine, &found.work, found.content.as_ref());
            draft.touches.push(format!("{:?}", found.work));
            orders.push((machine.id, found.work));
        }
        let kinds: BTreeSet<_> = orders.iter().map(|(_, work)| describe(work)).collect();
        let what = match kinds.first() {
            Some(one) if kinds.len() == 1 => capital(one),
            _ => format!(
                "{} that the policy chooses",
                capital(&describe(&wanted)).trim_end()
            ),
        };
        draft.summary = match orders.len() {
            0 => format!(
                "{}: none of the machines can take it.",
                capital(&describe(&wanted)).trim_end()
            ),
            1 if !many => format!("{what}."),
            1 => format!("{what} on 1 machine."),
            many => format!("{what} on {many} machines."),
        };
        if new.wake && !orders.is_empty() {
            draft.steps.push(wake_words(orders.len()));
        }
        Ok(Prepared {
            plan: draft.finish(),
            orders,
        })
    }

    /// The work for one machine with the version that is meant now. What the same work came to is remembered.
    async fn content_for(
        &self,
        wanted: &Work,
        machine: &Machine,
        settled: &mut HashMap<String, (Work, Option<Content>)>,
    ) -> Result<Found, Refusal> {
        let chosen = self.image_for(wanted, machine)?;
        let origin = chosen.as_ref().map(|chosen| chosen.origin.clone());
        let work = chosen.map_or_else(|| wanted.clone(), |chosen| chosen.work);
        let key = format!("{work:?}");
        if let Some((work, content)) = settled.get(&key) {
            return Ok(Found {
                work: work.clone(),
                content: *content,
                origin,
            });
        }
        let (work, content) = self.settle(work).await?;
        settled.insert(key, (work.clone(), content));
        Ok(Found {
            work,
            content,
            origin,
        })
    }

    /// The work with the image that the machine's policy chooses, if `wanted` names none. A rule that might choose
    /// another one and cannot be judged chooses none: nothing is overwritten on a guess.
    fn image_for(&self, wanted: &Work, machine: &Machine) -> Result<Option<Chosen>, Refusal> {
        let (Work::Deploy { image, version, .. } | Work::Repair { image, version, .. }) = wanted
        else {
            return Ok(None);
        };
        if !image.is_empty() {
            return Ok(None);
        }
        if version.is_some() {
            return Err(Refusal::bad(
                "a version is of a certain image: name the image, too",
            ));
        }
        let name = convert::machine_name(machine);
        let core = &self.core;
        let rules = core.rules.load();
        let judged = rules.judge(None, Some(machine), || core.place_of(machine));
        let resolved = resolve(&core.snapshot.load(), Some(machine), &judged);
        let origin = resolved.origins.image;
        let decided = |judged: &&Judged<'_>| Origin::Rule(judged.rule.name.clone()) == origin;
        let before = judged.iter().take_while(|judged| !decided(judged));
        let unclear = |judged: &&Judged<'_>| {
            judged.rule.settings.image.is_some() && matches!(judged.verdict, Verdict::Failed(_))
        };
        if origin != Origin::Machine
            && let Some(judged) = before.clone().find(unclear)
        {
            let rule = &judged.rule.name;
            let message = format!("{name}: the rule {rule} chooses an image and cannot be judged");
            return Err(Refusal::new(Code::NotPossible, message).hint(
                "`farrier policy explain` says why; an inventory may help, or name the image",
            ));
        }
        let Some(image) = resolved.policy.image else {
            let message = format!("{name}: no image is named, and no setting or rule chooses one");
            return Err(Refusal::bad(message)
                .hint("name one, or let `image` of a rule, a group or the site choose"));
        };
        let work = match wanted.clone() {
            Work::Deploy { version, disk, .. } => Work::Deploy {
                image,
                version,
                disk,
            },
            Work::Repair { version, disk, .. } => Work::Repair {
                image,
                version,
                disk,
            },
            other => other,
        };
        Ok(Some(Chosen { work, origin }))
    }

    /// Pins "the newest" to the version that is newest now, so that what was confirmed is what is done.
    async fn settle(&self, work: Work) -> Result<(Work, Option<Content>), Refusal> {
        let (name, wanted) = match &work {
            Work::Inventory => return Ok((work, None)),
            Work::Capture { image, .. } => {
                parse_image(image)?;
                return Ok((work, None));
            }
            Work::Deploy { image, version, .. } | Work::Repair { image, version, .. } => {
                (parse_image(image)?, *version)
            }
        };
        let content = self.content(&name, wanted).await?;
        let work = match work {
            Work::Deploy { image, disk, .. } => Work::Deploy {
                image,
                version: Some(content.version),
                disk,
            },
            Work::Repair { image, disk, .. } => Work::Repair {
                image,
                version: Some(content.version),
                disk,
            },
            other => other,
        };
        Ok((work, Some(content)))
    }

    fn plan_one(&self, draft: &mut Draft, machine: &Machine, work: &Work, image: Option<&Content>) {
        let name = convert::machine_name(machine);
        match machine.registration {
            Registration::Approved => {}
            Registration::Disabled => draft.warnings.push(format!(
                "{name} is disabled: enable it, or nothing happens."
            )),
            Registration::Seen | Registration::Pending => {
                draft
                    .warnings
                    .push(format!("{name} is not approved: approve it, or it waits."));
            }
        }
        let queue = self.core.fleet.queue(machine.id).len();
        if queue > 0 {
            draft.warnings.push(format!(
                "{name} has {queue} unfinished task(s): this one comes after."
            ));
        }
        let (verb, selector) = match work {
            Work::Inventory => {
                draft
                    .steps
                    .push(format!("{name}: read its hardware, change nothing"));
                return;
            }
            Work::Capture { disk, .. } => ("read", disk),
            Work::Deploy { disk, .. } => ("OVERWRITE", disk),
            Work::Repair { disk, .. } => ("bring back to the image", disk),
        };
        let with = match work {
            Work::Deploy { image, version, .. } | Work::Repair { image, version, .. } => {
                let version = version.map_or_else(String::new, |v| format!(" version {v}"));
                format!(": {image}{version}")
            }
            _ => String::new(),
        };
        let Some(inventory) = &machine.inventory else {
            draft.warnings.push(format!("{name} has no inventory yet: its agent decides which disk fits, and stops if that is not exactly one."));
            draft
                .steps
                .push(format!("{name}: {verb} the disk that fits{with}"));
            return;
        };
        match &matching(&inventory.disks, selector)[..] {
            [disk] => {
                draft.steps.push(format!("{name}: {verb} {}{with}", disk_words(disk)));
                if image.is_some_and(|i| i.disk_bytes > disk.size_bytes) {
                    draft.warnings.push(format!("{name}: the image may not fit on {}.", disk_words(disk)));
                }
            }
            [] => draft.warnings.push(format!("{name}: no disk fits the choice; the agent will stop before it writes.")),
            many => draft.warnings.push(format!(
                "{name}: {} disks fit the choice; name one by its serial number, or the agent will stop before it writes.",
                many.len()
            )),
        }
    }
}

pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) orders: Vec<(MachineId, Work)>,
}

/// Work whose image the policy chose, and who of it did.
struct Chosen {
    work: Work,
    origin: Origin,
}

/// What one machine is to do.
struct Found {
    work: Work,
    content: Option<Content>,
    /// Who chose the image, if nobody named one.
    origin: Option<Origin>,
}

/// Whether the other machines of the order can do without the one that this is said of.
fn is_of_one_machine(wanted: &Work, refusal: &Refusal) -> bool {
    let (Work::Deploy { image, version, .. } | Work::Repair { image, version, .. }) = wanted else {
        return false;
    };
    let of_it = matches!(
        refusal.code,
        Code::BadRequest | Code::NotPossible | Code::NotFound
    );
    image.is_empty() && version.is_none() && of_it
}

/// What of an image a plan needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub(super) version: u32,
    pub(super) disk_bytes: u64,
}

/// The disks of an inventory that a selector means; the agent, which sees what is mounted, has the last word.
pub(crate) fn matching<'a>(disks: &'a [Disk], s: &DiskSelector) -> Vec<&'a Disk> {
    let same = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|w| w == has);
    let fits = |d: &&Disk| {
        same(&s.serial, &d.serial)
            && same(&s.wwn, &d.wwn)
            && same(&s.bus, &d.bus)
            && s.min_bytes.is_none_or(|min| d.size_bytes >= min)
            && s.max_bytes.is_none_or(|max| d.size_bytes <= max)
            && s.model.as_deref().is_none_or(|m| d.model.contains(m))
            && (s.allow_removable || !d.removable)
    };
    disks.iter().filter(fits).collect()
}

fn disk_words(disk: &Disk) -> String {
    let model = if disk.model.is_empty() {
        "disk"
    } else {
        &disk.model
    };
    let serial = if disk.serial.is_empty() {
        String::new()
    } else {
        format!(", serial {}", disk.serial)
    };
    format!("{model} ({}{serial})", bytes(disk.size_bytes))
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests;
