-- What all steps together make. Written by a test; the steps are beside it.

CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE holds (
    reservation TEXT PRIMARY KEY,
    body        TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE placements (
    instance TEXT PRIMARY KEY,
    node     TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    ended    INTEGER NOT NULL CHECK (ended IN (0, 1)),
    body     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
