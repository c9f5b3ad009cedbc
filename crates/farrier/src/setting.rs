//! Settings as people write them: `menu=always menu-timeout-s=5 secure-boot=`.

use std::str::FromStr;

use farrier_api::admin::{EffectiveSetting, Settings};
use serde_json::{Map, Value};

use crate::exit::Failure;
use crate::output::Table;

/// A name and a value; without a value it is no longer set here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    name: String,
    value: Option<Value>,
}

impl FromStr for Setting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text
            .split_once('=')
            .ok_or("write it as NAME=VALUE, or NAME= to unset it")?;
        let name = name.trim().replace('-', "_");
        if name.is_empty() {
            return Err("there is no name before the =");
        }
        let value = match value.trim() {
            "" => None,
            "yes" | "on" => Some(Value::Bool(true)),
            "no" | "off" => Some(Value::Bool(false)),
            // Names of files, in which a hyphen is a hyphen.
            names if name == "media" => Some(names.split(',').map(str::trim).collect()),
            // Names and serial numbers, too.
            text if name == "image" || name == "deploy_disk" => {
                Some(Value::String(text.to_owned()))
            }
            entry if entry.starts_with("medium:") => Some(Value::String(entry.to_owned())),
            word => Some(
                serde_json::from_str(word)
                    .unwrap_or_else(|_| Value::String(word.replace('-', "_"))),
            ),
        };
        Ok(Self { name, value })
    }
}

/// `settings` with the changes made; names and values that do not exist are refused with those that do.
pub(crate) fn apply(settings: &Settings, changes: &[Setting]) -> Result<Settings, Failure> {
    let mut fields = fields(settings);
    for Setting { name, value } in changes {
        let mut alone = Map::new();
        alone.insert(name.clone(), value.clone().unwrap_or(Value::Null));
        serde_json::from_value::<Settings>(Value::Object(alone))
            .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        match value {
            Some(value) => fields.insert(name.clone(), value.clone()),
            None => fields.remove(name),
        };
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| Failure::usage(error.to_string()))
}

/// Those that are set, as name and value.
pub(crate) fn pairs(settings: &Settings) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            names.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    fields(settings)
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}

/// What each setting comes to.
pub(crate) fn effective(settings: &[EffectiveSetting]) -> String {
    let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
    for setting in settings {
        table.row([
            setting.name.clone(),
            setting.value.clone(),
            setting.origin.clone(),
        ]);
    }
    table.to_string()
}

fn fields(settings: &Settings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use farrier_api::admin::{MenuEntry, MenuMode, Settings};

    use super::{apply, pairs};

    fn set(changes: &[&str]) -> Result<Settings, String> {
        let before = Settings {
            menu: Some(MenuMode::Always),
            menu_timeout_s: Some(3),
            ..Settings::default()
        };
        let changes: Vec<_> = changes.iter().map(|text| text.parse().unwrap()).collect();
        apply(&before, &changes).map_err(|failure| failure.to_string())
    }

    #[test]
    fn settings_are_set_unset_and_left_alone() {
        let after = set(&[
            "menu-timeout-s=9",
            "menu=",
            "default-entry=local-disk",
            "secure_boot=yes",
        ])
        .unwrap();
        let expected = Settings {
            menu_timeout_s: Some(9),
            default_entry: Some(MenuEntry("local_disk".to_owned())),
            secure_boot: Some(true),
            ..Settings::default()
        };
        assert_eq!(after, expected);
        assert_eq!(set(&[]).unwrap().menu, Some(MenuMode::Always));
        let media = set(&[
            "media=dos-6.img, rescue.iso",
            "default-entry=medium:dos-6.img",
        ])
        .unwrap();
        let names = vec!["dos-6.img".to_owned(), "rescue.iso".to_owned()];
        assert_eq!(media.media, Some(names));
        assert_eq!(
            media.default_entry,
            Some(MenuEntry("medium:dos-6.img".to_owned()))
        );
        assert!(pairs(&media).contains(&("media".to_owned(), "dos-6.img,rescue.iso".to_owned())));
    }

    #[test]
    fn a_disk_is_named_as_tasks_name_it() {
        let after = set(&["deploy-disk=serial=S5-H9,min=200G"]).unwrap();
        assert_eq!(after.deploy_disk.as_deref(), Some("serial=S5-H9,min=200G"));
        assert_eq!(set(&["deploy-disk="]).unwrap().deploy_disk, None);
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_does() {
        for (change, expected) in [
            ("colour=red", "unknown field `colour`"),
            ("colour=", "unknown field `colour`"),
            ("menu=sometimes", "`on_key`"),
            ("menu-timeout-s=70000", "menu_timeout_s"),
            ("menu-timeout-s=-1", "menu_timeout_s"),
            ("secure-boot=perhaps", "secure_boot"),
        ] {
            let said = set(&[change]).unwrap_err();
            assert!(said.contains(expected), "{change}: {said}");
        }
        assert!(
            "menu".parse::<super::Setting>().is_err() && "=x".parse::<super::Setting>().is_err()
        );
    }

    #[test]
    fn settings_show_as_they_are_written() {
        let settings = Settings {
            menu: Some(MenuMode::OnKey),
            menu_timeout_s: Some(3),
            ..Settings::default()
        };
        let shown = pairs(&settings);
        assert_eq!(shown.len(), 2);
        assert!(shown.contains(&("menu".to_owned(), "on_key".to_owned())));
        assert!(shown.contains(&("menu_timeout_s".to_owned(), "3".to_owned())));
    }
}
