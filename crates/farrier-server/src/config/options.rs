//! DHCP options from the configuration: each by name or number, checked against the registry.

use std::collections::BTreeMap;

use farrier_engine::parameter::{OptionSet, Origin, Sent, Setting, refusal};
use farrier_proto::wire::option::{self, Form};
use farrier_proto::wire::option_setting::{Written, encode};
use toml::{Spanned, Value};

use super::convert::Collector;

/// As they stand in the file.
pub type Options = BTreeMap<Spanned<String>, Spanned<Value>>;

/// Where a table of options stands.
pub(super) struct Place<'a> {
    /// `subnet[0].options`
    pub key: &'a str,
    pub origin: &'a Origin,
}

/// The options written at `place`; what cannot be used becomes a fault.
pub(super) fn convert(
    place: &Place<'_>,
    written: &Options,
    faults: &mut Collector<'_>,
) -> OptionSet {
    let mut settings: Vec<Setting> = Vec::new();
    for (name, value) in written {
        let key = format!("{}.{}", place.key, name.get_ref());
        let found = code(name.get_ref(), place.origin)
            .map_err(|fault| (fault, name.span()))
            .and_then(|code| {
                let read = read(code, value.get_ref()).map_err(|fault| (fault, value.span()))?;
                Ok((code, read))
            });
        let (code, (sent, value)) = match found {
            Ok(found) => found,
            Err(((what, remedy), at)) => {
                faults.add(&key, Some(at), &what, &remedy);
                continue;
            }
        };
        if settings.iter().any(|other| other.code == code) {
            let remedy = "Keep one of the name and the number.";
            faults.add(&key, Some(name.span()), "is set twice here", remedy);
            continue;
        }
        settings.push(Setting {
            code,
            value,
            sent,
            origin: place.origin.clone(),
        });
    }
    OptionSet::new(settings)
}

/// What is wrong, and what to do.
type Wrong = (String, String);

fn code(name: &str, origin: &Origin) -> Result<u8, Wrong> {
    let Some(code) = name.parse().ok().or_else(|| option::code_of(name)) else {
        let what = "is no DHCP option".to_owned();
        return Err((what, similar(name)));
    };
    let narrow = matches!(origin, Origin::Class(_) | Origin::Reservation);
    match refusal(code, narrow) {
        Some(remedy) => Err(("cannot be set here".to_owned(), remedy.to_owned())),
        None => Ok(code),
    }
}

fn similar(name: &str) -> String {
    let stem = name.trim_end_matches('s').replace('_', "-");
    let named = option::REGISTERED
        .iter()
        .filter_map(|&code| option::key(code));
    let alike: Vec<_> = named
        .filter(|known| stem.len() > 2 && (known.contains(&stem) || stem.contains(known)))
        .take(3)
        .collect();
    let list = "docs/reference/dhcp-options.md has the names; a number from 1 to 254 is good too.";
    if alike.is_empty() {
        format!("Correct the name: {list}")
    } else {
        format!("Perhaps {} is meant: {list}", alike.join(" or "))
    }
}

fn read(code: u8, written: &Value) -> Result<(Sent, Vec<u8>), Wrong> {
    let form = option::describe(code).map(|(_, form)| form);
    let Value::Table(table) = written else {
        let form = match (form, written) {
            (Some(form), _) => form,
            (None, Value::String(_)) => Form::Text,
            (None, _) => return Err(unregistered()),
        };
        return Ok((Sent::Asked, bytes(form, written)?));
    };
    let mut sent = Sent::Asked;
    let mut value = None;
    for (name, inner) in table {
        let form = match name.as_str() {
            "send" => {
                sent = send(inner)?;
                continue;
            }
            "value" => form.ok_or_else(unregistered)?,
            "hex" => Form::Bytes,
            name => match forms(name) {
                Some(own) if form.is_none_or(|form| form == own || form == Form::Bytes) => own,
                Some(_) => {
                    let remedy = "The registry says what this option is: write `value = …`.";
                    return Err((format!("is not of the form {name}"), remedy.to_owned()));
                }
                None => {
                    let what = format!("{name:?} is no part of an option");
                    return Err((what, "Write `value`, `hex` or `send`.".to_owned()));
                }
            },
        };
        if value.replace(bytes(form, inner)?).is_some() {
            let what = "has two values".to_owned();
            return Err((what, "Keep one of them.".to_owned()));
        }
    }
    match (value, sent) {
        (Some(value), _) => Ok((sent, value)),
        (None, Sent::Never) => Ok((sent, Vec::new())),
        (None, _) => Err((
            "has no value".to_owned(),
            "Write `value = …`, or `send = \"never\"` to take back what is set for all.".to_owned(),
        )),
    }
}

