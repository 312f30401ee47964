//! Volumes: what is wanted of them, and what the Storage Controller says.

use rusqlite::{OptionalExtension, Row, named_params};
use store::{Error, Tx};
use types::{AccountId, Gib, SnapshotId, Timestamp, VolumeId, VolumeState, Zone};

use super::{parsed, parsed_or_null, word};
use crate::volume::Life;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Whose it is.
    pub account: AccountId,
    /// Its zone.
    pub zone: Zone,
    /// Its size.
    pub size: Gib,
    /// What it is a copy of.
    pub snapshot: Option<SnapshotId>,
    /// `standard`.
    pub volume_type: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Whether it is to be.
    pub is_wanted: bool,
    /// Of the wish.
    pub generation: u64,
    /// Of the wish that the Storage Controller has acknowledged.
    pub taken_generation: u64,
    /// What users see.
    pub state: VolumeState,
    /// Since when.
    pub state_since: Timestamp,
    /// Why, if something is wrong.
    pub reason: Option<String>,
}

impl Volume {
    /// Where it is.
    pub fn life(&self) -> Life {
        Life {
            state: self.state,
            is_wanted: self.is_wanted,
        }
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Volume> {
    Ok(Volume {
        id: parsed(row, "id")?,
        account: parsed(row, "account")?,
        zone: parsed(row, "zone")?,
        size: Gib(row.get("size_gib")?),
        snapshot: parsed_or_null(row, "snapshot")?,
        volume_type: row.get("volume_type")?,
        created_at: Timestamp(row.get("created_at")?),
        is_wanted: row.get::<_, String>("wanted")? == "present",
        generation: row.get("generation")?,
        taken_generation: row.get("taken_generation")?,
        state: word(row, "state", VolumeState::from_word)?,
        state_since: Timestamp(row.get("state_since")?),
        reason: row.get("reason")?,
    })
}

/// Adds a volume.
pub fn insert(tx: &Tx, volume: &Volume) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO volumes (id, account, zone, size_gib, snapshot, volume_type, created_at, wanted, \
         generation, taken_generation, state, state_since, reason) \
         VALUES (:id, :account, :zone, :size, :snapshot, :volume_type, :created_at, :wanted, \
         :generation, :taken_generation, :state, :state_since, :reason)",
    )?
    .execute(named_params! {
        ":id": volume.id.as_str(),
        ":account": volume.account.as_str(),
        ":zone": volume.zone.as_str(),
        ":size": volume.size.0,
        ":snapshot": volume.snapshot.as_ref().map(SnapshotId::as_str),
        ":volume_type": volume.volume_type,
        ":created_at": volume.created_at.as_millis(),
        ":wanted": if volume.is_wanted { "present" } else { "absent" },
        ":generation": volume.generation,
        ":taken_generation": volume.taken_generation,
        ":state": volume.state.as_str(),
        ":state_since": volume.state_since.as_millis(),
        ":reason": volume.reason,
    })?;
    Ok(())
}

/// The volume of that id, whosever it is.
pub fn load(tx: &Tx, id: &VolumeId) -> Result<Option<Volume>, Error> {
    Ok(tx
        .prepare_cached("SELECT * FROM volumes WHERE id = ?1")?
        .query_row([id.as_str()], from_row)
        .optional()?)
}

/// The volume of that id, if the account has it and users still see it.
pub fn find(tx: &Tx, account: &AccountId, id: &VolumeId) -> Result<Option<Volume>, Error> {
    let volume = load(tx, id)?;
    Ok(volume.filter(|volume| volume.account == *account && volume.state != VolumeState::Deleted))
}

/// Those that users of an account see, oldest first.
pub fn list(tx: &Tx, account: &AccountId) -> Result<Vec<Volume>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT * FROM volumes WHERE account = ?1 AND state <> 'deleted' ORDER BY created_at, id",
    )?;
    let rows = query.query_map([account.as_str()], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Those of a zone whose wish or state is not final. What is in error is asked for no more, only
/// wished away.
pub fn list_unsettled(tx: &Tx, zone: &Zone) -> Result<Vec<Volume>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT * FROM volumes WHERE zone = ?1 AND state <> 'deleted' \
         AND (state IN ('creating', 'deleting') OR taken_generation < generation) \
         AND NOT (state = 'error' AND wanted = 'present') ORDER BY created_at, id",
    )?;
    let rows = query.query_map([zone.as_str()], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Those that have been on their way since before then.
pub fn list_under_way(tx: &Tx, before: Timestamp) -> Result<Vec<Volume>, Error> {
    let mut query = tx.prepare_cached(
        "SELECT * FROM volumes WHERE state IN ('creating', 'deleting') AND state_since < ?1",
    )?;
    let rows = query.query_map([before.as_millis()], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Wishes a volume away, again if it was before and is in error since.
pub fn want_absent(tx: &Tx, id: &VolumeId, now: Timestamp) -> Result<(), Error> {
    let rows = tx
        .prepare_cached(
            "UPDATE volumes SET wanted = 'absent', generation = generation + 1, \
             state = 'deleting', state_since = :now, reason = NULL \
             WHERE id = :id AND state NOT IN ('deleting', 'deleted')",
        )?
        .execute(named_params! {":id": id.as_str(), ":now": now.as_millis()})?;
    store::changed_one(rows, id)
}

/// Records that the Storage Controller has a wish of that generation.
pub fn set_taken(tx: &Tx, id: &VolumeId, generation: u64) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE volumes SET taken_generation = max(taken_generation, ?2) WHERE id = ?1",
    )?
    .execute(rusqlite::params![id.as_str(), generation])?;
    Ok(())
}

/// Forgets what a store has taken: all unsettled wishes of its zone are to be said again.
pub fn forget_taken(tx: &Tx, zone: &Zone) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE volumes SET taken_generation = 0 WHERE zone = ?1 AND state <> 'deleted'",
    )?
    .execute([zone.as_str()])?;
    Ok(())
}

/// Forgets volumes that were deleted before `before` and whose token is forgotten. How many.
pub fn forget_deleted(tx: &Tx, before: Timestamp) -> Result<usize, Error> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM volumes WHERE state = 'deleted' AND state_since < ?1 \
             AND NOT EXISTS (SELECT 1 FROM client_tokens WHERE made = volumes.id)",
        )?
        .execute([before.as_millis()])?)
}

/// Records what users see from now on.
pub fn set_state(
    tx: &Tx,
    id: &VolumeId,
    state: VolumeState,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE volumes SET state = :state, state_since = :now, reason = :reason \
         WHERE id = :id AND state <> :state",
    )?
    .execute(named_params! {
        ":id": id.as_str(),
        ":state": state.as_str(),
        ":reason": reason,
        ":now": now.as_millis(),
    })?;
    if state == VolumeState::Deleted {
        super::tags::delete_all(tx, id.as_str())?;
    }
    Ok(())
}
