//! The site's rules: CEL expressions, compiled when they are set and judged for each boot.
//!
//! CEL has no endless loops, but loops in loops over what a machine tells take as long as one likes to wait. So
//! each pass of a loop costs fuel, and a rule that runs out of it has failed.

mod range;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr};
use cel::parser::Parser;
use cel::{Context, ExecutionError, Value};
use farrier_engine::facts::{BootFacts, Protocol, Stage};
use farrier_engine::model::Machine;
use farrier_engine::policy::{Judged, Rule, ShortName, Verdict};
use serde_json::json;

use crate::whereabouts::Place;

/// Rules that can be judged.
#[derive(Debug, Default)]
pub struct Rules(Vec<Compiled>);

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    /// Or why it cannot be used; a stored rule may be one that an older version took.
    condition: Result<IdedExpr, RuleError>,
}

/// The rule cannot be used; `line` and `column` count from one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}, line {line}, column {column}: {message}")]
pub struct RuleError {
    pub rule: ShortName,
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl Rules {
    /// Compiles them all; one that cannot be compiled fails whenever it is judged.
    #[must_use]
    pub fn of(rules: &[Rule]) -> Self {
        let compiled = rules.iter().map(|rule| Compiled {
            rule: rule.clone(),
            condition: compile(rule),
        });
        Self(compiled.collect())
    }

    /// Every fault of every rule, for whoever sets them.
    pub fn faults(&self) -> impl Iterator<Item = &RuleError> {
        self.0
            .iter()
            .filter_map(|compiled| compiled.condition.as_ref().err())
    }

    /// What comes of each rule. `facts` are those of the request, if there is one. `place` is asked only where there
    /// are rules.
    #[must_use]
    pub fn judge(
        &self,
        facts: Option<&BootFacts>,
        machine: Option<&Machine>,
        place: impl FnOnce() -> Place,
    ) -> Vec<Judged<'_>> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let known = Variables::of(facts, machine, place());
        let judged = self.0.iter().map(|compiled| Judged {
            rule: &compiled.rule,
            verdict: match &compiled.condition {
                Ok(condition) => known.judge(condition),
                Err(error) => Verdict::Failed(error.to_string()),
            },
        });
        judged.collect()
    }
}

/// What a rule can ask for, and how many steps it may still take.
struct Variables {
    values: HashMap<&'static str, Value>,
    place: Arc<Place>,
}

impl Variables {
    fn of(facts: Option<&BootFacts>, machine: Option<&Machine>, place: Place) -> Self {
        let values = [
            ("facts", facts_document(facts, machine)),
            ("machine", machine_document(machine, &place)),
            ("inventory", inventory_document(machine)),
        ];
        Self {
            values: values.map(|(name, json)| (name, value(&json))).into(),
            place: Arc::new(place),
        }
    }

    fn judge(&self, condition: &IdedExpr) -> Verdict {
        let fuel = Arc::new(AtomicU32::new(MAX_STEPS));
        let mut context = Context::default();
        for (name, value) in &self.values {
            context.add_variable_from_value(*name, value.clone());
        }
        let burnt = Arc::clone(&fuel);
        let burn = move |go_on: bool| -> Result<bool, ExecutionError> {
            let take = |left: u32| left.checked_sub(1);
            match burnt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
                Ok(_) => Ok(go_on),
                Err(_) => Err(ExecutionError::function_error(BURN, TOO_MUCH)),
            }
        };
        let place = Arc::clone(&self.place);
        let in_subnet = move |network: Arc<String>| range::holds(&network, &place);
        let added = context.add_function(BURN, burn);
        if let Err(error) = added.and_then(|()| context.add_function(range::NAME, in_subnet)) {
            return Verdict::Failed(error.to_string());
        }
        match Value::resolve(condition, &context) {
            _ if fuel.load(Ordering::Relaxed) == 0 => Verdict::Failed(TOO_MUCH.to_owned()),
            Ok(Value::Bool(true)) => Verdict::Holds,
            Ok(Value::Bool(false)) => Verdict::DoesNot,
            Ok(other) => {
                Verdict::Failed(format!("it gives a {}, not true or false", other.type_of()))
            }
            Err(error) => Verdict::Failed(short(&error.to_string())),
        }
    }
}

