//! Groups of machines, rules, and wishes for the next boots.

use std::time::Duration;

use farrier_api::admin::{
    self as api, Group, GroupDetail, IssuedCode, MachineDetail, MachineSummary, NewIntent,
    NewestTasks, Rule, Rules, Settings,
};
use farrier_engine::model::{Machine, MachineId};
use farrier_engine::policy::{self, BootIntent, MenuEntry, PolicyBook, ShortName};
use farrier_engine::task::State;
use farrier_engine::timeline::Kind;
use uuid::Uuid;

use super::convert::{self, Like};
use super::{Code, Desk, Refusal};
use crate::auth::Action;
use crate::core::now;
use crate::rules;

impl Desk {
    /// Every group, by name.
    pub async fn groups(&self) -> Result<Vec<Group>, Refusal> {
        self.allow(Action::Look)?;
        let book = self.core.db.policy_book().await?.book;
        let shown = book.groups.iter().map(|(name, settings)| Group {
            name: name.to_string(),
            settings: convert::settings(settings),
            machines: self.members(name).len() as u64,
        });
        Ok(shown.collect())
    }

    /// Makes a group, or sets what it sets.
    pub async fn set_group(
        &self,
        name: &str,
        settings: Settings,
        confirm: Option<&str>,
    ) -> Result<Group, Refusal> {
        self.allow(Action::SetPolicy)?;
        let name = short_name(name)?;
        self.can_hold(&settings)?;
        let wanted = convert::settings_back(&settings)?;
        self.change_book(confirm, |book| {
            if book.groups.len() >= MAX_GROUPS && !book.groups.contains_key(&name) {
                let message = format!("there are {MAX_GROUPS} groups already");
                return Err(Refusal::new(Code::NotPossible, message));
            }
            book.groups.insert(name.clone(), wanted.clone());
            Ok(())
        })
        .await?;
        let shown = serde_json::to_string(&settings).unwrap_or_default();
        self.audit(Action::SetPolicy, format!("group {name}: {shown}"))
            .await;
        Ok(Group {
            machines: self.members(&name).len() as u64,
            name: name.to_string(),
            settings,
        })
    }

    /// Takes a group away that has no machines.
    pub async fn delete_group(&self, name: &str) -> Result<(), Refusal> {
        self.allow(Action::SetPolicy)?;
        let name = short_name(name)?;
        let members = self.members(&name);
        if !members.is_empty() {
            let message = format!("{} machine(s) are in the group {name}", members.len());
            return Err(Refusal::new(Code::NotPossible, message)
                .hint("take them out first: farrier machine group <machine> ''"));
        }
        self.change_book(None, |book| match book.groups.remove(&name) {
            Some(_) => Ok(()),
            None => Err(Refusal::missing("group", &name)),
        })
        .await?;
        self.audit(Action::SetPolicy, format!("group {name} deleted"))
            .await;
        Ok(())
    }

    /// The site's rules in their order.
    pub async fn rules(&self) -> Result<Vec<Rule>, Refusal> {
        self.allow(Action::Look)?;
        let book = self.core.db.policy_book().await?.book;
        Ok(book.rules.iter().map(convert::rule).collect())
    }

    /// Puts these rules in place of all others, if every one of them can be used.
    pub async fn set_rules(
        &self,
        wanted: Rules,
        confirm: Option<&str>,
    ) -> Result<Vec<Rule>, Refusal> {
        self.allow(Action::SetPolicy)?;
        if wanted.rules.len() > MAX_RULES {
            return Err(Refusal::bad(format!("there can be {MAX_RULES} rules")));
        }
        let mut rules: Vec<policy::Rule> = Vec::with_capacity(wanted.rules.len());
        for rule in &wanted.rules {
            self.can_hold(&rule.settings)?;
            let rule = convert::rule_back(rule)?;
            if rules.iter().any(|other| other.name == rule.name) {
                return Err(Refusal::bad(format!("two rules are called {}", rule.name)));
            }
            rules.push(rule);
        }
        let compiled = rules::Rules::of(&rules);
        let faults: Vec<String> = compiled.faults().map(ToString::to_string).collect();
        if !faults.is_empty() {
            return Err(Refusal::bad(faults.join("; "))
                .hint("docs/concepts/policy.md says what a rule can ask for"));
        }
        self.change_book(confirm, |book| {
            book.rules.clone_from(&rules);
            Ok(())
        })
        .await?;
        let shown = serde_json::to_string(&wanted).unwrap_or_default();
        self.audit(Action::SetPolicy, format!("rules: {shown}"))
            .await;
        self.rules().await
    }

    /// Wishes what a machine does at its next boots.
    pub async fn set_intent(&self, id: Uuid, wish: NewIntent) -> Result<MachineDetail, Refusal> {
        self.allow(Action::CreateTask)?;
        if wish.boots == 0 || wish.boots > MAX_BOOTS {
            return Err(Refusal::bad(format!("`boots` is 1 to {MAX_BOOTS}")));
        }
        if wish.minutes == 0 || wish.minutes > MAX_MINUTES {
            return Err(Refusal::bad(format!("`minutes` is 1 to {MAX_MINUTES}")));
        }
        let intent = BootIntent {
            entry: self.known_entry(&wish.entry)?,
            boots_left: wish.boots,
            expires: now() + Duration::from_secs(u64::from(wish.minutes) * 60),
            until: wish.until.like(),
            set_at: now(),
            set_by: self.who.name.clone(),
            counted: None,
        };
        let told = format!(
            "{} wished for the next {} boot(s): {}.",
            self.who.name, wish.boots, intent.entry
        );
        self.change_intent(id, Some(intent), told).await
    }

