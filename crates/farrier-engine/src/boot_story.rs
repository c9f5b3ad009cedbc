//! The boots in a timeline, and what was different in the last one.
//!
//! A timeline is one long list. Here it is cut into boots, and the last boot is laid beside the last good one,
//! so that the first line that differs is where to look.

use std::time::Duration;

use crate::WallTime;
use crate::timeline::{Detail, Entry, Kind};

/// One boot: its entries, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    entries: &'a [Entry],
}

/// A line of the comparison: in the good boot, in the last, or in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// How long after the start of the good boot.
    pub good: Option<Duration>,
    /// How long after the start of the last boot.
    pub last: Option<Duration>,
}

/// Cuts a timeline, oldest entry first, into boots.
#[must_use]
pub fn boots(entries: &[Entry]) -> Vec<Boot<'_>> {
    let mut boots = Vec::new();
    let mut start = None;
    for (i, entry) in entries.iter().enumerate() {
        let begins = match start {
            None => is_first_packet(entry),
            Some(from) => is_first_packet(entry) && is_over(&entries[from..i], entry.at),
        };
        if begins {
            if let Some(from) = start {
                boots.push(Boot {
                    entries: &entries[from..i],
                });
            }
            start = Some(i);
        }
    }
    if let Some(from) = start {
        boots.push(Boot {
            entries: &entries[from..],
        });
    }
    boots
}

impl<'a> Boot<'a> {
    /// When it began.
    #[must_use]
    pub fn began(&self) -> WallTime {
        self.entries.first().map_or(WallTime(0), |entry| entry.at)
    }

    /// Whether it came to its script or its agent with nothing refused or missing on the way.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let bad = |entry: &Entry| matches!(entry.kind, Kind::Refused | Kind::Warning);
        self.entries.iter().any(is_goal) && !self.entries.iter().any(bad)
    }

    /// What the boot plane and the agent said; tasks and people have their own story.
    fn steps(&self) -> Vec<&'a Entry> {
        let told = |kind| !matches!(kind, Kind::Task | Kind::Operator);
        let steps = self.entries.iter().filter(|entry| told(entry.kind));
        steps.take(MAX_STEPS).collect()
    }
}

/// Lays the last boot beside a good one, line by line, in the order of both.
#[must_use]
pub fn compare<'a>(good: Boot<'a>, last: Boot<'a>) -> Vec<Compared<'a>> {
    let (ours, theirs) = (good.steps(), last.steps());
    let common = common_lengths(&ours, &theirs);
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < ours.len() || j < theirs.len() {
        let both = i < ours.len() && j < theirs.len() && same(ours[i], theirs[j]);
        let left =
            both || (i < ours.len() && (j == theirs.len() || common[i + 1][j] >= common[i][j + 1]));
        let right = both || !left;
        let entry = if left { ours[i] } else { theirs[j] };
        lines.push(Compared {
            kind: entry.kind,
            text: &entry.text,
            good: left.then(|| entry.at.since(good.began())),
            last: right.then(|| theirs[j].at.since(last.began())),
        });
        i += usize::from(left);
        j += usize::from(right);
    }
    lines
}

