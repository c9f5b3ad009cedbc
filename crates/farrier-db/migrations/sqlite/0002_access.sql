-- Who may enter: agents, people, programs. Tokens are stored by their hash only.

CREATE TABLE boot_token (
    hash    BLOB    NOT NULL PRIMARY KEY,
    machine BLOB    NOT NULL REFERENCES machine (id) ON DELETE CASCADE,
    task    BLOB    REFERENCES task (id) ON DELETE CASCADE,
    intent  TEXT    NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    used    INTEGER
) STRICT;
CREATE INDEX boot_token_by_machine ON boot_token (machine);
CREATE INDEX boot_token_by_task ON boot_token (task);
CREATE INDEX boot_token_by_expiry ON boot_token (expires);

CREATE TABLE agent_session (
    key      BLOB    NOT NULL PRIMARY KEY,
    machine  BLOB    NOT NULL REFERENCES machine (id) ON DELETE CASCADE,
    serial   TEXT    NOT NULL,
    enrolled INTEGER NOT NULL,
    heard    INTEGER NOT NULL
) STRICT;
CREATE INDEX agent_session_by_machine ON agent_session (machine, heard);

CREATE TABLE person (
    id       BLOB    NOT NULL PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    password TEXT    NOT NULL,
    role     TEXT    NOT NULL,
    disabled INTEGER NOT NULL,
    created  INTEGER NOT NULL
) STRICT;

CREATE TABLE web_session (
    hash       BLOB    NOT NULL PRIMARY KEY,
    person     BLOB    NOT NULL REFERENCES person (id) ON DELETE CASCADE,
    csrf       TEXT    NOT NULL,
    created    INTEGER NOT NULL,
    idle_until INTEGER NOT NULL,
    ends       INTEGER NOT NULL
) STRICT;
CREATE INDEX web_session_by_person ON web_session (person);

CREATE TABLE api_token (
    hash      BLOB    NOT NULL PRIMARY KEY,
    name      TEXT    NOT NULL UNIQUE,
    role      TEXT    NOT NULL,
    created   INTEGER NOT NULL,
    expires   INTEGER,
    last_used INTEGER
) STRICT;

-- At most one: who holds it makes the first administrator.
CREATE TABLE setup_token (
    one     INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    hash    BLOB    NOT NULL,
    expires INTEGER NOT NULL,
    used    INTEGER
) STRICT;

CREATE TABLE audit (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at  INTEGER NOT NULL,
    doc TEXT    NOT NULL
) STRICT;
