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
    /// Which of several, as in `media_values.home`.
    key: Option<String>,
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
        let (name, key) = match name.split_once('.') {
            Some(("media_values", key)) => ("media_values".to_owned(), Some(key.to_owned())),
            Some(_) => return Err("no setting but media-values.NAME has a dot in its name"),
            None => (name, None),
        };
        let value = match value.trim() {
            "" => None,
            // A text, whatever is in it.
            text if key.is_some() => Some(Value::String(text.to_owned())),
            _ if name == "media_values" => {
                return Err("write each value by itself: media-values.NAME=TEXT");
            }
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
        Ok(Self { name, key, value })
    }
}

/// `settings` with the changes made; names and values that do not exist are refused with those that do.
pub(crate) fn apply(settings: &Settings, changes: &[Setting]) -> Result<Settings, Failure> {
    let mut fields = fields(settings);
    for Setting { name, key, value } in changes {
        let value = match key {
            Some(key) => one_of(fields.get(name), key, value.as_ref()),
            None => value.clone(),
        };
        let mut alone = Map::new();
        alone.insert(name.clone(), value.clone().unwrap_or(Value::Null));
        serde_json::from_value::<Settings>(Value::Object(alone))
            .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        match value {
            Some(value) => fields.insert(name.clone(), value),
            None => fields.remove(name),
        };
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| Failure::usage(error.to_string()))
}

/// Several values with one of them changed or taken away; none if there is none left.
fn one_of(several: Option<&Value>, key: &str, value: Option<&Value>) -> Option<Value> {
    let mut several = match several {
        Some(Value::Object(several)) => several.clone(),
        _ => Map::new(),
    };
    match value {
        Some(value) => several.insert(key.to_owned(), value.clone()),
        None => several.remove(key),
    };
    (!several.is_empty()).then_some(Value::Object(several))
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
    let mut pairs = Vec::new();
    for (name, value) in fields(settings) {
        match value {
            Value::Object(several) => {
                let each = several.into_iter();
                pairs.extend(each.map(|(key, value)| (format!("{name}.{key}"), text(value))));
            }
            value => pairs.push((name, text(value))),
        }
    }
    pairs
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
    fn r9_values_are_set_and_unset_one_by_one() {
        let one = r"media-values.home=\\srv\home$\pc-17";
        let after = set(&[one, "media-values.lan-drive=on"]).unwrap();
        let values = after.media_values.clone().unwrap();
        assert_eq!(values["home"], r"\\srv\home$\pc-17");
        assert_eq!(values["lan_drive"], "on", "a text, and no yes");
        let shown = pairs(&after);
        assert!(shown.contains(&("media_values.lan_drive".to_owned(), "on".to_owned())));
        let change = |settings, text: &str| apply(settings, &[text.parse().unwrap()]).unwrap();
        let after = change(&after, "media-values.home=");
        assert_eq!(after.media_values.as_ref().unwrap().len(), 1);
        let none = change(&after, "media-values.lan_drive=");
        assert_eq!(none.media_values, None);
        assert_eq!(change(&after, "media-values=").media_values, None);
        for wrong in ["media-values=home", "menu.x=never", "menu.x="] {
            assert!(wrong.parse::<super::Setting>().is_err(), "{wrong}");
        }
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
