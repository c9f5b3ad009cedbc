-- Groups of machines and rules: one document, changed as a whole.
CREATE TABLE policy_book (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL,
    doc      TEXT    NOT NULL
) STRICT;
