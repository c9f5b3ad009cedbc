//! Standing orders: deployments that the policy starts by itself.
//!
//! Whatever is unclear starts nothing: what a machine's disk held is gone with the first byte. So an order names its
//! image itself, a rule that cannot be judged holds back all that come after it, and each image (or each version of
//! it) reaches a machine once, however its task ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::resolve::{Layers, Origin, resolve};
use super::{Judged, Settings, ShortName, Snapshot, Verdict};
use crate::WallTime;
use crate::model::{Disk, Machine, Registration};
use crate::policy::{DEPLOY_LIMIT, DEPLOY_WINDOW};
use crate::task::{DiskSelector, State, Task, Work};

/// Whether machines get their image without anybody ordering it for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoDeploy {
    Never,
    /// The image reaches a machine once, in the version that is the newest then.
    Once,
    /// And once more in each newer version.
    EachVersion,
}

/// What such a deployment may write over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployOver {
    /// A disk that begins and ends empty, or of a machine that was deployed to before.
    Blank,
    Anything,
}

/// What the policy deploys to a machine by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingOrder {
    pub image: String,
    pub mode: AutoDeploy,
    pub over: DeployOver,
    /// To which disk; exactly one must fit.
    pub disk: DiskSelector,
    /// Who wants it.
    pub by: Origin,
}

/// Why nothing is started though somebody wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// A rule that comes first cannot be judged.
    Unclear {
        rule: ShortName,
        why: String,
    },
    /// Who wants it names no image.
    NoImage {
        by: Origin,
    },
    /// A nearer setting names another image.
    OtherImage {
        wanted: String,
        other: String,
        by: Origin,
    },
    NotApproved,
    /// There is something on the disk that Farrier did not bring there.
    HoldsData {
        table: String,
        by: Origin,
    },
    /// A rule refuses to boot it or to write to it.
    Refused(String),
    /// It has it: this is how things should be.
    Done {
        image: String,
        version: Option<u32>,
    },
    /// It was tried, and did not come to its end.
    Tried {
        image: String,
        version: Option<u32>,
        state: State,
    },
    /// So many deployments of late that something is wrong.
    Loop,
}

