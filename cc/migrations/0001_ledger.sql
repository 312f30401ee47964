-- What a Cluster Controller must not forget. Bodies are JSON of the records in src/ledger.rs.
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

-- The roster, the network document, whether the ledger is settled, the newest epoch.
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