fn send(written: &Value) -> Result<Sent, Wrong> {
    match written.as_str() {
        Some("asked") => Ok(Sent::Asked),
        Some("always") => Ok(Sent::Always),
        Some("never") => Ok(Sent::Never),
        _ => Err((
            format!("{written} is no word for when to send it"),
            "Write \"asked\", \"always\" or \"never\".".to_owned(),
        )),
    }
}

fn forms(name: &str) -> Option<Form> {
    Some(match name {
        "address" => Form::Address,
        "addresses" => Form::Addresses,
        "flag" => Form::Flag,
        "i32" => Form::I32,
        "names" => Form::Names,
        "routes" => Form::Routes,
        "text" => Form::Text,
        "u8" => Form::U8,
        "u16" => Form::U16,
        "u32" => Form::U32,
        _ => return None,
    })
}

fn bytes(form: Form, written: &Value) -> Result<Vec<u8>, Wrong> {
    let read = as_written(written).ok_or_else(|| {
        let what = format!("{written} cannot be used");
        (
            what,
            "Write a text, a number, true or false, or a list.".to_owned(),
        )
    })?;
    encode(form, &read).map_err(|error| {
        let what = format!("{} cannot be used", error.found);
        (what, format!("Write {}.", error.expected))
    })
}

fn as_written(value: &Value) -> Option<Written> {
    Some(match value {
        Value::Boolean(flag) => Written::Flag(*flag),
        Value::Integer(number) => Written::Number(*number),
        Value::String(text) => Written::Text(text.clone()),
        Value::Array(items) => Written::List(items.iter().map(as_written).collect::<Option<_>>()?),
        Value::Datetime(_) | Value::Float(_) | Value::Table(_) => return None,
    })
}

