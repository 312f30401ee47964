//! Signatures that were used, so that they are known after a restart, too.

use store::{Error, Tx};
use types::Timestamp;

use crate::edge::Used;

/// Records one, for good as soon as the transaction is.
pub fn insert(tx: &Tx, used: &Used) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO used_signatures (signature, access_key, valid_until) \
         VALUES (?1, ?2, ?3)",
    )?
    .execute((&used.signature, &used.access_key, used.valid_until_ms))?;
    Ok(())
}

/// All of them.
pub fn list(tx: &Tx) -> Result<Vec<Used>, Error> {
    let mut query =
        tx.prepare_cached("SELECT signature, access_key, valid_until FROM used_signatures")?;
    let rows = query.query_map([], |row| {
        Ok(Used {
            signature: row.get(0)?,
            access_key: row.get(1)?,
            valid_until_ms: row.get(2)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Forgets those that are refused for their age now. How many.
pub fn expire(tx: &Tx, now: Timestamp) -> Result<usize, Error> {
    Ok(tx
        .prepare_cached("DELETE FROM used_signatures WHERE valid_until < ?1")?
        .execute([now.as_millis()])?)
}
