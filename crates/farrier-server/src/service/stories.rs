//! A machine's last packets, and its last boot beside its last good one.

use farrier_api::admin::{BootComparison, ComparedStep};
use farrier_engine::boot_story::{self, Boot};
use farrier_engine::model::MachineId;
use uuid::Uuid;

use super::{Code, Desk, Refusal, convert};
use crate::auth::Action;

impl Desk {
    /// The machine's last packets of DHCP and TFTP, as a capture file.
    pub fn capture(&self, id: Uuid) -> Result<Vec<u8>, Refusal> {
        self.allow(Action::Look)?;
        let machine = self.core.fleet.machine(MachineId(id));
        let machine = machine.ok_or_else(|| Refusal::missing("machine", id))?;
        self.core.packets.pcap(&machine.macs).ok_or_else(|| {
            Refusal::new(Code::NotFound, "no packet of this machine is kept")
                .hint("captures are kept in memory only, since the server started: boot the machine, then ask again")
        })
    }

    /// The last boot beside the last good one before it.
    pub async fn compare_boots(&self, id: Uuid) -> Result<BootComparison, Refusal> {
        self.allow(Action::Look)?;
        let rows = self
            .core
            .db
            .timeline(MachineId(id), None, LOOK_BACK)
            .await?;
        let entries: Vec<_> = rows.into_iter().rev().map(|row| row.value).collect();
        let boots = boot_story::boots(&entries);
        let Some((last, earlier)) = boots.split_last() else {
            return Err(Refusal::new(
                Code::NotFound,
                "no boot of this machine is on its timeline",
            ));
        };
        let good = earlier.iter().rev().find(|boot| boot.is_good());
        Ok(compared(good.copied(), *last))
    }
}

fn compared(good: Option<Boot<'_>>, last: Boot<'_>) -> BootComparison {
    let steps: Vec<ComparedStep> = boot_story::compare(good.unwrap_or(last), last)
        .into_iter()
        .map(|line| ComparedStep {
            kind: convert::kind_name(line.kind).to_owned(),
            text: line.text.to_owned(),
            good_ms: good.and(line.good).map(millis),
            last_ms: line.last.map(millis),
        })
        .collect();
    let first = steps
        .iter()
        .find(|step| step.good_ms.is_none() || step.last_ms.is_none());
    let verdict = match (good, first) {
        (None, _) => "There is no good boot before this one to compare it with.".to_owned(),
        (Some(_), None) => "It went as the last good boot did.".to_owned(),
        (Some(_), Some(step)) if step.last_ms.is_none() => {
            format!(
                "The first thing that did not happen this time: {}",
                step.text
            )
        }
        (Some(_), Some(step)) => format!("The first thing that was new this time: {}", step.text),
    };
    BootComparison {
        good_at: good.map(|boot| boot.began().0),
        last_at: last.began().0,
        last_is_good: last.is_good(),
        verdict,
        steps,
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Some fifty boots.
const LOOK_BACK: u32 = 1000;
