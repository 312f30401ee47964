//! Numbers that name host objects: taps, bridges, namespaces, sets. Never given twice, so that a
//! late host cannot mistake a new thing for an old one.

use store::{Error, Tx};
use types::instance::ShortId;

/// The next number.
pub fn next(tx: &Tx) -> Result<ShortId, Error> {
    tx.prepare_cached("INSERT INTO short_ids DEFAULT VALUES")?
        .execute([])?;
    let id = tx.last_insert_rowid();
    // The newest row alone keeps the sequence.
    tx.prepare_cached("DELETE FROM short_ids WHERE id < ?1")?
        .execute([id])?;
    u32::try_from(id)
        .map(ShortId)
        .map_err(|_| Error::Unreadable {
            row: format!("short_ids {id}"),
            reason: "all numbers have been given".to_owned(),
        })
}
