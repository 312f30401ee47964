//! Tags. A tag lives as long as its resource; whoever removes the resource removes them.

use std::collections::HashMap;

use rusqlite::named_params;
use store::{Error, Tx};
use types::AccountId;

/// One tag of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The id of what it is on.
    pub resource: String,
    /// What that is: `instance`, `volume`, `security-group`, ...
    pub kind: String,
    /// The key.
    pub key: String,
    /// The value, which may be empty.
    pub value: String,
}

/// Puts a tag on a resource, over one of the same key.
pub fn put(tx: &Tx, account: &AccountId, tag: &Tag) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO tags (account, resource, kind, key, value) \
         VALUES (:account, :resource, :kind, :key, :value) \
         ON CONFLICT (resource, key) DO UPDATE SET value = excluded.value",
    )?
    .execute(named_params! {
        ":account": account.as_str(),
        ":resource": tag.resource,
        ":kind": tag.kind,
        ":key": tag.key,
        ":value": tag.value,
    })?;
    Ok(())
}

/// Takes a tag off: with a value only where it is that one. No such tag is no error.
pub fn delete(tx: &Tx, resource: &str, key: &str, value: Option<&str>) -> Result<(), Error> {
    tx.prepare_cached(
        "DELETE FROM tags WHERE resource = :resource AND key = :key \
         AND (:value IS NULL OR value = :value)",
    )?
    .execute(named_params! {":resource": resource, ":key": key, ":value": value})?;
    Ok(())
}

/// Takes all tags off a resource.
pub fn delete_all(tx: &Tx, resource: &str) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM tags WHERE resource = ?1")?
        .execute([resource])?;
    Ok(())
}

/// How many tags a resource has.
pub fn count(tx: &Tx, resource: &str) -> Result<usize, Error> {
    Ok(tx
        .prepare_cached("SELECT count(*) FROM tags WHERE resource = ?1")?
        .query_row([resource], |row| row.get(0))?)
}

/// All tags of an account, by resource and key.
pub fn list(tx: &Tx, account: &AccountId) -> Result<Vec<Tag>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT resource, kind, key, value FROM tags WHERE account = ?1 ORDER BY resource, key",
    )?;
    let rows = query.query_map([account.as_str()], |row| {
        Ok(Tag {
            resource: row.get(0)?,
            kind: row.get(1)?,
            key: row.get(2)?,
            value: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The tags of an account's things of one kind, by resource.
pub fn by_resource(
    tx: &Tx,
    account: &AccountId,
    kind: &str,
) -> Result<HashMap<String, Vec<(String, String)>>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT resource, key, value FROM tags WHERE account = ?1 AND kind = ?2 ORDER BY resource, key",
    )?;
    let mut rows = query.query([account.as_str(), kind])?;
    let mut tags: HashMap<String, Vec<(String, String)>> = HashMap::new();
    while let Some(row) = rows.next()? {
        tags.entry(row.get(0)?)
            .or_default()
            .push((row.get(1)?, row.get(2)?));
    }
    Ok(tags)
}

/// The tags of one resource, by key.
pub fn of(tx: &Tx, resource: &str) -> Result<Vec<(String, String)>, Error> {
    let mut query =
        tx.prepare_cached("SELECT key, value FROM tags WHERE resource = ?1 ORDER BY key")?;
    let rows = query.query_map([resource], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}
