//! Settings, rules and wishes.

use std::collections::BTreeMap;
use std::fmt::Display;

use farrier_api::admin as api;
use farrier_engine::medium::MediumName;
use farrier_engine::medium_value::{ValueName, ValueText};
use farrier_engine::task::DiskSelector;
use farrier_engine::{policy, strategy};

use super::Like;
use super::machines::firmware_name;
use super::tasks::{selector, selector_back};
use crate::service::Refusal;
use crate::service::tasks::parse_image;

pub(crate) fn settings(s: &policy::Settings) -> api::Settings {
    api::Settings {
        menu: s.menu.map(Like::like),
        menu_timeout_s: s.menu_timeout_s,
        default_entry: s.default_entry.map(entry),
        menu_code: s.menu_code,
        unknown_machine: s.unknown_machine.map(Like::like),
        enrolment: s.enrolment.map(Like::like),
        first_loader: s.first_loader.map(Like::like),
        ipxe_variant: s.ipxe_variant.map(Like::like),
        tftp_blksize: s.tftp_blksize,
        tftp_windowsize: s.tftp_windowsize,
        secure_boot: s.secure_boot,
        strategy: s.strategy.map(Like::like),
        rom_menu: s.rom_menu,
        media: s
            .media
            .as_ref()
            .map(|names| names.iter().map(ToString::to_string).collect()),
        media_values: s.media_values.as_ref().map(values),
        image: s.image.clone(),
        deploy: s.deploy.map(Like::like),
        deploy_over: s.deploy_over.map(Like::like),
        deploy_disk: s.deploy_disk.as_ref().map(|d| selector(d).to_string()),
        tftp_timeout_s: s.tftp_timeout_s,
        boot_tls: s.boot_tls.map(Like::like),
        local_boot: s.local_boot.map(Like::like),
    }
}

pub(crate) fn entry(entry: policy::MenuEntry) -> api::MenuEntry {
    api::MenuEntry(entry.to_string())
}

pub(crate) fn entry_back(entry: &api::MenuEntry) -> Result<policy::MenuEntry, Refusal> {
    entry
        .0
        .parse()
        .map_err(|e| Refusal::bad(format!("{:?}: {e}", entry.0)))
}

fn media_back(names: &[String]) -> Result<Vec<MediumName>, Refusal> {
    if names.len() > MAX_MEDIA {
        return Err(Refusal::bad(format!(
            "`media` names at most {MAX_MEDIA} images"
        )));
    }
    let name = |text: &String| {
        MediumName::new(text).map_err(|e| Refusal::bad(format!("`media`: {text:?}: {e}")))
    };
    names.iter().map(name).collect()
}

/// What a menu has room for.
const MAX_MEDIA: usize = 16;

fn values(values: &BTreeMap<ValueName, ValueText>) -> BTreeMap<String, String> {
    let each = values.iter();
    each.map(|(name, text)| (name.to_string(), text.to_string()))
        .collect()
}

fn values_back(
    values: &BTreeMap<String, String>,
) -> Result<BTreeMap<ValueName, ValueText>, Refusal> {
    if values.len() > MAX_VALUES {
        return Err(Refusal::bad(format!(
            "`media_values` has at most {MAX_VALUES} values in one place"
        )));
    }
    let value = |(name, text): (&String, &String)| {
        let wrong =
            |what: &str, e: &dyn Display| Refusal::bad(format!("`media_values`: {what:?}: {e}"));
        Ok((
            ValueName::new(name).map_err(|e| wrong(name, &e))?,
            ValueText::new(text).map_err(|e| wrong(text, &e))?,
        ))
    };
    values.iter().map(value).collect()
}

/// More than the environment of a DOS holds.
const MAX_VALUES: usize = 16;

pub(crate) fn settings_back(s: &api::Settings) -> Result<policy::Settings, Refusal> {
    if s.tftp_timeout_s.is_some_and(|s| !(1..=30).contains(&s)) {
        return Err(Refusal::bad("`tftp_timeout_s` is 1 to 30 seconds"));
    }
    s.image.as_deref().map(parse_image).transpose()?;
    Ok(policy::Settings {
        menu: s.menu.map(Like::like),
        menu_timeout_s: s.menu_timeout_s,
        default_entry: s.default_entry.as_ref().map(entry_back).transpose()?,
        menu_code: s.menu_code,
        unknown_machine: s.unknown_machine.map(Like::like),
        enrolment: s.enrolment.map(Like::like),
        first_loader: s.first_loader.map(Like::like),
        ipxe_variant: s.ipxe_variant.map(Like::like),
        tftp_blksize: s.tftp_blksize,
        tftp_windowsize: s.tftp_windowsize,
        secure_boot: s.secure_boot,
        strategy: s.strategy.map(Like::like),
        rom_menu: s.rom_menu,
        boot_tls: s.boot_tls.map(Like::like),
        local_boot: s.local_boot.map(Like::like),
        media: s.media.as_deref().map(media_back).transpose()?,
        media_values: s.media_values.as_ref().map(values_back).transpose()?,
        image: s.image.clone(),
        deploy: s.deploy.map(Like::like),
        deploy_over: s.deploy_over.map(Like::like),
        deploy_disk: s.deploy_disk.as_deref().map(disk_back).transpose()?,
        tftp_timeout_s: s.tftp_timeout_s,
    })
}

fn disk_back(text: &str) -> Result<DiskSelector, Refusal> {
    let choice = text.parse().map(selector_back);
    choice.map_err(|why: String| Refusal::bad(format!("`deploy_disk`: {why}")))
}

pub(crate) fn rule(r: &policy::Rule) -> api::Rule {
    api::Rule {
        name: r.name.to_string(),
        when: r.when.clone(),
        settings: settings(&r.settings),
        refuse_boot: r.refuse_boot,
        refuse_tasks: r.refuse_tasks,
    }
}

pub(crate) fn rule_back(r: &api::Rule) -> Result<policy::Rule, Refusal> {
    let name = r.name.clone().try_into();
    Ok(policy::Rule {
        name: name.map_err(|e: policy::ShortNameError| Refusal::bad(e.to_string()))?,
        when: r.when.clone(),
        settings: settings_back(&r.settings)?,
        refuse_boot: r.refuse_boot,
        refuse_tasks: r.refuse_tasks,
    })
}

pub(super) fn intent(i: &policy::BootIntent) -> api::Intent {
    api::Intent {
        entry: entry(i.entry),
        boots_left: i.boots_left,
        expires: i.expires.0,
        until: i.until.like(),
        set_by: i.set_by.clone(),
    }
}

pub(super) fn learned(l: strategy::Learned) -> api::LearnedStrategy {
    api::LearnedStrategy {
        strategy: l.strategy.to_string(),
        what: l.strategy.clause().to_owned(),
        firmware: l.firmware.map(|kind| firmware_name(kind).to_owned()),
        since: l.since.0,
    }
}
