//! Settings as fields of a form: what each is called, what can be chosen, and what a filled form says.

use std::collections::HashMap;

use farrier_api::admin::{EffectiveSetting, Settings};
use farrier_api::agent::DiskSelector;
use serde_json::{Map, Value};

use super::text::shown;

/// A setting as people choose it.
#[derive(Debug)]
pub struct Field {
    /// As in the API.
    pub name: &'static str,
    pub label: &'static str,
    pub help: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Choice(&'static [(&'static str, &'static str)]),
    YesNo,
    Number {
        min: u16,
        max: u16,
    },
    /// An entry of the menu, disk images included.
    Entry,
    /// Names of disk images, with commas between them.
    Media,
    /// Names and texts, a line for each.
    Values,
    /// The name of an image.
    Image,
    /// A choice of a disk, as `--disk` of a task takes it.
    Disk,
}

/// All of them, in the order in which a boot meets them.
pub const FIELDS: &[Field] = &[
    Field {
        name: "unknown_machine",
        label: "Unknown machines",
        help: "What a machine gets that nobody knows.",
        kind: Kind::Choice(&[
            ("ignore", "are left alone"),
            ("menu", "get the menu"),
            ("register", "are registered"),
        ]),
    },
    Field {
        name: "enrolment",
        label: "Letting agents in",
        help: "Whether a person compares codes before a new machine's agent may work.",
        kind: Kind::Choice(&[
            ("approve", "a person approves"),
            ("automatic", "known machines by themselves"),
        ]),
    },
    Field {
        name: "menu",
        label: "Menu",
        help: "When a machine without work shows the menu.",
        kind: Kind::Choice(&[
            ("never", "never"),
            ("always", "at each boot"),
            ("on_key", "when a key is pressed"),
        ]),
    },
    Field {
        name: "menu_timeout_s",
        label: "Seconds to choose",
        help: "Then the default entry starts.",
        kind: Kind::Number {
            min: 0,
            max: u16::MAX,
        },
    },
    Field {
        name: "default_entry",
        label: "Default entry",
        help: "What starts when nobody chooses.",
        kind: Kind::Entry,
    },
    Field {
        name: "menu_code",
        label: "Code before entries",
        help: "Entries but the local disk and the default one want a one-time code.",
        kind: Kind::YesNo,
    },
    Field {
        name: "media",
        label: "Disk images in the menu",
        help: "Names with commas between them, at most 16.",
        kind: Kind::Media,
    },
    Field {
        name: "media_values",
        label: "Values in disk images",
        help: "A line for each, such as home=\\\\srv\\home\\pc17; FARRIER_HOME is its place in an image.",
        kind: Kind::Values,
    },
    Field {
        name: "rom_menu",
        label: "Menu in BIOS ROMs",
        help: "The ROM itself shows the menu, before any loader.",
        kind: Kind::YesNo,
    },
    Field {
        name: "first_loader",
        label: "First boot program",
        help: "Where there is one of the kind that fits.",
        kind: Kind::Choice(&[("ipxe", "iPXE"), ("grub", "GRUB"), ("pxelinux", "PXELINUX")]),
    },
    Field {
        name: "ipxe_variant",
        label: "iPXE's drivers",
        help: "",
        kind: Kind::Choice(&[("full", "its own"), ("snp_only", "the firmware's")]),
    },
    Field {
        name: "deploy",
        label: "Deploy by itself",
        help: "Overwrites disks of approved machines with the image named here, without anybody's order.",
        kind: Kind::Choice(&[
            ("never", "never"),
            ("once", "once for each machine"),
            ("each_version", "once in each version"),
        ]),
    },
    Field {
        name: "deploy_over",
        label: "Disks it may overwrite",
        help: "Blank ones have no partition table. Counts where it is deployed by itself is set.",
        kind: Kind::Choice(&[
            ("blank", "blank ones, and what was deployed before"),
            ("anything", "whatever is on them"),
        ]),
    },
    Field {
        name: "deploy_disk",
        label: "Disk of such a deployment",
        help: "serial=, wwn=, bus=, model=, min=, max=, with commas between them; where empty, the only disk there is.",
        kind: Kind::Disk,
    },
    Field {
        name: "boot_tls",
        label: "HTTPS",
        help: "Who is given HTTPS URLs; the server's configuration must have a listener for it.",
        kind: Kind::Choice(&[
            ("never", "nobody"),
            ("firmware", "UEFI HTTP Boot"),
            ("always", "and each iPXE that speaks it"),
        ]),
    },
    Field {
        name: "local_boot",
        label: "Way to the local disk",
        help: "For machines that do not start their disk after the menu.",
        kind: Kind::Choice(&[
            ("auto", "the quickest that the firmware takes"),
            ("firmware", "the next entry of its boot order"),
            ("first_disk", "its first disk"),
        ]),
    },
    Field {
        name: "secure_boot",
        label: "Signed programs only",
        help: "The agent finds out where nobody says so.",
        kind: Kind::YesNo,
    },
    Field {
        name: "strategy",
        label: "Way of offering",
        help: "How a boot file is offered. On a machine, `auto` forgets what was found.",
        kind: Kind::Choice(&[
            ("auto", "find out"),
            ("a", "A: final, beside another server, BIOS"),
            ("b", "B: ask port 4011"),
            ("c", "C: final, beside another server, UEFI"),
            ("d", "D: complete"),
        ]),
    },
    Field {
        name: "tftp_blksize",
        label: "Largest TFTP block",
        help: "In bytes; what the path takes counts all the same.",
        kind: Kind::Number { min: 8, max: 65464 },
    },
    Field {
        name: "tftp_windowsize",
        label: "TFTP window",
        help: "The most blocks that leave without an ACK.",
        kind: Kind::Number { min: 1, max: 64 },
    },
    Field {
        name: "tftp_timeout_s",
        label: "TFTP interval",
        help: "Seconds until something is sent again to clients that negotiate none; measured where empty.",
        kind: Kind::Number { min: 1, max: 30 },
    },
    Field {
        name: "image",
        label: "Image of tasks that name none",
        help: "Nothing is written by it alone: somebody orders the task.",
        kind: Kind::Image,
    },
];

/// A field with what it says now.
#[derive(Clone, Debug)]
pub struct FieldView {
    pub name: &'static str,
    pub label: &'static str,
    pub help: &'static str,
    /// What counts where nothing is chosen here: `never (site)`.
    pub inherited: String,
    pub input: Input,
}

#[derive(Clone, Debug)]
pub enum Input {
    Choice(Vec<ChoiceView>),
    Number {
        min: u16,
        max: u16,
        value: String,
    },
    /// Free text, with names to pick from.
    Names {
        value: String,
        known: Vec<String>,
    },
    /// As many lines as people write.
    Lines(String),
}

#[derive(Clone, Debug)]
pub struct ChoiceView {
    pub value: String,
    pub label: String,
    pub chosen: bool,
}

impl FieldView {
    /// Every field: `settings` is what is set here, `effective` what counts, `here` the origin that means this place.
    #[must_use]
    pub fn all(
        settings: &Settings,
        effective: &[EffectiveSetting],
        here: &str,
        media: &[String],
    ) -> Vec<Self> {
        let set = serde_json::to_value(settings).unwrap_or_default();
        FIELDS
            .iter()
            .map(|field| {
                let inherited = effective
                    .iter()
                    .filter(|e| e.origin != here)
                    .filter_map(|e| field.inherited(e));
                Self {
                    name: field.name,
                    label: field.label,
                    help: field.help,
                    inherited: inherited.collect::<Vec<_>>().join("; "),
                    input: field.input(&text_of(&set[field.name]), media),
                }
            })
            .collect()
    }
}

impl Field {
    fn input(&self, value: &str, media: &[String]) -> Input {
        let choice = |v: &str, label: &str| ChoiceView {
            value: v.to_owned(),
            label: label.to_owned(),
            chosen: v == value,
        };
        match self.kind {
            Kind::Choice(choices) => {
                Input::Choice(choices.iter().map(|(v, label)| choice(v, label)).collect())
            }
            Kind::YesNo => Input::Choice(vec![choice("true", "yes"), choice("false", "no")]),
            Kind::Entry => Input::Choice(entries(media, value)),
            Kind::Number { min, max } => Input::Number {
                min,
                max,
                value: value.to_owned(),
            },
            Kind::Media => Input::Names {
                value: value.to_owned(),
                known: media.to_vec(),
            },
            Kind::Values => Input::Lines(value.to_owned()),
            Kind::Image => Input::Names {
                value: value.to_owned(),
                known: Vec::new(),
            },
            Kind::Disk => Input::Names {
                value: value.to_owned(),
                known: BUSES.map(|bus| format!("bus={bus}")).to_vec(),
            },
        }
    }

