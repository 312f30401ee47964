-- The index of Walrus: schema 1. Everything here can be made anew from the journal.
CREATE TABLE position (one INTEGER PRIMARY KEY CHECK (one = 1), segment INTEGER NOT NULL, offset INTEGER NOT NULL) STRICT;

CREATE TABLE buckets (
    name TEXT PRIMARY KEY, owner TEXT NOT NULL, created INTEGER NOT NULL, record TEXT NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX buckets_of ON buckets (owner, name);

-- Keys are bytes: a BLOB sorts as memcmp does.
CREATE TABLE objects (
    bucket TEXT NOT NULL, key BLOB NOT NULL, record TEXT NOT NULL, size INTEGER NOT NULL,
    segment INTEGER NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE blobs (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE totals (bucket TEXT PRIMARY KEY, objects INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE segments (number INTEGER PRIMARY KEY, live INTEGER NOT NULL) STRICT;
