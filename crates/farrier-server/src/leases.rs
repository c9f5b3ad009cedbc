//! The book of leases with its durable copy.
//!
//! A grant is decided in memory, stored, committed and only then answered, so that no acknowledged lease
//! is ever lost. The book is never locked across a wait.

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use farrier_db::{Db, DbError};
use farrier_engine::lease::{CommitError, Lease, LeaseBook, SubnetError};
use farrier_engine::{Reason, WallTime};
use farrier_proto::MacAddr;
use tokio::sync::broadcast;

use crate::config::SubnetConfig;
use crate::fleet::Change;

/// Addresses lent, and what clients are told with them.
#[derive(Debug)]
pub struct Leases {
    db: Db,
    book: Mutex<LeaseBook>,
    subnets: Vec<SubnetConfig>,
    changes: broadcast::Sender<Change>,
}

/// The leases could not be read back at start.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the subnets cannot be used: {0}")]
    Subnets(#[from] SubnetError),
    #[error("the stored leases cannot be read: {0}")]
    Db(#[from] DbError),
}

/// A lease was not stored, so it must not be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Leases {
    pub async fn load(
        db: Db,
        subnets: Vec<SubnetConfig>,
        changes: broadcast::Sender<Change>,
        now: WallTime,
    ) -> Result<Self, LoadError> {
        let mut book = LeaseBook::new(subnets.iter().map(|s| s.subnet.clone()).collect())?;
        for lease in db.all_leases().await? {
            let ip = lease.ip;
            if let Err(error) = book.commit(now, lease) {
                // A subnet was taken out of the configuration; its leases run out by themselves.
                tracing::warn!(%ip, %error, "a stored lease fits no subnet and is not used");
            }
        }
        Ok(Self {
            db,
            book: Mutex::new(book),
            subnets,
            changes,
        })
    }

    /// Looks at or changes the book. `work` must not wait for anything.
    pub fn with_book<T>(&self, work: impl FnOnce(&mut LeaseBook) -> T) -> T {
        work(&mut self.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a lease durable and enters it. The DHCPACK may go out when this returned.
    pub async fn grant(&self, lease: Lease, now: WallTime) -> Result<(), GrantError> {
        self.db.save_lease(&lease).await?;
        self.with_book(|book| book.commit(now, lease))?;
        self.tell();
        Ok(())
    }

    /// A client gave its address back.
    pub async fn release(
        &self,
        mac: MacAddr,
        ip: Ipv4Addr,
        now: WallTime,
    ) -> Result<Result<(), Reason>, DbError> {
        self.settle(self.with_book(|book| book.release(now, mac, ip)))
            .await
    }

    /// A client found its address in use by another.
    pub async fn decline(
        &self,
        mac: MacAddr,
        ip: Ipv4Addr,
        now: WallTime,
    ) -> Result<Result<(), Reason>, DbError> {
        self.settle(self.with_book(|book| book.decline(now, mac, ip)))
            .await
    }

    /// An operator gives an address back to the pool.
    pub async fn give_back(
        &self,
        ip: Ipv4Addr,
        now: WallTime,
    ) -> Result<Result<(), Reason>, DbError> {
        self.settle(self.with_book(|book| book.give_back(now, ip)))
            .await
    }

    async fn settle(&self, changed: Result<Lease, Reason>) -> Result<Result<(), Reason>, DbError> {
        match changed {
            Ok(lease) => {
                self.db.save_lease(&lease).await?;
                self.tell();
                Ok(Ok(()))
            }
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// What clients in the network of `ip` are told.
    #[must_use]
    pub fn subnet_of(&self, ip: Ipv4Addr) -> Option<&SubnetConfig> {
        self.subnets.iter().find(|s| s.subnet.contains(ip))
    }

    /// Who holds `ip` now. This is how a TFTP or HTTP request becomes a machine.
    #[must_use]
    pub fn holder(&self, ip: Ipv4Addr, now: WallTime) -> Option<MacAddr> {
        self.with_book(|book| book.holder(now, ip))
    }

    /// The lease by which this client holds `ip` now.
    #[must_use]
    pub fn held(&self, mac: MacAddr, ip: Ipv4Addr, now: WallTime) -> Option<Lease> {
        self.with_book(|book| book.active(now, ip).cloned())
            .filter(|lease| lease.mac == mac)
    }

    fn tell(&self) {
        let _ = self.changes.send(Change::Leases);
    }
}
