//! A loader says who it is and gets its script: facts -> gather -> decide -> render.

use std::net::{IpAddr, SocketAddr};

use farrier_db::{BootToken, DbError};
use farrier_engine::facts::BootFacts;
use farrier_engine::identity::Evidence;
use farrier_engine::model::{Machine, MachineId, Registration, TaskId};
use farrier_engine::policy::{
    AgentPurpose, BootIntent, Decision, Known, LocalBoot, MenuCode, MenuEntry, ScriptAction,
    Settings, Step, decide_script,
};
use farrier_engine::script::{
    self, AgentScript, Argument, CodeScript, Language, LocalDisk, MenuScript, NotRepresentable,
    Text, Url,
};
use farrier_engine::silence::Awaited;
use farrier_engine::strategy::Learned;
use farrier_engine::task::Work;
use farrier_engine::timeline::{Entry, Kind};
use farrier_engine::{Reason, WallTime};

use crate::boot_tree::{self, Asker, Urls};
use crate::core::{Core, Recognised, new_id, now};
use crate::fleet::FleetError;
use crate::hex::hex;
use crate::http::agent::token_hash;

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
    let choice = said("choice").and_then(script::choice);
    let choice = choice.map(|entry| Choice {
        entry,
        code: said("code").filter(|code| !code.is_empty()),
    });
    let urls = Urls {
        server: asker.server,
        port: core.config.boot_http_port,
    };
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
    let who = match known(core, asker, facts).await {
        Ok(who) => who,
        Err(reason) => return turned_away(core, facts, reason, reader.language),
    };
    let now = now();
    let choice = choice.or_else(|| core.choices.take(facts.mac, now).map(Choice::of));
    let decision = decided(core, &who, facts, choice, now).await;
    if let Some(machine) = &who.machine {
        core.sightings.went_on(facts.mac);
        match decision.action {
            ScriptAction::Agent(_) => core.silences.expect(facts.mac, Awaited::Agent, now),
            _ => core.silences.came(facts.mac),
        }
        core.fleet.saw_machine(machine.id, now);
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
    match page
        .render(&decision.action, who.machine.as_deref(), now)
        .await
    {
        Ok(text) => text,
        Err(error) => {
            tracing::warn!(mac = %facts.mac, %error, "a script could not be made");
            if let Some(machine) = &who.machine {
                let why = format!(
                    "Its {} script could not be made: {error}.",
                    reader.language.name()
                );
                core.note(machine.id, Kind::Warning, why);
            }
            page.message(Reason::NotStored).unwrap_or_default()
        }
    }
}

