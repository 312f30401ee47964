-- What nodes made of images, block by block, and which nodes have it: peers fetch from peers, and
-- check what they get against these digests.

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
