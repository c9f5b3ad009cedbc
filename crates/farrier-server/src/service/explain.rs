//! The dry run: what a machine would get if it booted now, stage by stage, by the functions that decide in earnest.

use std::net::IpAddr;

use farrier_api::admin::{
    EffectiveSetting, ExplainQuery, Explained, ExplainedFirmware, ExplainedRule, MachineDeployment,
    SelfDeployment,
};
use farrier_engine::facts::BootFacts;
use farrier_engine::lease::LeaseBook;
use farrier_engine::medium::MediumStart;
use farrier_engine::model::{Arch, FirmwareKind, Machine};
use farrier_engine::policy::{
    self, Boot, DhcpAction, Explanation, Known, ScriptAction, Service, decide_dhcp, decide_script,
    resolve,
};
use farrier_engine::strategy::{Given, Standing, order};
use farrier_engine::task::{Task, Work};
use farrier_engine::{MacAddr, parameter};
use farrier_proto::reply::BootStyle;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Xid};
use farrier_proto::wire::option;

use super::machines::parse_mac;
use super::policy::{effective, word};
use super::{Desk, Refusal, convert};
use crate::auth::Action;
use crate::config::Mode;
use crate::core::now;
use crate::sightings::SMALL_BLOCK;
use crate::standing_orders::Outlook;
use crate::tasks::queued;
use crate::whereabouts::Place;

impl Desk {
    /// What a client with this address would get if it were switched on now.
    pub async fn explain(&self, query: &ExplainQuery) -> Result<Explained, Refusal> {
        self.allow(Action::Look)?;
        let mac = parse_mac(&query.mac)?;
        let candidates = self.core.fleet.candidates(&[mac], None);
        let conflict = candidates.len() > 1;
        let machine = candidates.first().filter(|_| !conflict).map(AsRef::as_ref);
        let wanted = match query.firmware.as_deref() {
            None => None,
            Some("bios") => Some(FirmwareKind::Bios),
            Some("uefi") => Some(FirmwareKind::Uefi),
            Some(_) => return Err(Refusal::bad("`firmware` is bios or uefi")),
        };
        let due = machine.and_then(|m| self.core.fleet.queue(m.id).into_iter().next());
        let deployments = match machine {
            Some(machine) => self.core.deployments(machine.id).await?,
            None => Vec::new(),
        };
        let place = self.place(query.address.as_deref(), mac, machine)?;
        let outlook = match machine {
            Some(machine) if due.is_none() => self.core.outlook(machine, &place).await?,
            _ => Outlook::Nothing,
        };
        let to_come = machine.and_then(|machine| to_come(machine, &outlook));
        let asked = Asked {
            desk: self,
            mac,
            machine,
            due: due.as_deref().or(to_come.as_ref()),
            deployments: &deployments,
            conflict,
            place,
        };
        let kinds = asked.kinds(wanted);
        let script = asked.script(kinds.first())?;
        let firmware: Result<_, _> = kinds.iter().map(|kind| asked.firmware(kind)).collect();
        Ok(Explained {
            firmware: firmware?,
            deployment: deployment(&outlook),
            ..script
        })
    }

    /// Every machine to which the policy deploys something by itself at its next boot, and those that it holds back.
    pub async fn deployments(&self) -> Result<Vec<MachineDeployment>, Refusal> {
        self.allow(Action::Look)?;
        let core = &self.core;
        let ids = core.fleet.machine_ids().into_iter();
        let machines = ids.filter_map(|id| core.fleet.machine(id));
        let mut found = Vec::new();
        for machine in machines.filter(|machine| core.has_standing_orders(machine)) {
            // What is under way is a task, and the list of tasks has it.
            if !core.fleet.queue(machine.id).is_empty() {
                continue;
            }
            let outlook = core.outlook(&machine, &core.place_of(&machine)).await?;
            let is_settled = matches!(
                outlook,
                Outlook::Nothing | Outlook::Held { is_news: false, .. }
            );
            if !is_settled {
                found.push(MachineDeployment {
                    machine: machine.id.0,
                    name: convert::machine_name(&machine),
                    starts: matches!(outlook, Outlook::Deploys { .. }),
                    why: outlook.to_string(),
                });
            }
        }
        Ok(found)
    }

