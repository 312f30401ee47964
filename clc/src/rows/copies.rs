//! What cache entries must be, and which nodes have them.

use control::caches::Blocks;
use rusqlite::OptionalExtension;
use store::{Error, Tx};
use types::{ImageId, NodeId, Timestamp, Zone};

use super::parsed;

/// What an entry must be, if a node has told.
pub fn blocks(tx: &Tx, entry: &str) -> Result<Option<Blocks>, Error> {
    let sql = "SELECT blocks FROM image_blocks WHERE entry = ?1";
    Ok(tx
        .prepare_cached(sql)?
        .query_row([entry], |row| {
            let text: String = row.get("blocks")?;
            serde_json::from_str(&text).map_err(|error| super::unreadable(row, "blocks", error))
        })
        .optional()?)
}

/// Notes what an entry is, unless it is known already.
pub fn insert_blocks(
    tx: &Tx,
    (image, entry): (&ImageId, &str),
    blocks: &Blocks,
    node: &NodeId,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "INSERT INTO image_blocks (entry, image, blocks, told_by, told_at) \
               VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING";
    let text = serde_json::to_string(blocks).expect("numbers and text are JSON");
    tx.prepare_cached(sql)?
        .execute((entry, image.as_str(), text, node.as_str(), now.0))?;
    Ok(())
}

/// Notes that a node has an entry.
pub fn insert_copy(tx: &Tx, entry: &str, node: &NodeId) -> Result<(), Error> {
    let sql = "INSERT INTO image_copies (entry, node) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    tx.prepare_cached(sql)?.execute([entry, node.as_str()])?;
    Ok(())
}

/// Notes that it has it no longer.
pub fn delete_copy(tx: &Tx, entry: &str, node: &NodeId) -> Result<(), Error> {
    let sql = "DELETE FROM image_copies WHERE entry = ?1 AND node = ?2";
    tx.prepare_cached(sql)?.execute([entry, node.as_str()])?;
    Ok(())
}

/// The nodes of a zone that have an entry, in the order of their ids.
pub fn of_zone(tx: &Tx, entry: &str, zone: &Zone) -> Result<Vec<NodeId>, Error> {
    let sql = "SELECT node FROM image_copies JOIN nodes ON nodes.id = node \
               WHERE entry = ?1 AND zone = ?2 AND NOT dead ORDER BY node";
    let mut found = tx.prepare_cached(sql)?;
    let rows = found.query_map([entry, zone.as_str()], |row| parsed(row, "node"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
