//! The cloud's own row, and its zones.

use rusqlite::OptionalExtension;
use store::{Error, Tx};
use types::{Region, Timestamp, Zone};

use super::parsed;

/// What `init` fixed.
#[derive(Debug, Clone)]
pub struct CloudRow {
    /// The region.
    pub region: Region,
    /// The zone that `init` made.
    pub first_zone: Zone,
}

/// The cloud's row; none before `init`.
pub fn find(tx: &Tx) -> Result<Option<CloudRow>, Error> {
    let sql = "SELECT region, first_zone FROM cloud WHERE id = 1";
    let row = tx.query_row(sql, [], |row| {
        Ok(CloudRow {
            region: parsed(row, "region")?,
            first_zone: parsed(row, "first_zone")?,
        })
    });
    Ok(row.optional()?)
}

/// Writes the cloud's row, once.
pub fn insert(tx: &Tx, cloud: &CloudRow, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO cloud (id, region, first_zone, created_at) VALUES (1, ?1, ?2, ?3)";
    tx.execute(
        sql,
        (cloud.region.as_str(), cloud.first_zone.as_str(), now.0),
    )?;
    insert_zone(tx, &cloud.first_zone, now)
}

/// Adds a zone; one that is there already stays as it is.
pub fn insert_zone(tx: &Tx, zone: &Zone, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO zones (name, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    tx.execute(sql, (zone.as_str(), now.0))?;
    Ok(())
}

/// All zones, in the order of their names.
pub fn zones(tx: &Tx) -> Result<Vec<Zone>, Error> {
    let mut found = tx.prepare_cached("SELECT name FROM zones ORDER BY name")?;
    let rows = found.query_map([], |row| parsed(row, "name"))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Whether there is such a zone.
pub fn is_zone(tx: &Tx, zone: &Zone) -> Result<bool, Error> {
    Ok(tx
        .prepare_cached("SELECT 1 FROM zones WHERE name = ?1")?
        .exists([zone.as_str()])?)
}

/// What SQLite finds wrong with the file; nothing if it is whole.
pub fn integrity(tx: &Tx) -> Result<Vec<String>, Error> {
    let mut found = tx.prepare("PRAGMA quick_check(20)")?;
    let rows = found.query_map([], |row| row.get::<_, String>(0))?;
    let lines = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(lines.into_iter().filter(|line| line != "ok").collect())
}

/// Rows that refer to rows that are not there.
pub fn dangling(tx: &Tx) -> Result<Vec<String>, Error> {
    let mut found = tx.prepare("PRAGMA foreign_key_check")?;
    let rows = found.query_map([], |row| {
        let (table, parent): (String, String) = (row.get("table")?, row.get("parent")?);
        Ok(format!(
            "a row of {table} refers to a row of {parent} that is not there"
        ))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
