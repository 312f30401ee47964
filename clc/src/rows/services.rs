//! Daemons that have joined, and the tokens they joined with. Nodes are in [`super::nodes`].

use std::net::SocketAddr;

use control::Role;
use rusqlite::{OptionalExtension, Row};
use store::{Error, Tx};
use types::{Timestamp, Zone};

use super::{parsed, parsed_or_null};

/// A CC, an SC or Walrus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRow {
    /// What it is.
    pub role: Role,
    /// Its name: of a CC and an SC the zone's, of Walrus `walrus`.
    pub name: String,
    /// Its zone.
    pub zone: Option<Zone>,
    /// Where it serves us.
    pub address: SocketAddr,
    /// Its host's name.
    pub hostname: String,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<ServiceRow> {
    Ok(ServiceRow {
        role: parsed(row, "role")?,
        name: row.get("name")?,
        zone: parsed_or_null(row, "zone")?,
        address: parsed(row, "address")?,
        hostname: row.get("hostname")?,
    })
}

/// All services, in the order of role and name.
pub fn list(tx: &Tx) -> Result<Vec<ServiceRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM services ORDER BY role, name")?;
    let rows = found.query_map([], from_row)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds a service, or puts it in the place of the one of its name that joined before. No guest may
/// reach it: all networks change.
pub fn put(tx: &Tx, service: &ServiceRow, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO services (role, name, zone, address, hostname, joined_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)
               ON CONFLICT (role, name) DO UPDATE SET zone = excluded.zone,
                   address = excluded.address, hostname = excluded.hostname,
                   joined_at = excluded.joined_at";
    let zone = service.zone.as_ref().map(Zone::as_str);
    let address = service.address.to_string();
    let role = service.role.as_str();
    tx.execute(
        sql,
        (role, &service.name, zone, address, &service.hostname, now.0),
    )?;
    super::network::bump_all(tx)
}

/// Notes that a service has moved. Whether anything changed.
pub fn move_to(tx: &Tx, role: Role, name: &str, address: SocketAddr) -> Result<bool, Error> {
    let sql = "UPDATE services SET address = ?3 WHERE role = ?1 AND name = ?2 AND address <> ?3";
    let changed = tx.execute(sql, (role.as_str(), name, address.to_string()))? > 0;
    if changed {
        super::network::bump_all(tx)?;
    }
    Ok(changed)
}

/// A join token, as it is kept: never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// For what.
    pub role: Role,
    /// For which zone.
    pub zone: Option<Zone>,
    /// Until when.
    pub expires_at: Timestamp,
    /// SHA-256 of the key that used it, if one has.
    pub used_by: Option<String>,
}

/// Adds a token by the SHA-256 of its secret, in hex.
pub fn insert_token(tx: &Tx, secret_sha256: &str, token: &TokenRow) -> Result<(), Error> {
    let sql =
        "INSERT INTO join_tokens (secret_sha256, role, zone, expires_at) VALUES (?1, ?2, ?3, ?4)";
    let zone = token.zone.as_ref().map(Zone::as_str);
    tx.execute(
        sql,
        (secret_sha256, token.role.as_str(), zone, token.expires_at.0),
    )?;
    Ok(())
}

/// The token of that secret.
pub fn find_token(tx: &Tx, secret_sha256: &str) -> Result<Option<TokenRow>, Error> {
    let sql = "SELECT * FROM join_tokens WHERE secret_sha256 = ?1";
    let row = tx.query_row(sql, [secret_sha256], |row| {
        Ok(TokenRow {
            role: parsed(row, "role")?,
            zone: parsed_or_null(row, "zone")?,
            expires_at: Timestamp(row.get("expires_at")?),
            used_by: row.get("used_by")?,
        })
    });
    Ok(row.optional()?)
}

/// Marks a token as used by a key.
pub fn use_token(tx: &Tx, secret_sha256: &str, key_sha256: &str) -> Result<(), Error> {
    let sql = "UPDATE join_tokens SET used_by = ?2 WHERE secret_sha256 = ?1";
    tx.execute(sql, (secret_sha256, key_sha256))?;
    Ok(())
}

/// Forgets tokens that expired before then. How many.
pub fn expire_tokens(tx: &Tx, before: Timestamp) -> Result<u64, Error> {
    Ok(tx.execute("DELETE FROM join_tokens WHERE expires_at < ?1", [before.0])? as u64)
}