    /// What counts for this field where nothing is chosen here; none if it is that of another.
    fn inherited(&self, effective: &EffectiveSetting) -> Option<String> {
        let origin = shown(&effective.origin);
        // Of the values each has a line of its own.
        if let Kind::Values = self.kind {
            let name = effective.name.strip_prefix(self.name)?.strip_prefix('.')?;
            return Some(format!("{name}={} ({origin})", shown(&effective.value)));
        }
        if effective.name != self.name {
            return None;
        }
        let value = match self.kind {
            Kind::Choice(choices) => choices
                .iter()
                .find(|(value, _)| *value == effective.value)
                .map_or(effective.value.as_str(), |(_, label)| label),
            Kind::YesNo if effective.value == "true" => "yes",
            Kind::YesNo => "no",
            Kind::Entry
            | Kind::Image
            | Kind::Disk
            | Kind::Media
            | Kind::Values
            | Kind::Number { .. } => &effective.value,
        };
        let value = if value.is_empty() { "none" } else { value };
        Some(format!("{} ({origin})", shown(value)))
    }

    fn read(&self, text: &str) -> Result<Value, String> {
        Ok(match self.kind {
            Kind::Choice(_) | Kind::Entry | Kind::Image => Value::from(text),
            Kind::Disk => match text.parse::<DiskSelector>() {
                Ok(_) => Value::from(text),
                Err(why) => return Err(format!("{}: {why}", self.label)),
            },
            Kind::YesNo => Value::from(text == "true"),
            Kind::Number { min, max } => {
                let number = text.parse::<u16>().ok();
                let number = number.filter(|n| (min..=max).contains(n));
                let number = number
                    .ok_or_else(|| format!("{}: a number from {min} to {max}", self.label))?;
                Value::from(number)
            }
            Kind::Values => {
                let mut values = Map::new();
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    let (name, text) = line
                        .split_once('=')
                        .ok_or_else(|| format!("{}: {line:?} is not NAME=TEXT", self.label))?;
                    let (name, text) = (name.trim().to_owned(), Value::from(text.trim()));
                    if let Some(_earlier) = values.insert(name.clone(), text) {
                        return Err(format!("{}: {name} is there twice", self.label));
                    }
                }
                Value::Object(values)
            }
            Kind::Media => {
                let names = text
                    .split(',')
                    .map(str::trim)
                    .filter(|name| !name.is_empty());
                names.map(Value::from).collect()
            }
        })
    }
}

