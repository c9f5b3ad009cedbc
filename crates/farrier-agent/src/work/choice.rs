//! Which disk a task means. Never "the first": exactly one must fit, or nothing is written.

use std::fmt;

use farrier_api::agent::{Disk, DiskSelector};

use crate::inventory::FoundDisk;
use crate::screen::bytes;

/// No disk, or more than one, is what the task asks for. Lists all disks, with what speaks against each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub fitting: usize,
    pub disks: Vec<(Disk, Option<&'static str>)>,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.fitting, self.disks.len()) {
            (_, 0) => {
                return write!(
                    f,
                    "this machine has no disk, or no driver for its controller"
                );
            }
            (0, _) => write!(f, "no disk is what the task asks for")?,
            (count, _) => write!(
                f,
                "{count} disks are what the task asks for, and it must be one"
            )?,
        }
        for (disk, against) in &self.disks {
            let Disk {
                name,
                bus,
                model,
                serial,
                size_bytes,
                ..
            } = disk;
            write!(
                f,
                "; {name} ({bus}, {model}, serial '{serial}', {}): ",
                bytes(*size_bytes)
            )?;
            f.write_str(against.unwrap_or("fits"))?;
        }
        write!(f, "; name one by serial, WWN, bus or size")
    }
}

/// The one disk that `selector` means and that holds at least `needed` bytes.
pub fn choose(
    selector: &DiskSelector,
    found: Vec<FoundDisk>,
    needed: u64,
) -> Result<Disk, Refusal> {
    let judged = |found: FoundDisk| {
        let against = against(selector, &found, needed);
        (found.disk, against)
    };
    let disks: Vec<_> = found.into_iter().map(judged).collect();
    let mut fitting = disks.iter().filter(|(_, against)| against.is_none());
    match (fitting.next(), fitting.count()) {
        (Some((disk, _)), 0) => Ok(disk.clone()),
        (first, more) => Err(Refusal {
            fitting: usize::from(first.is_some()) + more,
            disks,
        }),
    }
}

/// Why a disk is not the one, if so.
fn against(selector: &DiskSelector, found: &FoundDisk, needed: u64) -> Option<&'static str> {
    let disk = &found.disk;
    // Vendors pad and capitalise identities as they like; people copy them as they see them.
    let differs = |wanted: &Option<String>, have: &str| {
        wanted
            .as_deref()
            .is_some_and(|wanted| !wanted.trim().eq_ignore_ascii_case(have.trim()))
    };
    let rules = [
        (found.in_use, "is in use"),
        (disk.removable && !selector.allow_removable, "is removable"),
        (
            differs(&selector.serial, &disk.serial),
            "has another serial number",
        ),
        (differs(&selector.wwn, &disk.wwn), "has another WWN"),
        (differs(&selector.bus, &disk.bus), "is on another bus"),
        (
            selector
                .min_bytes
                .is_some_and(|least| disk.size_bytes < least),
            "is smaller than the task allows",
        ),
        (
            selector
                .max_bytes
                .is_some_and(|most| disk.size_bytes > most),
            "is larger than the task allows",
        ),
        (
            selector
                .model
                .as_deref()
                .is_some_and(|part| !contains(&disk.model, part)),
            "is another model",
        ),
        (disk.size_bytes < needed, "is too small for the image"),
    ];
    rules
        .into_iter()
        .find(|(applies, _)| *applies)
        .map(|(_, reason)| reason)
}

fn contains(model: &str, part: &str) -> bool {
    model.to_lowercase().contains(&part.trim().to_lowercase())
}

#[cfg(test)]
mod tests {
    use farrier_api::agent::{Disk, DiskSelector};

    use super::choose;
    use crate::inventory::FoundDisk;

    fn disk(name: &str, bus: &str, size_bytes: u64) -> FoundDisk {
        let disk = Disk {
            name: name.into(),
            size_bytes,
            logical_sector: 512,
            physical_sector: 512,
            model: format!("Model {name}"),
            serial: format!("S-{name}"),
            wwn: String::new(),
            bus: bus.into(),
            rotational: false,
            removable: bus == "usb",
            table: None,
        };
        FoundDisk {
            disk,
            in_use: false,
        }
    }

    fn any() -> DiskSelector {
        DiskSelector::default()
    }

    #[test]
    fn pains_7_two_equal_disks_are_refused_and_listed() {
        let error = choose(
            &any(),
            vec![disk("sda", "sata", 100), disk("sdb", "sata", 100)],
            10,
        )
        .unwrap_err();
        assert_eq!(error.fitting, 2);
        let text = error.to_string();
        assert!(
            text.contains("sda") && text.contains("sdb") && text.contains("must be one"),
            "{text}"
        );
    }

    #[test]
    fn pains_7_a_serial_that_is_not_there_is_never_ignored() {
        let selector = DiskSelector {
            serial: Some("OTHER".into()),
            ..any()
        };
        let error = choose(&selector, vec![disk("sda", "sata", 100)], 10).unwrap_err();
        assert!(
            error.to_string().contains("another serial number"),
            "{error}"
        );
    }

    #[test]
    fn r18_mounted_removable_and_small_disks_are_refused() {
        let mut mounted = disk("sda", "sata", 100);
        mounted.in_use = true;
        for (found, reason) in [
            (mounted, "is in use"),
            (disk("sdb", "usb", 100), "is removable"),
            (disk("sdc", "sata", 9), "is too small for the image"),
        ] {
            let error = choose(&any(), vec![found], 10).unwrap_err();
            assert_eq!(error.disks[0].1, Some(reason));
        }
        assert_eq!(
            choose(&any(), vec![], 0).unwrap_err().to_string(),
            "this machine has no disk, or no driver for its controller"
        );
    }

    #[test]
    fn every_part_of_the_selector_counts() {
        let disks = || vec![disk("sda", "sata", 100), disk("nvme0n1", "nvme", 200)];
        for (selector, expected) in [
            (
                DiskSelector {
                    bus: Some("NVMe".into()),
                    ..any()
                },
                Some("nvme0n1"),
            ),
            (
                DiskSelector {
                    serial: Some(" s-sda ".into()),
                    ..any()
                },
                Some("sda"),
            ),
            (
                DiskSelector {
                    min_bytes: Some(150),
                    ..any()
                },
                Some("nvme0n1"),
            ),
            (
                DiskSelector {
                    max_bytes: Some(150),
                    ..any()
                },
                Some("sda"),
            ),
            (
                DiskSelector {
                    model: Some("model SDA".into()),
                    ..any()
                },
                Some("sda"),
            ),
            (
                DiskSelector {
                    wwn: Some("eui.1".into()),
                    ..any()
                },
                None,
            ),
            (
                DiskSelector {
                    bus: Some("sata".into()),
                    min_bytes: Some(150),
                    ..any()
                },
                None,
            ),
            (any(), None),
        ] {
            let chosen = choose(&selector, disks(), 10).map(|disk| disk.name).ok();
            assert_eq!(chosen.as_deref(), expected, "{selector:?}");
        }
        let allowed = DiskSelector {
            allow_removable: true,
            ..any()
        };
        assert_eq!(
            choose(&allowed, vec![disk("sdb", "usb", 100)], 10)
                .unwrap()
                .name,
            "sdb"
        );
    }
}
