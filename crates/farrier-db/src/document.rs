//! Tables of one row: a document with a revision, which whoever changes it has to name.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::column::{from_doc, signed, to_doc, unsigned};
use crate::{Db, DbError};

/// One such table. The statements are whole, so that nothing is pasted into SQL.
pub(crate) struct Document {
    pub(crate) what: &'static str,
    pub(crate) reading: &'static str,
    pub(crate) storing: &'static str,
    /// Gives document and revision.
    pub(crate) select: &'static str,
    /// Takes the new revision, the document, and the revision that must be there.
    pub(crate) replace: &'static str,
}

impl Db {
    /// The revision and the document; revision 0 while nobody has written one.
    pub(crate) async fn document<T: DeserializeOwned + Default>(
        &self,
        of: &Document,
    ) -> Result<(u64, T), DbError> {
        let row: Option<(String, i64)> = sqlx::query_as(of.select)
            .fetch_optional(&self.readers)
            .await
            .map_err(DbError::storage(of.reading))?;
        match row {
            Some((doc, revision)) => Ok((unsigned(of.what, revision)?, from_doc(of.what, &doc)?)),
            None => Ok((0, T::default())),
        }
    }

    /// Stores a document in place of the one that was read with `revision`, and returns the next one. Refused
    /// when somebody else changed it in between.
    pub(crate) async fn set_document<T: Serialize>(
        &self,
        of: &'static Document,
        value: &T,
        revision: u64,
    ) -> Result<u64, DbError> {
        let next = revision.saturating_add(1);
        let doc = to_doc(of.what, value)?;
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query(of.replace)
                    .bind(signed(next))
                    .bind(doc)
                    .bind(signed(revision))
                    .execute(conn)
                    .await
                    .map_err(DbError::storage(of.storing))?;
                if done.rows_affected() == 0 {
                    return Err(DbError::Conflict {
                        what: of.what,
                        id: format!("of revision {revision}"),
                    });
                }
                Ok(next)
            })
        })
        .await
    }
}
