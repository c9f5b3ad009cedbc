//! All of the policy that standing orders rest on: as it is, or as somebody wants it to be.

use std::sync::Arc;

use farrier_engine::model::{Machine, MachineId};
use farrier_engine::policy::{
    AutoDeploy, DeployOver, Enrolment, Held, Origin, Policy, PolicyBook, Rule, Settings, Snapshot,
    StandingOrder, UnknownMachine, standing_order,
};
use farrier_engine::task::DiskSelector;

use crate::core::Core;
use crate::fleet::Fleet;
use crate::rules::Rules;
use crate::whereabouts::Place;

/// Site, groups and rules of one moment.
#[derive(Clone, Debug)]
pub struct Ground {
    site: Arc<Settings>,
    book: Arc<PolicyBook>,
    rules: Arc<Rules>,
    snapshot: Arc<Snapshot>,
}

impl Core {
    /// As it is now.
    #[must_use]
    pub fn ground(&self) -> Ground {
        Ground {
            site: self.site.load_full(),
            book: self.book.load_full(),
            rules: self.rules.load_full(),
            snapshot: self.snapshot.load_full(),
        }
    }
}

impl Ground {
    /// With other settings of the site.
    #[must_use]
    pub fn with_site(&self, site: Settings) -> Self {
        let book = Arc::clone(&self.book);
        self.of(Arc::new(site), book)
    }

    /// With other groups and rules.
    #[must_use]
    pub fn with_book(&self, book: PolicyBook) -> Self {
        let site = Arc::clone(&self.site);
        self.of(site, Arc::new(book))
    }

    /// The same with those rules alone that have a say, which is what many machines are judged by.
    #[must_use]
    pub fn lean(&self) -> Self {
        self.of(Arc::clone(&self.site), Arc::clone(&self.book))
    }

    fn of(&self, site: Arc<Settings>, book: Arc<PolicyBook>) -> Self {
        let having_a_say = book.rules.iter().filter(|rule| has_a_say(rule));
        let rules: Vec<Rule> = having_a_say.cloned().collect();
        let snapshot = Snapshot {
            site: (*site).clone(),
            groups: book.groups.clone(),
            ..(*self.snapshot).clone()
        };
        Self {
            rules: Arc::new(Rules::of(&rules)),
            snapshot: Arc::new(snapshot),
            site,
            book,
        }
    }

    /// Whether anything could be deployed by itself to this machine; costs nothing where nobody uses it.
    #[must_use]
    pub fn has_orders(&self, machine: &Machine) -> bool {
        let group = machine.group.as_ref();
        deploys(&machine.settings)
            || self.has_orders_for_anybody()
            || group.is_some_and(|name| self.book.groups.get(name).is_some_and(deploys))
    }

    /// Rules are judged as the agent's are, wherever they are asked: what a loader says must not start what the agent
    /// then stops.
    pub(super) fn wanted(
        &self,
        machine: &Machine,
        place: &Place,
    ) -> Result<Option<StandingOrder>, Held> {
        let judged = self.rules.judge(None, Some(machine), || place.clone());
        standing_order(&self.snapshot, machine, &judged)
    }

    fn has_orders_for_anybody(&self) -> bool {
        deploys(&self.site) || self.book.rules.iter().any(|rule| deploys(&rule.settings))
    }
}

/// From one ground to another.
impl Ground {
    /// The machines for which it may make a difference.
    pub(super) fn touched_from(&self, before: &Self, fleet: &Fleet) -> Vec<MachineId> {
        let is_of_all = order_of(&self.site) != order_of(&before.site);
        if is_of_all || !self.rules_say_nothing_more(before) {
            return fleet.machine_ids();
        }
        let groups = self.book.groups.iter();
        let others = groups.filter(|(name, settings)| {
            let was = before.book.groups.get(*name);
            was.map(order_of) != Some(order_of(settings))
        });
        others.flat_map(|(name, _)| fleet.members(name)).collect()
    }

    /// Whether nobody says anything about this machine, which rules know by its name and group, that was not said of
    /// what it `was`, but for what can only keep deployments away.
    pub(super) fn says_nothing_more(&self, is: &Machine, before: &Self, was: &Machine) -> bool {
        (&is.name, &is.group) == (&was.name, &was.group)
            && order_of(&is.settings) == order_of(&was.settings)
            && self.of_group(is) == before.of_group(was)
            && order_of(&self.site) == order_of(&before.site)
            && self.rules_say_nothing_more(before)
    }