/// What the policy wants to deploy to `machine`, apart from what happened to it so far. `Ok(None)` where nobody wants
/// anything.
///
/// # Errors
///
/// Why nothing may be started.
pub fn standing_order(
    snapshot: &Snapshot,
    machine: &Machine,
    rules: &[Judged<'_>],
) -> Result<Option<StandingOrder>, Held> {
    let layers = Layers::of(snapshot, Some(machine), rules);
    let decided = layers.first(|settings| settings.deploy);
    let (mode, by) = decided.unwrap_or((AutoDeploy::Never, Origin::Default));
    let unclear = unclear(rules, &by);
    if mode == AutoDeploy::Never {
        let wants = |settings: &Settings| {
            settings
                .deploy
                .is_some_and(|deploy| deploy != AutoDeploy::Never)
        };
        return match unclear.filter(|judged| wants(&judged.rule.settings)) {
            Some(judged) => Err(Held::unclear(judged)),
            None => Ok(None),
        };
    }
    if let Some(judged) = unclear {
        return Err(Held::unclear(judged));
    }
    let own = layers.of_origin(&by);
    let Some(image) = own.and_then(|own| own.image.clone()) else {
        return Err(Held::NoImage { by });
    };
    let over = own.and_then(|own| own.deploy_over);
    let disk = own.and_then(|own| own.deploy_disk.clone());
    let resolved = resolve(snapshot, Some(machine), rules).policy.image;
    if let Some(other) = resolved.filter(|other| *other != image) {
        return Err(Held::OtherImage {
            wanted: image,
            other,
            by,
        });
    }
    let refuses_boot = rules
        .iter()
        .find(|judged| judged.rule.refuse_boot && judged.holds());
    if let Some(judged) = refuses_boot {
        return Err(Held::Refused(format!(
            "The rule {} refuses to boot it.",
            judged.rule.name
        )));
    }
    if let Some(why) = rules.iter().find_map(Judged::refuses_tasks) {
        return Err(Held::Refused(why));
    }
    if machine.registration != Registration::Approved {
        return Err(Held::NotApproved);
    }
    Ok(Some(StandingOrder {
        image,
        mode,
        over: over.unwrap_or(DeployOver::Blank),
        disk: disk.unwrap_or_default(),
        by,
    }))
}

/// The first rule before `decider` that cannot be judged and might decide otherwise.
fn unclear<'a>(rules: &'a [Judged<'a>], decider: &Origin) -> Option<&'a Judged<'a>> {
    if *decider == Origin::Machine {
        return None;
    }
    let before = rules
        .iter()
        .take_while(|judged| Origin::Rule(judged.rule.name.clone()) != *decider);
    before.into_iter().find(|judged| {
        let settings = &judged.rule.settings;
        let might = settings.deploy.is_some() || settings.image.is_some();
        might && matches!(judged.verdict, Verdict::Failed(_))
    })
}

impl StandingOrder {
    /// Whether what is on `disk` may be lost. `tasks` are all that the machine ever had.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn may_overwrite(&self, disk: &Disk, tasks: &[Task]) -> Result<(), Held> {
        let is_ours =
            |task: &Task| task.state == State::Done && matches!(task.work, Work::Deploy { .. });
        match &disk.table {
            Some(table) if self.over == DeployOver::Blank && !tasks.iter().any(is_ours) => {
                Err(Held::HoldsData {
                    table: table.clone(),
                    by: self.by.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether `version`, the newest one, may be deployed now. `tasks` are all that the machine ever had, those of
    /// people too: what a person deployed or gave up is not done over.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn is_open(&self, version: u32, tasks: &[Task], now: WallTime) -> Result<(), Held> {
        let same = tasks.iter().find_map(|task| match &task.work {
            Work::Deploy {
                image, version: of, ..
            } if *image == self.image => {
                // A newer one that was deleted since was newer all the same.
                let counts = self.mode == AutoDeploy::Once || of.is_none_or(|of| of >= version);
                counts.then_some((task.state, *of))
            }
            _ => None,
        });
        if let Some((state, version)) = same {
            let image = self.image.clone();
            return Err(match state {
                State::Done => Held::Done { image, version },
                state => Held::Tried {
                    image,
                    version,
                    state,
                },
            });
        }
        let lately = tasks.iter().filter(|task| {
            let ended = task.ended.filter(|_| task.state == State::Done);
            matches!(task.work, Work::Deploy { .. })
                && ended.is_some_and(|at| now.since(at) < DEPLOY_WINDOW)
        });
        if lately.count() >= DEPLOY_LIMIT {
            return Err(Held::Loop);
        }
        Ok(())
    }
}

impl Held {
    fn unclear(judged: &Judged<'_>) -> Self {
        let why = match &judged.verdict {
            Verdict::Failed(why) => why.clone(),
            Verdict::Holds | Verdict::DoesNot => String::new(),
        };
        Self::Unclear {
            rule: judged.rule.name.clone(),
            why,
        }
    }

    /// Whether a person has something to do about it.
    #[must_use]
    pub fn is_news(&self) -> bool {
        !matches!(self, Self::Done { .. } | Self::NotApproved)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version =
            |of: &Option<u32>| of.map_or_else(String::new, |version| format!(" version {version}"));
        match self {
            Self::Unclear { rule, why } => {
                write!(
                    f,
                    "The rule {rule} comes first and cannot be judged: {why}."
                )
            }
            Self::NoImage { by } => write!(
                f,
                "The {by} sets `deploy` and no `image`: name the image beside it."
            ),
            Self::OtherImage { wanted, other, by } => write!(
                f,
                "The {by} wants {wanted}, and a nearer setting names {other}: set `deploy` there, too, or take the \
                 image away."
            ),
            Self::NotApproved => f.write_str("The machine is not approved."),
            Self::HoldsData { table, by } => write!(
                f,
                "Its disk is not blank ({table}), and nothing was deployed to it from here: order it by hand, or set \
                 `deploy_over` to `anything` where the {by} sets `deploy`."
            ),
            Self::Refused(why) => f.write_str(why),
            Self::Done {
                image, version: of, ..
            } => write!(f, "It was deployed to it: {image}{}.", version(of)),
            Self::Tried {
                image,
                version: of,
                state,
            } => {
                let ended = match state {
                    State::Queued | State::Running | State::Lost => "is not ended",
                    State::Done => "is done",
                    State::Failed => "failed",
                    State::Cancelled => "was cancelled",
                    State::Expired => "was not started in time",
                };
                write!(
                    f,
                    "A task that deploys {image}{} {ended}, and no second one is started: `farrier task retry` orders \
                     it once more.",
                    version(of)
                )
            }
            Self::Loop => f.write_str(
                "It was deployed to three times within two hours: what was deployed may not start.",
            ),
        }
    }
}
