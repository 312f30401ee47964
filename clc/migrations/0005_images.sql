-- What images are besides bundles: shared, described, copied, deprecated.

ALTER TABLE images ADD COLUMN product_codes TEXT NOT NULL DEFAULT '[]';     -- JSON
ALTER TABLE images ADD COLUMN devices TEXT NOT NULL DEFAULT '[]';           -- JSON: device and virtual names
ALTER TABLE images ADD COLUMN deprecated_at INTEGER;
-- A copy's parts are objects of its own, in a bucket of the cloud's that is named by its id. Until
-- they are there, its manifest's row says where they come from.
ALTER TABLE images ADD COLUMN copied_from TEXT;
ALTER TABLE images ADD COLUMN copy_state TEXT CHECK (copy_state IN ('pending', 'available', 'failed'));
ALTER TABLE images ADD COLUMN copy_failure TEXT;
CREATE INDEX images_pending ON images (id) WHERE copy_state = 'pending';
CREATE INDEX images_deregistered ON images (id) WHERE state = 'deregistered';

-- Who besides its owner may launch an image. `is_public` is the group `all`.
CREATE TABLE image_launch_permissions (
    image   TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    account TEXT NOT NULL,
    PRIMARY KEY (image, account)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_launch_permissions_by_account ON image_launch_permissions (account);

-- An image goes when the last instance that boots with it has gone.
CREATE INDEX instances_by_kernel ON instances (kernel) WHERE kernel IS NOT NULL;
CREATE INDEX instances_by_ramdisk ON instances (ramdisk) WHERE ramdisk IS NOT NULL;
