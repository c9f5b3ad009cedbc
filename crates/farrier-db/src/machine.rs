//! Machines: by id, address, UUID and name, and in pages for people.

use farrier_engine::MacAddr;
use farrier_engine::model::{Machine, MachineId, Registration};
use sqlx::sqlite::SqliteConnection;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::column::{damaged, from_doc, signed, to_doc, to_name, unsigned};
use crate::{Db, DbError};

/// Which machines a page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineQuery {
    /// Part of a name, address, UUID, serial number, maker or product, in any case.
    pub search: Option<String>,
    pub registration: Option<Registration>,
}

const WHAT: &str = "machine";

type Row = (String, i64);

impl Db {
    /// Stores a new machine and returns it with its revision, which is 1.
    pub async fn create_machine(&self, machine: &Machine) -> Result<Machine, DbError> {
        let machine = Machine {
            revision: 1,
            ..machine.clone()
        };
        let row = MachineRow::of(&machine)?;
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO machine (id, name, registration, uuid, last_seen, search, revision, doc)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7)",
                )
                .bind(row.id.as_slice())
                .bind(&row.name)
                .bind(&row.registration)
                .bind(row.uuid.as_ref().map(<[u8; 16]>::as_slice))
                .bind(machine.last_seen.0)
                .bind(&row.search)
                .bind(&row.doc)
                .execute(&mut *conn)
                .await
                .map_err(DbError::taken("store the machine", WHAT, row.label))?;
                store_macs(conn, &machine).await?;
                Ok(machine)
            })
        })
        .await
    }

    /// Stores a changed machine that was read with the revision it still carries, and returns it with
    /// the next one. Refused when somebody else changed it in between.
    pub async fn update_machine(&self, machine: &Machine) -> Result<Machine, DbError> {
        let read = machine.revision;
        let machine = Machine {
            revision: read.saturating_add(1),
            ..machine.clone()
        };
        let row = MachineRow::of(&machine)?;
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE machine SET name = ?2, registration = ?3, uuid = ?4, last_seen = ?5, search = ?6,
                     revision = ?7, doc = ?8 WHERE id = ?1 AND revision = ?9",
                )
                .bind(row.id.as_slice())
                .bind(&row.name)
                .bind(&row.registration)
                .bind(row.uuid.as_ref().map(<[u8; 16]>::as_slice))
                .bind(machine.last_seen.0)
                .bind(&row.search)
                .bind(signed(machine.revision))
                .bind(&row.doc)
                .bind(signed(read))
                .execute(&mut *conn)
                .await
                .map_err(DbError::taken("store the machine", WHAT, row.label))?;
                if done.rows_affected() == 0 {
                    return Err(conflict_or_missing(conn, machine.id).await);
                }
                store_macs(conn, &machine).await?;
                Ok(machine)
            })
        })
        .await
    }

    /// Forgets a machine with all that hangs on it: tasks, timeline, tokens, sessions. True if it was there.
    pub async fn delete_machine(&self, id: MachineId) -> Result<bool, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM machine WHERE id = ?1")
                    .bind(id.0.as_bytes().as_slice())
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("delete the machine"))?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    pub async fn machine(&self, id: MachineId) -> Result<Option<Machine>, DbError> {
        let row: Option<Row> = sqlx::query_as("SELECT doc, revision FROM machine WHERE id = ?1")
            .bind(id.0.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await
            .map_err(DbError::storage("read the machine"))?;
        row.map(read).transpose()
    }

    /// The machine of that name, whatever the case of its letters.
    pub async fn machine_by_name(&self, name: &str) -> Result<Option<Machine>, DbError> {
        let row: Option<Row> = sqlx::query_as("SELECT doc, revision FROM machine WHERE name = ?1")
            .bind(name.to_ascii_lowercase())
            .fetch_optional(&self.readers)
            .await
            .map_err(DbError::storage("read the machine"))?;
        row.map(read).transpose()
    }

    /// Every machine that was seen with this address, the oldest first: docks and adapters move.
    pub async fn machines_by_mac(&self, mac: MacAddr) -> Result<Vec<Machine>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT doc, revision FROM machine JOIN machine_mac ON machine_mac.machine = machine.id
             WHERE machine_mac.mac = ?1 ORDER BY machine.id",
        )
        .bind(mac.0.as_slice())
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("read the machines of an address"))?;
        rows.into_iter().map(read).collect()
    }

    /// Every machine that was seen with any of these addresses, each once, the oldest first.
    pub async fn machines_by_macs(&self, macs: &[MacAddr]) -> Result<Vec<Machine>, DbError> {
        let mut found: Vec<Machine> = Vec::new();
        for mac in macs {
            for machine in self.machines_by_mac(*mac).await? {
                if !found.iter().any(|known| known.id == machine.id) {
                    found.push(machine);
                }
            }
        }
        found.sort_by_key(|machine| machine.id);
        Ok(found)
    }

    /// Every machine with this SMBIOS UUID, the oldest first: careless vendors repeat them.
    pub async fn machines_by_uuid(&self, uuid: Uuid) -> Result<Vec<Machine>, DbError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT doc, revision FROM machine WHERE uuid = ?1 ORDER BY id")
                .bind(uuid.as_bytes().as_slice())
                .fetch_all(&self.readers)
                .await
                .map_err(DbError::storage("read the machines of a UUID"))?;
        rows.into_iter().map(read).collect()
    }

    /// Up to `limit` machines in the order they became known, those after `after`.
    pub async fn machines(
        &self,
        query: &MachineQuery,
        after: Option<MachineId>,
        limit: u32,
    ) -> Result<Vec<Machine>, DbError> {
        let (search, registration) = query.columns()?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT doc, revision FROM machine
             WHERE (?1 IS NULL OR instr(search, ?1) > 0) AND (?2 IS NULL OR registration = ?2)
             AND (?3 IS NULL OR id > ?3) ORDER BY id LIMIT ?4",
        )
        .bind(search)
        .bind(registration)
        .bind(after.as_ref().map(|id| id.0.as_bytes().as_slice()))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("list the machines"))?;
        rows.into_iter().map(read).collect()
    }

    /// Hands over every machine, those stored first first: for a start, which needs them all.
    ///
    /// A row of its own for each would cost a turn between two threads, more than all the rest; so many rows come
    /// as one, and the next ones are fetched while these are read. An error may come after some were handed over.
    pub async fn all_machines(&self, mut each: impl FnMut(Machine)) -> Result<(), DbError> {
        let mut next = self.bundle(0);
        while let Some((last, bundle)) = next.await.map_err(|_| DbError::Closed)?? {
            next = self.bundle(last);
            for row in bundle.split(RECORD_END) {
                each(unbundled(row)?);
            }
        }
        Ok(())
    }

    /// How many machines there are.
    pub async fn machine_total(&self) -> Result<u64, DbError> {
        let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM machine")
            .fetch_one(&self.readers)
            .await
            .map_err(DbError::storage("count the machines"))?;
        unsigned(WHAT, count)
    }

    /// Machines after a place in the table, and the place of the last; none at the end.
    fn bundle(&self, after: i64) -> JoinHandle<Result<Option<(i64, String)>, DbError>> {
        let readers = self.readers.clone();
        tokio::spawn(async move {
            let row: (Option<i64>, Option<String>) = sqlx::query_as(
                "SELECT max(place), group_concat(revision || ' ' || doc, char(30)) FROM (
                     SELECT rowid AS place, revision, doc FROM machine WHERE rowid > ?1 ORDER BY rowid LIMIT ?2)",
            )
            .bind(after)
            .bind(BUNDLE)
            .fetch_one(&readers)
            .await
            .map_err(DbError::storage("list the machines"))?;
            Ok(row.0.zip(row.1))
        })
    }

    pub async fn count_machines(&self, query: &MachineQuery) -> Result<u64, DbError> {
        let (search, registration) = query.columns()?;
        let (count,): (i64,) = sqlx::query_as(
            "SELECT count(*) FROM machine
             WHERE (?1 IS NULL OR instr(search, ?1) > 0) AND (?2 IS NULL OR registration = ?2)",
        )
        .bind(search)
        .bind(registration)
        .fetch_one(&self.readers)
        .await
        .map_err(DbError::storage("count the machines"))?;
        unsigned(WHAT, count)
    }
}

