//! One stream for many clients: [`streams`] for those that ask for it (RFC 2090), [`mtftp`] for those that were told
//! by DHCP where to listen. The protocol itself is [`MulticastStream`].
//!
//! [`MulticastStream`]: farrier_proto::session::multicast::MulticastStream

pub(super) mod delivery;
pub(super) mod mtftp;
pub(super) mod streams;

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Groups;

/// The groups that MTFTP clients are told to listen to: one for each boot program, by its name. A name gets its group
/// when it is first offered, so that no request from the network can bring about a stream by itself.
#[derive(Debug)]
pub struct MtftpGroups {
    groups: Groups,
    taken: Mutex<HashMap<String, SocketAddrV4>>,
}

impl MtftpGroups {
    #[must_use]
    pub fn new(groups: Groups) -> Self {
        Self {
            groups,
            taken: Mutex::default(),
        }
    }

    /// The group of a boot program that is being offered; none if all are taken.
    #[must_use]
    pub fn assign(&self, name: &str) -> Option<SocketAddrV4> {
        let mut taken = self.taken();
        if let Some(group) = taken.get(name) {
            return Some(*group);
        }
        let mut all = self.groups.all();
        let free = all.find(|group| !taken.values().any(|other| other == group))?;
        taken.insert(name.to_owned(), free);
        Some(free)
    }

    /// The group of a boot program that has been offered.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<SocketAddrV4> {
        self.taken().get(name).copied()
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<String, SocketAddrV4>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The groups that no stream of RFC 2090 uses.
#[derive(Debug)]
pub(super) struct FreeGroups(Mutex<Vec<SocketAddrV4>>);

/// A group that one stream has.
#[derive(Debug)]
pub(super) struct TakenGroup {
    free: Arc<FreeGroups>,
    pub(super) group: SocketAddrV4,
}

impl FreeGroups {
    pub(super) fn new(groups: &Groups) -> Self {
        let mut all: Vec<_> = groups.all().collect();
        all.reverse();
        Self(Mutex::new(all))
    }

    pub(super) fn take(self: &Arc<Self>) -> Option<TakenGroup> {
        let group = self.lock().pop()?;
        Some(TakenGroup {
            free: Arc::clone(self),
            group,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddrV4>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TakenGroup {
    fn drop(&mut self) {
        // At the far end: who still listens to the old stream must not hear another soon.
        self.free.lock().insert(0, self.group);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use farrier_engine::lease::AddressRange;

    use super::{FreeGroups, MtftpGroups};
    use crate::config::Groups;

    fn groups(last: u8) -> Groups {
        let group = |n| Ipv4Addr::new(239, 255, 67, n);
        Groups {
            range: AddressRange {
                first: group(1),
                last: group(last),
            },
            port: 1758,
        }
    }

    #[test]
    fn t8_a_boot_program_keeps_its_group_and_only_offered_ones_have_one() {
        let told = MtftpGroups::new(groups(2));
        assert_eq!(told.of("a"), None, "nobody was told of it");
        let a = told.assign("a");
        assert_ne!(told.assign("b"), a);
        assert_eq!((told.assign("a"), told.of("a")), (a, a));
        assert_eq!(told.assign("c"), None, "there are two");
    }

    #[test]
    fn t9_there_are_as_many_streams_as_groups_and_the_last_one_used_comes_again_last() {
        let free = Arc::new(FreeGroups::new(&groups(3)));
        let first = free.take().unwrap();
        let group = first.group;
        drop(first);
        let taken: Vec<_> = std::iter::from_fn(|| free.take()).collect();
        assert_eq!(taken.len(), 3);
        assert_eq!(taken[2].group, group);
    }
}
