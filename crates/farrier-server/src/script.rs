//! A loader says who it is and gets its script: facts -> gather -> decide -> render.

mod agent;
mod page;
mod who;

use std::sync::Arc;

use farrier_engine::facts::BootFacts;
use farrier_engine::model::{Machine, Registration};
use farrier_engine::policy::{
    AgentPurpose, Decision, Known, LocalBoot, MenuCode, MenuEntry, ScriptAction, Step,
    decide_script, is_of_this_boot,
};
use farrier_engine::script::{self, Language, LocalDisk, Url};
use farrier_engine::silence::Awaited;
use farrier_engine::task::{Task, Work};
use farrier_engine::timeline::{Entry, Kind};
use farrier_engine::{Reason, WallTime};
use page::{Page, PageError};
use who::known;

use crate::boot_tree::{self, Asker, Channel, Urls};
use crate::core::{Core, Recognised, now};
use crate::named_scripts::Gone;

/// The script for whoever sent `parameters`. There is always one: what cannot be done is said on the
/// machine's screen, and its local disk starts.
pub async fn render(core: &Core, asker: Asker, parameters: &[(String, String)]) -> String {
    let pairs = parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let facts = match BootFacts::from_http(pairs) {
        Ok(facts) => facts,
        Err(error) => {
            tracing::debug!(%error, ip = %asker.ip, "a script request that names no machine");
            return script::message(Reason::Malformed, &LocalDisk::Exit);
        }
    };
    let said = |wanted: &str| {
        let found = parameters.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let choice = said("choice").and_then(|text| text.parse::<MenuEntry>().ok());
    let choice = choice.map(|entry| Choice {
        entry,
        code: said("code").filter(|code| !code.is_empty()),
    });
    let urls = Urls::by(&core.config, asker.server, asker.by == Channel::Https);
    let reader = Reader {
        language: Language::Ipxe,
        http: true,
        script: urls.url(boot_tree::SCRIPT),
    };
    render_for(core, asker, &facts, choice, &reader).await
}

/// What somebody chose in the menu.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    pub entry: MenuEntry,
    /// The one-time code that was typed for it.
    pub code: Option<&'a str>,
}

impl Choice<'_> {
    #[must_use]
    pub fn of(entry: MenuEntry) -> Self {
        Self { entry, code: None }
    }
}

/// Who reads the script.
#[derive(Clone, Debug)]
pub struct Reader {
    pub language: Language,
    /// It fetches by HTTP, which is faster than TFTP by far (`firmware.md` T15).
    pub http: bool,
    /// Where it asks again when somebody chose in the menu.
    pub script: Url,
}

/// The script of the machine that `facts` are of, in its loader's language.
pub async fn render_for(
    core: &Core,
    asker: Asker,
    facts: &BootFacts,
    choice: Option<Choice<'_>>,
    reader: &Reader,
) -> String {
    let mut who = match known(core, asker, facts).await {
        Ok(who) => who,
        Err(reason) => return turned_away(core, facts, reason, reader.language),
    };
    let now = now();
    if reader.language == Language::Ipxe {
        core.disk_starts.begins_anew(asker.ip, now);
    }
    let choice = choice.or_else(|| core.choices.take(facts.mac, now).map(Choice::of));
    if choice.is_none() && who.due.is_none() {
        who.due = ordered_by_policy(core, asker, facts, &who).await;
    }
    let decision = decided(core, asker, &who, facts, choice, now).await;
    if let Some(machine) = &who.machine {
        core.whereabouts.heard(machine.id, asker.ip);
        core.sightings.went_on(facts.mac);
        match decision.action {
            ScriptAction::Agent(_) => core.silences.expect(facts.mac, Awaited::Agent, now),
            _ => core.silences.came(facts.mac),
        }
        core.fleet.saw_machine(machine.id, now);
        if core.disk_starts.take_news(asker.ip, now) {
            core.note(machine.id, Kind::Warning, STOPPED_IN_GRUB);
        }
        core.note_entry(
            Entry::script_served(machine.id, now, &decision.action)
                .with("address", asker.ip)
                .with("loader", reader.language.name()),
        );
    }
    for machine in &who.conflict {
        core.note_entry(Entry::conflict(*machine, now, &who.why));
    }
    let page = Page {
        core,
        facts,
        asker,
        reader,
    };
    let made = page
        .render(&decision.action, who.machine.as_deref(), now)
        .await;
    or_said(&page, who.machine.as_deref(), made)
}

/// The script behind a name that this address was told, which is used up by this.
pub async fn named(core: &Core, asker: Asker, name: &str) -> Result<String, Gone> {
    let now = now();
    let taken = core.named_scripts.take(name, asker.ip, now);
    let promised = taken.inspect_err(|gone| told_in_vain(core, asker, *gone))?;
    let machine = core.fleet.machine(promised.machine).ok_or(Gone::Over)?;
    if let AgentPurpose::Task(task) = promised.purpose
        && core
            .fleet
            .queue(machine.id)
            .iter()
            .all(|due| due.id != task)
    {
        return Err(Gone::Over);
    }
    let language = Language::Ipxe;
    let (arch, firmware) = (machine.arch, machine.firmware);
    let facts = BootFacts::from_loader(promised.mac, language, arch, firmware, None);
    let urls = Urls::by(&core.config, asker.server, asker.by == Channel::Https);
    let page = Page {
        core,
        facts: &facts,
        asker,
        reader: &Reader {
            language,
            http: true,
            script: urls.url(boot_tree::SCRIPT),
        },
    };
    let made = page.agent_itself(&machine, promised.purpose, now).await;
    Ok(or_said(&page, Some(&machine), made))
}

