//! Which rules were looked at, in order, and what each said.

use std::fmt;

use serde::Serialize;

/// The way to a decision. The last step is the one that decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub steps: Vec<Step>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub rule: &'static str,
    /// Whether it decided.
    pub matched: bool,
    /// What it saw.
    pub why: String,
}

impl Explanation {
    pub(super) fn passed(&mut self, rule: &'static str, why: impl Into<String>) {
        self.steps.push(Step {
            rule,
            matched: false,
            why: why.into(),
        });
    }

    pub(super) fn matched(&mut self, rule: &'static str, why: impl Into<String>) {
        self.steps.push(Step {
            rule,
            matched: true,
            why: why.into(),
        });
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