    /// Where it is to be taken to be, else where it was last heard or holds a lease.
    pub(super) fn place(
        &self,
        wanted: Option<&str>,
        mac: MacAddr,
        machine: Option<&Machine>,
    ) -> Result<Place, Refusal> {
        let core = &self.core;
        if let Some(text) = wanted {
            let address: IpAddr = text
                .parse()
                .map_err(|_| Refusal::bad("`address` is not an IP address"))?;
            return Ok(core.place_at(address));
        }
        if let Some(machine) = machine {
            return Ok(core.place_of(machine));
        }
        let held = core.leases.with_book(|book| book.address_of(now(), mac));
        Ok(held.map_or_else(Place::default, |held| core.place_at(held.into())))
    }
}

/// The task that the policy would start, as the decision about the script would find it.
fn to_come(machine: &Machine, outlook: &Outlook) -> Option<Task> {
    let work = match outlook {
        Outlook::Deploys {
            order,
            version,
            disk,
        } => Work::Deploy {
            image: order.image.clone(),
            version: Some(*version),
            disk: disk.clone(),
        },
        Outlook::TakesInventory => Work::Inventory,
        Outlook::Nothing | Outlook::Held { .. } => return None,
    };
    Some(queued(machine.id, work, "policy".to_owned(), now()))
}

fn deployment(outlook: &Outlook) -> Option<SelfDeployment> {
    (*outlook != Outlook::Nothing).then(|| SelfDeployment {
        starts: matches!(outlook, Outlook::Deploys { .. }),
        why: outlook.to_string(),
    })
}

/// One machine that somebody asks about.
struct Asked<'a> {
    desk: &'a Desk,
    mac: MacAddr,
    machine: Option<&'a Machine>,
    due: Option<&'a Task>,
    deployments: &'a [farrier_engine::WallTime],
    conflict: bool,
    place: Place,
}

/// How firmware may ask.
#[derive(Clone, Copy)]
struct Kind {
    /// Option 93.
    code: u16,
    arch: Arch,
    firmware: FirmwareKind,
    http: bool,
    last_seen: bool,
}

