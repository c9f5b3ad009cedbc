//! Which rules were looked at, in order, and what each said.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use super::Judged;

/// The way to a decision. The last step is the one that decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub steps: Vec<Step>,
    /// Nobody reads it: an answer to a packet costs less without its sentences.
    #[serde(skip)]
    untold: bool,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub rule: Cow<'static, str>,
    /// Whether it decided.
    pub matched: bool,
    /// What it saw.
    pub why: String,
}

impl Explanation {
    /// One that stays empty.
    pub(super) fn untold() -> Self {
        Self {
            steps: Vec::new(),
            untold: true,
        }
    }

    pub(super) fn passed(&mut self, rule: impl Into<Cow<'static, str>>, why: impl fmt::Display) {
        self.tell(rule, false, why);
    }

    pub(super) fn matched(&mut self, rule: impl Into<Cow<'static, str>>, why: impl fmt::Display) {
        self.tell(rule, true, why);
    }

    fn tell(&mut self, rule: impl Into<Cow<'static, str>>, matched: bool, why: impl fmt::Display) {
        if !self.untold {
            self.steps.push(Step {
                rule: rule.into(),
                matched,
                why: why.to_string(),
            });
        }
    }

    /// Tells of every rule, and whether one of them refuses to boot.
    pub(super) fn refused_by_rule(&mut self, rules: &[Judged<'_>]) -> bool {
        for judged in rules {
            let name = format!("rule {}", judged.rule.name);
            if judged.rule.refuse_boot && judged.holds() {
                self.matched(name, judged.why());
                return true;
            }
            self.passed(name, judged.why());
        }
        false
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .steps
            .iter()
            .map(|step| step.rule.len())
            .max()
            .unwrap_or(0);
        for Step { rule, matched, why } in &self.steps {
            let mark = if *matched { "=>" } else { "  " };
            writeln!(f, "{mark} {rule:width$}  {why}")?;
        }
        Ok(())
    }
}
