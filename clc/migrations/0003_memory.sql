-- What has to be remembered for longer than it is shown.

-- A client's token outlives what it launched, and answers with it: such an instance stays, seen by
-- nobody, until its token is forgotten.
ALTER TABLE instances ADD COLUMN forgotten_at INTEGER;
DROP INDEX instances_by_account;
CREATE INDEX instances_by_account ON instances (account, launched_at, id) WHERE forgotten_at IS NULL;
DROP INDEX instances_gone;
CREATE INDEX instances_gone ON instances (state_since) WHERE state = 'terminated' AND forgotten_at IS NULL;
CREATE INDEX instances_forgotten ON instances (forgotten_at) WHERE forgotten_at IS NOT NULL;
CREATE INDEX client_tokens_by_made ON client_tokens (made);

-- Signatures of requests that must not come again, until they would be refused anyway.
CREATE TABLE used_signatures (
    signature   TEXT NOT NULL PRIMARY KEY,
    access_key  TEXT NOT NULL,
    valid_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_signatures_by_end ON used_signatures (valid_until);