/// Entries that can be chosen: the menu's own, and the disk images.
#[must_use]
pub fn entries(media: &[String], chosen: &str) -> Vec<ChoiceView> {
    let own = [
        ("local_disk", "the local disk"),
        ("register", "registering"),
        ("memory_test", "the memory test"),
        ("diagnostics", "what the server decided, and why"),
    ];
    let own = own.map(|(value, label)| (value.to_owned(), label.to_owned()));
    let media = media
        .iter()
        .map(|name| (format!("medium:{name}"), format!("disk image {name}")));
    own.into_iter()
        .chain(media)
        .map(|(value, label)| ChoiceView {
            chosen: value == chosen,
            value,
            label,
        })
        .collect()
}

/// Those on which a system is installed.
const BUSES: [&str; 4] = ["nvme", "sata", "scsi", "virtio"];

/// What a filled form sets. Fields left empty are not set; other names are none of ours.
pub fn read(form: &HashMap<String, String>) -> Result<Settings, String> {
    let mut set = Map::new();
    for field in FIELDS {
        let text = form.get(field.name).map_or("", |text| text.trim());
        if !text.is_empty() {
            set.insert(field.name.to_owned(), field.read(text)?);
        }
    }
    serde_json::from_value(Value::Object(set)).map_err(|error| error.to_string())
}

