//! Rules that people write: a condition on what is known of a machine, and what follows from it.
//!
//! The condition is an expression in CEL. Whoever calls the engine judges it, with a limit on the work that it
//! may cost; here is only what its verdict means.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Settings;

/// One rule. Rules are looked at in the order in which they are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: ShortName,
    /// When it holds.
    pub when: String,
    /// What it sets, for machines that do not set it themselves. Of two rules the first one counts.
    #[serde(default)]
    pub settings: Settings,
    /// Such machines boot their local disk and nothing else.
    #[serde(default)]
    pub refuse_boot: bool,
    /// No task that writes to a disk begins on such machines. Judged again when the agent has told what the
    /// machine is made of.
    #[serde(default)]
    pub refuse_tasks: bool,
}

/// What people wrote down for many machines at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyBook {
    /// Groups of machines, and what each sets.
    pub groups: BTreeMap<ShortName, Settings>,
    /// In the order in which they are looked at.
    pub rules: Vec<Rule>,
}

/// What came of a rule for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged<'a> {
    pub rule: &'a Rule,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    DoesNot,
    /// It asks for something that is not known here, or for too much work.
    Failed(String),
}

impl Judged<'_> {
    #[must_use]
    pub fn holds(&self) -> bool {
        self.verdict == Verdict::Holds
    }

    /// Why no disk may be written to, if this rule says so. One that cannot be judged counts as holding: the
    /// person who wrote it meant to protect something.
    #[must_use]
    pub fn refuses_tasks(&self) -> Option<String> {
        if !self.rule.refuse_tasks {
            return None;
        }
        match &self.verdict {
            Verdict::DoesNot => None,
            Verdict::Holds => Some(format!("The rule {} forbids it.", self.rule.name)),
            Verdict::Failed(why) => Some(format!(
                "The rule {} could not be judged ({why}), so nothing is written.",
                self.rule.name
            )),
        }
    }

    /// For the explanation.
    pub(super) fn why(&self) -> String {
        match &self.verdict {
            Verdict::Holds => format!("It holds: {}", self.rule.when),
            Verdict::DoesNot => format!("It does not hold: {}", self.rule.when),
            Verdict::Failed(why) => format!("It cannot be judged: {why}."),
        }
    }
}

/// What a group or a rule is called: 1 to 63 letters, digits, hyphens, underscores and dots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ShortName(String);

/// The text is not such a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name: use 1 to 63 letters, digits, hyphens, underscores and dots")]
pub struct ShortNameError;

impl ShortName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ShortName {
    type Error = ShortNameError;

    fn try_from(text: String) -> Result<Self, ShortNameError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if (1..=63).contains(&text.len()) && text.bytes().all(good) {
            Ok(Self(text))
        } else {
            Err(ShortNameError)
        }
    }
}

impl From<ShortName> for String {
    fn from(name: ShortName) -> Self {
        name.0
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
