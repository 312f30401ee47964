//! The records of volumes. SQL and nothing else.

use control::storage::VolumeSeen;
use rusqlite::{OptionalExtension, Row, named_params};
use store::{Error, Migration, Tx};
use types::{Gib, VolumeId};

use crate::volume::Volume;

/// The steps of the database.
pub const MIGRATIONS: &[Migration] = &[(
    "0001_volumes.sql",
    include_str!("../migrations/0001_volumes.sql"),
)];

const COLUMNS: &str = "SELECT id, generation, size_gib, seen, reason FROM volumes";

/// A volume, if there is a record of it.
pub fn find(tx: &Tx, id: &VolumeId) -> Result<Option<Volume>, Error> {
    tx.prepare_cached(&format!("{COLUMNS} WHERE id = :id"))?
        .query_row(named_params! {":id": id.as_str()}, |row| Ok(from_row(row)))
        .optional()?
        .transpose()
}

/// All volumes, in the order of their ids.
pub fn list(tx: &Tx) -> Result<Vec<Volume>, Error> {
    let mut statement = tx.prepare_cached(&format!("{COLUMNS} ORDER BY id"))?;
    let rows = statement.query_map([], |row| Ok(from_row(row)))?;
    rows.map(|row| row?).collect()
}

/// Writes a record whole.
pub fn keep(tx: &Tx, volume: &Volume) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO volumes (id, generation, size_gib, seen, reason)
         VALUES (:id, :generation, :size_gib, :seen, :reason)
         ON CONFLICT (id) DO UPDATE SET generation = excluded.generation,
             size_gib = excluded.size_gib, seen = excluded.seen, reason = excluded.reason",
    )?
    .execute(named_params! {
        ":id": volume.id.as_str(),
        ":generation": i64::try_from(volume.generation).unwrap_or(i64::MAX),
        ":size_gib": volume.size_gib.0,
        ":seen": word(volume.seen),
        ":reason": volume.reason,
    })?;
    Ok(())
}

/// Drops the record of a volume that is gone.
pub fn forget(tx: &Tx, id: &VolumeId) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM volumes WHERE id = :id")?
        .execute(named_params! {":id": id.as_str()})?;
    Ok(())
}

/// What all volumes together are promised.
pub fn provisioned_bytes(tx: &Tx) -> Result<u64, Error> {
    let volumes = list(tx)?;
    let promised = volumes.iter().filter(|volume| volume.is_provisioned());
    Ok(promised.map(|volume| volume.size_gib.bytes()).sum())
}

fn from_row(row: &Row<'_>) -> Result<Volume, Error> {
    let id: String = row.get("id")?;
    let seen: String = row.get("seen")?;
    let generation: i64 = row.get("generation")?;
    let unreadable = |reason: String| Error::Unreadable {
        row: id.clone(),
        reason,
    };
    Ok(Volume {
        id: id.parse().map_err(|error| unreadable(format!("{error}")))?,
        generation: u64::try_from(generation).map_err(|error| unreadable(error.to_string()))?,
        size_gib: Gib(row.get("size_gib")?),
        seen: seen_of(&seen).ok_or_else(|| unreadable(format!("state {seen:?}")))?,
        reason: row.get("reason")?,
    })
}

const SEEN: [(VolumeSeen, &str); 5] = [
    (VolumeSeen::Creating, "creating"),
    (VolumeSeen::Available, "available"),
    (VolumeSeen::Deleting, "deleting"),
    (VolumeSeen::Deleted, "deleted"),
    (VolumeSeen::Error, "error"),
];

fn word(seen: VolumeSeen) -> &'static str {
    let found = SEEN.iter().find(|(state, _)| *state == seen);
    found.expect("every state is in the table").1
}

fn seen_of(word: &str) -> Option<VolumeSeen> {
    SEEN.iter()
        .find(|(_, text)| *text == word)
        .map(|(seen, _)| *seen)
}
