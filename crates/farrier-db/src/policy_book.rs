//! What people wrote down for many machines at once: groups and rules, kept as one document.

use farrier_engine::policy::PolicyBook;

use crate::column::{from_doc, signed, to_doc, unsigned};
use crate::{Db, DbError};

const WHAT: &str = "policy book";

/// The document with the revision to hand back on a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBook {
    /// 0 while nobody has written anything.
    pub revision: u64,
    pub book: PolicyBook,
}

impl Db {
    pub async fn policy_book(&self) -> Result<StoredBook, DbError> {
        let row: Option<(String, i64)> =
            sqlx::query_as("SELECT doc, revision FROM policy_book WHERE one = 1")
                .fetch_optional(&self.readers)
                .await
                .map_err(DbError::storage("read the policy book"))?;
        let Some((doc, revision)) = row else {
            return Ok(StoredBook::default());
        };
        Ok(StoredBook {
            revision: unsigned(WHAT, revision)?,
            book: from_doc(WHAT, &doc)?,
        })
    }

    /// Stores a book in place of the one that was read with `revision`. Refused when somebody else changed it in
    /// between.
    pub async fn set_policy_book(
        &self,
        book: &PolicyBook,
        revision: u64,
    ) -> Result<StoredBook, DbError> {
        let changed = StoredBook {
            revision: revision.saturating_add(1),
            book: book.clone(),
        };
        let doc = to_doc(WHAT, book)?;
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query(
                    "INSERT INTO policy_book (one, revision, doc) SELECT 1, ?1, ?2
                     WHERE ?3 = (SELECT coalesce(max(revision), 0) FROM policy_book)
                     ON CONFLICT (one) DO UPDATE SET revision = excluded.revision, doc = excluded.doc",
                )
                .bind(signed(changed.revision))
                .bind(doc)
                .bind(signed(revision))
                .execute(conn)
                .await
                .map_err(DbError::storage("store the policy book"))?;
                if done.rows_affected() == 0 {
                    return Err(DbError::Conflict {
                        what: WHAT,
                        id: format!("of revision {revision}"),
                    });
                }
                Ok(changed)
            })
        })
        .await
    }
}
