//! Reads what a kernel module says of itself: the `.modinfo` section of its ELF file. Distribution
//! packages carry no `modules.dep`; it is made at installation, so we make our own.

/// What one module needs and serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ModuleInfo {
    /// With underscores, as the kernel compares names.
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    /// Modules whose symbols it uses.
    pub(super) depends: Vec<String>,
    /// Modules that should be there first, though no symbol says so.
    pub(super) soft_depends: Vec<String>,
    /// Files it may ask for under `/lib/firmware`.
    pub(super) firmware: Vec<String>,
}

/// The bytes are not a 64-bit little-endian ELF file with a `.modinfo` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kernel module; take the modules from an unmodified kernel package")]
pub struct NotAModule;

impl ModuleInfo {
    /// Parses the module in `elf`; `name` is the fallback for old modules without a `name=` entry.
    pub(super) fn parse(elf: &[u8], name: &str) -> Result<Self, NotAModule> {
        let section = modinfo_section(elf).ok_or(NotAModule)?;
        let mut info = Self {
            name: normal(name),
            ..Self::default()
        };
        for entry in section.split(|b| *b == 0) {
            let Ok(text) = std::str::from_utf8(entry) else {
                continue;
            };
            let Some((key, value)) = text.split_once('=') else {
                continue;
            };
            match key {
                "name" => info.name = normal(value),
                "alias" => info.aliases.push(value.to_owned()),
                "depends" => {
                    info.depends = value
                        .split(',')
                        .filter(|n| !n.is_empty())
                        .map(normal)
                        .collect()
                }
                "softdep" => info.soft_depends.extend(before(value)),
                "firmware" => info.firmware.push(value.to_owned()),
                _ => {}
            }
        }
        Ok(info)
    }
}

/// The kernel takes `-` and `_` for the same letter in module names.
pub(super) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The names after `pre:` in `pre: a b post: c`.
fn before(softdep: &str) -> Vec<String> {
    let mut taking = false;
    let mut found = Vec::new();
    for word in softdep.split_whitespace() {
        match word {
            "pre:" => taking = true,
            "post:" => taking = false,
            name if taking => found.push(normal(name)),
            _ => {}
        }
    }
    found
}

/// Finds `.modinfo` by the section headers (System V ABI, ELF-64 object file format).
fn modinfo_section(elf: &[u8]) -> Option<&[u8]> {
    const SECTION_HEADER: usize = 64;
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(u64_at(elf, 0x28)?).ok()?;
    let count = usize::from(u16_at(elf, 0x3c)?);
    let names_index = usize::from(u16_at(elf, 0x3e)?);
    let header = |index: usize| {
        let start = table.checked_add(index.checked_mul(SECTION_HEADER)?)?;
        elf.get(start..start.checked_add(SECTION_HEADER)?)
    };
    let content = |header: &[u8]| {
        let start = usize::try_from(u64_at(header, 0x18)?).ok()?;
        let len = usize::try_from(u64_at(header, 0x20)?).ok()?;
        elf.get(start..start.checked_add(len)?)
    };
    let names = content(header(names_index)?)?;
    let named = |header: &&[u8]| {
        let at = u32_at(header, 0).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| names.get(at..))
            .is_some_and(|name| name.starts_with(b".modinfo\0"))
    };
    (0..count).filter_map(header).find(named).and_then(content)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{ModuleInfo, NotAModule};

    /// The smallest ELF file that has a `.modinfo`: header, names, the section, three section headers.
    pub(crate) fn module(modinfo: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let info = modinfo.replace('\n', "\0");
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let names_at = elf.len();
        elf.extend_from_slice(names);
        let info_at = elf.len();
        elf.extend_from_slice(info.as_bytes());
        let table = elf.len() as u64;
        elf[0x28..0x30].copy_from_slice(&table.to_le_bytes());
        elf[0x3c..0x3e].copy_from_slice(&3u16.to_le_bytes());
        elf[0x3e..0x40].copy_from_slice(&2u16.to_le_bytes());
        let sections = [
            (0u32, 0, 0),
            (1, info_at, info.len()),
            (10, names_at, names.len()),
        ];
        for (name, at, len) in sections {
            let mut header = [0; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(len as u64).to_le_bytes());
            elf.extend_from_slice(&header);
        }
        elf
    }

    #[test]
    fn a_module_tells_aliases_needs_and_firmware() {
        let elf = module(
            "firmware=tigon/tg3.bin\nalias=pci:v000014E4d*\nalias=pci:v00001173d*\ndepends=libphy,ptp-x\n\
             softdep=pre: crc-a crc_b post: later\nname=tg3\nlicense=GPL\n",
        );
        let info = ModuleInfo::parse(&elf, "other").unwrap();
        assert_eq!(
            info,
            ModuleInfo {
                name: "tg3".to_owned(),
                aliases: vec!["pci:v000014E4d*".to_owned(), "pci:v00001173d*".to_owned()],
                depends: vec!["libphy".to_owned(), "ptp_x".to_owned()],
                soft_depends: vec!["crc_a".to_owned(), "crc_b".to_owned()],
                firmware: vec!["tigon/tg3.bin".to_owned()],
            }
        );
    }

    #[test]
    fn every_cut_of_a_module_is_refused_or_read_without_panic() {
        let elf = module("name=x\nalias=y\n");
        for len in 0..elf.len() {
            let _ = ModuleInfo::parse(&elf[..len], "x");
        }
        assert_eq!(ModuleInfo::parse(&elf[..63], "x"), Err(NotAModule));
        let mut lying = elf;
        lying[0x28..0x30].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(ModuleInfo::parse(&lying, "x"), Err(NotAModule));
    }
}
