//! Which module serves which hardware: the table that the image builder wrote, and the kernel's way to match
//! its patterns.

use std::collections::HashMap;

/// All modules of this image.
#[derive(Debug, Default)]
pub struct Table {
    modules: Vec<Module>,
    by_name: HashMap<String, usize>,
    /// Patterns by the bus before the first colon, where patterns never have wildcards.
    patterns: HashMap<String, Vec<(String, usize)>>,
}

#[derive(Debug)]
struct Module {
    name: String,
    path: String,
    first: Vec<String>,
}

/// One file to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: String,
    pub path: String,
}

impl Table {
    /// Reads the table; the builder's documentation has the format. Lines of other kinds are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut table = Self::default();
        for line in text.lines() {
            if let Some(module) = line.strip_prefix("m ").and_then(Module::parse) {
                table
                    .by_name
                    .insert(module.name.clone(), table.modules.len());
                table.modules.push(module);
            } else if let (Some(pattern), Some(last)) =
                (line.strip_prefix("a "), table.modules.len().checked_sub(1))
            {
                let bus = pattern.split(':').next().unwrap_or_default().to_owned();
                table
                    .patterns
                    .entry(bus)
                    .or_default()
                    .push((pattern.to_owned(), last));
            }
        }
        table
    }

    /// Names of the modules that serve `modalias`.
    #[must_use]
    pub fn serving(&self, modalias: &str) -> Vec<String> {
        let bus = modalias.split(':').next().unwrap_or_default();
        let patterns = self.patterns.get(bus).map_or(&[][..], Vec::as_slice);
        let matching = patterns
            .iter()
            .filter(|(pattern, _)| matches(pattern.as_bytes(), modalias.as_bytes()));
        matching
            .map(|(_, module)| self.modules[*module].name.clone())
            .collect()
    }

    /// What to load for `name`, in order, itself last.
    #[must_use]
    pub fn steps(&self, name: &str) -> Vec<Step> {
        let Some(&index) = self.by_name.get(name) else {
            return Vec::new();
        };
        let module = &self.modules[index];
        let first = module
            .first
            .iter()
            .filter_map(|needed| self.by_name.get(needed));
        let step = |index: &usize| {
            let module = &self.modules[*index];
            Step {
                name: module.name.clone(),
                path: module.path.clone(),
            }
        };
        first.chain([&index]).map(step).collect()
    }
}

impl Module {
    fn parse(rest: &str) -> Option<Self> {
        let mut words = rest.split(' ');
        let name = words.next()?.to_owned();
        let path = words.next()?.to_owned();
        let first = words.next().unwrap_or_default();
        let first = first
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        Some(Self { name, path, first })
    }
}

/// Shell patterns as `fnmatch` without flags has them: `*`, `?`, `[a-f]`. Works in constant memory and, with
/// one point to return to, in time bounded by the product of the lengths.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry = None;
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => set(&pattern[p..], text[t]),
            Some(&letter) => (letter == text[t]).then_some(1),
            None => None,
        };
        match (step, retry) {
            (Some(len), _) => (p, t) = (p + len, t + 1),
            (None, Some((after, from))) => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

/// The length of the set at the start of `pattern` if `letter` is in it.
fn set(pattern: &[u8], letter: u8) -> Option<usize> {
    let end = pattern.iter().position(|b| *b == b']')?;
    let mut inner = &pattern[1..end];
    while let Some((&low, rest)) = inner.split_first() {
        if let [b'-', high, after @ ..] = rest {
            if (low..=*high).contains(&letter) {
                return Some(end + 1);
            }
            inner = after;
        } else if low == letter {
            return Some(end + 1);
        } else {
            inner = rest;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Step, Table, matches};

    #[test]
    fn patterns_match_as_the_kernel_means_them() {
        for (pattern, text, expected) in [
            (
                "pci:v00008086d000010D3sv*sd*bc*sc*i*",
                "pci:v00008086d000010D3sv00001AF4sd00001100bc02sc00i00",
                true,
            ),
            (
                "pci:v00008086d000010D4sv*sd*bc*sc*i*",
                "pci:v00008086d000010D3sv00001AF4sd00001100bc02sc00i00",
                false,
            ),
            (
                "pci:v*d*sv*sd*bc01sc08i02*",
                "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02",
                true,
            ),
            (
                "usb:v*p*d*dc*dsc*dp*ic08isc0[1-6]ip50in*",
                "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00",
                true,
            ),
            (
                "usb:v*p*d*dc*dsc*dp*ic08isc0[1-6]ip50in*",
                "usb:v46F4p0001d0000dc00dsc00dp00ic08isc07ip50in00",
                false,
            ),
            ("scsi:t-0x00*", "scsi:t-0x00", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a[b", "ab", false),
            ("", "", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn a_pattern_of_stars_does_not_take_for_ever() {
        let pattern = "a*".repeat(60) + "b";
        let text = "a".repeat(4000);
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn needs_come_first() {
        let table = Table::parse(
            "m crc lib/crc.ko \nm nvme nvme.ko crc,core\na pci:v*bc01*\nm core core.ko crc\nx y\n",
        );
        assert_eq!(table.serving("pci:v1bc01"), ["nvme"]);
        assert!(table.serving("usb:v1bc01").is_empty());
        let step = |name: &str, path: &str| Step {
            name: name.into(),
            path: path.into(),
        };
        assert_eq!(
            table.steps("nvme"),
            [
                step("crc", "lib/crc.ko"),
                step("core", "core.ko"),
                step("nvme", "nvme.ko")
            ]
        );
        assert!(table.steps("other").is_empty());
    }
}
