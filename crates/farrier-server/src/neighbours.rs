//! The kernel's neighbour table, read once for many questions: each file that is fetched asks several times who
//! the client is, and reading the table costs more than sending a small file.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_net::neighbour;
use farrier_proto::MacAddr;
use tokio::time::Instant;

/// Who is behind which address, as of a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    read: Option<Instant>,
    table: HashMap<Ipv4Addr, MacAddr>,
}

impl Neighbours {
    /// The hardware address of `ip`, if the kernel knows it.
    #[must_use]
    pub(crate) fn hardware_address(&self, ip: Ipv4Addr) -> Option<MacAddr> {
        self.ask(ip, Instant::now(), || {
            neighbour::table().unwrap_or_default()
        })
    }

    fn ask(
        &self,
        ip: Ipv4Addr,
        now: Instant,
        read: impl Fn() -> HashMap<Ipv4Addr, MacAddr>,
    ) -> Option<MacAddr> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.table.get(&ip).copied();
        let limit = if found.is_some() {
            GOOD_FOR
        } else {
            MISS_GOOD_FOR
        };
        if known
            .read
            .is_some_and(|read| now.duration_since(read) < limit)
        {
            return found;
        }
        known.table = read();
        known.read = Some(now);
        known.table.get(&ip).copied()
    }
}

/// An address changes hands in minutes.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// A machine that is new is known as soon as it was answered; strangers must not make us read all the time.
const MISS_GOOD_FOR: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use farrier_proto::MacAddr;
    use tokio::time::Instant;

    use super::Neighbours;

    #[test]
    fn the_table_is_read_once_for_many_questions_and_again_for_a_new_neighbour() {
        let (neighbours, reads) = (Neighbours::default(), Cell::new(0));
        let (old, new) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let start = Instant::now();
        let ask = |ip, after| {
            neighbours.ask(ip, start + Duration::from_millis(after), || {
                reads.set(reads.get() + 1);
                let there = if reads.get() < 2 {
                    vec![old]
                } else {
                    vec![old, new]
                };
                there
                    .into_iter()
                    .map(|ip| (ip, MacAddr([2; 6])))
                    .collect::<HashMap<_, _>>()
            })
        };
        assert!(ask(old, 0).is_some() && ask(old, 10).is_some() && ask(old, 900).is_some());
        assert_eq!((reads.get(), ask(new, 20)), (1, None), "asked a moment ago");
        assert!(ask(new, 60).is_some());
        assert_eq!(reads.get(), 2);
        assert!(ask(old, 1100).is_some());
        assert_eq!(reads.get(), 3, "an old table is not believed");
    }
}
