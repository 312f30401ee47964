-- The volumes of this Storage Controller: what is wanted (generation, size) and what is seen.
CREATE TABLE volumes (
    id         TEXT PRIMARY KEY,
    generation INTEGER NOT NULL CHECK (generation >= 0),
    size_gib   INTEGER NOT NULL,
    seen       TEXT NOT NULL,
    reason     TEXT
) STRICT, WITHOUT ROWID;
