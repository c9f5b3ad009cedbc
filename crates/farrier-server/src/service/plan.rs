//! Plans: what would be done, shown before it is done.
//!
//! `confirm` is a keyed hash over everything the plan says and touches. Whoever executes sends it back; the
//! plan is made anew and must come to the same hash. So a confirmation is for one deed in one state of the
//! world, needs no memory here, and cannot be made up.

use std::sync::OnceLock;

use farrier_api::admin::{LeftOut, Plan};

use super::{Code, Refusal};

/// A plan in the making.
#[derive(Debug, Default)]
pub struct Draft {
    pub summary: String,
    pub steps: Vec<String>,
    pub warnings: Vec<String>,
    pub left_out: Vec<LeftOut>,
    pub destructive: bool,
    /// Makes the confirmation one that can be told from those of all other plans; empty where nobody needs to.
    pub once: String,
    /// What must not change between showing and doing: ids, revisions, roots.
    pub touches: Vec<String>,
}

impl Draft {
    #[must_use]
    pub fn finish(self) -> Plan {
        let mut hasher = blake3::Hasher::new_keyed(key());
        let parts = [&self.summary]
            .into_iter()
            .chain(&self.steps)
            .chain(&self.warnings)
            .chain(self.left_out.iter().map(|left| &left.why))
            .chain([&self.once])
            .chain(&self.touches);
        for part in parts {
            hasher.update(&part.len().to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Plan {
            summary: self.summary,
            steps: self.steps,
            warnings: self.warnings,
            left_out: self.left_out,
            destructive: self.destructive,
            confirm: format!("{}{}", self.once, &hasher.finalize().to_hex()[..32]),
        }
    }
}

/// What makes a confirmation the only one of its kind: out of one that is repeated, or new.
#[must_use]
pub fn once(confirm: Option<&str>) -> String {
    if let Some(repeated) = confirm.and_then(|confirm| confirm.get(..ONCE)) {
        return repeated.to_owned();
    }
    crate::core::new_id().simple().to_string()[..ONCE].to_owned()
}

/// All digits of an id: times and chance.
const ONCE: usize = 32;

/// Whether `confirm` is for exactly this plan.
pub fn require(plan: &Plan, confirm: Option<&str>) -> Result<(), Refusal> {
    match confirm {
        None | Some("") => Err(Refusal::new(Code::ConfirmNeeded, format!("{} This must be confirmed.", plan.summary))
            .hint("ask for the plan first and send its `confirm`; with the command line, look at the plan and add --yes")),
        Some(given) if crate::auth::token::same(given, &plan.confirm) => Ok(()),
        Some(_) => Err(Refusal::new(Code::PlanChanged, "what would be done is no longer what was confirmed")
            .hint("look at the new plan and confirm it")),
    }
}

/// A key of this run: a restart makes old plans void, which is right.
fn key() -> &'static [u8; 32] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    KEY.get_or_init(|| {
        let mut key = [0; 32];
        if getrandom::fill(&mut key).is_err() {
            // Without randomness no session could have been made either; plans only guard against mistakes.
            key = *blake3::hash(b"farrier plan").as_bytes();
        }
        key
    })
}

#[cfg(test)]
mod tests {
    use super::{Code, Draft, require};

    fn draft(touches: &str) -> Draft {
        Draft {
            summary: "Deletes it.".to_owned(),
            steps: vec!["one".to_owned()],
            warnings: Vec::new(),
            destructive: true,
            touches: vec![touches.to_owned()],
            ..Draft::default()
        }
    }

    #[test]
    fn a_confirmation_is_for_one_state_of_the_world() {
        let plan = draft("revision 1").finish();
        assert!(require(&plan, Some(&draft("revision 1").finish().confirm)).is_ok());
        let later = draft("revision 2").finish();
        assert_eq!(
            require(&later, Some(&plan.confirm)).unwrap_err().code,
            Code::PlanChanged
        );
        assert_eq!(require(&plan, None).unwrap_err().code, Code::ConfirmNeeded);
        assert_eq!(
            require(&plan, Some("")).unwrap_err().code,
            Code::ConfirmNeeded
        );
    }

    #[test]
    fn one_that_is_for_once_comes_again_only_when_it_is_repeated() {
        let plan = |once: String| Draft { once, ..draft("") }.finish();
        let first = plan(super::once(None));
        assert_ne!(first.confirm, plan(super::once(None)).confirm);
        let again = plan(super::once(Some(&first.confirm)));
        assert!(require(&again, Some(&first.confirm)).is_ok());
        // Cut anywhere, it is no confirmation.
        for end in 1..first.confirm.len() {
            let cut = &first.confirm[..end];
            assert!(require(&plan(super::once(Some(cut))), Some(cut)).is_err());
        }
    }

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        let one = Draft {
            steps: vec!["ab".to_owned(), "c".to_owned()],
            ..draft("")
        }
        .finish();
        let other = Draft {
            steps: vec!["a".to_owned(), "bc".to_owned()],
            ..draft("")
        }
        .finish();
        assert_ne!(one.confirm, other.confirm);
    }
}
