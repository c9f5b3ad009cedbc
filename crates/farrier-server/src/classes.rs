//! Which kinds of clients somebody is of, as the configuration names them.

use farrier_engine::facts::BootFacts;
use farrier_engine::lease::Classes;
use farrier_engine::model::Machine;
use farrier_engine::parameter::OptionSet;
use farrier_engine::policy::Verdict;

use crate::config::ClassConfig;
use crate::rules::Rules;
use crate::whereabouts::Place;

/// The classes of the configuration, ready to be judged.
#[derive(Debug, Default)]
pub struct ClassBook {
    rules: Rules,
    options: Vec<OptionSet>,
}

impl ClassBook {
    #[must_use]
    pub fn of(classes: &[ClassConfig]) -> Self {
        let rules: Vec<_> = classes.iter().map(|class| class.rule.clone()).collect();
        Self {
            rules: Rules::of(&rules),
            options: classes.iter().map(|class| class.options.clone()).collect(),
        }
    }

    /// The classes of who sent a request. Costs nothing where there are none.
    #[must_use]
    pub fn judge(
        &self,
        facts: &BootFacts,
        machine: Option<&Machine>,
        place: impl FnOnce() -> Place,
    ) -> Classes {
        let judged = self.rules.judge(Some(facts), machine, place);
        let holds = judged.iter().enumerate().filter(|(_, judged)| {
            if let Verdict::Failed(why) = &judged.verdict {
                tracing::debug!(class = %judged.rule.name, why, "a class could not be judged");
            }
            judged.verdict == Verdict::Holds
        });
        holds.fold(Classes::default(), |all, (number, _)| all.with(number))
    }

    /// The options of these classes; of two classes the one that is written first counts.
    pub fn options(&self, classes: Classes) -> impl Iterator<Item = &OptionSet> {
        let all = self.options.iter().enumerate();
        all.filter_map(move |(number, set)| classes.contains(number).then_some(set))
    }
}
