//! Leases: the only thing an answer to a client waits for.

use std::net::Ipv4Addr;

use farrier_engine::MacAddr;
use farrier_engine::lease::{Lease, LeaseState};
use sqlx::{QueryBuilder, Sqlite};

use crate::column::{bytes, damaged, time};
use crate::writer::Writer;
use crate::{Db, DbError};

const WHAT: &str = "lease";

type Row = (
    i64,
    Vec<u8>,
    Option<Vec<u8>>,
    Option<String>,
    String,
    i64,
    i64,
);

impl Db {
    /// Stores a lease in place of what was known of its address. Send the DHCPACK after this returned.
    pub async fn save_lease(&self, lease: &Lease) -> Result<(), DbError> {
        self.leases.store(lease.clone()).await
    }

    /// Every lease, by address: what the server keeps in memory from its start on.
    pub async fn all_leases(&self) -> Result<Vec<Lease>, DbError> {
        self.leases(None, u32::MAX).await
    }

    /// Up to `limit` leases by address, those after `after`.
    pub async fn leases(&self, after: Option<Ipv4Addr>, limit: u32) -> Result<Vec<Lease>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT ip, mac, client_id, hostname, state, starts, ends FROM lease
             WHERE ip > ?1 ORDER BY ip LIMIT ?2",
        )
        .bind(after.map_or(-1, number))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("list the leases"))?;
        rows.into_iter().map(read).collect()
    }

    /// True if there was one.
    pub async fn delete_lease(&self, ip: Ipv4Addr) -> Result<bool, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM lease WHERE ip = ?1")
                    .bind(number(ip))
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("delete the lease"))?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }
}

/// Stores up to [`MAX_ROWS`](crate::lease_queue::MAX_ROWS) leases by one statement; of several for one
/// address the last counts.
pub(crate) async fn insert(writer: &Writer, leases: Vec<Lease>) -> Result<(), DbError> {
    let stored = writer.write_statement(move |conn| {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new(
                "INSERT INTO lease (ip, mac, client_id, hostname, state, starts, ends) ",
            );
            query.push_values(leases, |mut row, lease| {
                row.push_bind(number(lease.ip))
                    .push_bind(lease.mac.0.to_vec())
                    .push_bind(lease.client_id)
                    .push_bind(lease.hostname)
                    .push_bind(state_name(lease.state))
                    .push_bind(lease.starts.0)
                    .push_bind(lease.ends.0);
            });
            query.push(
                " ON CONFLICT (ip) DO UPDATE SET mac = excluded.mac, client_id = excluded.client_id,
                 hostname = excluded.hostname, state = excluded.state, starts = excluded.starts,
                 ends = excluded.ends",
            );
            let done = query.build().execute(conn).await;
            done.map(drop).map_err(DbError::storage("store the lease"))
        })
    });
    stored.await
}

fn number(ip: Ipv4Addr) -> i64 {
    u32::from(ip).into()
}

fn state_name(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Active => "active",
        LeaseState::Declined => "declined",
        LeaseState::Free => "free",
    }
}

fn state_of(name: &str) -> Result<LeaseState, DbError> {
    match name {
        "active" => Ok(LeaseState::Active),
        "declined" => Ok(LeaseState::Declined),
        "free" => Ok(LeaseState::Free),
        _ => Err(damaged(WHAT, "an unknown state")),
    }
}

fn read((ip, mac, client_id, hostname, state, starts, ends): Row) -> Result<Lease, DbError> {
    Ok(Lease {
        ip: u32::try_from(ip)
            .map_err(|_| damaged(WHAT, "a number that is no address"))?
            .into(),
        mac: MacAddr(bytes(WHAT, &mac)?),
        client_id,
        hostname,
        state: state_of(&state)?,
        starts: time(starts),
        ends: time(ends),
    })
}