/// What is set, in words: `menu: always; TFTP window: 4`.
#[must_use]
pub fn summary(settings: &Settings) -> String {
    let set = serde_json::to_value(settings).unwrap_or_default();
    let said = FIELDS.iter().filter_map(|field| {
        let value = text_of(&set[field.name]);
        let word = match field.kind {
            Kind::Choice(choices) => choices.iter().find(|(v, _)| *v == value),
            _ => None,
        };
        let word = word.map_or_else(
            || value.replace('\n', ", "),
            |(_, label)| (*label).to_owned(),
        );
        (!value.is_empty()).then(|| format!("{}: {word}", field.label))
    });
    shown(&said.collect::<Vec<_>>().join("; "))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(", "),
        Value::Object(values) => {
            let lines = values.iter();
            let lines = lines.map(|(name, value)| format!("{name}={}", text_of(value)));
            lines.collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// One setting at a time, each with each value that can be chosen, and with the ends of what is a number.
#[cfg(test)]
pub(crate) fn each_choice(media: &[String]) -> Vec<(&'static str, String, Settings)> {
    let fields = FieldView::all(&Settings::default(), &[], "site", media);
    let values = |field: FieldView| {
        let values: Vec<String> = match field.input {
            Input::Choice(choices) => choices.into_iter().map(|c| c.value).collect(),
            Input::Number { min, max, .. } => vec![min.to_string(), max.to_string()],
            Input::Names { known, .. } if known.is_empty() => vec!["lab-debian".to_owned()],
            Input::Names { known, .. } => known,
            Input::Lines(_) => vec!["dept=lab 12\nhome=\\\\srv\\home".to_owned()],
        };
        assert!(!values.is_empty(), "{}", field.name);
        values.into_iter().map(move |value| (field.name, value))
    };
    let all = fields.into_iter().flat_map(values);
    all.map(|(name, value)| {
        let form = HashMap::from([(name.to_owned(), value.clone())]);
        (name, value, read(&form).expect("it can be chosen"))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use farrier_api::admin::Settings;

    use super::{FIELDS, FieldView, Input, Kind, each_choice, read, summary};

    fn filled(name: &str, value: &str) -> HashMap<String, String> {
        HashMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn every_choice_is_a_setting_and_comes_back_chosen() {
        let media = ["rescue.iso".to_owned()];
        for (name, value, settings) in each_choice(&media) {
            assert_ne!(settings, Settings::default(), "{name} {value}");
            let again = FieldView::all(&settings, &[], "site", &media);
            let again = again.into_iter().find(|f| f.name == name).unwrap();
            let chosen = match again.input {
                Input::Choice(choices) => choices.into_iter().find(|c| c.chosen).unwrap().value,
                Input::Number { value, .. } | Input::Names { value, .. } | Input::Lines(value) => {
                    value
                }
            };
            assert_eq!(chosen, value, "{name}");
            assert!(!summary(&settings).is_empty());
        }
    }

    #[test]
    fn no_setting_is_without_a_field() {
        let named: Vec<&str> = FIELDS.iter().map(|f| f.name).collect();
        // Unknown names are refused with those that there are.
        let error = serde_json::from_str::<Settings>(r#"{"?":1}"#).unwrap_err();
        let error = error.to_string();
        let all: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert!(all.len() >= 10, "{error}");
        for name in &all {
            assert!(named.contains(name), "{name} has no field");
        }
        assert_eq!(named.len(), all.len());
    }

    #[test]
    fn what_is_no_number_is_refused_by_name() {
        for field in FIELDS {
            let Kind::Number { .. } = field.kind else {
                continue;
            };
            for bad in ["x", "-1", "65536", "1.5"] {
                let error = read(&filled(field.name, bad)).unwrap_err();
                assert!(error.contains(field.label), "{error}");
            }
        }
        assert_eq!(read(&filled("csrf", "x")).unwrap(), Settings::default());
    }
}
