-- What all steps together make. Written by a test; the steps are beside it.

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

CREATE TABLE accounts (
    id           TEXT NOT NULL PRIMARY KEY,     -- twelve digits
    name         TEXT NOT NULL UNIQUE,
    canonical_id TEXT NOT NULL UNIQUE,          -- what S3 shows as owner, 64 hex digits
    created_at   INTEGER NOT NULL,
    deleted_at   INTEGER
) STRICT;

CREATE TABLE bundle_tasks (
    id            TEXT NOT NULL PRIMARY KEY,
    account       TEXT NOT NULL,
    instance      TEXT NOT NULL,
    bucket        TEXT NOT NULL,
    prefix        TEXT NOT NULL,
    access_key    TEXT NOT NULL,
    policy        TEXT NOT NULL,
    signature     TEXT NOT NULL,
    cloud_key     TEXT NOT NULL,            -- AES key and IV, wrapped: hex:hex
    user_key      TEXT NOT NULL,            -- the same for the user, or `:`
    cancelled     INTEGER NOT NULL DEFAULT 0,
    state         TEXT NOT NULL CHECK (state IN
                      ('pending', 'waiting-for-shutdown', 'bundling', 'storing', 'cancelling',
                       'complete', 'failed', 'cancelled')),
    percent       INTEGER NOT NULL DEFAULT 0,
    error_code    TEXT,
    error_message TEXT,
    started_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX bundle_tasks_by_account ON bundle_tasks (account, started_at, id);

CREATE UNIQUE INDEX bundle_tasks_open ON bundle_tasks (instance)
    WHERE state NOT IN ('complete', 'failed', 'cancelled');

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

CREATE INDEX client_tokens_by_made ON client_tokens (made);

CREATE TABLE cloud (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    region     TEXT NOT NULL,
    first_zone TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE image_blocks (
    entry       TEXT NOT NULL PRIMARY KEY,  -- image, SHA-256 of the manifest, recipe, form
    image       TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    blocks      TEXT NOT NULL,              -- control::caches::Blocks as JSON
    told_by     TEXT NOT NULL,              -- the node that made it first
    told_at     INTEGER NOT NULL
) STRICT;

CREATE INDEX image_blocks_by_image ON image_blocks (image);

CREATE TABLE image_copies (
    entry TEXT NOT NULL REFERENCES image_blocks (entry) ON DELETE CASCADE,
    node  TEXT NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    PRIMARY KEY (entry, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE image_launch_permissions (
    image   TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    PRIMARY KEY (image, account)
) STRICT, WITHOUT ROWID;

CREATE INDEX image_launch_permissions_by_account ON image_launch_permissions (account);

CREATE TABLE image_manifests (
    image      TEXT NOT NULL PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    bucket     TEXT NOT NULL,
    prefix     TEXT NOT NULL,               -- of the parts' keys; empty or ends in a slash
    manifest   BLOB NOT NULL,               -- the bytes whose SHA-256 names the image's content
    part_sizes TEXT NOT NULL                -- JSON, in the order of the parts
) STRICT;

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
, product_codes TEXT NOT NULL DEFAULT '[]', devices TEXT NOT NULL DEFAULT '[]', deprecated_at INTEGER, copied_from TEXT, copy_state TEXT CHECK (copy_state IN ('pending', 'available', 'failed')), copy_failure TEXT) STRICT;

CREATE INDEX images_by_account ON images (account);

CREATE INDEX images_deregistered ON images (id) WHERE state = 'deregistered';

CREATE UNIQUE INDEX images_name_once ON images (account, name) WHERE state = 'available';

CREATE INDEX images_pending ON images (id) WHERE copy_state = 'pending';

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
, forgotten_at INTEGER, impaired_code    TEXT, impaired_message TEXT, impaired_since   INTEGER) STRICT;

CREATE INDEX instances_alive ON instances (zone, state) WHERE state <> 'terminated';

CREATE INDEX instances_by_account ON instances (account, launched_at, id) WHERE forgotten_at IS NULL;

CREATE INDEX instances_by_image ON instances (image);

CREATE INDEX instances_by_kernel ON instances (kernel) WHERE kernel IS NOT NULL;

CREATE INDEX instances_by_ramdisk ON instances (ramdisk) WHERE ramdisk IS NOT NULL;

CREATE INDEX instances_by_reservation ON instances (reservation);

CREATE INDEX instances_forgotten ON instances (forgotten_at) WHERE forgotten_at IS NOT NULL;

CREATE INDEX instances_gone ON instances (state_since) WHERE state = 'terminated' AND forgotten_at IS NULL;

CREATE TABLE interface_groups (
    interface      TEXT NOT NULL REFERENCES interfaces (id) ON DELETE CASCADE,
    security_group TEXT NOT NULL REFERENCES security_groups (id),
    PRIMARY KEY (interface, security_group)
) STRICT, WITHOUT ROWID;

CREATE INDEX interface_groups_by_group ON interface_groups (security_group);

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

CREATE INDEX interfaces_by_vpc ON interfaces (vpc);

CREATE INDEX interfaces_by_zone ON interfaces (zone);

CREATE TABLE join_tokens (
    secret_sha256 TEXT NOT NULL PRIMARY KEY,
    role          TEXT NOT NULL,
    zone          TEXT,
    expires_at    INTEGER NOT NULL,
    used_by       TEXT                          -- SHA-256 of the request's key; the same may ask again
) STRICT;

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

CREATE TABLE public_addresses (
    address    TEXT NOT NULL PRIMARY KEY,
    interface  TEXT UNIQUE REFERENCES interfaces (id) ON DELETE SET NULL,
    account    TEXT NOT NULL,
    allocation TEXT UNIQUE,                     -- NULL: automatic, goes with its interface
    taken_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE reservations (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

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

CREATE INDEX security_group_rules_by_peer ON security_group_rules (peer_group);

CREATE UNIQUE INDEX security_group_rules_once ON security_group_rules
    (security_group, egress, protocol, from_port, to_port, ifnull(cidr, ''), ifnull(peer_group, ''));

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

CREATE TABLE services (
    role      TEXT NOT NULL CHECK (role IN ('cc', 'sc', 'walrus')),
    name      TEXT NOT NULL,
    zone      TEXT REFERENCES zones (name),
    address   TEXT NOT NULL,
    hostname  TEXT NOT NULL,
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (role, name)
) STRICT;

CREATE TABLE short_ids (
    id INTEGER PRIMARY KEY AUTOINCREMENT
) STRICT;

CREATE TABLE signing_certificates (
    id         TEXT NOT NULL PRIMARY KEY,       -- SHA-1 of the DER, in hex
    account    TEXT NOT NULL,
    user       TEXT NOT NULL,
    pem        TEXT NOT NULL,
    active     INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (account, user) REFERENCES users (account, name)
) STRICT;

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

CREATE TABLE tags (
    account  TEXT NOT NULL,
    resource TEXT NOT NULL,
    kind     TEXT NOT NULL,                 -- instance, volume, security-group, ...
    key      TEXT NOT NULL,
    value    TEXT NOT NULL,
    PRIMARY KEY (resource, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX tags_by_account ON tags (account, resource, key);

CREATE TABLE used_signatures (
    signature   TEXT NOT NULL PRIMARY KEY,
    access_key  TEXT NOT NULL,
    valid_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX used_signatures_by_end ON used_signatures (valid_until);

CREATE TABLE user_policies (
    account  TEXT NOT NULL,
    user     TEXT NOT NULL,
    name     TEXT NOT NULL,
    document TEXT NOT NULL,                     -- JSON
    PRIMARY KEY (account, user, name),
    FOREIGN KEY (account, user) REFERENCES users (account, name) ON DELETE CASCADE
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

CREATE TABLE vpcs (
    id         TEXT NOT NULL PRIMARY KEY,
    account    TEXT NOT NULL,
    cidr       TEXT NOT NULL,
    short      INTEGER NOT NULL UNIQUE,         -- names its namespace on the nodes
    is_default INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX vpcs_default_once ON vpcs (account) WHERE is_default;

CREATE TABLE zones (
    name              TEXT NOT NULL PRIMARY KEY,
    created_at        INTEGER NOT NULL,
    network_version   INTEGER NOT NULL DEFAULT 1,
    roster_generation INTEGER NOT NULL DEFAULT 1
) STRICT;
