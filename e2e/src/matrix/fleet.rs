//! Machines of many kinds, all of them on at the same time, and one server with one policy for them.

use std::thread;

use anyhow::{Context, Result};
use serde_json::json;

use super::{ROWS, Role, Row, Seen, machine, stage::Stage, watch};
use crate::{Lab, Machine, Site};

/// Machines that are off, and the server that is to boot them.
#[derive(Debug)]
pub struct Fleet {
    stage: Stage,
    machines: Vec<(&'static Row, Machine)>,
}

impl Fleet {
    /// The machines of the rows of these names, numbered from `first` on, with our DHCP on their network.
    ///
    /// The site's policy knows which of them start nothing unsigned; of all else that tells them apart the server
    /// learns from themselves.
    ///
    /// # Errors
    /// When there is no such row, or the server does not start.
    pub fn set_up(lab: &Lab, rows: &[&str], first: u8) -> Result<Self> {
        let row = |name: &&str| {
            let mut all = ROWS.iter();
            all.find(|row| row.name == *name)
                .with_context(|| format!("there is no row {name}"))
        };
        let rows: Vec<_> = rows.iter().map(row).collect::<Result<_>>()?;
        let machines: Vec<_> = rows
            .into_iter()
            .zip(first..)
            .map(|(row, number)| (row, machine(row, number)))
            .collect();
        let stage = Stage::open(lab, "fleet", Role::Dhcp, &[])?;
        let secure = machines.iter().filter(|(row, _)| row.firmware.is_secure());
        let secure: Vec<_> = secure.map(|(_, machine)| machine.mac()).collect();
        let rule = json!({
            "name": "signed", "when": format!("facts.mac in {}", json!(secure)), "settings": { "secure_boot": true },
        });
        let site = stage.site();
        site.put("policy/rules", &json!({ "rules": [rule] }))?;
        Ok(Self { stage, machines })
    }

    /// The server.
    #[must_use]
    pub fn site(&self) -> &Site {
        self.stage.site()
    }

    /// Each machine with its row.
    #[must_use]
    pub fn machines(&self) -> &[(&'static Row, Machine)] {
        &self.machines
    }

    /// Powers all of them on in one moment, each until what has to show has shown. In the order of the machines.
    #[must_use]
    pub fn boot(&self) -> Vec<Result<Seen>> {
        thread::scope(|scope| {
            let boot = |(row, machine): &(&'static Row, Machine)| {
                let (row, machine) = (*row, machine.clone());
                scope.spawn(move || watch(row, &machine, &self.stage).context(row.name))
            };
            let booting: Vec<_> = self.machines.iter().map(boot).collect();
            let seen = booting.into_iter().map(|one| match one.join() {
                Ok(seen) => seen,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            seen.collect()
        })
    }
}