fn compile(rule: &Rule) -> Result<IdedExpr, RuleError> {
    let at = |(line, column): (usize, usize), message: String| RuleError {
        rule: rule.name.clone(),
        line,
        column,
        message,
    };
    if rule.when.len() > MAX_TEXT {
        return Err(at(
            (1, 1),
            format!("an expression has at most {MAX_TEXT} characters"),
        ));
    }
    let parsed = Parser::new()
        .max_recursion_depth(MAX_DEPTH)
        .parse(&rule.when);
    let mut condition = parsed.map_err(|errors| {
        let Some(first) = errors.errors.first() else {
            return at((1, 1), "it is not CEL".to_owned());
        };
        let place = |at: isize| usize::try_from(at).unwrap_or(1).max(1);
        at((place(first.pos.0), place(first.pos.1)), short(&first.msg))
    })?;
    let mut seen = Seen::default();
    meter(&mut condition, &mut seen);
    if let Some((message, about)) = seen.fault {
        return Err(at(position(&rule.when, &about), short(&message)));
    }
    let bound = seen.bound;
    let used = condition.references();
    let place = |name: &str| position(&rule.when, name);
    for name in sorted(used.variables()) {
        if !VARIABLES.contains(&name) && !bound.contains(name) {
            let message = format!("there is no {name}; there are {}", VARIABLES.join(", "));
            return Err(at(place(name), message));
        }
    }
    for name in sorted(used.functions()) {
        let is_operator = name.starts_with(['_', '@', '!', '-']);
        if !is_operator && !FUNCTIONS.contains(&name) {
            let message = format!(
                "there is no function {name}; there are {}",
                FUNCTIONS.join(", ")
            );
            return Err(at(place(name), message));
        }
    }
    Ok(condition)
}

/// What is noted on the way through an expression.
#[derive(Default)]
struct Seen {
    /// What loops call their items.
    bound: HashSet<String>,
    /// The first call that cannot be meant so, and the text that it is about.
    fault: Option<(String, String)>,
}

/// Makes every pass of every loop pay, and notes what has to be known besides.
fn meter(node: &mut IdedExpr, seen: &mut Seen) {
    match &mut node.expr {
        Expr::Call(call) => {
            seen.fault = seen.fault.take().or_else(|| range::fault(call));
            for inner in call.target.iter_mut().map(AsMut::as_mut) {
                meter(inner, seen);
            }
            call.args.iter_mut().for_each(|inner| meter(inner, seen));
        }
        Expr::Comprehension(part) => {
            seen.bound
                .extend([part.iter_var.clone(), part.accu_var.clone()]);
            seen.bound.extend(part.iter_var2.clone());
            for inner in [
                &mut part.iter_range,
                &mut part.accu_init,
                &mut part.loop_cond,
                &mut part.loop_step,
                &mut part.result,
            ] {
                meter(inner, seen);
            }
            let condition = std::mem::take(&mut part.loop_cond);
            part.loop_cond = IdedExpr {
                id: condition.id,
                expr: Expr::Call(CallExpr {
                    func_name: BURN.to_owned(),
                    target: None,
                    args: vec![condition],
                }),
            };
        }
        Expr::List(list) => list
            .elements
            .iter_mut()
            .for_each(|inner| meter(inner, seen)),
        Expr::Map(map) => meter_entries(&mut map.entries, seen),
        Expr::Select(select) => meter(&mut select.operand, seen),
        Expr::Struct(record) => meter_entries(&mut record.entries, seen),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

fn meter_entries(entries: &mut [IdedEntryExpr], seen: &mut Seen) {
    for entry in entries {
        match &mut entry.expr {
            EntryExpr::StructField(field) => meter(&mut field.value, seen),
            EntryExpr::MapEntry(entry) => {
                meter(&mut entry.key, seen);
                meter(&mut entry.value, seen);
            }
        }
    }
}

fn facts_document(facts: Option<&BootFacts>, machine: Option<&Machine>) -> serde_json::Value {
    let text = |what: Option<String>| what.unwrap_or_default();
    let firmware = facts
        .and_then(|facts| facts.firmware)
        .or_else(|| machine.and_then(|machine| machine.firmware));
    let arch = facts
        .and_then(|facts| facts.arch)
        .or_else(|| machine.and_then(|machine| machine.arch));
    let said = |of: fn(&BootFacts) -> Option<&farrier_engine::facts::ClientText>| {
        text(facts.and_then(of).map(|said| said.as_str().to_owned()))
    };
    let relay = facts.and_then(|facts| facts.relay.as_ref());
    let mac = facts
        .map(|facts| facts.mac)
        .or_else(|| machine.and_then(|machine| machine.macs.first().copied()));
    json!({
        "mac": text(mac.map(|mac| mac.to_string())),
        "firmware": firmware.map(|f| serde_json::to_value(f).unwrap_or_default()).unwrap_or_else(|| json!("")),
        "arch": text(arch.map(|arch| arch.to_string())),
        "stage": facts.map_or("agent", |facts| stage(&facts.stage)),
        "protocol": facts.map_or("", |facts| protocol(facts.protocol)),
        "relayed": facts.is_some_and(|facts| facts.relay.as_ref().is_some_and(|r| !r.giaddr.is_unspecified())),
        "uuid": text(facts.and_then(BootFacts::usable_uuid).map(|uuid| uuid.to_string())),
        "hostname": said(|facts| facts.hostname.as_ref()),
        "user_class": text(facts.and_then(|facts| user_class(&facts.stage))),
        "circuit_id": text(relay.and_then(|relay| shown(relay.circuit_id.as_deref()?))),
        "remote_id": text(relay.and_then(|relay| shown(relay.remote_id.as_deref()?))),
        "vendor_class": said(|facts| facts.vendor_class.as_ref()),
        "manufacturer": said(|facts| facts.manufacturer.as_ref()),
        "product": said(|facts| facts.product.as_ref()),
        "serial": said(|facts| facts.serial.as_ref()),
    })
}

/// Where it is not known where the machine is, there is no `subnet`, and no `address` before it has one.
fn machine_document(machine: Option<&Machine>, place: &Place) -> serde_json::Value {
    let mut document = identity_document(machine);
    if place.link.is_some() {
        document["subnet"] = json!(place.subnet);
    }
    if let Some(address) = place.address {
        document["address"] = json!(address.to_string());
    }
    document
}

fn identity_document(machine: Option<&Machine>) -> serde_json::Value {
    let Some(machine) = machine else {
        return json!({ "known": false, "name": "", "group": "", "registration": "", "macs": [] });
    };
    let macs: Vec<_> = machine.macs.iter().map(ToString::to_string).collect();
    json!({
        "known": true,
        "name": machine.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        "group": machine.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        "registration": machine.registration,
        "macs": macs,
    })
}

/// Nothing is in it before the agent has been there: `has(inventory.memory_bytes)` asks for that.
fn inventory_document(machine: Option<&Machine>) -> serde_json::Value {
    machine
        .and_then(|machine| machine.inventory.as_ref())
        .and_then(|inventory| serde_json::to_value(inventory).ok())
        .unwrap_or_else(|| json!({}))
}

fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        // One kind of whole number, so that people can compare without suffixes.
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::MAX)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => {
            let items: Vec<Value> = items.iter().take(MAX_ITEMS).map(value).collect();
            Value::List(Arc::new(items))
        }
        Json::Object(fields) => {
            let fields: HashMap<String, Value> = fields
                .iter()
                .map(|(name, json)| (name.clone(), value(json)))
                .collect();
            Value::Map(fields.into())
        }
    }
}