fn unregistered() -> Wrong {
    (
        "is in no registry, so its form is not known".to_owned(),
        "Write a text, or say what it is: { hex = \"01:02\" }, { u16 = 5 }, { addresses = [\"10.0.0.1\"] }."
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn config(options: &str) -> Result<OptionSet, Vec<(String, String)>> {
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[options]\n{options}\n[[subnet]]\nnetwork = \"10.0.0.0/24\"\n"
        );
        match Config::parse(&text) {
            Ok(config) => Ok(config.subnets[0].options.clone()),
            Err(faults) => Err(faults
                .into_iter()
                .map(|f| (f.key, format!("{} {}", f.what, f.remedy)))
                .collect()),
        }
    }

    #[test]
    fn by_name_by_number_and_by_form() {
        let rows: [(&str, u8, &[u8]); 10] = [
            ("ntp-servers = [\"10.0.0.5\"]", 42, &[10, 0, 0, 5]),
            ("42 = \"10.0.0.5\"", 42, &[10, 0, 0, 5]),
            ("interface-mtu = 9000", 26, &[0x23, 0x28]),
            ("ip-forwarding = false", 19, &[0]),
            ("domain-search = [\"a.b\"]", 119, b"\x01a\x01b\0"),
            ("224 = \"text\"", 224, b"text"),
            ("224 = { u16 = 5 }", 224, &[0, 5]),
            ("125 = { hex = \"00:01\" }", 125, &[0, 1]),
            (
                "150 = { hex = \"0a000001\", send = \"always\" }",
                150,
                &[10, 0, 0, 1],
            ),
            ("42 = { send = \"never\" }", 42, &[]),
        ];
        for (written, code, value) in rows {
            let set = config(written).unwrap();
            let setting = set.find(code).unwrap();
            assert_eq!(setting.value, value, "{written}");
            assert_eq!(setting.origin, Origin::Site, "{written}");
        }
    }

    #[test]
    fn what_cannot_be_set_is_refused_with_key_and_remedy() {
        let rows = [
            ("ntp-server = \"10.0.0.5\"", "Perhaps ntp-servers"),
            ("nonsense-name = 1", "is no DHCP option"),
            ("256 = 1", "is no DHCP option"),
            ("ntp-servers = [\"10.0.0.300\"]", "IPv4 address such as"),
            ("interface-mtu = 70000", "0 to 65535"),
            ("interface-mtu = 1.5", "Write a text, a number"),
            ("dhcp-lease-time = 5", "lease_seconds"),
            ("51 = 5", "lease_seconds"),
            ("54 = \"10.0.0.1\"", "`address` of the interface"),
            ("boot-file-name = \"x\"", "farrier policy"),
            ("43 = \"01:02\"", "[[class]]"),
            ("82 = \"01\"", "leave it out"),
            ("224 = 5", "no registry"),
            (
                "42 = { send = \"often\", value = \"10.0.0.1\" }",
                "\"asked\"",
            ),
            ("42 = { u8 = 1 }", "The registry says"),
            ("42 = { bits = 1 }", "no part of an option"),
            ("42 = {}", "has no value"),
            ("224 = { u8 = 1, text = \"x\" }", "two values"),
        ];
        for (written, words) in rows {
            let faults = config(written).unwrap_err();
            let (key, told) = &faults[0];
            assert!(key.starts_with("options."), "{written}: {key}");
            assert!(told.contains(words), "{written}: {told}");
        }
        let faults = config("42 = \"10.0.0.1\"\nntp-servers = \"10.0.0.1\"\n57 = 1").unwrap_err();
        assert_eq!(faults.len(), 2, "all at once: {faults:?}");
    }

    #[test]
    fn the_reference_page_lists_every_option_and_what_it_takes() {
        let mut page = String::from(HEAD);
        for &code in option::REGISTERED {
            let (Some(name), Some((_, form))) = (option::key(code), option::describe(code)) else {
                continue;
            };
            let takes = match (refusal(code, false), refusal(code, true)) {
                (None, _) => example(form).to_owned(),
                (Some(_), None) => format!("{}; in a class or a reservation", example(form)),
                (Some(why), Some(_)) => format!("cannot be set. {why}"),
            };
            page.push_str(&format!("| {code} | `{name}` | {takes} |\n"));
        }
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/dhcp-options.md"
        );
        if std::env::var_os("FARRIER_UPDATE").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert_eq!(written, page, "run this test with FARRIER_UPDATE=1");
    }

    fn example(form: Form) -> &'static str {
        match form {
            Form::Address => "`\"10.0.0.1\"`",
            Form::AddressPairs => "`[\"10.1.0.9 10.0.0.1\"]`",
            Form::Addresses => "`[\"10.0.0.1\"]`",
            Form::Bytes | Form::Encapsulated => "`\"01:02:ff\"`",
            Form::Codes => "`[1, 3]`",
            Form::Flag => "`true`",
            Form::I32 => "`-3600`",
            Form::Names => "`[\"example.org\"]`",
            Form::Routes => "`[\"10.1.0.0/16 via 10.0.0.1\"]`",
            Form::Text => "`\"text\"`",
            Form::U8 | Form::U16 | Form::U32 => "a number",
            Form::U16s => "`[68, 1500]`",
        }
    }

    const HEAD: &str = "# DHCP options

What can be set in a table `options` of the configuration, by name or by number, and an example of a value. For
an option that is not in the list write a text, or say what it is: `224 = { u16 = 5 }`; the forms are `address`,
`addresses`, `flag`, `hex`, `i32`, `names`, `routes`, `text`, `u8`, `u16` and `u32`. `hex` is good for every
option. [dhcp.md](../operations/dhcp.md) tells who gets what.

| number | name | value |
| --- | --- | --- |
";
}