/// Tells, once for each name, that somebody asked for it who may not have it.
fn told_in_vain(core: &Core, asker: Asker, gone: Gone) {
    let (machine, why) = match gone {
        Gone::Elsewhere {
            machine,
            first: true,
        } => (machine, "its name was told to another address"),
        Gone::Spent {
            machine,
            first: true,
        } => (machine, "it was fetched already"),
        _ => return,
    };
    let ip = asker.ip;
    let text = format!("The script that starts its agent was refused to {ip}: {why}.");
    core.note(machine, Kind::Warning, text);
}

/// The script, or one that says that there is none.
fn or_said(page: &Page<'_>, machine: Option<&Machine>, made: Result<String, PageError>) -> String {
    let error = match made {
        Ok(text) => return text,
        Err(error) => error,
    };
    tracing::warn!(mac = %page.facts.mac, %error, "a script could not be made");
    if let Some(machine) = machine {
        let language = page.reader.language.name();
        let why = format!("Its {language} script could not be made: {error}.");
        page.core.note(machine.id, Kind::Warning, why);
    }
    page.message(Reason::NotStored).unwrap_or_default()
}

/// The task that the policy starts by itself, where there is an agent to do it.
async fn ordered_by_policy(
    core: &Core,
    asker: Asker,
    facts: &BootFacts,
    who: &Recognised,
) -> Option<Arc<Task>> {
    let machine = who.machine.as_ref()?;
    let arch = facts.arch?;
    if machine.registration != Registration::Approved
        || !core.snapshot.load().agents.contains(&arch)
    {
        return None;
    }
    core.start_standing_order(machine.id, &core.place_at(asker.ip))
        .await
}

/// Gathers what the decision rests on, decides, and notes what must not be granted twice.
async fn decided(
    core: &Core,
    asker: Asker,
    who: &Recognised,
    facts: &BootFacts,
    choice: Option<Choice<'_>>,
    now: WallTime,
) -> Decision<ScriptAction> {
    let rules = core.rules.load_full();
    let judged = rules.judge(Some(facts), who.machine.as_deref(), || {
        core.place_at(asker.ip)
    });
    let due = who.due.as_deref();
    let starts = due.map(|task| core.rounds.of(task.id)).unwrap_or_default();
    let deployments = match due.filter(|task| matches!(task.work, Work::Deploy { .. })) {
        // Without the database nothing is deployed anyway.
        Some(task) => core.deployments(task.machine).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let began = core.sightings.began(facts.mac);
    let known = Known {
        boot_began: began,
        code: checked(core, who, choice, now),
        stops_in_grub: core.disk_starts.stops(asker.ip, now),
        rules: &judged,
        agent_starts: &starts,
        deployments: &deployments,
        ..who.known(&[])
    };
    let entry = choice.map(|choice| choice.entry);
    let mut decision = decide_script(facts, entry, &known, &core.snapshot.load(), now);
    if let ScriptAction::Agent(AgentPurpose::Task(task)) = decision.action {
        let counted = starts
            .last()
            .is_some_and(|at| is_of_this_boot(*at, began, now));
        if !counted && let Err(error) = core.begin_round(task, now).await {
            tracing::warn!(%error, "a start of the agent could not be counted; a restart forgets it");
        }
    }
    let is_wish = |step: &Step| step.matched && step.rule == "boot intent";
    let wished = decision.explanation.steps.iter().any(is_wish);
    if let Some(machine) = &who.machine
        && let Some(intent) = &machine.intent
        && !intent.is_counted(began, now)
        && (wished || intent.boots_left == 0)
    {
        let used = |machine: &mut Machine| {
            let intent = machine.intent.as_ref().filter(|_| wished);
            machine.intent = intent.map(|intent| intent.used(now));
        };
        // What cannot be counted would be granted for ever.
        let stored = core.fleet.change_machine(machine.id, used).await;
        if let Err(error) = stored
            && wished
        {
            tracing::warn!(%error, "a wish for the next boots could not be counted, so it is not granted");
            decision.action = ScriptAction::Message {
                reason: Reason::NotStored,
                local_disk: LocalBoot::Exit,
            };
        }
    }
    decision
}

/// Whether the code that came with a choice is right. A right one is used up by this.
fn checked(core: &Core, who: &Recognised, choice: Option<Choice<'_>>, now: WallTime) -> MenuCode {
    let (Some(machine), Some(code)) = (&who.machine, choice.and_then(|choice| choice.code)) else {
        return MenuCode::NotGiven;
    };
    let Some(by) = core.menu_codes.redeem(machine.id, code, now) else {
        return MenuCode::Wrong;
    };
    let told = format!("The code that {by} got for the menu was used.");
    core.note(machine.id, Kind::Operator, told);
    MenuCode::Right
}

/// What a stranger sees for which there is no room.
fn turned_away(core: &Core, facts: &BootFacts, reason: Reason, language: Language) -> String {
    core.counters.ignored(reason, now());
    core.tell_of(facts.mac, None, |machine| {
        Entry::refused(machine, now(), "the script", reason)
    });
    let page = script::Page::Message {
        reason,
        local_disk: &LocalDisk::Exit,
    };
    page.render(language).unwrap_or_default()
}

const STOPPED_IN_GRUB: &str = "It was sent GRUB to start the local disk with, which never asked for its script: behind \
    this iPXE it has no network. For a day the firmware goes on to the disk, which takes minutes on many machines: \
    iPXE 2.0 needs no GRUB, and local_boot=firmware makes the way through the firmware the usual one.";
