-- Bundles that are being made of instances (BundleInstance). The policy and its signature are the
-- client's permission to store, for a day at most and for one prefix of one bucket.

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
