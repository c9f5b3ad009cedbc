//! Views of settings, groups, rules and wishes.

use askama::Template;
use farrier_api::admin::{
    EffectiveSetting, Explained, ExplainedFirmware, ExplainedRule, Group, GroupDetail, Intent,
    Rule, SelfDeployment,
};

use super::super::Frame;
use super::super::setting_fields::{ChoiceView, FieldView, Input, summary};
use super::super::text::{Moment, shown};
use super::MachineView;

#[derive(Debug, Template)]
#[template(path = "policy.html")]
pub struct PolicyPage {
    pub frame: Frame,
    pub effective: Vec<EffectiveSetting>,
    pub groups: Vec<GroupView>,
    pub rules: Vec<RuleView>,
}

#[derive(Clone, Debug)]
pub struct GroupView {
    pub name: String,
    pub machines: u64,
    pub sets: String,
}

impl GroupView {
    #[must_use]
    pub fn of(group: &Group) -> Self {
        Self {
            name: group.name.clone(),
            machines: group.machines,
            sets: summary(&group.settings),
        }
    }
}

/// A group with its machines.
#[derive(Debug, Template)]
#[template(path = "group.html")]
pub struct GroupPage {
    pub frame: Frame,
    pub group: GroupView,
    /// How many machines have a newest task in each state; states that none is in are left out.
    pub newest: Vec<(&'static str, u64)>,
    pub rows: Vec<MachineView>,
}

impl GroupPage {
    #[must_use]
    pub fn of(frame: Frame, found: &GroupDetail) -> Self {
        Self {
            frame,
            group: GroupView::of(&found.group),
            newest: found.newest.counts().collect(),
            rows: found.members.iter().map(MachineView::of).collect(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct RuleView {
    pub name: String,
    pub when: String,
    /// What follows, in words.
    pub then: String,
}

impl RuleView {
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        let sets = summary(&rule.settings);
        let then = [
            rule.refuse_boot.then_some("starts its local disk only"),
            rule.refuse_tasks
                .then_some("nothing is written to its disks"),
            (!sets.is_empty()).then_some(sets.as_str()),
        ];
        let then: Vec<&str> = then.into_iter().flatten().collect();
        Self {
            name: rule.name.clone(),
            when: shown(&rule.when),
            then: then.join("; "),
        }
    }
}

/// Settings of the site, a group or a machine.
#[derive(Debug, Template)]
#[template(path = "settings.html")]
pub struct SettingsForm {
    pub frame: Frame,
    pub title: String,
    pub action: String,
    pub back: String,
    pub error: String,
    /// A new group wants a name; another one's is kept.
    pub name: Option<GroupName>,
    /// For a machine: the groups that it may be in.
    pub groups: Option<Vec<ChoiceView>>,
    pub fields: Vec<FieldView>,
}

#[derive(Clone, Debug)]
pub enum GroupName {
    New(String),
    Kept(String),
}

#[derive(Debug, Template)]
#[template(path = "rule.html")]
pub struct RuleForm {
    pub frame: Frame,
    pub error: String,
    /// The rule that is changed; empty for a new one.
    pub was: String,
    pub name: String,
    pub when: String,
    pub refuse_boot: bool,
    pub refuse_tasks: bool,
    pub fields: Vec<FieldView>,
}

/// What a machine would get.
#[derive(Debug, Template)]
#[template(path = "explained.html")]
pub struct ExplainedPage {
    pub frame: Frame,
    pub mac: String,
    pub error: String,
    pub found: Option<Explained>,
}

impl ExplainedPage {
    /// Everything that came from strangers made visible.
    #[must_use]
    pub fn of(frame: Frame, mac: &str, found: Result<Explained, String>) -> Self {
        let rules = |rules: Vec<ExplainedRule>| -> Vec<ExplainedRule> {
            let each = |rule: ExplainedRule| ExplainedRule {
                rule: shown(&rule.rule),
                why: shown(&rule.why),
                ..rule
            };
            rules.into_iter().map(each).collect()
        };
        let firmware = |kind: ExplainedFirmware| ExplainedFirmware {
            asks_as: shown(&kind.asks_as),
            decision: shown(&kind.decision),
            answer: shown(&kind.answer),
            options: kind.options.iter().map(|o| shown(o)).collect(),
            rules: rules(kind.rules),
            ..kind
        };
        let (found, error) = match found {
            Ok(found) => (Some(found), String::new()),
            Err(error) => (None, error),
        };
        let found = found.map(|found| Explained {
            decision: shown(&found.decision),
            rules: rules(found.rules),
            firmware: found.firmware.into_iter().map(firmware).collect(),
            deployment: found.deployment.map(|found| SelfDeployment {
                why: shown(&found.why),
                ..found
            }),
            address: found.address,
            subnet: shown(&found.subnet),
            effective: found.effective,
        });
        Self {
            frame,
            mac: shown(mac),
            error: shown(&error),
            found,
        }
    }
}

/// A wish for the next boots, as it stands.
#[derive(Clone, Debug)]
pub struct WishView {
    pub entry: String,
    pub boots: u16,
    pub expires: Moment,
    pub by: String,
}

impl WishView {
    #[must_use]
    pub fn of(intent: &Intent) -> Self {
        Self {
            entry: shown(&intent.entry.0),
            boots: intent.boots_left,
            expires: Moment::of(intent.expires),
            by: shown(&intent.set_by),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "wish.html")]
pub struct WishForm {
    pub frame: Frame,
    pub machine: String,
    pub machine_name: String,
    pub entries: Vec<ChoiceView>,
    pub error: String,
}