impl Asked<'_> {
    /// What the machine was last seen as; all that it may be, if that is not known.
    fn kinds(&self, wanted: Option<FirmwareKind>) -> Vec<Kind> {
        let heard = self.desk.core.sightings.kind(self.mac);
        let arch = heard
            .and_then(|(arch, _)| arch)
            .or_else(|| self.machine.and_then(|machine| machine.arch));
        let firmware = heard
            .and_then(|(_, firmware)| firmware)
            .or_else(|| self.machine.and_then(|machine| machine.firmware));
        let fits = |kind: &&Kind| wanted.is_none_or(|wanted| kind.firmware == wanted);
        let seen = |kind: &&Kind| Some(kind.arch) == arch && Some(kind.firmware) == firmware;
        let known: Vec<Kind> = KINDS
            .iter()
            .filter(seen)
            .filter(fits)
            .map(|kind| Kind {
                last_seen: true,
                ..*kind
            })
            .collect();
        if known.is_empty() {
            return KINDS.iter().filter(fits).copied().collect();
        }
        known
    }

    /// What the firmware would be answered.
    fn firmware(&self, kind: &Kind) -> Result<ExplainedFirmware, Refusal> {
        let core = &self.desk.core;
        let facts = BootFacts::from_dhcp(&question(self.mac, kind))
            .map_err(|e| Refusal::bad(e.to_string()))?;
        let lends = core.config.interfaces.iter().any(|i| i.mode == Mode::Dhcp);
        let service = if lends { Service::Dhcp } else { Service::Proxy };
        let rules = core.rules.load();
        let judged = rules.judge(Some(&facts), self.machine, || self.place.clone());
        let loads = core.sightings.recent_loads(self.mac, now());
        let known = Known {
            rules: &judged,
            recent_loads: &loads,
            wants_signature: core.sightings.wants_signature(self.mac, now()),
            ..self.known()
        };
        let decision = decide_dhcp(&facts, service, &known, &core.snapshot.load(), now());
        let policy = resolve(&core.snapshot.load(), self.machine, &judged).policy;
        let standing = self.standing(service);
        let given = Given {
            order: order(&facts, standing),
            pinned: policy.strategy.pinned(),
            learned: self
                .machine
                .and_then(|m| m.learned_strategy(facts.firmware)),
        };
        let strategy = core.strategies.current(self.mac, &given, now());
        let style = strategy.style(&facts, standing);
        let (decision_words, answer) = boot_words(&decision.action, service, style);
        let answer = format!("{answer} (strategy {strategy})");
        Ok(ExplainedFirmware {
            asks_as: format!(
                "{} {} by {}",
                convert::firmware_name(kind.firmware),
                convert::arch_name(kind.arch),
                if kind.http { "HTTP" } else { "PXE" }
            ),
            last_seen: kind.last_seen,
            decision: decision_words,
            answer,
            options: self.options(&facts),
            rules: steps(decision.explanation),
        })
    }

    /// The options for the address that it holds.
    fn options(&self, facts: &BootFacts) -> Vec<String> {
        let core = &self.desk.core;
        let held = |book: &mut LeaseBook| book.address_of(now(), self.mac);
        let Some(ip) = core.leases.with_book(held) else {
            return Vec::new();
        };
        let classes = core
            .classes
            .judge(facts, self.machine, || self.place.clone());
        let Some(subnet) = core.leases.subnet_of(ip) else {
            return Vec::new();
        };
        let layers = subnet.layers(ip, core.classes.options(classes));
        let options = parameter::effective(&layers).into_iter();
        options.map(ToString::to_string).collect()
    }

    fn standing(&self, service: Service) -> Standing {
        let config = &self.desk.core.config;
        let can_lend = config.subnets.iter().any(|s| !s.subnet.ranges.is_empty());
        match service {
            Service::Dhcp => Standing::Server,
            Service::Proxy if can_lend => Standing::BesideWithPool,
            Service::Proxy => Standing::Beside,
        }
    }

    /// What its loader would be told to do then.
    fn script(&self, kind: Option<&Kind>) -> Result<Explained, Refusal> {
        let core = &self.desk.core;
        let mac = self.mac.to_string();
        let is_bios = kind.is_some_and(|kind| kind.firmware == FirmwareKind::Bios);
        let buildarch = match kind.map(|kind| kind.arch) {
            Some(Arch::Arm64) => "arm64",
            Some(Arch::Ia32) => "i386",
            _ => "x86_64",
        };
        let said = [
            ("mac", mac.as_str()),
            ("platform", if is_bios { "pcbios" } else { "efi" }),
            ("buildarch", buildarch),
        ];
        let facts = BootFacts::from_http(said).map_err(|e| Refusal::bad(e.to_string()))?;
        let rules = core.rules.load();
        let judged = rules.judge(Some(&facts), self.machine, || self.place.clone());
        let starts = self.due.map(|task| core.rounds.of(task.id));
        let starts = starts.unwrap_or_default();
        let known = Known {
            rules: &judged,
            agent_starts: &starts,
            ..self.known()
        };
        let snapshot = core.snapshot.load();
        let decision = decide_script(&facts, None, &known, &snapshot, now());
        let mut effective = effective(&snapshot, self.machine, &judged);
        if let Some(until) = core.sightings.small_blocks_until(self.mac, now()) {
            effective.push(EffectiveSetting {
                name: "tftp_blksize now".to_owned(),
                value: format!(
                    "{SMALL_BLOCK}, one at a time, for {} more minutes",
                    until.since(now()).as_secs() / 60
                ),
                origin: "learned: no larger block arrived".to_owned(),
            });
        }
        Ok(Explained {
            decision: action_words(&decision.action),
            rules: steps(decision.explanation),
            firmware: Vec::new(),
            deployment: None,
            address: self.place.address.map(|address| address.to_string()),
            subnet: self.place.subnet.clone(),
            effective,
        })
    }

    fn known(&self) -> Known<'_> {
        Known {
            machine: self.machine,
            due: self.due,
            deployments: self.deployments,
            conflict: self.conflict,
            // As if it were switched on now.
            boot_began: Some(now()),
            stops_in_grub: self.place.address.is_some_and(|address| {
                let starts = &self.desk.core.disk_starts;
                starts.stops(address, now())
            }),
            ..Known::default()
        }
    }
}

/// A DHCPDISCOVER as such firmware sends it.
fn question(mac: MacAddr, kind: &Kind) -> Message {
    let mut message = Message::request(Xid(1), mac);
    let name = if kind.http { "HTTPClient" } else { "PXEClient" };
    let class = format!("{name}:Arch:{:05}:UNDI:003016", kind.code);
    let discover = [MessageType::Discover as u8];
    let arch = kind.code.to_be_bytes();
    let options: [(u8, &[u8]); 4] = [
        (option::DHCP_MESSAGE_TYPE, &discover),
        (option::PARAMETER_REQUEST_LIST, &[1, 3, 6, 43, 60, 66, 67]),
        (option::VENDOR_CLASS_IDENTIFIER, class.as_bytes()),
        (option::CLIENT_SYSTEM_ARCHITECTURE, &arch),
    ];
    for (code, value) in options {
        message.options.set(code, value);
    }
    message
}