/// Gathers what the decision rests on, decides, and notes what must not be granted twice.
async fn decided(
    core: &Core,
    who: &Recognised,
    facts: &BootFacts,
    choice: Option<Choice<'_>>,
    now: WallTime,
) -> Decision<ScriptAction> {
    let rules = core.rules.load_full();
    let judged = rules.judge(Some(facts), who.machine.as_deref());
    let due = who.due.as_deref();
    let starts = due.map(|task| core.rounds.of(task.id)).unwrap_or_default();
    let deployments = match due.filter(|task| matches!(task.work, Work::Deploy { .. })) {
        // Without the database nothing is deployed anyway.
        Some(task) => core.deployments(task.machine).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let known = Known {
        code: checked(core, who, choice, now),
        rules: &judged,
        agent_starts: &starts,
        deployments: &deployments,
        ..who.known(&[])
    };
    let entry = choice.map(|choice| choice.entry);
    let mut decision = decide_script(facts, entry, &known, &core.snapshot.load(), now);
    if let ScriptAction::Agent(AgentPurpose::Task(task)) = decision.action {
        core.rounds.began(task, now);
    }
    let is_wish = |step: &Step| step.matched && step.rule == "boot intent";
    let wished = decision.explanation.steps.iter().any(is_wish);
    if let Some(machine) = who.machine.as_ref().filter(|_| wished) {
        let used = |machine: &mut Machine| {
            machine.intent = machine.intent.as_ref().and_then(BootIntent::used);
        };
        // What cannot be counted would be granted for ever.
        if let Err(error) = core.fleet.change_machine(machine.id, used).await {
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

/// The machine that asks; a stranger that came this far becomes one, since it runs a loader of ours, unless
/// there are too many of them.
async fn known(core: &Core, asker: Asker, facts: &BootFacts) -> Result<Recognised, Reason> {
    let evidence = Evidence::of_facts(facts);
    let who = core.recognise(&evidence);
    let done = match &who.machine {
        Some(machine) => update(core, machine, facts).await,
        None if who.conflict.is_empty() => {
            admit(core, asker).await?;
            add(core, facts).await
        }
        None => return Ok(who),
    };
    match done {
        Ok(()) => Ok(core.recognise(&evidence)),
        Err(error) => {
            tracing::warn!(mac = %facts.mac, %error, "a machine could not be stored; it boots all the same");
            Ok(who)
        }
    }
}

/// Whether there is room for one more; where there is none, what was seen once and never again makes it.
async fn admit(core: &Core, asker: Asker) -> Result<(), Reason> {
    let count = core.fleet.unconfirmed_count();
    let told = core.admission.admit(asker, count);
    if told != Err(Reason::TooManyUnconfirmed) {
        return told;
    }
    let Some(stale) = core.fleet.stalest(now() - SILENT) else {
        return told;
    };
    match core.fleet.delete_machine(stale).await {
        Ok(_) => core.admission.admit(asker, count - 1),
        Err(error) => {
            tracing::warn!(%error, "a machine that was seen once could not be forgotten");
            told
        }
    }
}

async fn add(core: &Core, facts: &BootFacts) -> Result<(), FleetError> {
    let machine = Machine {
        id: MachineId(new_id()),
        name: None,
        registration: Registration::Seen,
        macs: vec![facts.mac],
        uuid: facts.usable_uuid(),
        firmware: facts.firmware,
        arch: facts.arch,
        group: None,
        settings: Settings::default(),
        intent: None,
        learned: learn(core, None, facts),
        inventory: None,
        first_seen: now(),
        last_seen: now(),
        revision: 0,
    };
    let machine = core.fleet.add_machine(machine).await?;
    for entry in core.sightings.take(facts.mac) {
        core.note_entry(Entry {
            machine: machine.id,
            ..entry
        });
    }
    Ok(())
}

async fn update(core: &Core, machine: &Machine, facts: &BootFacts) -> Result<(), FleetError> {
    let changed = core.fleet.change_machine(machine.id, |machine| {
        machine.firmware = facts.firmware.or(machine.firmware);
        machine.arch = facts.arch.or(machine.arch);
        machine.uuid = machine.uuid.or_else(|| facts.usable_uuid());
        machine.learned = learn(core, machine.learned, facts);
    });
    let changed = changed.await?;
    let strategy = |machine: &Machine| machine.learned.map(|learned| learned.strategy);
    if let Some(learned) = strategy(&changed).filter(|_| strategy(&changed) != strategy(machine)) {
        core.note_entry(Entry::strategy_learned(machine.id, now(), learned));
    }
    Ok(())
}

/// What is known of the machine's firmware, now that it runs a loader.
fn learn(core: &Core, before: Option<Learned>, facts: &BootFacts) -> Option<Learned> {
    let Some(strategy) = core.strategies.worked(facts.mac) else {
        return before;
    };
    let heard = core.sightings.kind(facts.mac);
    let firmware = heard.and_then(|(_, firmware)| firmware).or(facts.firmware);
    let is_same = |learned: &Learned| (learned.strategy, learned.firmware) == (strategy, firmware);
    let found = || Learned {
        strategy,
        firmware,
        since: now(),
    };
    Some(before.filter(is_same).unwrap_or_else(found))
}

/// A script could not be made.
#[derive(Debug, thiserror::Error)]
enum PageError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Value(#[from] NotRepresentable),
    #[error("no random numbers")]
    Random,
}

struct Page<'a> {
    core: &'a Core,
    facts: &'a BootFacts,
    asker: Asker,
    reader: &'a Reader,
}

impl Page<'_> {
    async fn render(
        &self,
        action: &ScriptAction,
        machine: Option<&Machine>,
        now: WallTime,
    ) -> Result<String, PageError> {
        let (method, title, program, shown);
        let page = match action {
            ScriptAction::Agent(purpose) => match machine {
                Some(machine) => return self.agent(machine, *purpose, now).await,
                // Not stored just now: without a row there is no token.
                None => return Ok(self.message(Reason::NotStored)?),
            },
            ScriptAction::Menu {
                default,
                timeout,
                on_key,
                local_disk,
            } => {
                let name = machine
                    .and_then(|machine| machine.name.as_ref())
                    .map(ToString::to_string);
                title = Text::new(&name.unwrap_or_else(|| self.facts.mac.to_string()))?;
                method = self.local_disk(local_disk);
                script::Page::Menu(MenuScript {
                    title: &title,
                    default: *default,
                    timeout: *timeout,
                    on_key: *on_key,
                    script: &self.reader.script,
                    local_disk: &method,
                })
            }
            ScriptAction::LocalDisk(how) => {
                method = self.local_disk(how);
                script::Page::LocalDisk(&method)
            }
            ScriptAction::MemoryTest(file) => {
                program = self.url(&boot_tree::loader_path(file));
                method = self.local_disk(&LocalBoot::Exit);
                script::Page::MemoryTest {
                    program: &program,
                    local_disk: &method,
                }
            }
            ScriptAction::Diagnostics { lines, local_disk } => {
                shown = lines
                    .iter()
                    .map(|line| Text::readable(line))
                    .collect::<Vec<_>>();
                method = self.local_disk(local_disk);
                script::Page::Diagnostics {
                    lines: &shown,
                    local_disk: &method,
                }
            }
            ScriptAction::AskCode {
                entry,
                again,
                local_disk,
            } => {
                method = self.local_disk(local_disk);
                script::Page::AskCode(CodeScript {
                    entry: *entry,
                    again: *again,
                    script: &self.reader.script,
                    local_disk: &method,
                })
            }
            ScriptAction::Message { reason, local_disk } => {
                method = self.local_disk(local_disk);
                script::Page::Message {
                    reason: *reason,
                    local_disk: &method,
                }
            }
        };
        Ok(page.render(self.reader.language)?)
    }

    fn message(&self, reason: Reason) -> Result<String, NotRepresentable> {
        script::Page::Message {
            reason,
            local_disk: &LocalDisk::Exit,
        }
        .render(self.reader.language)
    }

    fn url(&self, path: &str) -> Url {
        if !self.reader.http {
            return boot_tree::tftp(self.asker.server, path);
        }
        Urls {
            server: self.asker.server,
            port: self.core.config.boot_http_port,
        }
        .url(path)
    }

    async fn agent(
        &self,
        machine: &Machine,
        purpose: AgentPurpose,
        now: WallTime,
    ) -> Result<String, PageError> {
        let agent = self.core.loaders.agent();
        let Some(agent) = agent.as_ref() else {
            return Ok(self.message(Reason::NoAgent)?);
        };
        let confirmed = machine.registration == Registration::Approved;
        if let Err(reason) = self.core.admission.start_agent(self.asker, confirmed) {
            self.core.counters.ignored(reason, now);
            self.core
                .note_entry(Entry::refused(machine.id, now, "the script", reason));
            return Ok(self.message(reason)?);
        }
        let token = self.token(machine, purpose, now).await?;
        let at = SocketAddr::new(self.asker.server, self.core.config.agent_port);
        let server = format!("https://{at}");
        let mut arguments = vec![
            Argument::flag("quiet"),
            // The last one named becomes /dev/console; the agent writes to both.
            Argument::new("console", "ttyS0,115200")?,
            Argument::new("console", "tty0")?,
            // Emulated and some real timers fail the kernel's check although they work.
            Argument::flag("no_timer_check"),
            // A kernel that stops must not stop for ever.
            Argument::new("panic", "30")?,
            Argument::new("farrier.server", &server)?,
            Argument::new("farrier.ca", &self.core.ca.fingerprint())?,
            Argument::new("farrier.token", &token)?,
            Argument::new("farrier.mac", &self.facts.mac.to_string())?,
            Argument::new("farrier.time", &(now.0 / 1000).to_string())?,
        ];
        if let Some(address) = self.address() {
            arguments.push(Argument::new("farrier.address", &address)?);
        }
        let path = |file: &str| format!("boot/agent/{}/{file}", agent.tag);
        let page = script::Page::Agent(AgentScript {
            kernel: &self.url(&path("vmlinuz")),
            initrd: &self.url(&path("agent.img")),
            arguments: &arguments,
            local_disk: &self.local_disk(&LocalBoot::Exit),
        });
        Ok(page.render(self.reader.language)?)
    }

    /// The address we lent, so that the agent need not ask again. Beside another DHCP server it asks that.
    fn address(&self) -> Option<String> {
        let IpAddr::V4(ip) = self.asker.ip else {
            return None;
        };
        self.core
            .leases
            .holder(ip, now())
            .filter(|mac| *mac == self.facts.mac)?;
        let subnet = self.core.leases.subnet_of(ip)?;
        let gateway = subnet
            .router()
            .map(|router| format!(",{router}"))
            .unwrap_or_default();
        Some(format!("{}/{}{gateway}", ip, subnet.subnet.prefix))
    }

    /// A token that is good for one enrolment of this machine. Only its hash is kept.
    async fn token(
        &self,
        machine: &Machine,
        purpose: AgentPurpose,
        now: WallTime,
    ) -> Result<String, PageError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| PageError::Random)?;
        let token: String = hex(&bytes);
        let (task, intent): (Option<TaskId>, _) = match purpose {
            AgentPurpose::Task(task) => (Some(task), "task"),
            AgentPurpose::Register => (None, "register"),
        };
        let stored = BootToken {
            hash: token_hash(&token),
            machine: machine.id,
            task,
            intent: intent.to_owned(),
            created: now,
            expires: now + TOKEN_LIFE,
        };
        self.core.db.create_boot_token(&stored).await?;
        Ok(token)
    }

    fn local_disk(&self, method: &LocalBoot) -> LocalDisk {
        match method {
            LocalBoot::Exit => LocalDisk::Exit,
            LocalBoot::Sanboot => LocalDisk::Sanboot,
            LocalBoot::SanbootFile => LocalDisk::SanbootFile,
            LocalBoot::Program(file) => LocalDisk::Program(self.url(&boot_tree::loader_path(file))),
        }
    }
}

/// A machine that boots is heard again sooner than this.
const SILENT: std::time::Duration = std::time::Duration::from_secs(3600);
/// From the script to the agent's first words: loading over a slow line, and a kernel's start.
const TOKEN_LIFE: std::time::Duration = std::time::Duration::from_secs(900);
