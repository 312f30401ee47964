-- What the compute API keeps: keys, groups, images, instances, volumes, tags, and the tokens that
-- make a launch happen once. Times are UTC milliseconds. Words are those of the wire.

CREATE TABLE key_pairs (
    id          TEXT NOT NULL PRIMARY KEY,
    account     TEXT NOT NULL,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('rsa', 'ed25519')),
    fingerprint TEXT NOT NULL,
    public_key  TEXT NOT NULL,              -- one line, as in authorized_keys
    created_at  INTEGER NOT NULL,
    UNIQUE (account, name)
) STRICT;

CREATE TABLE security_groups (
    id          TEXT NOT NULL PRIMARY KEY,
    account     TEXT NOT NULL,
    vpc         TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    short       INTEGER NOT NULL UNIQUE,    -- names its sets on the nodes
    created_at  INTEGER NOT NULL,
    UNIQUE (vpc, name)
) STRICT;
CREATE INDEX security_groups_by_account ON security_groups (account);

-- One other end each: an address range, or the members of a group.
CREATE TABLE security_group_rules (
    id             TEXT NOT NULL PRIMARY KEY,
    security_group TEXT NOT NULL REFERENCES security_groups (id) ON DELETE CASCADE,
    egress         INTEGER NOT NULL,
    protocol       TEXT NOT NULL,           -- -1, tcp, udp, icmp, or a number
    from_port      INTEGER NOT NULL,        -- -1 where there are none; ICMP's type
    to_port        INTEGER NOT NULL,        -- ICMP's code
    cidr           TEXT,
    peer_group     TEXT REFERENCES security_groups (id),
    description    TEXT,
    created_at     INTEGER NOT NULL,
    CHECK ((cidr IS NULL) <> (peer_group IS NULL))
) STRICT;
CREATE UNIQUE INDEX security_group_rules_once ON security_group_rules
    (security_group, egress, protocol, from_port, to_port, ifnull(cidr, ''), ifnull(peer_group, ''));
CREATE INDEX security_group_rules_by_peer ON security_group_rules (peer_group);

