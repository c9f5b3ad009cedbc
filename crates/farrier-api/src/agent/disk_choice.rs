//! Which disk is meant, as people write it: `serial=S5H9,bus=nvme,min=200G,max=1T`.

use std::fmt;
use std::str::FromStr;

use super::DiskSelector;

impl FromStr for DiskSelector {
    type Err = String;

    /// Nothing is guessed: a word that is not understood is refused.
    fn from_str(text: &str) -> Result<Self, String> {
        parse(text)
    }
}

impl fmt::Display for DiskSelector {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |name: &str, what: &Option<String>| {
            let what = what.as_ref();
            what.map(|what| format!("{name}={what}"))
        };
        let bytes = |name: &str, what: Option<u64>| what.map(|n| format!("{name}={}", short(n)));
        let parts = [
            said("serial", &self.serial),
            said("wwn", &self.wwn),
            said("bus", &self.bus),
            said("model", &self.model),
            bytes("min", self.min_bytes),
            bytes("max", self.max_bytes),
            self.allow_removable.then(|| "removable".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(","))
    }
}

/// In the unit, binary or decimal, that makes it shortest.
fn short(bytes: u64) -> String {
    let units = [
        (1 << 40, "T"),
        (1 << 30, "G"),
        (1 << 20, "M"),
        (1 << 10, "K"),
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "KB"),
    ];
    let whole = units.iter().filter(|(unit, _)| bytes.is_multiple_of(*unit));
    let written = whole.map(|(unit, name)| format!("{}{name}", bytes / unit));
    let plain = std::iter::once(bytes.to_string());
    plain
        .chain(written)
        .min_by_key(String::len)
        .unwrap_or_default()
}

fn parse(text: &str) -> Result<DiskSelector, String> {
    let mut choice = DiskSelector::default();
    for part in text.split(',').map(str::trim) {
        if part == "removable" {
            choice.allow_removable = true;
            continue;
        }
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| format!("{part:?} is not NAME=VALUE; {NAMES}"))?;
        let value = value.trim();
        if value.is_empty() {
            return Err(format!("{name} has no value"));
        }
        let twice = match name.trim() {
            "serial" => choice.serial.replace(value.to_owned()).is_some(),
            "wwn" => choice.wwn.replace(value.to_owned()).is_some(),
            "bus" => choice.bus.replace(value.to_owned()).is_some(),
            "model" => choice.model.replace(value.to_owned()).is_some(),
            "min" => choice.min_bytes.replace(size(value)?).is_some(),
            "max" => choice.max_bytes.replace(size(value)?).is_some(),
            other => return Err(format!("{other:?} is nothing a disk has; {NAMES}")),
        };
        if twice {
            return Err(format!("{name} is said twice"));
        }
    }
    match (choice.min_bytes, choice.max_bytes) {
        (Some(min), Some(max)) if min > max => {
            Err("min is more than max: no disk can fit".to_owned())
        }
        _ => Ok(choice),
    }
}

/// `200G`, `200GiB` (binary), `200GB` (decimal, as disks are sold), or plain bytes.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write it as 200G, 200GB or in bytes");
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let (letter, decimal) = match unit.as_bytes() {
        [] | [b'b'] => return Ok(number),
        [letter] | [letter, b'i', b'b'] => (*letter, false),
        [letter, b'b'] => (*letter, true),
        _ => return Err(wrong()),
    };
    let power = match letter {
        b'k' => 1,
        b'm' => 2,
        b'g' => 3,
        b't' => 4,
        _ => return Err(wrong()),
    };
    let base: u64 = if decimal { 1000 } else { 1024 };
    number.checked_mul(base.pow(power)).ok_or_else(wrong)
}

const NAMES: &str = "there are serial, wwn, bus, model, min, max and removable";

#[cfg(test)]
mod tests {
    use super::super::DiskSelector;
    use super::{parse, size};

    #[test]
    fn r18_every_part_of_a_choice_is_kept() {
        let choice =
            parse("serial=S5 H9, wwn=eui.1,bus=nvme,model=ACME 9000,min=200G,max=1TB,removable")
                .unwrap();
        let expected = DiskSelector {
            serial: Some("S5 H9".to_owned()),
            wwn: Some("eui.1".to_owned()),
            bus: Some("nvme".to_owned()),
            model: Some("ACME 9000".to_owned()),
            min_bytes: Some(200 << 30),
            max_bytes: Some(1_000_000_000_000),
            allow_removable: true,
        };
        assert_eq!(choice, expected);
    }

    #[test]
    fn r18_a_choice_is_written_as_it_is_read() {
        for text in [
            "serial=S5 H9,wwn=eui.1,bus=nvme,model=ACME 9000,min=200G,max=1TB,removable",
            "min=1T,max=1025G",
            "max=4097",
            "min=0",
            "min=250059350017",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn r18_nothing_of_a_choice_is_guessed_or_dropped() {
        for (text, expected) in [
            ("", "is not NAME=VALUE"),
            ("sda", "is not NAME=VALUE"),
            ("name=sda", "is nothing a disk has"),
            ("serial=", "has no value"),
            ("serial=a,serial=b", "said twice"),
            ("min=10,min=20", "said twice"),
            ("min=2G,max=1G", "no disk can fit"),
            ("min=big", "is not a size"),
            ("serial=a,", "is not NAME=VALUE"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn sizes_are_binary_unless_they_say_decimal() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("4096B", Some(4096)),
            ("1k", Some(1024)),
            ("1KiB", Some(1024)),
            ("1kB", Some(1000)),
            ("2M", Some(2 << 20)),
            ("500GB", Some(500_000_000_000)),
            ("2TiB", Some(2 << 40)),
            ("1.5T", None),
            ("-1", None),
            ("G", None),
            ("1P", None),
            ("1Gi", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999T", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }
}
