//! What people wrote down for many machines at once: groups and rules, kept as one document.

use farrier_engine::policy::PolicyBook;

use crate::document::Document;
use crate::{Db, DbError};

/// The document with the revision to hand back on a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBook {
    /// 0 while nobody has written anything.
    pub revision: u64,
    pub book: PolicyBook,
}

impl Db {
    pub async fn policy_book(&self) -> Result<StoredBook, DbError> {
        let (revision, book) = self.document(&BOOK).await?;
        Ok(StoredBook { revision, book })
    }

    /// Stores a book in place of the one that was read with `revision`. Refused when somebody else changed it in
    /// between.
    pub async fn set_policy_book(
        &self,
        book: &PolicyBook,
        revision: u64,
    ) -> Result<StoredBook, DbError> {
        let revision = self.set_document(&BOOK, book, revision).await?;
        let book = book.clone();
        Ok(StoredBook { revision, book })
    }
}

static BOOK: Document = Document {
    what: "policy book",
    reading: "read the policy book",
    storing: "store the policy book",
    select: "SELECT doc, revision FROM policy_book WHERE one = 1",
    replace: "INSERT INTO policy_book (one, revision, doc) SELECT 1, ?1, ?2
              WHERE ?3 = (SELECT coalesce(max(revision), 0) FROM policy_book)
              ON CONFLICT (one) DO UPDATE SET revision = excluded.revision, doc = excluded.doc",
};