fn boot_words(action: &DhcpAction, service: Service, style: BootStyle) -> (String, String) {
    let address = match service {
        Service::Dhcp => "an address and ",
        Service::Proxy => "",
    };
    match action {
        DhcpAction::Boot(boot) => {
            let what = match boot {
                Boot::Loader(file) => format!("Load {} {} by TFTP.", file.id, file.file_name),
                Boot::HttpLoader(file) => format!("Load {} {} by HTTP.", file.id, file.file_name),
                Boot::Medium(name) => format!("Make a RAM disk of {name}, by HTTP."),
                Boot::HttpsMedium(name) => format!("Make a RAM disk of {name}, by HTTPS."),
                Boot::HttpsLoader(file) => format!("Load {} {} by HTTPS.", file.id, file.file_name),
                Boot::Script => "Run the first script.".to_owned(),
                Boot::HttpsScript => "Run the first script, by HTTPS.".to_owned(),
            };
            let how = match style {
                BootStyle::Plain => "the file name",
                BootStyle::PxeFinal => "the file name as final (option 43.6 is 8)",
                BootStyle::AskPort4011 => "no file name: ask port 4011",
                BootStyle::HttpUrl => "a URL for option 60 HTTPClient",
                BootStyle::Ipxe { .. } => "a URL for iPXE",
            };
            (what, format!("{address}{how}"))
        }
        DhcpAction::AddressOnly(reason) => (
            reason.sentence().to_owned(),
            "an address and nothing to boot".to_owned(),
        ),
        DhcpAction::Ignore(reason) => (reason.sentence().to_owned(), "none".to_owned()),
    }
}

fn steps(explanation: Explanation) -> Vec<ExplainedRule> {
    let steps = explanation.steps.into_iter();
    steps
        .map(|step| ExplainedRule {
            rule: step.rule.into_owned(),
            matched: step.matched,
            why: step.why,
        })
        .collect()
}

fn action_words(action: &ScriptAction) -> String {
    match action {
        ScriptAction::Agent(policy::AgentPurpose::Task(id)) => {
            format!("Start the agent for the task {id}.")
        }
        ScriptAction::Agent(policy::AgentPurpose::Register) => {
            "Start the agent to register the machine.".to_owned()
        }
        ScriptAction::Menu {
            default,
            timeout,
            on_key,
            ..
        } => {
            let when = if *on_key {
                "The menu if a key is pressed"
            } else {
                "The menu"
            };
            format!("{when}; after {} s {}.", timeout.as_secs(), word(default))
        }
        ScriptAction::Medium { medium, start, .. } => {
            let how = match start {
                MediumStart::Memdisk(_) => "from memory, by MEMDISK",
                MediumStart::Network => "over the network, by iPXE",
                MediumStart::RamDisk => "from a RAM disk of the firmware",
            };
            format!("Start the disk image {} {how}.", medium.name)
        }
        ScriptAction::LocalDisk(_) => "Start from the local disk.".to_owned(),
        ScriptAction::MemoryTest(_) => "Start the memory test.".to_owned(),
        ScriptAction::Diagnostics { .. } => {
            "Show what is decided here, then the local disk.".to_owned()
        }
        ScriptAction::AskCode { .. } => "Ask for a code.".to_owned(),
        ScriptAction::Message { reason, .. } => {
            format!("Show a message, then the local disk: {}", reason.sentence())
        }
    }
}

const fn kind(code: u16, arch: Arch, firmware: FirmwareKind, http: bool) -> Kind {
    Kind {
        code,
        arch,
        firmware,
        http,
        last_seen: false,
    }
}

/// The kinds that machines on today's networks are of, the most common first.
const KINDS: [Kind; 8] = [
    kind(7, Arch::X86_64, FirmwareKind::Uefi, false),
    kind(16, Arch::X86_64, FirmwareKind::Uefi, true),
    kind(0, Arch::X86_64, FirmwareKind::Bios, false),
    kind(11, Arch::Arm64, FirmwareKind::Uefi, false),
    kind(19, Arch::Arm64, FirmwareKind::Uefi, true),
    kind(6, Arch::Ia32, FirmwareKind::Uefi, false),
    kind(27, Arch::RiscV64, FirmwareKind::Uefi, false),
    kind(22, Arch::Arm64, FirmwareKind::UBoot, false),
];