CREATE TABLE images (
    id              TEXT NOT NULL PRIMARY KEY,
    account         TEXT NOT NULL,
    kind            TEXT NOT NULL CHECK (kind IN ('machine', 'kernel', 'ramdisk')),
    state           TEXT NOT NULL CHECK (state IN ('available', 'deregistered')),
    name            TEXT NOT NULL,
    description     TEXT,
    architecture    TEXT NOT NULL,
    platform        TEXT,
    location        TEXT NOT NULL,          -- bucket/key of the manifest, as shown
    kernel          TEXT,
    ramdisk         TEXT,
    root_device     TEXT,
    size_bytes      INTEGER NOT NULL,
    manifest_sha256 TEXT NOT NULL,
    is_public       INTEGER NOT NULL DEFAULT 0,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX images_name_once ON images (account, name) WHERE state = 'available';
CREATE INDEX images_by_account ON images (account);

-- Apart, for a manifest may have megabytes and listings never need it.
CREATE TABLE image_manifests (
    image      TEXT NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    bucket     TEXT NOT NULL,
    prefix     TEXT NOT NULL,               -- of the parts' keys; empty or ends in a slash
    manifest   BLOB NOT NULL,               -- the bytes whose SHA-256 names the image's content
    part_sizes TEXT NOT NULL                -- JSON, in the order of the parts
) STRICT;

CREATE TABLE reservations (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Wanted and seen, side by side. `state` is what users see, derived from both at each write.
CREATE TABLE instances (
    id                  TEXT NOT NULL PRIMARY KEY,
    reservation         TEXT NOT NULL REFERENCES reservations (id),
    launch_index        INTEGER NOT NULL,
    account             TEXT NOT NULL,
    image               TEXT NOT NULL REFERENCES images (id),
    kernel              TEXT REFERENCES images (id),
    ramdisk             TEXT REFERENCES images (id),
    architecture        TEXT NOT NULL,
    vm_type             TEXT NOT NULL,
    vcpus               INTEGER NOT NULL,   -- as the type was at launch
    memory_mib          INTEGER NOT NULL,
    disk_gib            INTEGER NOT NULL,
    zone                TEXT NOT NULL,
    key_name            TEXT,
    public_key          TEXT,               -- a copy: the key pair may be deleted
    user_data           BLOB,
    client_token        TEXT NOT NULL DEFAULT '',
    api_termination_off INTEGER NOT NULL DEFAULT 0,
    shutdown_behavior   TEXT NOT NULL DEFAULT 'stop',
    tokens_required     INTEGER NOT NULL DEFAULT 0,
    hop_limit           INTEGER NOT NULL DEFAULT 1,
    metadata_tags       INTEGER NOT NULL DEFAULT 0,
    launched_at         INTEGER NOT NULL,

    wanted              TEXT NOT NULL CHECK (wanted IN ('running', 'terminated')),
    reboots             INTEGER NOT NULL DEFAULT 0,
    generation          INTEGER NOT NULL DEFAULT 1,     -- of the wish; grows with each change of it

    node                TEXT,                           -- the placement, durable before the node hears of it
    epoch               INTEGER NOT NULL DEFAULT 0,
    placed_why          TEXT NOT NULL DEFAULT '',
    rejected            TEXT NOT NULL DEFAULT '[]',     -- JSON: nodes that were not chosen, and why

    state               TEXT NOT NULL CHECK (state IN
                            ('pending', 'running', 'shutting-down', 'terminated', 'stopping', 'stopped')),
    state_since         INTEGER NOT NULL,
    reason_code         TEXT,                           -- stateReason
    reason_message      TEXT,
    transition          TEXT NOT NULL DEFAULT '',       -- `User initiated (2026-01-01 00:00:00 GMT)`
    taken_generation    INTEGER NOT NULL DEFAULT 0,     -- what the cluster has acknowledged
    seen                TEXT,                           -- JSON: the node's last report, whole
    seen_at             INTEGER,
    unreachable_since   INTEGER,
    timeline            TEXT NOT NULL DEFAULT '[]'      -- JSON: our own moments of the launch
) STRICT;
CREATE INDEX instances_by_account ON instances (account, launched_at, id);
CREATE INDEX instances_by_reservation ON instances (reservation);
CREATE INDEX instances_alive ON instances (zone, state) WHERE state <> 'terminated';
CREATE INDEX instances_gone ON instances (state_since) WHERE state = 'terminated';
CREATE INDEX instances_by_image ON instances (image);

CREATE TABLE volumes (
    id               TEXT NOT NULL PRIMARY KEY,
    account          TEXT NOT NULL,
    zone             TEXT NOT NULL,
    size_gib         INTEGER NOT NULL,
    snapshot         TEXT,
    volume_type      TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    wanted           TEXT NOT NULL CHECK (wanted IN ('present', 'absent')),
    generation       INTEGER NOT NULL DEFAULT 1,
    taken_generation INTEGER NOT NULL DEFAULT 0,
    state            TEXT NOT NULL CHECK (state IN
                         ('creating', 'available', 'in-use', 'deleting', 'deleted', 'error')),
    state_since      INTEGER NOT NULL,
    reason           TEXT
) STRICT;
CREATE INDEX volumes_by_account ON volumes (account, created_at, id);

CREATE TABLE tags (
    account  TEXT NOT NULL,
    resource TEXT NOT NULL,
    kind     TEXT NOT NULL,                 -- instance, volume, security-group, ...
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (resource, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_account ON tags (account, resource, key);

-- The first answer to a token, so that a repeat gets the same one.
CREATE TABLE client_tokens (
    account    TEXT NOT NULL,
    action     TEXT NOT NULL,
    token      TEXT NOT NULL,
    digest     TEXT NOT NULL,               -- SHA-256 of the request without what may differ
    made       TEXT NOT NULL,               -- the id of what it made
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account, action, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_tokens_by_age ON client_tokens (created_at);

-- Short ids: numbers that name host objects. Never given twice.
CREATE TABLE short_ids (
    id INTEGER PRIMARY KEY AUTOINCREMENT
) STRICT;