    fn rules_say_nothing_more(&self, before: &Self) -> bool {
        let is_new = |say: &Say<'_>| before.says().all(|other| other != *say);
        let kept = self
            .says()
            .filter(|say| !(say.only_closes() && is_new(say)));
        kept.eq(before.says())
    }

    fn of_group(&self, machine: &Machine) -> Option<OrderOf<'_>> {
        self.book.groups.get(machine.group.as_ref()?).map(order_of)
    }

    /// Who deploys to machines that nobody knows yet, if this change may let more of them in, or give them something
    /// else, than before. What can only keep machines out opens nothing.
    #[must_use]
    pub fn opens_from(&self, before: &Self) -> Option<Door> {
        if !self.has_orders_for_anybody() {
            return None;
        }
        let by_rules = !self.rules_say_nothing_more(before);
        let by_site = deploys(&self.site) && order_of(&self.site) != order_of(&before.site);
        let entry = |site: &Settings| {
            let unknown = site
                .unknown_machine
                .unwrap_or(Policy::DEFAULT.unknown_machine);
            (
                site.enrolment == Some(Enrolment::Automatic),
                unknown == UnknownMachine::Register,
            )
        };
        let ((automatic, registers), (was_automatic, registered)) =
            (entry(&self.site), entry(&before.site));
        let by_entry = (automatic && !was_automatic) || (registers && !registered);
        if !(by_rules || by_site || by_entry) {
            return None;
        }
        Some(Door {
            deployers: self.deployers(),
            automatic: automatic || self.book.rules.iter().any(|rule| lets_in(&rule.settings)),
        })
    }

    fn deployers(&self) -> Vec<Origin> {
        let rules = self
            .book
            .rules
            .iter()
            .filter(|rule| deploys(&rule.settings));
        let rules = rules.map(|rule| Origin::Rule(rule.name.clone()));
        rules
            .chain(deploys(&self.site).then_some(Origin::Site))
            .collect()
    }

    fn says(&self) -> impl Iterator<Item = Say<'_>> {
        let rules = self.book.rules.iter().filter(|rule| has_a_say(rule));
        rules.map(|rule| Say {
            when: &rule.when,
            order: order_of(&rule.settings),
            refuses: (rule.refuse_boot, rule.refuse_tasks),
            entry: (rule.settings.enrolment, rule.settings.unknown_machine),
        })
    }
}

/// What machines get that nobody knows yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Who gives it to them.
    pub deployers: Vec<Origin>,
    /// Whether some of them need nobody's approval.
    pub automatic: bool,
}

/// What a rule says in the matter, without its name and the rest that it sets.
#[derive(PartialEq, Eq)]
struct Say<'a> {
    when: &'a str,
    order: OrderOf<'a>,
    refuses: (bool, bool),
    entry: (Option<Enrolment>, Option<UnknownMachine>),
}

impl Say<'_> {
    fn only_closes(&self) -> bool {
        let (deploy, _, _, image) = self.order;
        let (enrolment, unknown) = self.entry;
        matches!(deploy, None | Some(AutoDeploy::Never))
            && image.is_none()
            && enrolment != Some(Enrolment::Automatic)
            && unknown != Some(UnknownMachine::Register)
    }
}

type OrderOf<'a> = (
    Option<AutoDeploy>,
    Option<DeployOver>,
    Option<&'a DiskSelector>,
    Option<&'a str>,
);

fn order_of(settings: &Settings) -> OrderOf<'_> {
    (
        settings.deploy,
        settings.deploy_over,
        settings.deploy_disk.as_ref(),
        settings.image.as_deref(),
    )
}

fn has_a_say(rule: &Rule) -> bool {
    let settings = &rule.settings;
    let enters = settings.enrolment.is_some() || settings.unknown_machine.is_some();
    order_of(settings) != (None, None, None, None)
        || rule.refuse_boot
        || rule.refuse_tasks
        || enters
}

fn deploys(settings: &Settings) -> bool {
    settings
        .deploy
        .is_some_and(|deploy| deploy != AutoDeploy::Never)
}

fn lets_in(settings: &Settings) -> bool {
    settings.enrolment == Some(Enrolment::Automatic)
}
