//! The pages of settings, groups, rules and wishes: what is looked at, and what their forms do.

use std::collections::HashMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use farrier_api::admin::{
    ExplainQuery, Group, MachineChange, MenuEntry, NewIntent, Plan, Rule, Rules, Settings, Until,
};
use serde::Deserialize;
use uuid::Uuid;

use super::api::{Asked, Named};
use super::forms::{Filled, Nothing, sentence, to_machine};
use super::html;
use crate::auth::Action;
use crate::service::{Code, Desk, Refusal};
use crate::ui::setting_fields::{self, ChoiceView, FieldView};
use crate::ui::text::shown;
use crate::ui::{self, Frame, GroupName, GroupView, MachineView, RuleView};

type Page = Result<Response, Refusal>;
/// A form with fields that depend on what can be set.
pub(super) type Fields = HashMap<String, String>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NameQuery {
    name: String,
}

#[derive(Deserialize)]
pub(super) struct NameForm {
    name: String,
}

pub(super) async fn policy(desk: Desk) -> Page {
    let page = ui::PolicyPage {
        effective: desk.policy().await?.effective,
        groups: desk.groups().await?.iter().map(GroupView::of).collect(),
        rules: desk.rules().await?.iter().map(RuleView::of).collect(),
        frame: Frame::new("Policy", "policy", Some(desk.who())),
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn explain(desk: Desk, Asked(query): Asked<ExplainQuery>) -> Page {
    let found = match desk.explain(&query).await {
        Err(refusal) if refusal.code == Code::BadRequest => Err(sentence(&refusal.message)),
        other => Ok(other?),
    };
    let frame = Frame::new("Explained", "policy", Some(desk.who()));
    let page = ui::ExplainedPage::of(frame, &query.mac, found);
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn site(desk: Desk) -> Page {
    desk.allow(Action::SetPolicy)?;
    let settings = desk.policy().await?.settings;
    site_form(&desk, &settings, "").await
}

async fn site_form(desk: &Desk, settings: &Settings, error: &str) -> Page {
    let effective = desk.policy().await?.effective;
    let page = ui::SettingsForm {
        frame: Frame::new("Settings of the site", "policy", Some(desk.who())),
        title: "Settings of the site".to_owned(),
        action: "/policy/site".to_owned(),
        back: "/policy".to_owned(),
        error: shown(error),
        name: None,
        groups: None,
        fields: FieldView::all(settings, &effective, "site", &desk.media_names()),
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn set_site(filled: Filled<Fields>) -> Page {
    let Filled { desk, form } = filled;
    let read = setting_fields::read(&form).map_err(Refusal::bad);
    let done = match &read {
        Ok(_) if wants_form(&form) => End::Form(String::new()),
        Ok(settings) => {
            let set = desk.set_policy(settings.clone(), confirmed(&form));
            end(set.await.map(drop))?
        }
        Err(refusal) => end(Err(refusal.clone()))?,
    };
    match done {
        End::Saved => Ok(to_policy()),
        End::Plan(plan) => form_plan(&desk, &plan, "/policy/site", form, "/policy/site"),
        End::Form(error) => {
            let settings = match read {
                Ok(settings) => settings,
                Err(_) => desk.policy().await?.settings,
            };
            site_form(&desk, &settings, &error).await
        }
    }
}

/// A group's settings, or an empty form for a new group.
pub(super) async fn group(desk: Desk, Asked(query): Asked<NameQuery>) -> Page {
    desk.allow(Action::SetPolicy)?;
    let groups = desk.groups().await?;
    match groups.into_iter().find(|group| group.name == query.name) {
        Some(group) => group_form(&desk, GroupName::Kept(group.name), &group.settings, "").await,
        None => group_form(&desk, GroupName::New(query.name), &Settings::default(), "").await,
    }
}

async fn group_form(desk: &Desk, name: GroupName, settings: &Settings, error: &str) -> Page {
    let effective = desk.policy().await?.effective;
    let title = match &name {
        GroupName::New(_) => "New group".to_owned(),
        GroupName::Kept(name) => format!("Group {name}"),
    };
    let page = ui::SettingsForm {
        frame: Frame::new(&title, "policy", Some(desk.who())),
        title: shown(&title),
        action: "/policy/groups".to_owned(),
        back: "/policy".to_owned(),
        error: shown(error),
        name: Some(name),
        groups: None,
        fields: FieldView::all(settings, &effective, "group", &desk.media_names()),
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn set_group(filled: Filled<Fields>) -> Page {
    let Filled { desk, form } = filled;
    let name = field(&form, "name");
    let read = setting_fields::read(&form).map_err(Refusal::bad);
    let done = match &read {
        Ok(_) if wants_form(&form) => End::Form(String::new()),
        Ok(settings) => {
            let set = desk.set_group(name, settings.clone(), confirmed(&form));
            end(set.await.map(drop))?
        }
        Err(refusal) => end(Err(refusal.clone()))?,
    };
    match done {
        End::Saved => Ok(to_policy()),
        End::Plan(plan) => form_plan(&desk, &plan, "/policy/groups", form, "/policy"),
        End::Form(error) => {
            let is_there = desk.groups().await?.iter().any(|group| group.name == name);
            let name = name.to_owned();
            let name = if is_there {
                GroupName::Kept(name)
            } else {
                GroupName::New(name)
            };
            group_form(&desk, name, &read.unwrap_or_default(), &error).await
        }
    }
}

pub(super) async fn remove_group(filled: Filled<NameForm>) -> Page {
    filled.desk.delete_group(&filled.form.name).await?;
    Ok(to_policy())
}

/// A rule, or an empty form for a new one.
pub(super) async fn rule(desk: Desk, Asked(query): Asked<NameQuery>) -> Page {
    desk.allow(Action::SetPolicy)?;
    let rules = desk.rules().await?;
    let found = rules.into_iter().find(|rule| rule.name == query.name);
    let was = found.as_ref().map_or("", |rule| &rule.name).to_owned();
    rule_form(&desk, &was, &found.unwrap_or_default(), "").await
}

async fn rule_form(desk: &Desk, was: &str, rule: &Rule, error: &str) -> Page {
    let effective = desk.policy().await?.effective;
    let page = ui::RuleForm {
        frame: Frame::new("Rule", "policy", Some(desk.who())),
        error: shown(error),
        was: was.to_owned(),
        name: rule.name.clone(),
        when: rule.when.clone(),
        refuse_boot: rule.refuse_boot,
        refuse_tasks: rule.refuse_tasks,
        fields: FieldView::all(&rule.settings, &effective, "rule", &desk.media_names()),
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn set_rule(filled: Filled<Fields>) -> Page {
    let Filled { desk, form } = filled;
    let was = field(&form, "was");
    let read = setting_fields::read(&form).map_err(Refusal::bad);
    let stored = desk
        .rules()
        .await?
        .into_iter()
        .find(|rule| rule.name == was);
    // What the form has no field for stays.
    let mut wanted = stored.unwrap_or_default();
    field(&form, "name").clone_into(&mut wanted.name);
    field(&form, "when").clone_into(&mut wanted.when);
    wanted.settings = read.clone().unwrap_or_default();
    wanted.refuse_boot = form.contains_key("refuse_boot");
    wanted.refuse_tasks = form.contains_key("refuse_tasks");
    let done = match read {
        Ok(_) if wants_form(&form) => End::Form(String::new()),
        Ok(_) => end(put_rule(&desk, was, wanted.clone(), confirmed(&form)).await)?,
        Err(refusal) => end(Err(refusal))?,
    };
    match done {
        End::Saved => Ok(to_policy()),
        End::Plan(plan) => form_plan(&desk, &plan, "/policy/rules", form, "/policy"),
        End::Form(error) => rule_form(&desk, was, &wanted, &error).await,
    }
}

/// In the place of the rule called `was`, or behind all others.
async fn put_rule(
    desk: &Desk,
    was: &str,
    wanted: Rule,
    confirm: Option<&str>,
) -> Result<(), Refusal> {
    let mut rules = desk.rules().await?;
    if was.is_empty() {
        rules.push(wanted);
    } else {
        let place = rules.iter().position(|rule| rule.name == was);
        let place = place.ok_or_else(|| Refusal::missing("rule", was))?;
        rules[place] = wanted;
    }
    desk.set_rules(Rules { rules }, confirm).await.map(drop)
}

pub(super) async fn move_rule(filled: Filled<Fields>) -> Page {
    let Filled { desk, form } = filled;
    desk.allow(Action::SetPolicy)?;
    let mut rules = desk.rules().await?;
    let name = field(&form, "name");
    let place = rules.iter().position(|rule| rule.name == name);
    let place = place.ok_or_else(|| Refusal::missing("rule", name))?;
    let other = match field(&form, "to") {
        "earlier" => place.checked_sub(1),
        _ => Some(place + 1),
    };
    let Some(other) = other.filter(|other| *other < rules.len()) else {
        return Ok(to_policy());
    };
    rules.swap(place, other);
    put_rules(&desk, rules, "/policy/rules/move", form).await
}

pub(super) async fn remove_rule(filled: Filled<Fields>) -> Page {
    let Filled { desk, form } = filled;
    desk.allow(Action::SetPolicy)?;
    let mut rules = desk.rules().await?;
    let before = rules.len();
    let name = field(&form, "name");
    rules.retain(|rule| rule.name != name);
    if rules.len() == before {
        return Err(Refusal::missing("rule", name));
    }
    put_rules(&desk, rules, "/policy/rules/remove", form).await
}

/// For forms that are a single button.
async fn put_rules(desk: &Desk, rules: Vec<Rule>, action: &str, form: Fields) -> Page {
    let set = desk.set_rules(Rules { rules }, confirmed(&form)).await;
    match set {
        Ok(_) => Ok(to_policy()),
        Err(Refusal {
            plan: Some(plan), ..
        }) => plan_page(desk, &plan, action, form, "/policy"),
        Err(refusal) => Err(refusal),
    }
}

pub(super) async fn machine(desk: Desk, Named(id): Named<Uuid>) -> Page {
    desk.allow(Action::EditMachine)?;
    machine_form(&desk, id, None, "").await
}

async fn machine_form(
    desk: &Desk,
    id: Uuid,
    tried: Option<(&str, &Settings)>,
    error: &str,
) -> Page {
    let found = desk.machine(id)?;
    let m = MachineView::of(&found.summary);
    let own = found.group.as_deref().unwrap_or_default();
    let (group, settings) = tried.unwrap_or((own, &found.settings));
    let choice = |g: Group| ChoiceView {
        chosen: g.name == group,
        label: g.name.clone(),
        value: g.name,
    };
    let title = format!("Settings of {}", m.name);
    let page = ui::SettingsForm {
        frame: Frame::new(&title, "machines", Some(desk.who())),
        title,
        action: format!("/machines/{id}/settings"),
        back: format!("/machines/{id}"),
        error: shown(error),
        name: None,
        groups: Some(desk.groups().await?.into_iter().map(choice).collect()),
        fields: FieldView::all(settings, &found.effective, "machine", &desk.media_names()),
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn set_machine(Named(id): Named<Uuid>, filled: Filled<Fields>) -> Page {
    let Filled { desk, form } = filled;
    let group = field(&form, "group");
    let read = setting_fields::read(&form).map_err(Refusal::bad);
    let done = match &read {
        Ok(_) if wants_form(&form) => End::Form(String::new()),
        Ok(settings) => {
            let change = MachineChange {
                settings: Some(settings.clone()),
                group: Some(group.to_owned()),
                ..MachineChange::default()
            };
            let changed = desk.change_machine(id, change, confirmed(&form));
            end(changed.await.map(drop))?
        }
        Err(refusal) => end(Err(refusal.clone()))?,
    };
    let (action, back) = (
        format!("/machines/{id}/settings"),
        format!("/machines/{id}"),
    );
    match done {
        End::Saved => Ok(to_machine(id)),
        End::Plan(plan) => form_plan(&desk, &plan, &action, form, &back),
        End::Form(error) => {
            let settings = read.unwrap_or_default();
            machine_form(&desk, id, Some((group, &settings)), &error).await
        }
    }
}

pub(super) async fn wish(desk: Desk, Named(id): Named<Uuid>) -> Page {
    desk.allow(Action::CreateTask)?;
    wish_form(&desk, id, "")
}

fn wish_form(desk: &Desk, id: Uuid, error: &str) -> Page {
    let m = MachineView::of(&desk.machine(id)?.summary);
    let page = ui::WishForm {
        frame: Frame::new("Next boots", "machines", Some(desk.who())),
        machine: m.id,
        machine_name: m.name,
        entries: setting_fields::entries(&desk.media_names(), "local_disk"),
        error: shown(error),
    };
    Ok(html(StatusCode::OK, &page))
}

#[derive(Deserialize)]
pub(super) struct WishFields {
    entry: String,
    boots: String,
    minutes: String,
    #[serde(default)]
    until: String,
}

pub(super) async fn set_wish(Named(id): Named<Uuid>, filled: Filled<WishFields>) -> Page {
    let Filled { desk, form } = filled;
    let wanted = NewIntent {
        entry: MenuEntry(form.entry),
        // What is no number is none that is allowed.
        boots: form.boots.trim().parse().unwrap_or(0),
        minutes: form.minutes.trim().parse().unwrap_or(0),
        until: match form.until.as_str() {
            "approved" => Until::Approved,
            "inventoried" => Until::Inventoried,
            _ => Until::Used,
        },
    };
    match end(desk.set_intent(id, wanted).await.map(drop))? {
        End::Form(error) => wish_form(&desk, id, &error),
        End::Saved | End::Plan(_) => Ok(to_machine(id)),
    }
}

pub(super) async fn drop_wish(Named(id): Named<Uuid>, filled: Filled<Nothing>) -> Page {
    filled.desk.drop_intent(id).await?;
    Ok(to_machine(id))
}

/// What follows a form that was sent.
enum End {
    Saved,
    /// It starts deployments, which wants to be confirmed.
    Plan(Box<Plan>),
    /// The form once more, with what the person can put right, as a sentence.
    Form(String),
}

/// Every other refusal is the answer.
fn end(done: Result<(), Refusal>) -> Result<End, Refusal> {
    match done {
        Ok(()) => Ok(End::Saved),
        Err(Refusal {
            plan: Some(plan), ..
        }) => Ok(End::Plan(plan)),
        Err(refusal) if matches!(refusal.code, Code::BadRequest | Code::NotPossible) => {
            Ok(End::Form(sentence(&refusal.message)))
        }
        Err(refusal) => Err(refusal),
    }
}

/// The plan of a change that starts deployments. It carries what was typed, to be done or to be typed over.
fn form_plan(desk: &Desk, plan: &Plan, action: &str, form: Fields, back: &str) -> Page {
    let page = plan_of(desk, plan, action, form, back).to_change();
    Ok(html(StatusCode::OK, &page))
}

/// The same for an action without a form of its own.
pub(super) fn plan_page(desk: &Desk, plan: &Plan, action: &str, form: Fields, back: &str) -> Page {
    Ok(html(
        StatusCode::OK,
        &plan_of(desk, plan, action, form, back),
    ))
}

fn plan_of(desk: &Desk, plan: &Plan, action: &str, form: Fields, back: &str) -> ui::PlanPage {
    let own = |name: &str| name == CONFIRM || name == CHANGE;
    let mut fields: Vec<_> = form.into_iter().filter(|(name, _)| !own(name)).collect();
    fields.sort_unstable();
    let frame = Frame::new("Deployments without an order", "policy", Some(desk.who()));
    let (action, back) = (action.to_owned(), back.to_owned());
    ui::PlanPage::of(frame, plan, action, fields, "Let it happen", back)
}

/// The plan that the form was sent from.
pub(super) fn confirmed(form: &Fields) -> Option<&str> {
    Some(field(form, CONFIRM)).filter(|confirm| !confirm.is_empty())
}

/// Whether it was sent from a plan, to be typed over.
fn wants_form(form: &Fields) -> bool {
    form.contains_key(CHANGE)
}

fn field<'a>(form: &'a Fields, name: &str) -> &'a str {
    form.get(name).map_or("", |text| text.trim())
}

fn to_policy() -> Response {
    Redirect::to("/policy").into_response()
}

const CONFIRM: &str = "confirm";
/// The name of the button that leads from a plan back to its form.
const CHANGE: &str = "change";
