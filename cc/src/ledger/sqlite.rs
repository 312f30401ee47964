//! The ledger of a running daemon: one SQLite file. Records are rows of JSON under their key; the
//! columns beside them are for people with `sqlite3`.

use std::path::Path;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, named_params};
use serde::{Serialize, de::DeserializeOwned};
use store::{Db, Error, Migration, OpenError, Tx};

use super::{Change, HoldRow, Ledger, LedgerError, PlacementRow, Saved};

/// The steps of `cc.db`, in order.
pub const MIGRATIONS: &[Migration] = &[(
    "0001_ledger.sql",
    include_str!("../../migrations/0001_ledger.sql"),
)];

/// A ledger on disk.
#[derive(Clone)]
pub struct SqliteLedger {
    db: Db,
}

impl SqliteLedger {
    /// Opens the file, or makes it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self {
            db: Db::open(path, MIGRATIONS)?,
        })
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn load(&self) -> Result<Saved, LedgerError> {
        self.db
            .read(load)
            .await
            .map_err(|error: Error| failed(&error))
    }

    async fn commit(&self, changes: &[Change]) -> Result<(), LedgerError> {
        let changes = changes.to_vec();
        let write = move |tx: &Tx| changes.iter().try_for_each(|change| apply(tx, change));
        self.db
            .write(write)
            .await
            .map_err(|error: Error| failed(&error))
    }
}

fn failed(error: &Error) -> LedgerError {
    LedgerError(daemon::chain(error))
}

fn load(tx: &Tx) -> Result<Saved, Error> {
    let holds: Vec<HoldRow> = bodies(tx, "SELECT reservation, body FROM holds")?;
    let placements: Vec<PlacementRow> = bodies(tx, "SELECT instance, body FROM placements")?;
    Ok(Saved {
        holds: holds
            .into_iter()
            .map(|row| (row.reservation.clone(), row))
            .collect(),
        placements: placements
            .into_iter()
            .map(|row| (row.instance.clone(), row))
            .collect(),
        roster: fact(tx, "roster")?,
        network: fact(tx, "network")?,
        settled: fact(tx, "settled")?.unwrap_or(false),
        epoch: fact(tx, "epoch")?.unwrap_or(0),
    })
}

fn bodies<T: DeserializeOwned>(tx: &Tx, sql: &str) -> Result<Vec<T>, Error> {
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.map(|row| {
        let (key, body): (String, String) = row?;
        read(&key, &body)
    })
    .collect()
}

fn fact<T: DeserializeOwned>(tx: &Tx, name: &str) -> Result<Option<T>, Error> {
    let body: Option<String> = tx
        .prepare_cached("SELECT body FROM facts WHERE name = :name")?
        .query_row(named_params! {":name": name}, |row| row.get(0))
        .optional()?;
    body.map(|body| read(name, &body)).transpose()
}

fn read<T: DeserializeOwned>(row: &str, body: &str) -> Result<T, Error> {
    serde_json::from_str(body).map_err(|error| Error::Unreadable {
        row: row.to_owned(),
        reason: error.to_string(),
    })
}

fn apply(tx: &Tx, change: &Change) -> Result<(), Error> {
    match change {
        Change::Hold(row) => keep_hold(tx, row),
        Change::HoldGone(reservation) => drop_row(
            tx,
            "DELETE FROM holds WHERE reservation = :key",
            reservation.as_str(),
        ),
        Change::Placement(row) => keep_placement(tx, row),
        Change::PlacementGone(instance) => drop_row(
            tx,
            "DELETE FROM placements WHERE instance = :key",
            instance.as_str(),
        ),
        Change::Roster(roster) => keep_fact(tx, "roster", roster),
        Change::Network(document) => keep_fact(tx, "network", document),
        Change::Settled => keep_fact(tx, "settled", &true),
        Change::Epoch(epoch) => {
            let known: u64 = fact(tx, "epoch")?.unwrap_or(0);
            keep_fact(tx, "epoch", &known.max(*epoch))
        }
    }
}

fn keep_hold(tx: &Tx, row: &HoldRow) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO holds (reservation, body) VALUES (:reservation, :body)
         ON CONFLICT (reservation) DO UPDATE SET body = excluded.body",
    )?
    .execute(named_params! {
        ":reservation": row.reservation.as_str(),
        ":body": json(row.reservation.as_str(), row)?,
    })?;
    Ok(())
}

fn keep_placement(tx: &Tx, row: &PlacementRow) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO placements (instance, node, epoch, ended, body)
         VALUES (:instance, :node, :epoch, :ended, :body)
         ON CONFLICT (instance) DO UPDATE SET node = excluded.node, epoch = excluded.epoch,
             ended = excluded.ended, body = excluded.body",
    )?
    .execute(named_params! {
        ":instance": row.instance.as_str(),
        ":node": row.node.as_str(),
        ":epoch": i64::try_from(row.epoch).unwrap_or(i64::MAX),
        ":ended": row.ended,
        ":body": json(row.instance.as_str(), row)?,
    })?;
    Ok(())
}

fn keep_fact(tx: &Tx, name: &str, value: &impl Serialize) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO facts (name, body) VALUES (:name, :body)
         ON CONFLICT (name) DO UPDATE SET body = excluded.body",
    )?
    .execute(named_params! {":name": name, ":body": json(name, value)?})?;
    Ok(())
}

fn drop_row(tx: &Tx, sql: &str, key: &str) -> Result<(), Error> {
    tx.prepare_cached(sql)?
        .execute(named_params! {":key": key})?;
    Ok(())
}

fn json(row: &str, value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Unreadable {
        row: row.to_owned(),
        reason: error.to_string(),
    })
}
