//! Machines: by id, address, UUID and name, and in pages for people.

use std::collections::HashMap;
use std::sync::Arc;

use farrier_engine::MacAddr;
use farrier_engine::model::{Inventory, Machine, MachineId, Marks, Registration};
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
const MODEL: &str = "model";
const MARKS: &str = "marks";

/// Document, revision, marks, model.
type Row = (String, i64, Option<String>, Option<String>);

/// What a machine is read from; what [`Row`] takes comes first.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT machine.doc, machine.revision, machine.marks, model.doc
             FROM machine LEFT JOIN model ON model.id = machine.model ",
            $rest
        )
    };
}

/// A machine as it is stored: what its inventory has in common with others of its model is there once for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMachine {
    /// Without its inventory.
    pub machine: Machine,
    /// Its inventory without its marks.
    pub model: Option<Arc<Inventory>>,
    pub marks: Option<Marks>,
}

impl StoredMachine {
    /// The machine with its inventory.
    #[must_use]
    pub fn whole(self) -> Machine {
        let mut machine = self.machine;
        machine.inventory = self.model.map(Arc::unwrap_or_clone);
        if let (Some(inventory), Some(marks)) = (&mut machine.inventory, self.marks) {
            inventory.put_marks(marks);
        }
        machine
    }
}

impl From<Machine> for StoredMachine {
    fn from(mut machine: Machine) -> Self {
        let mut model = machine.inventory.take();
        let marks = model.as_mut().map(Inventory::take_marks);
        Self {
            machine,
            model: model.map(Arc::new),
            marks,
        }
    }
}

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
                store_model(conn, row.model.as_deref()).await?;
                sqlx::query(
                    "INSERT INTO machine (id, name, registration, uuid, last_seen, search, revision, doc, marks, model)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, ?8, (SELECT id FROM model WHERE doc = ?9))",
                )
                .bind(row.id.as_slice())
                .bind(&row.name)
                .bind(&row.registration)
                .bind(row.uuid.as_ref().map(<[u8; 16]>::as_slice))
                .bind(machine.last_seen.0)
                .bind(&row.search)
                .bind(&row.doc)
                .bind(&row.marks)
                .bind(&row.model)
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
                store_model(conn, row.model.as_deref()).await?;
                let done = sqlx::query(
                    "UPDATE machine SET name = ?2, registration = ?3, uuid = ?4, last_seen = ?5, search = ?6,
                     revision = ?7, doc = ?8, marks = ?10, model = (SELECT id FROM model WHERE doc = ?11)
                     WHERE id = ?1 AND revision = ?9",
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
                .bind(&row.marks)
                .bind(&row.model)
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
        let row: Option<Row> = sqlx::query_as(select!("WHERE machine.id = ?1"))
            .bind(id.0.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await
            .map_err(DbError::storage("read the machine"))?;
        row.map(read).transpose()
    }

    /// The machine of that name, whatever the case of its letters.
    pub async fn machine_by_name(&self, name: &str) -> Result<Option<Machine>, DbError> {
        let row: Option<Row> = sqlx::query_as(select!("WHERE machine.name = ?1"))
            .bind(name.to_ascii_lowercase())
            .fetch_optional(&self.readers)
            .await
            .map_err(DbError::storage("read the machine"))?;
        row.map(read).transpose()
    }

    /// Every machine that was seen with this address, the oldest first: docks and adapters move.
    pub async fn machines_by_mac(&self, mac: MacAddr) -> Result<Vec<Machine>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            select!("JOIN machine_mac ON machine_mac.machine = machine.id WHERE machine_mac.mac = ?1 ORDER BY machine.id"),
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
        let rows: Vec<Row> = sqlx::query_as(select!("WHERE machine.uuid = ?1 ORDER BY machine.id"))
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
        let rows: Vec<Row> = sqlx::query_as(select!(
            "WHERE (?1 IS NULL OR instr(search, ?1) > 0) AND (?2 IS NULL OR registration = ?2)
                 AND (?3 IS NULL OR machine.id > ?3) ORDER BY machine.id LIMIT ?4"
        ))
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
    /// as one, and the next ones are fetched while these are read. An error may come after some were handed over, and
    /// whoever changes machines meanwhile may cause one.
    pub async fn all_machines(&self, mut each: impl FnMut(StoredMachine)) -> Result<(), DbError> {
        let models = self.models().await?;
        let mut next = self.bundle(0);
        while let Some((last, bundle)) = next.await.map_err(|_| DbError::Closed)?? {
            next = self.bundle(last);
            for row in bundle.split(RECORD_END) {
                each(unbundled(row, &models)?);
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
                "SELECT max(place), group_concat(concat_ws(char(31), revision, ifnull(model, ''), ifnull(marks, ''), doc), char(30))
                 FROM (SELECT rowid AS place, revision, model, marks, doc FROM machine WHERE rowid > ?1
                     ORDER BY rowid LIMIT ?2)",
            )
            .bind(after)
            .bind(BUNDLE)
            .fetch_one(&readers)
            .await
            .map_err(DbError::storage("list the machines"))?;
            Ok(row.0.zip(row.1))
        })
    }

    async fn models(&self) -> Result<HashMap<i64, Arc<Inventory>>, DbError> {
        let rows: Vec<(i64, String)> = sqlx::query_as("SELECT id, doc FROM model")
            .fetch_all(&self.readers)
            .await
            .map_err(DbError::storage("list the models of machines"))?;
        let models = rows.into_iter();
        models
            .map(|(id, doc)| Ok((id, Arc::new(from_doc(MODEL, &doc)?))))
            .collect()
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
    marks: Option<String>,
    model: Option<String>,
    /// What a message calls it: its name, else its id.
    label: String,
}

