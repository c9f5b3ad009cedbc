//! What can go wrong with a stored thing, and what to do then.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A read or a write did not happen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DbError {
    #[error("the {what} {id} was changed meanwhile: read it again and repeat the change")]
    Conflict { what: &'static str, id: String },

    #[error("there is no {what} {id}: it may have been deleted; list what there is")]
    Missing { what: &'static str, id: String },

    #[error("the {what} {id} exists already: choose another")]
    Taken { what: &'static str, id: String },

    #[error("cannot {doing}: {fault}")]
    Storage {
        doing: &'static str,
        fault: Fault,
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },

    /// A stored document is not what this program would have written.
    #[error(
        "cannot understand a stored {what}: run the version that wrote it, or restore a backup with `farrier db restore`"
    )]
    Document {
        what: &'static str,
        #[source]
        source: Arc<serde_json::Error>,
    },

    #[error("no administrator would be left: make another user an administrator first")]
    LastAdmin,

    #[error(
        "the database is closed because the server is stopping: repeat this when it runs again"
    )]
    Closed,
}

/// Why storage refused, as far as it decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Someone held the database longer than the busy timeout.
    Busy,
    Corrupt,
    /// The disk, the quota or the file-size limit is used up.
    Full,
    /// The device failed to read or write.
    Io,
    /// A rule of the schema was broken: our own mistake.
    Refused,
    ReadOnly,
}

impl Fault {
    /// Whether the same call can succeed later without anybody changing the data.
    #[must_use]
    pub fn retry_helps(self) -> bool {
        matches!(self, Self::Busy | Self::Full | Self::Io)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "the database is busy; it is tried again by itself, look for a program that holds it if it lasts",
            Self::Corrupt => "the database is damaged; stop the server and restore a backup with `farrier db restore`",
            Self::Full => "no space is left for the database; free some on its disk, then repeat",
            Self::Io => "the disk of the database fails; look into the kernel log and check the disk, then repeat",
            Self::Refused => "the database refused it by a rule of its schema; report this as a fault of Farrier",
            Self::ReadOnly => "the database is read-only; mount its disk writable and give it to the user of the server",
        })
    }
}

impl DbError {
    /// Whether the same call can succeed later; a conflict wants a fresh read first and is no such case.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::Storage { fault, .. } => fault.retry_helps(),
            Self::Closed => true,
            Self::Conflict { .. }
            | Self::Missing { .. }
            | Self::Taken { .. }
            | Self::Document { .. }
            | Self::LastAdmin => false,
        }
    }

    /// Whether nothing at all can be stored just now, whatever it is.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Storage { fault, .. } => *fault != Fault::Refused,
            Self::Closed => true,
            _ => false,
        }
    }

    /// What storage said, if it was storage that refused.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Storage { fault, .. } => Some(*fault),
            _ => None,
        }
    }

    pub(crate) fn document(what: &'static str) -> impl Fn(serde_json::Error) -> Self {
        move |source| Self::Document {
            what,
            source: Arc::new(source),
        }
    }

    /// A failed statement, where no rule of the schema can be broken by what the caller passed.
    pub(crate) fn storage(doing: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| match source {
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => Self::Closed,
            source => Self::Storage {
                doing,
                fault: classify(&source),
                source: Arc::new(source),
            },
        }
    }

    /// A failed statement that stores `id`, which may exist already.
    pub(crate) fn taken(
        doing: &'static str,
        what: &'static str,
        id: impl fmt::Display,
    ) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| match &source {
            sqlx::Error::Database(e) if e.is_unique_violation() => Self::Taken {
                what,
                id: id.to_string(),
            },
            _ => Self::storage(doing)(source),
        }
    }

    /// A failed statement that refers to `id`, which may not exist.
    pub(crate) fn missing(
        doing: &'static str,
        what: &'static str,
        id: impl fmt::Display,
    ) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| match &source {
            sqlx::Error::Database(e) if e.is_foreign_key_violation() => Self::Missing {
                what,
                id: id.to_string(),
            },
            _ => Self::storage(doing)(source),
        }
    }
}

/// Sorts SQLite's result codes (<https://sqlite.org/rescode.html>); the low byte is the primary code.
pub(crate) fn classify(error: &sqlx::Error) -> Fault {
    let code = match error {
        sqlx::Error::Database(e) => e.code().and_then(|code| code.parse::<u32>().ok()),
        sqlx::Error::PoolTimedOut => return Fault::Busy,
        _ => return Fault::Io,
    };
    match code.map(|code| code & 0xff) {
        // 7 and 9, out of memory and interrupted, pass by themselves as well.
        Some(5 | 6 | 7 | 9) => Fault::Busy,
        Some(8) => Fault::ReadOnly,
        Some(11 | 26) => Fault::Corrupt,
        Some(13) => Fault::Full,
        Some(10 | 14) => Fault::Io,
        _ => Fault::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn every_fault_says_what_to_do() {
        for fault in [
            Fault::Busy,
            Fault::Corrupt,
            Fault::Full,
            Fault::Io,
            Fault::Refused,
            Fault::ReadOnly,
        ] {
            let text = fault.to_string();
            let (what, remedy) = text.split_once("; ").expect("fault and remedy");
            assert!(!what.is_empty() && !remedy.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_repetition_helps_where_time_or_space_can() {
        assert!(Fault::Busy.retry_helps() && Fault::Full.retry_helps() && Fault::Io.retry_helps());
        assert!(
            !Fault::Corrupt.retry_helps()
                && !Fault::ReadOnly.retry_helps()
                && !Fault::Refused.retry_helps()
        );
    }
}
