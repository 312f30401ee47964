-- What all steps together make. Written by a test; the steps are beside it.

CREATE TABLE volumes (
    id         TEXT PRIMARY KEY,
    generation INTEGER NOT NULL CHECK (generation >= 0),
    size_gib   INTEGER NOT NULL,
    seen       TEXT NOT NULL,
    reason     TEXT
) STRICT, WITHOUT ROWID;
