//! Machines: look, name, let in, keep out, forget.

use farrier_api::admin::{
    MachineChange, MachineDetail, MachineQuery, MachineSummary, NewMachine, Page, Plan,
    TimelineEntry, TimelineQuery,
};
use farrier_engine::MacAddr;
use farrier_engine::model::{HostName, Machine, MachineId, Registration};
use farrier_engine::policy::Settings;
use farrier_engine::strategy::StrategyChoice;
use farrier_engine::timeline::Kind;
use uuid::Uuid;

use super::convert::{self, Like};
use super::plan::{Draft, require};
use super::{Code, Desk, Refusal, limit};
use crate::auth::Action;
use crate::core::{new_id, now};

impl Desk {
    pub async fn machines(&self, query: &MachineQuery) -> Result<Page<MachineSummary>, Refusal> {
        self.allow(Action::Look)?;
        let after = query.after.as_deref().map(parse_id).transpose()?;
        let wanted = farrier_db::MachineQuery {
            search: query
                .search
                .clone()
                .filter(|s| !s.trim().is_empty())
                .map(|s| s.trim().to_owned()),
            registration: query.registration.map(Like::like),
        };
        let limit = limit(query.limit);
        let total = self.core.db.count_machines(&wanted).await?;
        let mut rows = self.core.db.machines(&wanted, after, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| more).map(|m| m.id.to_string());
        // Memory is fresher than the database: it knows who was seen a moment ago.
        let fresh = |m: &Machine| match self.core.fleet.machine(m.id) {
            Some(known) => convert::machine_summary(&self.core, &known),
            None => convert::machine_summary(&self.core, m),
        };
        Ok(Page {
            items: rows.iter().map(fresh).collect(),
            total,
            next,
        })
    }

    pub fn machine(&self, id: Uuid) -> Result<MachineDetail, Refusal> {
        self.allow(Action::Look)?;
        let machine = self
            .core
            .fleet
            .machine(MachineId(id))
            .ok_or_else(|| Refusal::missing("machine", id))?;
        Ok(convert::machine_detail(&self.core, &machine))
    }

    /// The machine that `text` means: an id, a name or an address.
    pub async fn find_machine(&self, text: &str) -> Result<MachineDetail, Refusal> {
        self.allow(Action::Look)?;
        if let Ok(id) = text.parse() {
            return self.machine(id);
        }
        if let Ok(mac) = text.parse::<MacAddr>() {
            return match &self.core.fleet.candidates(&[mac], None)[..] {
                [] => Err(Refusal::missing("machine", text)),
                [one] => self.machine(one.id.0),
                many => Err(Refusal::new(
                    Code::Conflict,
                    format!("{} machines were seen with {mac}", many.len()),
                )
                .hint("name the one you mean by its id")),
            };
        }
        match self.core.db.machine_by_name(text).await? {
            Some(machine) => self.machine(machine.id.0),
            None => Err(Refusal::missing("machine", text)),
        }
    }

    pub async fn add_machine(&self, new: NewMachine) -> Result<MachineDetail, Refusal> {
        self.allow(Action::EditMachine)?;
        let macs: Vec<MacAddr> = new
            .macs
            .iter()
            .map(|text| parse_mac(text))
            .collect::<Result<_, _>>()?;
        if macs.is_empty() || macs.len() > MAX_MACS {
            return Err(Refusal::bad(format!(
                "a machine has 1 to {MAX_MACS} hardware addresses"
            )));
        }
        if let Some(known) = self.core.fleet.candidates(&macs, None).first() {
            return Err(Refusal::new(
                Code::Taken,
                format!(
                    "{} has one of these addresses",
                    convert::machine_name(known)
                ),
            )
            .hint("change that machine, or delete it first"));
        }
        let at = now();
        let machine = Machine {
            id: MachineId(new_id()),
            name: new
                .name
                .filter(|n| !n.is_empty())
                .map(parse_name)
                .transpose()?,
            registration: Registration::Approved,
            macs,
            uuid: None,
            firmware: None,
            arch: None,
            group: None,
            settings: Settings::default(),
            intent: None,
            learned: None,
            inventory: None,
            first_seen: at,
            last_seen: at,
            revision: 0,
        };
        let stored = self.core.fleet.add_machine(machine).await?;
        self.core.note(
            stored.id,
            Kind::Operator,
            format!("{} registered the machine.", self.who.name),
        );
        self.audit(Action::EditMachine, convert::machine_name(&stored))
            .await;
        Ok(convert::machine_detail(&self.core, &stored))
    }