impl MachineQuery {
    fn columns(&self) -> Result<(Option<String>, Option<String>), DbError> {
        let registration = self.registration.map(|r| to_name(WHAT, &r)).transpose()?;
        Ok((self.search.as_deref().map(str::to_lowercase), registration))
    }
}

/// The columns of a machine.
struct MachineRow {
    id: [u8; 16],
    name: Option<String>,
    registration: String,
    uuid: Option<[u8; 16]>,
    search: String,
    doc: String,
    /// What a message calls it: its name, else its id.
    label: String,
}

impl MachineRow {
    fn of(machine: &Machine) -> Result<Self, DbError> {
        let label = machine
            .name
            .as_ref()
            .map_or_else(|| machine.id.to_string(), ToString::to_string);
        Ok(Self {
            id: machine.id.0.into_bytes(),
            name: machine
                .name
                .as_ref()
                .map(|name| name.as_str().to_ascii_lowercase()),
            registration: to_name(WHAT, &machine.registration)?,
            uuid: machine.uuid.map(Uuid::into_bytes),
            search: search_text(machine),
            doc: to_doc(WHAT, machine)?,
            label,
        })
    }
}

/// All that a person may search by, one per line, so that no match spans two of them.
fn search_text(machine: &Machine) -> String {
    let mut parts: Vec<String> = machine.macs.iter().map(ToString::to_string).collect();
    parts.extend(machine.name.as_ref().map(ToString::to_string));
    parts.extend(machine.uuid.map(|uuid| uuid.hyphenated().to_string()));
    if let Some(inventory) = &machine.inventory {
        let system = &inventory.system;
        for part in [
            &system.serial,
            &system.chassis_asset,
            &system.manufacturer,
            &system.product,
        ] {
            parts.push(part.clone());
        }
    }
    parts.join("\n").to_lowercase()
}

