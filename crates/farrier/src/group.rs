//! `farrier group`: machines that share settings.

use clap::Subcommand;
use farrier_api::admin::{Group, GroupDetail, Settings};

use crate::connection::Session;
use crate::output::Table;
use crate::setting::{Setting, apply, pairs};
use crate::task::progress;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List groups and what each sets.
    List,
    /// Show a group's machines and how far they are.
    Show { name: String },
    /// Make a group, or change what it sets.
    Set {
        name: String,
        /// menu=always, default-entry=memory-test ...; an empty value leaves it to the site.
        #[arg(value_name = "NAME=VALUE")]
        settings: Vec<Setting>,
        /// Do it where it starts deployments by itself; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
    /// Remove a group that has no machines.
    Delete { name: String },
}

pub(crate) async fn run(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::List => session.show(&client.get(&["groups"]).await?, |groups: &Vec<Group>| {
            list(groups)
        }),
        Verb::Show { name } => session.show(&client.get(&["groups", &name]).await?, show),
        Verb::Set {
            name,
            settings,
            yes,
        } => {
            let groups: Vec<Group> = client.get(&["groups"]).await?.read()?;
            let known = groups.into_iter().find(|group| group.name == name);
            let before = known.map_or_else(Settings::default, |group| group.settings);
            let settings = apply(&before, &settings)?;
            let path = ["groups", &name];
            let answer = session.put_policy(&path, &settings, yes).await?;
            session.show(&answer, |group: &Group| list(std::slice::from_ref(group)))
        }
        Verb::Delete { name } => {
            client.delete(&["groups", &name]).await?;
            session.done("deleted")
        }
    }
}

fn list(groups: &[Group]) -> String {
    let mut table = Table::new(["GROUP", "MACHINES", "SETS"]);
    for group in groups {
        let sets: Vec<String> = pairs(&group.settings)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        table.row([
            group.name.clone(),
            group.machines.to_string(),
            sets.join(", "),
        ]);
    }
    table.to_string()
}

fn show(found: &GroupDetail) -> String {
    let counts: Vec<String> = found
        .newest
        .counts()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let mut table = Table::new(["MACHINE", "STATE", "DOING"]);
    for machine in &found.members {
        let name = machine.name.clone();
        table.row([
            name.unwrap_or_else(|| machine.macs.first().cloned().unwrap_or_default()),
            machine.registration.as_str().to_owned(),
            machine.task.as_ref().map(progress).unwrap_or_default(),
        ]);
    }
    let head = format!("{}: {} machines", found.group.name, found.group.machines);
    if counts.is_empty() {
        return format!("{head}\n");
    }
    format!("{head}; newest tasks: {}\n{table}", counts.join(", "))
}