    /// Names a machine, or sets its group and settings; what starts a deployment by it wants to be confirmed.
    pub async fn change_machine(
        &self,
        id: Uuid,
        change: MachineChange,
        confirm: Option<&str>,
    ) -> Result<MachineDetail, Refusal> {
        self.allow(Action::EditMachine)?;
        let name = change
            .name
            .map(|n| {
                if n.is_empty() {
                    Ok(None)
                } else {
                    parse_name(n).map(Some)
                }
            })
            .transpose()?;
        if let Some(settings) = &change.settings {
            self.can_hold(settings)?;
        }
        let settings = change.settings.as_ref();
        let settings = settings.map(convert::settings_back).transpose()?;
        let group = match change.group.as_deref() {
            None => None,
            Some("") => Some(None),
            Some(name) => Some(Some(self.known_group(name)?)),
        };
        let apply = |machine: &mut Machine| {
            if let Some(name) = &name {
                machine.name.clone_from(name);
            }
            if let Some(settings) = &settings {
                machine.settings.clone_from(settings);
                // Said to this machine, it means: find out anew, as after an update of its firmware.
                if settings.strategy == Some(StrategyChoice::Auto) {
                    machine.learned = None;
                }
            }
            if let Some(group) = &group {
                machine.group.clone_from(group);
            }
        };
        let one_change = self.core.standing_orders.one_change().await;
        let was = self.core.fleet.machine(MachineId(id));
        let was = was.ok_or_else(|| Refusal::missing("machine", id))?;
        let mut is = (*was).clone();
        apply(&mut is);
        self.agree_to_machine(was, is, confirm).await?;
        let stored = self.core.fleet.change_machine(MachineId(id), apply).await?;
        drop(one_change);
        if settings.is_some_and(|settings| settings.strategy.is_some()) {
            self.core.strategies.forget(&stored.macs);
        }
        let what = match &name {
            None if group.is_some() => match &stored.group {
                Some(group) => format!("{} put the machine into the group {group}.", self.who.name),
                None => format!("{} took the machine out of its group.", self.who.name),
            },
            Some(Some(name)) => format!("{} named the machine {name}.", self.who.name),
            Some(None) => format!("{} took the machine's name away.", self.who.name),
            None => format!("{} changed the machine's settings.", self.who.name),
        };
        self.core.note(stored.id, Kind::Operator, what);
        self.audit(Action::EditMachine, convert::machine_name(&stored))
            .await;
        Ok(convert::machine_detail(&self.core, &stored))
    }

    /// Lets a machine in: its agent may enrol and work.
    pub async fn approve_machine(&self, id: Uuid) -> Result<MachineDetail, Refusal> {
        let told = format!("{} approved the machine.", self.who.name);
        self.register(id, Registration::Approved, told).await
    }

    /// Tells a machine to leave the network boot alone, and its agent that it is not wanted.
    pub async fn disable_machine(&self, id: Uuid) -> Result<MachineDetail, Refusal> {
        let told = format!("{} disabled the machine.", self.who.name);
        self.register(id, Registration::Disabled, told).await
    }

