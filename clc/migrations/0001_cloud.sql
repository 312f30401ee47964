-- The cloud itself: who may speak to it, which daemons make it up, its networks. Times are UTC
-- milliseconds. Words are those of the wire.

-- One row, made by `init`.
CREATE TABLE cloud (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    region     TEXT NOT NULL,
    first_zone TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE accounts (
    id           TEXT NOT NULL PRIMARY KEY,     -- twelve digits
    name         TEXT NOT NULL UNIQUE,
    canonical_id TEXT NOT NULL UNIQUE,          -- what S3 shows as owner, 64 hex digits
    created_at   INTEGER NOT NULL,
    deleted_at   INTEGER
) STRICT;

CREATE TABLE users (
    account    TEXT NOT NULL REFERENCES accounts (id),
    name       TEXT NOT NULL,                   -- `admin` may do everything in its account
    path       TEXT NOT NULL DEFAULT '/',
    unique_id  TEXT NOT NULL UNIQUE,            -- AIDA...
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (account, name)
) STRICT;

CREATE TABLE user_policies (
    account  TEXT NOT NULL,
    user     TEXT NOT NULL,
    name     TEXT NOT NULL,
    document TEXT NOT NULL,                     -- JSON
    PRIMARY KEY (account, user, name),
    FOREIGN KEY (account, user) REFERENCES users (account, name) ON DELETE CASCADE
) STRICT;

CREATE TABLE access_keys (
    id            TEXT NOT NULL PRIMARY KEY,
    account       TEXT NOT NULL,
    user          TEXT NOT NULL,
    sealed_secret BLOB NOT NULL,                -- under STATE/seal.key, bound to the id
    active        INTEGER NOT NULL DEFAULT 1,
    created_at    INTEGER NOT NULL,
    deleted_at    INTEGER,
    FOREIGN KEY (account, user) REFERENCES users (account, name)
) STRICT;

-- Users' X.509 certificates: bundles are signed with the private half, which we do not keep.
CREATE TABLE signing_certificates (
    id         TEXT NOT NULL PRIMARY KEY,       -- SHA-1 of the DER, in hex
    account    TEXT NOT NULL,
    user       TEXT NOT NULL,
    pem        TEXT NOT NULL,
    active     INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (account, user) REFERENCES users (account, name)
) STRICT;

-- A zone is a cluster. Its network's version grows in the transaction that changes the network,
-- so that version N of the document says exactly what the rows said then.
CREATE TABLE zones (
    name              TEXT NOT NULL PRIMARY KEY,
    created_at        INTEGER NOT NULL,
    network_version   INTEGER NOT NULL DEFAULT 1,
    roster_generation INTEGER NOT NULL DEFAULT 1
) STRICT;

-- Daemons that have joined, but for the nodes.
CREATE TABLE services (
    role      TEXT NOT NULL CHECK (role IN ('cc', 'sc', 'walrus')),
    name      TEXT NOT NULL,
    zone      TEXT REFERENCES zones (name),
    address   TEXT NOT NULL,
    hostname  TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (role, name)
) STRICT;

CREATE TABLE nodes (
    id        TEXT NOT NULL PRIMARY KEY,
    zone      TEXT NOT NULL REFERENCES zones (name),
    address   TEXT NOT NULL,                    -- where it serves its CC
    hostname  TEXT NOT NULL,
    underlay  TEXT,                             -- for vxlan, once it has said so
    dead      INTEGER NOT NULL DEFAULT 0,       -- declared so by the administrator
    joined_at INTEGER NOT NULL
) STRICT;
CREATE INDEX nodes_by_zone ON nodes (zone);

CREATE TABLE join_tokens (
    secret_sha256 TEXT NOT NULL PRIMARY KEY,
    role          TEXT NOT NULL,
    zone          TEXT,
    expires_at    INTEGER NOT NULL,
    used_by       TEXT                          -- SHA-256 of the request's key; the same may ask again
) STRICT;

CREATE TABLE vpcs (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    cidr       TEXT NOT NULL,
    short      INTEGER NOT NULL UNIQUE,         -- names its namespace on the nodes
    is_default INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX vpcs_default_once ON vpcs (account) WHERE is_default;

CREATE TABLE subnets (
    id         TEXT NOT NULL PRIMARY KEY,
    vpc        TEXT NOT NULL REFERENCES vpcs (id),
    account    TEXT NOT NULL,
    zone       TEXT NOT NULL REFERENCES zones (name),
    cidr       TEXT NOT NULL,
    short      INTEGER NOT NULL UNIQUE          -- names its bridge; also its conntrack zone, so 16 bits
               CHECK (short BETWEEN 1 AND 65535),
    vni        INTEGER NOT NULL UNIQUE CHECK (vni BETWEEN 1 AND 16777215),
    is_default INTEGER NOT NULL DEFAULT 0,      -- the one for launches in its zone that name none
    internet   INTEGER NOT NULL DEFAULT 1,      -- its routes lead to an internet gateway
    map_public INTEGER NOT NULL DEFAULT 1,      -- launches get a public address
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX subnets_by_vpc ON subnets (vpc);

-- An interface lives as long as its instance does on a node: it goes when the node says that the
-- instance is gone, and its addresses with it.
CREATE TABLE interfaces (
    id              TEXT NOT NULL PRIMARY KEY,
    attachment      TEXT NOT NULL UNIQUE,
    instance        TEXT NOT NULL UNIQUE REFERENCES instances (id),
    account         TEXT NOT NULL,
    vpc             TEXT NOT NULL REFERENCES vpcs (id),
    subnet          TEXT NOT NULL REFERENCES subnets (id),
    zone            TEXT NOT NULL,
    short           INTEGER NOT NULL UNIQUE,    -- names its tap
    mac             TEXT NOT NULL UNIQUE,
    private_address TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    UNIQUE (subnet, private_address)
) STRICT;
CREATE INDEX interfaces_by_zone ON interfaces (zone);
CREATE INDEX interfaces_by_vpc ON interfaces (vpc);

CREATE TABLE interface_groups (
    interface      TEXT NOT NULL REFERENCES interfaces (id) ON DELETE CASCADE,
    security_group TEXT NOT NULL REFERENCES security_groups (id),
    PRIMARY KEY (interface, security_group)
) STRICT, WITHOUT ROWID;
CREATE INDEX interface_groups_by_group ON interface_groups (security_group);

-- Public addresses that are taken. The pool is configuration; a row is an owner.
CREATE TABLE public_addresses (
    address    TEXT NOT NULL PRIMARY KEY,
    interface  TEXT UNIQUE REFERENCES interfaces (id) ON DELETE SET NULL,
    account    TEXT NOT NULL,
    allocation TEXT UNIQUE,                     -- NULL: automatic, goes with its interface
    taken_at   INTEGER NOT NULL
) STRICT;