/// How many lines the rests of both have in common, for each place in both.
fn common_lengths(ours: &[&Entry], theirs: &[&Entry]) -> Vec<Vec<usize>> {
    let mut table = vec![vec![0; theirs.len() + 1]; ours.len() + 1];
    for i in (0..ours.len()).rev() {
        for j in (0..theirs.len()).rev() {
            table[i][j] = if same(ours[i], theirs[j]) {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    table
}

fn same(one: &Entry, other: &Entry) -> bool {
    one.kind == other.kind && one.text == other.text
}

fn is_first_packet(entry: &Entry) -> bool {
    let asks = |(name, value): &Detail| {
        name == "message" && (value == "DHCPDISCOVER" || value == "BOOTREQUEST")
    };
    entry.kind == Kind::Seen && entry.details.iter().any(asks)
}

/// Whether what follows is another boot: the machine was silent for long, or had its script already. iPXE asks
/// for an address of its own after the firmware did, in the same boot.
fn is_over(boot: &[Entry], next: WallTime) -> bool {
    let silent = boot.last().is_some_and(|last| next.since(last.at) > PAUSE);
    silent || boot.iter().any(is_goal)
}

/// A script that leads somewhere, or the agent: not an answer to a packet, nor what was learned on the way.
fn is_goal(entry: &Entry) -> bool {
    match entry.kind {
        Kind::Agent => true,
        Kind::Answered => !entry
            .details
            .iter()
            .any(|(name, _)| name == "message" || name == "strategy"),
        _ => false,
    }
}

/// Longer than any firmware waits between two tries.
const PAUSE: Duration = Duration::from_secs(90);
/// Bounds the comparison, which takes the square of it.
const MAX_STEPS: usize = 200;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::{boots, compare};
    use crate::WallTime;
    use crate::model::MachineId;
    use crate::strategy::Strategy;
    use crate::timeline::{Entry, Kind};

    fn entry(at_s: i64, kind: Kind, text: &str) -> Entry {
        Entry::new(
            MachineId(Uuid::nil()),
            WallTime(at_s * 1000),
            kind,
            text.to_owned(),
        )
    }

    fn discover(at_s: i64, who: &str) -> Entry {
        entry(at_s, Kind::Seen, who).with("message", "DHCPDISCOVER")
    }

    fn good(at_s: i64) -> Vec<Entry> {
        vec![
            discover(at_s, "The firmware asks how to boot."),
            entry(at_s, Kind::Answered, "It was offered the address 10.0.0.9.")
                .with("message", "DHCPOFFER"),
            entry(at_s + 2, Kind::Transfer, "It fetched snponly.efi by TFTP."),
            discover(at_s + 5, "iPXE asks how to boot."),
            entry(
                at_s + 6,
                Kind::Answered,
                "It was told to start its local disk.",
            ),
        ]
    }

    fn failed(at_s: i64) -> Vec<Entry> {
        vec![
            discover(at_s, "The firmware asks how to boot."),
            entry(at_s, Kind::Answered, "It was offered the address 10.0.0.9.")
                .with("message", "DHCPOFFER"),
            entry(
                at_s + 9,
                Kind::Transfer,
                "It gave up fetching snponly.efi by TFTP.",
            ),
        ]
    }

    #[test]
    fn what_is_said_on_the_way_is_no_goal() {
        let (machine, at) = (MachineId(Uuid::nil()), WallTime(4000));
        for told in [
            Entry::no_router(machine, at),
            Entry::strategy_learned(machine, at, Strategy::B),
        ] {
            let mut story = good(0);
            story.insert(3, told.clone());
            assert_eq!(boots(&story).len(), 1, "the loader asks in the same boot");
            let mut story = failed(0);
            story.truncate(2);
            story.push(told);
            assert!(!boots(&story)[0].is_good());
        }
    }

    #[test]
    fn a_loader_that_asks_again_is_the_same_boot_and_a_restart_is_another() {
        let entries = [good(0), good(100), failed(107)].concat();
        let found = boots(&entries);
        let began: Vec<_> = found.iter().map(|boot| boot.began().0 / 1000).collect();
        assert_eq!(began, [0, 100, 107]);
        let is_good: Vec<_> = found.iter().map(|boot| boot.is_good()).collect();
        assert_eq!(is_good, [true, true, false]);
        assert!(boots(&[]).is_empty());
    }

    #[test]
    fn the_comparison_shows_where_the_last_boot_left_the_way() {
        let entries = [good(0), failed(1000)].concat();
        let found = boots(&entries);
        let lines = compare(found[0], found[1]);
        let told: Vec<_> = lines
            .iter()
            .map(|line| (line.text, line.good.is_some(), line.last.is_some()))
            .collect();
        assert_eq!(
            told,
            [
                ("The firmware asks how to boot.", true, true),
                ("It was offered the address 10.0.0.9.", true, true),
                ("It fetched snponly.efi by TFTP.", true, false),
                ("iPXE asks how to boot.", true, false),
                ("It was told to start its local disk.", true, false),
                ("It gave up fetching snponly.efi by TFTP.", false, true),
            ]
        );
        assert_eq!(lines[5].last, Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_boot_beside_itself_has_no_difference() {
        let entries = good(0);
        let found = boots(&entries);
        assert!(
            compare(found[0], found[0])
                .iter()
                .all(|line| line.good.is_some() && line.last.is_some())
        );
    }
}
