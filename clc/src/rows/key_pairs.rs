//! Key pairs: the public halves.

use rusqlite::{OptionalExtension, Row, named_params};
use store::{Error, Tx};
use types::{AccountId, KeyPairId, Timestamp};

use super::parsed;

/// A key pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// Its id.
    pub id: KeyPairId,
    /// Whose it is.
    pub account: AccountId,
    /// Its name, unique within the account.
    pub name: String,
    /// `rsa` or `ed25519`.
    pub kind: String,
    /// As EC2 shows it; how it is made depends on where the key came from.
    pub fingerprint: String,
    /// One line, as in `authorized_keys`.
    pub public_key: String,
    /// When it came to be.
    pub created_at: Timestamp,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<KeyPair> {
    Ok(KeyPair {
        id: parsed(row, "id")?,
        account: parsed(row, "account")?,
        name: row.get("name")?,
        kind: row.get("kind")?,
        fingerprint: row.get("fingerprint")?,
        public_key: row.get("public_key")?,
        created_at: Timestamp(row.get("created_at")?),
    })
}

/// Adds a key pair; a constraint refuses a second one of that name.
pub fn insert(tx: &Tx, key: &KeyPair) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO key_pairs (id, account, name, kind, fingerprint, public_key, created_at) \
         VALUES (:id, :account, :name, :kind, :fingerprint, :public_key, :created_at)",
    )?
    .execute(named_params! {
        ":id": key.id.as_str(),
        ":account": key.account.as_str(),
        ":name": key.name,
        ":kind": key.kind,
        ":fingerprint": key.fingerprint,
        ":public_key": key.public_key,
        ":created_at": key.created_at.as_millis(),
    })?;
    Ok(())
}

/// The key pair of that name.
pub fn find(tx: &Tx, account: &AccountId, name: &str) -> Result<Option<KeyPair>, Error> {
    Ok(tx
        .prepare_cached("SELECT * FROM key_pairs WHERE account = ?1 AND name = ?2")?
        .query_row([account.as_str(), name], from_row)
        .optional()?)
}

/// All of an account, by name.
pub fn list(tx: &Tx, account: &AccountId) -> Result<Vec<KeyPair>, Error> {
    let mut query =
        tx.prepare_cached("SELECT * FROM key_pairs WHERE account = ?1 ORDER BY name")?;
    let rows = query.query_map([account.as_str()], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Forgets a key pair.
pub fn delete(tx: &Tx, id: &KeyPairId) -> Result<(), Error> {
    tx.prepare_cached("DELETE FROM key_pairs WHERE id = ?1")?
        .execute([id.as_str()])?;
    super::tags::delete_all(tx, id.as_str())
}