    /// A code that opens the entries of the machine's menu once, for a person in front of it.
    pub async fn menu_code(&self, id: Uuid) -> Result<IssuedCode, Refusal> {
        self.allow(Action::CreateTask)?;
        let machine = self
            .core
            .fleet
            .machine(MachineId(id))
            .ok_or_else(|| Refusal::missing("machine", id))?;
        let issued = self
            .core
            .menu_codes
            .issue(machine.id, &self.who.name, now())
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let told = format!("{} got a code for the machine's menu.", self.who.name);
        self.core.note(machine.id, Kind::Operator, told.clone());
        self.audit(Action::CreateTask, told).await;
        Ok(IssuedCode {
            code: issued.code,
            expires: issued.expires.0,
        })
    }

    /// Takes that wish back.
    pub async fn drop_intent(&self, id: Uuid) -> Result<MachineDetail, Refusal> {
        self.allow(Action::CreateTask)?;
        let told = format!("{} took back the wish for the next boots.", self.who.name);
        self.change_intent(id, None, told).await
    }

    async fn change_intent(
        &self,
        id: Uuid,
        intent: Option<BootIntent>,
        told: String,
    ) -> Result<MachineDetail, Refusal> {
        let change = |machine: &mut Machine| machine.intent.clone_from(&intent);
        let stored = self
            .core
            .fleet
            .change_machine(MachineId(id), change)
            .await?;
        self.core.note(stored.id, Kind::Operator, told.clone());
        self.audit(Action::CreateTask, told).await;
        Ok(convert::machine_detail(&self.core, &stored))
    }

    /// The entry of that name. A medium that is not there can still be a setting, but nobody means one now.
    fn known_entry(&self, entry: &api::MenuEntry) -> Result<MenuEntry, Refusal> {
        let entry = convert::entry_back(entry)?;
        if let MenuEntry::Medium(name) = entry
            && !self.core.snapshot.load().media.contains_key(&name)
        {
            return Err(Refusal::missing("medium", name)
                .hint("`farrier media add` puts one into the server's data folder"));
        }
        Ok(entry)
    }

    /// The group of that name, for a machine that is put into it.
    pub(super) fn known_group(&self, name: &str) -> Result<ShortName, Refusal> {
        let name = short_name(name)?;
        if self.core.snapshot.load().groups.contains_key(&name) {
            return Ok(name);
        }
        Err(Refusal::missing("group", &name).hint("make it first: farrier group set <name>"))
    }

    /// What starts deployments by it wants to be confirmed.
    async fn change_book(
        &self,
        confirm: Option<&str>,
        change: impl Fn(&mut PolicyBook) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let _one = self.core.standing_orders.one_change().await;
        let stored = self.core.db.policy_book().await?;
        let mut book = stored.book;
        change(&mut book)?;
        let before = self.core.ground().lean();
        let after = before.with_book(book.clone());
        let what = format!("{book:?}");
        self.agree_to_policy(&what, (&before, &after), confirm)
            .await?;
        self.core.set_book(book, stored.revision).await?;
        Ok(())
    }

    /// The machines of the group of that name.
    pub(super) fn members_of(&self, group: &str) -> Result<Vec<MachineId>, Refusal> {
        Ok(self.members(&self.known_group(group)?))
    }

    /// A group with its machines and how far they are.
    pub async fn group(&self, name: &str) -> Result<GroupDetail, Refusal> {
        self.allow(Action::Look)?;
        let group = self.groups().await?;
        let group = group.into_iter().find(|group| group.name == name);
        let group = group.ok_or_else(|| Refusal::missing("group", name))?;
        let ids = self.members_of(name)?;
        let mut members: Vec<MachineSummary> = ids
            .iter()
            .filter_map(|id| self.core.fleet.machine(*id))
            .map(|machine| convert::machine_summary(&self.core, &machine))
            .collect();
        members.sort_by_cached_key(|m| (m.name.is_none(), m.name.clone(), m.macs.clone()));
        members.truncate(MAX_SHOWN);
        Ok(GroupDetail {
            newest: self.newest_tasks(&ids).await?,
            members,
            group,
        })
    }

    async fn newest_tasks(&self, machines: &[MachineId]) -> Result<NewestTasks, Refusal> {
        let tasks = self.core.db.newest_tasks(machines).await?;
        let mut counts = NewestTasks {
            none: machines.len().saturating_sub(tasks.len()) as u64,
            ..NewestTasks::default()
        };
        for task in &tasks {
            let count = match task.state {
                State::Queued => &mut counts.queued,
                State::Running => &mut counts.running,
                State::Lost => &mut counts.lost,
                State::Done => &mut counts.done,
                State::Failed => &mut counts.failed,
                State::Cancelled => &mut counts.cancelled,
                State::Expired => &mut counts.expired,
            };
            *count += 1;
        }
        Ok(counts)
    }

    fn members(&self, group: &ShortName) -> Vec<MachineId> {
        self.core.fleet.members(group)
    }
}

fn short_name(text: &str) -> Result<ShortName, Refusal> {
    ShortName::try_from(text.to_owned()).map_err(|e| Refusal::bad(format!("{text:?}: {e}")))
}

const MAX_GROUPS: usize = 1000;
/// Of the machines of one group; as many as one order may be for.
const MAX_SHOWN: usize = 1000;
/// Each is judged for every packet of a boot.
const MAX_RULES: usize = 100;
const MAX_BOOTS: u16 = 100;
/// A month.
const MAX_MINUTES: u32 = 31 * 24 * 60;
