-- Machines, what is lent to them, what they are told to do and what became of it.
-- Documents (`doc`) hold the whole value as JSON; the columns beside them are what is searched by.
-- Ids are the 16 bytes of a UUID, hardware addresses 6 bytes, times milliseconds since 1970 UTC.

PRAGMA application_id = 1178686034;

CREATE TABLE machine (
    id           BLOB    NOT NULL PRIMARY KEY,
    name         TEXT    UNIQUE,              -- lower-case, since host names have no case
    registration TEXT    NOT NULL,
    uuid         BLOB,
    last_seen    INTEGER NOT NULL,
    search       TEXT    NOT NULL,            -- lower-case: all that a person may search by
    revision     INTEGER NOT NULL,
    doc          TEXT    NOT NULL
) STRICT;
CREATE INDEX machine_by_uuid ON machine (uuid) WHERE uuid IS NOT NULL;

-- Docks and adapters are shared: one address may stand for several machines.
CREATE TABLE machine_mac (
    mac     BLOB NOT NULL,
    machine BLOB NOT NULL REFERENCES machine (id) ON DELETE CASCADE,
    PRIMARY KEY (mac, machine)
) STRICT, WITHOUT ROWID;
CREATE INDEX machine_mac_by_machine ON machine_mac (machine);

CREATE TABLE lease (
    ip        INTEGER NOT NULL PRIMARY KEY,   -- the address as a number, so that it sorts
    mac       BLOB    NOT NULL,
    client_id BLOB,
    hostname  TEXT,
    state     TEXT    NOT NULL,
    starts    INTEGER NOT NULL,
    ends      INTEGER NOT NULL
) STRICT;

CREATE TABLE task (
    id       BLOB    NOT NULL PRIMARY KEY,
    machine  BLOB    NOT NULL REFERENCES machine (id) ON DELETE CASCADE,
    state    TEXT    NOT NULL,
    finished INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    doc      TEXT    NOT NULL
) STRICT;
CREATE INDEX task_by_machine ON task (machine, id);
CREATE INDEX task_by_state ON task (state, id);
CREATE INDEX task_unfinished ON task (machine) WHERE finished = 0;

CREATE TABLE timeline (
    seq     INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    machine BLOB    NOT NULL REFERENCES machine (id) ON DELETE CASCADE,
    doc     TEXT    NOT NULL
) STRICT;
CREATE INDEX timeline_by_machine ON timeline (machine, seq);

CREATE TABLE site (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL,
    doc      TEXT    NOT NULL
) STRICT;

CREATE TABLE value (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE loader (
    id  TEXT NOT NULL PRIMARY KEY,
    doc TEXT NOT NULL
) STRICT;
