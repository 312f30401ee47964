-- The index of Walrus: schema 6. Everything here can be made anew from the journal. A record begins
-- with a checksum over itself and its place (`sealed` in index.rs).
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL, offset INTEGER NOT NULL, sum INTEGER NOT NULL) STRICT;
-- Places of the journal that could not be read when they were to be applied.
CREATE TABLE holes (segment INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (segment, offset)) STRICT, WITHOUT ROWID;

CREATE TABLE buckets (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, created INTEGER NOT NULL, record TEXT NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX buckets_of ON buckets (owner, name);

-- The objects that a request without a version id means. A key whose newest version is a delete
-- marker has none, so that lists need not step over it. Keys are bytes: a BLOB sorts as memcmp does.
CREATE TABLE objects (
    bucket TEXT NOT NULL, key BLOB NOT NULL, depth INTEGER NOT NULL, version TEXT NOT NULL, record TEXT NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

-- All other versions, and all delete markers, newest first.
CREATE TABLE versions (
    bucket TEXT NOT NULL, key BLOB NOT NULL, depth INTEGER NOT NULL, version TEXT NOT NULL, record TEXT NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (bucket, key, depth, version)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX versions_by_id ON versions (bucket, key, version);

CREATE TABLE uploads (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, key BLOB NOT NULL, record TEXT NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_of ON uploads (bucket, key, id);

CREATE TABLE parts (
    upload TEXT NOT NULL, number INTEGER NOT NULL, record TEXT NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (upload, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE blobs (id TEXT PRIMARY KEY, sum INTEGER NOT NULL) STRICT, WITHOUT ROWID;
-- Versions that are no markers, their bytes, and the bytes of the parts of unfinished uploads.
CREATE TABLE totals (bucket TEXT PRIMARY KEY, objects INTEGER NOT NULL, bytes INTEGER NOT NULL, parts INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE quotas (
    scope TEXT PRIMARY KEY, record TEXT NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE segments (number INTEGER PRIMARY KEY, live INTEGER NOT NULL) STRICT;

CREATE TABLE events (
    destination TEXT NOT NULL, id INTEGER NOT NULL, record TEXT NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (destination, id)
) STRICT, WITHOUT ROWID;
