//! What a change of the policy would overwrite by itself, shown before the change is made.
//!
//! A change that starts nothing is made at once. One that does is refused with a plan, and made when exactly that
//! plan comes back confirmed.

use std::sync::Arc;

use farrier_api::admin::Plan;
use farrier_engine::model::{Machine, Registration};
use farrier_engine::policy::{AutoDeploy, DeployOver, StandingOrder};

use super::plan::{Draft, require};
use super::{Desk, Refusal, convert};
use crate::standing_orders::{Concerned, Door, Ground, Outlook, often, on_disk};

impl Desk {
    /// Refuses to go from one ground to the other while that starts something which was not confirmed. `change` is
    /// what is asked for.
    pub(super) async fn agree_to_policy(
        &self,
        change: &str,
        (before, after): (&Ground, &Ground),
        confirm: Option<&str>,
    ) -> Result<(), Refusal> {
        let mut tally = Tally::of(change);
        let each = |concerned| tally.add(&concerned);
        self.core.newly_ordered(before, after, each).await?;
        tally.settle(after.opens_from(before).as_ref(), confirm)
    }

    /// The same for a change of one machine.
    pub(super) async fn agree_to_machine(
        &self,
        was: Arc<Machine>,
        is: Machine,
        confirm: Option<&str>,
    ) -> Result<(), Refusal> {
        let ground = self.core.ground();
        if !ground.has_orders(&is) {
            return Ok(());
        }
        let mut tally = Tally::of(&format!("{:?} {:?} {:?}", is.name, is.group, is.settings));
        let pair = vec![(was, Arc::new(is))];
        let each = |concerned| tally.add(&concerned);
        let judged = self.core.newly_ordered_of(pair, &ground, &ground, each);
        judged.await?;
        tally.settle(None, confirm)
    }
}

/// What is shown of the machines that are concerned, and what must not change of all of them.
struct Tally {
    /// Overwritten at the next boot; looked at first; held back for now.
    counts: [u64; 3],
    shown: [Vec<String>; 3],
    all: blake3::Hasher,
}

impl Tally {
    fn of(change: &str) -> Self {
        let mut all = blake3::Hasher::new();
        all.update(change.as_bytes());
        Self {
            counts: [0; 3],
            shown: Default::default(),
            all,
        }
    }

    fn add(&mut self, concerned: &Concerned) {
        let kind = match concerned.outlook {
            Outlook::Deploys { .. } => 0,
            Outlook::TakesInventory => 1,
            Outlook::Held { .. } => 2,
            Outlook::Nothing => return,
        };
        let step = step(concerned);
        self.counts[kind] += 1;
        self.all.update(concerned.machine.id.0.as_bytes());
        self.all.update(&step.len().to_be_bytes());
        self.all.update(step.as_bytes());
        if self.shown[kind].len() < MAX_SHOWN {
            self.shown[kind].push(step);
        }
    }

    fn settle(self, door: Option<&Door>, confirm: Option<&str>) -> Result<(), Refusal> {
        if self.counts == [0; 3] && door.is_none() {
            return Ok(());
        }
        let plan = self.plan(door);
        require(&plan, confirm).map_err(|refusal| refusal.plan(plan))
    }

    fn plan(self, door: Option<&Door>) -> Plan {
        let total: u64 = self.counts.iter().sum();
        let mut steps: Vec<String> = self.shown.into_iter().flatten().collect();
        steps.truncate(MAX_SHOWN);
        let rest = total - steps.len() as u64;
        if rest > 0 {
            steps.push(format!("and {rest} more"));
        }
        let [starts, looked_at, held] = self.counts;
        let told = [
            (starts, "overwritten at the next boot"),
            (looked_at, "after an inventory"),
            (held, "held back for now"),
        ];
        let told = told.iter().filter(|(count, _)| *count > 0);
        let told: Vec<String> = told.map(|(count, how)| format!("{count} {how}")).collect();
        let whom = match &told[..] {
            [] => "no machine that is known".to_owned(),
            told => format!("known machines: {}", told.join(", ")),
        };
        Draft {
            summary: format!("Starts deployments by itself, of {whom}."),
            steps,
            warnings: door.map(door_words).into_iter().collect(),
            destructive: true,
            touches: vec![self.all.finalize().to_hex().to_string()],
            ..Draft::default()
        }
        .finish()
    }
}

fn step(concerned: &Concerned) -> String {
    let name = convert::machine_name(&concerned.machine);
    let when = match concerned.machine.registration {
        Registration::Approved => "",
        Registration::Disabled => "once it is enabled: ",
        Registration::Seen | Registration::Pending => "once it is approved: ",
    };
    let order = concerned.order.as_ref();
    let rest = match &concerned.outlook {
        Outlook::Deploys { order, version, .. } => {
            format!(
                "OVERWRITE its disk at its next boot: {}",
                words(order, Some(*version))
            )
        }
        Outlook::TakesInventory => match order {
            Some(order) => format!("take its inventory, then {}", words(order, None)),
            None => "take its inventory, which decides what is deployed".to_owned(),
        },
        Outlook::Held { why, .. } => match order {
            Some(order) => format!("not now: {} {why}", words(order, None)),
            None => format!("not now: {why}"),
        },
        Outlook::Nothing => String::new(),
    };
    format!("{name}: {when}{rest}")
}

fn words(order: &StandingOrder, version: Option<u32>) -> String {
    let version = version.map_or_else(String::new, |version| format!(" version {version}"));
    let over = match order.over {
        DeployOver::Blank => "only over a blank disk or our own",
        DeployOver::Anything => "over anything",
    };
    let mode = match order.mode {
        AutoDeploy::EachVersion => "and each newer version",
        mode => often(mode),
    };
    let disk = on_disk(order);
    format!(
        "{}{version}{disk}, {mode}, {over}, as the {} says.",
        order.image, order.by
    )
}

fn door_words(door: &Door) -> String {
    let deployers: Vec<String> = door.deployers.iter().map(ToString::to_string).collect();
    let entry = if door.automatic {
        "without anybody's approval, as `enrolment` says"
    } else {
        "when somebody approves them"
    };
    format!(
        "Machines that nobody knows yet get it, too, {entry}, and known ones that come to fit later. Who decides that: \
         {}.",
        deployers.join(", ")
    )
}

/// A list that a person reads; what is beyond is counted, and confirmed with it.
const MAX_SHOWN: usize = 50;