impl MachineRow {
    fn of(machine: &Machine) -> Result<Self, DbError> {
        let label = machine
            .name
            .as_ref()
            .map_or_else(|| machine.id.to_string(), ToString::to_string);
        let search = search_text(machine);
        let parts = StoredMachine::from(machine.clone());
        let marks = parts.marks.map(|marks| to_doc(MARKS, &marks)).transpose()?;
        let model = parts.model.map(|model| to_doc(MODEL, &model)).transpose()?;
        Ok(Self {
            id: machine.id.0.into_bytes(),
            name: machine
                .name
                .as_ref()
                .map(|name| name.as_str().to_ascii_lowercase()),
            registration: to_name(WHAT, &machine.registration)?,
            uuid: machine.uuid.map(Uuid::into_bytes),
            search,
            doc: to_doc(WHAT, &parts.machine)?,
            marks,
            model,
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

/// Makes sure that a model is there for a machine to name.
async fn store_model(conn: &mut SqliteConnection, model: Option<&str>) -> Result<(), DbError> {
    let Some(model) = model else {
        return Ok(());
    };
    sqlx::query("INSERT INTO model (doc) VALUES (?1) ON CONFLICT DO NOTHING")
        .bind(model)
        .execute(conn)
        .await
        .map_err(DbError::storage("store the model of a machine"))?;
    Ok(())
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

fn read((doc, revision, marks, model): Row) -> Result<Machine, DbError> {
    let machine = Machine {
        revision: unsigned(WHAT, revision)?,
        ..from_doc(WHAT, &doc)?
    };
    let (Some(marks), Some(model)) = (marks, model) else {
        return Ok(machine);
    };
    let stored = StoredMachine {
        machine,
        model: Some(Arc::new(from_doc(MODEL, &model)?)),
        marks: Some(from_doc(MARKS, &marks)?),
    };
    Ok(stored.whole())
}

fn unbundled(row: &str, models: &HashMap<i64, Arc<Inventory>>) -> Result<StoredMachine, DbError> {
    let mut fields = row.splitn(4, FIELD_END);
    let mut field = || {
        fields
            .next()
            .ok_or_else(|| damaged(WHAT, "a row with too few fields"))
    };
    let (revision, model, marks, doc) = (field()?, field()?, field()?, field()?);
    let number = |text: &str| {
        let number = text.parse::<i64>();
        number.map_err(|_| damaged(WHAT, "a number that is none"))
    };
    let machine = Machine {
        revision: unsigned(WHAT, number(revision)?)?,
        ..from_doc(WHAT, doc)?
    };
    if model.is_empty() {
        return Ok(machine.into());
    }
    let known = models.get(&number(model)?);
    Ok(StoredMachine {
        machine,
        model: Some(Arc::clone(
            known.ok_or_else(|| damaged(WHAT, "a model that is not there"))?,
        )),
        marks: Some(from_doc(MARKS, marks)?),
    })
}

/// Between the rows of a bundle: JSON never has this character, in texts it is written as `\u001e`.
const RECORD_END: char = '\u{1e}';
/// Between the fields of one.
const FIELD_END: char = '\u{1f}';
/// Rows of one bundle: a few hundred kilobytes.
const BUNDLE: u32 = 256;

#[cfg(test)]
mod tests;