async fn store_macs(conn: &mut SqliteConnection, machine: &Machine) -> Result<(), DbError> {
    let id = machine.id.0.as_bytes().as_slice();
    sqlx::query("DELETE FROM machine_mac WHERE machine = ?1")
        .bind(id)
        .execute(&mut *conn)
        .await
        .map_err(DbError::storage("store the addresses of a machine"))?;
    for mac in &machine.macs {
        sqlx::query(
            "INSERT INTO machine_mac (mac, machine) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )
        .bind(mac.0.as_slice())
        .bind(id)
        .execute(&mut *conn)
        .await
        .map_err(DbError::storage("store the addresses of a machine"))?;
    }
    Ok(())
}

async fn conflict_or_missing(conn: &mut SqliteConnection, id: MachineId) -> DbError {
    let row: Result<Option<(i64,)>, _> =
        sqlx::query_as("SELECT revision FROM machine WHERE id = ?1")
            .bind(id.0.as_bytes().as_slice())
            .fetch_optional(conn)
            .await;
    match row {
        Ok(Some(_)) => DbError::Conflict {
            what: WHAT,
            id: id.to_string(),
        },
        Ok(None) => DbError::Missing {
            what: WHAT,
            id: id.to_string(),
        },
        Err(e) => DbError::storage("read the machine")(e),
    }
}

fn read((doc, revision): (impl AsRef<str>, i64)) -> Result<Machine, DbError> {
    let machine: Machine = from_doc(WHAT, doc.as_ref())?;
    Ok(Machine {
        revision: unsigned(WHAT, revision)?,
        ..machine
    })
}

fn unbundled(row: &str) -> Result<Machine, DbError> {
    let (revision, doc) = row
        .split_once(' ')
        .ok_or_else(|| damaged(WHAT, "a row without a revision"))?;
    let revision = revision.parse();
    let revision = revision.map_err(|_| damaged(WHAT, "a revision that is no number"))?;
    read((doc, revision))
}

/// Between the rows of a bundle: JSON never has this character, in texts it is written as `\u001e`.
const RECORD_END: char = '\u{1e}';
/// Rows of one bundle: a few hundred kilobytes.
const BUNDLE: u32 = 256;