fn stage(stage: &Stage) -> &'static str {
    match stage {
        Stage::Firmware => "firmware",
        Stage::Ipxe { .. } => "ipxe",
        Stage::Loader(_) => "loader",
        Stage::Os => "os",
    }
}

/// Option 77, by which loaders and systems name themselves.
fn user_class(stage: &Stage) -> Option<String> {
    match stage {
        Stage::Ipxe { .. } => Some("iPXE".to_owned()),
        Stage::Loader(name) => Some(name.as_str().to_owned()),
        Stage::Firmware | Stage::Os => None,
    }
}

/// What a relay says: as text if it is one, else as hexadecimal digits after `0x`.
fn shown(bytes: &[u8]) -> Option<String> {
    let is_text = bytes
        .iter()
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let text = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| is_text && !text.starts_with("0x"));
    let digits = || {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    Some(text.map_or_else(|| format!("0x{}", digits()), str::to_owned))
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Bootp => "bootp",
        Protocol::Http => "http",
        Protocol::PlainDhcp => "dhcp",
        Protocol::Pxe => "pxe",
        Protocol::Script => "script",
    }
}

/// Where `name` stands in `text` as a word of its own.
fn position(text: &str, name: &str) -> (usize, usize) {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let alone = |at: &usize| {
        let (before, after) = (&text[..*at], &text[at + name.len()..]);
        !is_word(before.chars().next_back()) && !is_word(after.chars().next())
    };
    let found = text.match_indices(name).map(|(at, _)| at).find(alone);
    let before = &text[..found.unwrap_or(0)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// So that the same fault is named first each time.
fn sorted(names: Vec<&str>) -> Vec<&str> {
    let unique: HashSet<&str> = names.into_iter().collect();
    let mut names: Vec<_> = unique.into_iter().collect();
    names.sort_unstable();
    names
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

const VARIABLES: [&str; 3] = ["facts", "machine", "inventory"];
const FUNCTIONS: [&str; 10] = [
    "contains",
    "double",
    "endsWith",
    range::NAME,
    "int",
    "max",
    "min",
    "size",
    "startsWith",
    "string",
];
/// People cannot write such a name.
const BURN: &str = "@burn";
/// What a rule does with some hundred disks costs some hundred steps.
const MAX_STEPS: u32 = 10_000;
const TOO_MUCH: &str = "it takes more than 10000 steps";
const MAX_TEXT: usize = 2000;
const MAX_DEPTH: u16 = 32;
/// A machine tells of no more disks or network interfaces that matter.
const MAX_ITEMS: usize = 256;

#[cfg(test)]
mod tests;
