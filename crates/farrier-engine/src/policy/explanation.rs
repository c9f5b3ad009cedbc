//! Which rules were looked at, in order, and what each said.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use super::Judged;

/// The way to a decision. The last step is the one that decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub steps: Vec<Step>,
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
    pub(super) fn passed(&mut self, rule: impl Into<Cow<'static, str>>, why: impl Into<String>) {
        self.steps.push(Step {
            rule: rule.into(),
            matched: false,
            why: why.into(),
        });
    }

    pub(super) fn matched(&mut self, rule: impl Into<Cow<'static, str>>, why: impl Into<String>) {
        self.steps.push(Step {
            rule: rule.into(),
            matched: true,
            why: why.into(),
        });
    }
}

impl Explanation {
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