    async fn register(
        &self,
        id: Uuid,
        to: Registration,
        told: String,
    ) -> Result<MachineDetail, Refusal> {
        self.allow(Action::ApproveMachine)?;
        let stored = self
            .core
            .fleet
            .change_machine(MachineId(id), |machine| machine.registration = to)
            .await?;
        self.core.note(stored.id, Kind::Operator, told);
        self.audit(Action::ApproveMachine, convert::machine_name(&stored))
            .await;
        Ok(convert::machine_detail(&self.core, &stored))
    }

    pub fn plan_delete_machine(&self, id: Uuid) -> Result<Plan, Refusal> {
        self.allow(Action::DeleteMachine)?;
        let machine = self
            .core
            .fleet
            .machine(MachineId(id))
            .ok_or_else(|| Refusal::missing("machine", id))?;
        let name = convert::machine_name(&machine);
        let tasks = self.core.fleet.queue(machine.id);
        let mut steps = vec![format!(
            "forget {name} with its inventory, tasks and timeline"
        )];
        steps.extend(
            tasks
                .iter()
                .map(|t| format!("drop its unfinished task {}", t.id)),
        );
        let warnings = vec![
            "If it boots from the network again, it appears as an unknown machine.".to_owned(),
        ];
        let touches = vec![
            id.to_string(),
            machine.macs.iter().map(ToString::to_string).collect(),
        ];
        Ok(Draft {
            summary: format!("Forget the machine {name}."),
            steps,
            warnings,
            destructive: true,
            touches,
            ..Draft::default()
        }
        .finish())
    }

    pub async fn delete_machine(&self, id: Uuid, confirm: Option<&str>) -> Result<(), Refusal> {
        let plan = self.plan_delete_machine(id)?;
        require(&plan, confirm)?;
        self.core.fleet.delete_machine(MachineId(id)).await?;
        self.audit(Action::DeleteMachine, plan.summary).await;
        Ok(())
    }

    /// What happened to a machine, the newest first.
    pub async fn timeline(
        &self,
        id: Uuid,
        query: &TimelineQuery,
    ) -> Result<Page<TimelineEntry>, Refusal> {
        self.allow(Action::Look)?;
        let before = parse_place(query.after.as_deref())?;
        let limit = limit(query.limit);
        let rows = self.core.db.timeline(MachineId(id), before, limit).await?;
        Ok(timeline_page(&rows, limit))
    }

    /// What happened to any machine, the newest first.
    pub async fn latest(&self, query: &TimelineQuery) -> Result<Page<TimelineEntry>, Refusal> {
        self.allow(Action::Look)?;
        let before = parse_place(query.after.as_deref())?;
        let limit = limit(query.limit);
        let rows = self.core.db.latest_timeline(before, limit).await?;
        Ok(timeline_page(&rows, limit))
    }
}

fn timeline_page(
    rows: &[farrier_db::Stored<farrier_engine::timeline::Entry>],
    limit: u32,
) -> Page<TimelineEntry> {
    let next = rows
        .last()
        .filter(|_| rows.len() >= limit as usize)
        .map(|row| row.seq.to_string());
    let items: Vec<_> = rows
        .iter()
        .map(|row| convert::timeline_entry(&row.value))
        .collect();
    Page {
        total: items.len() as u64,
        items,
        next,
    }
}

fn parse_place(text: Option<&str>) -> Result<Option<u64>, Refusal> {
    text.map(|t| {
        t.parse()
            .map_err(|_| Refusal::bad("`after` is not a place that a page ended at"))
    })
    .transpose()
}

fn parse_id(text: &str) -> Result<MachineId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::bad("`after` is not a place that a page ended at"))
}

pub(super) fn parse_mac(text: &str) -> Result<MacAddr, Refusal> {
    text.trim().parse().map_err(|_| {
        Refusal::bad(format!("{text:?} is not a hardware address"))
            .hint("write it like 52:54:00:12:34:56")
    })
}

fn parse_name(text: String) -> Result<HostName, Refusal> {
    HostName::try_from(text).map_err(|e| Refusal::bad(e.to_string()))
}

/// More than the ports of a big switch-like server are no machine's.
const MAX_MACS: usize = 32;
