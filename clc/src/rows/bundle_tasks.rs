//! Bundle tasks: what is wanted of them, and what their nodes say.

use control::node::{BundleReport, BundleWish};
use image::keys::WrappedKey;
use rusqlite::{OptionalExtension, Row, named_params};
use store::{Error, Tx};
use types::{AccessKeyId, AccountId, BundleId, InstanceId, StateReason, Timestamp};

use super::{parsed, word};
use crate::bundle_task::BundleState;

/// A bundle that is being made of an instance, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: BundleId,
    /// Whose it is.
    pub account: AccountId,
    /// Of which instance.
    pub instance: InstanceId,
    /// Where the bundle goes.
    pub bucket: String,
    /// What its objects' keys begin with.
    pub prefix: String,
    /// Whose permission to store it is.
    pub access_key: AccessKeyId,
    /// The permission: base64 of a POST policy.
    pub policy: String,
    /// Its signature, as the client sent it.
    pub signature: String,
    /// The bundle's key, wrapped for the cloud.
    pub cloud_key: WrappedKey,
    /// The same for the user; empty without a certificate.
    pub user_key: WrappedKey,
    /// Whether it is to be given up.
    pub is_cancelled: bool,
    /// What users see.
    pub state: BundleState,
    /// How much has been bundled.
    pub percent: u8,
    /// Why it failed.
    pub error: Option<StateReason>,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Task> {
    let code: Option<String> = row.get("error_code")?;
    let message: Option<String> = row.get("error_message")?;
    Ok(Task {
        id: parsed(row, "id")?,
        account: parsed(row, "account")?,
        instance: parsed(row, "instance")?,
        bucket: row.get("bucket")?,
        prefix: row.get("prefix")?,
        access_key: parsed(row, "access_key")?,
        policy: row.get("policy")?,
        signature: row.get("signature")?,
        cloud_key: word(row, "cloud_key", unwritten)?,
        user_key: word(row, "user_key", unwritten)?,
        is_cancelled: row.get("cancelled")?,
        state: word(row, "state", BundleState::from_word)?,
        percent: row.get("percent")?,
        error: code.map(|code| StateReason::new(&code, message.unwrap_or_default())),
        started_at: Timestamp(row.get("started_at")?),
        updated_at: Timestamp(row.get("updated_at")?),
    })
}

fn written(key: &WrappedKey) -> String {
    format!("{}:{}", hex::encode(&key.key), hex::encode(&key.iv))
}

fn unwritten(text: &str) -> Option<WrappedKey> {
    let (key, iv) = text.split_once(':')?;
    Some(WrappedKey {
        key: hex::decode(key).ok()?,
        iv: hex::decode(iv).ok()?,
    })
}

/// Adds a task.
pub fn insert(tx: &Tx, task: &Task) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO bundle_tasks (id, account, instance, bucket, prefix, access_key, policy, signature, \
         cloud_key, user_key, state, started_at, updated_at) \
         VALUES (:id, :account, :instance, :bucket, :prefix, :access_key, :policy, :signature, \
         :cloud_key, :user_key, :state, :started_at, :updated_at)",
    )?
    .execute(named_params! {
        ":id": task.id.as_str(),
        ":account": task.account.as_str(),
        ":instance": task.instance.as_str(),
        ":bucket": task.bucket,
        ":prefix": task.prefix,
        ":access_key": task.access_key.as_str(),
        ":policy": task.policy,
        ":signature": task.signature,
        ":cloud_key": written(&task.cloud_key),
        ":user_key": written(&task.user_key),
        ":state": task.state.as_str(),
        ":started_at": task.started_at.as_millis(),
        ":updated_at": task.updated_at.as_millis(),
    })?;
    Ok(())
}

/// The task of that id, whosever it is.
pub fn load(tx: &Tx, id: &BundleId) -> Result<Option<Task>, Error> {
    Ok(tx
        .prepare_cached("SELECT * FROM bundle_tasks WHERE id = ?1")?
        .query_row([id.as_str()], from_row)
        .optional()?)
}

/// Those of an account, oldest first.
pub fn list(tx: &Tx, account: &AccountId) -> Result<Vec<Task>, Error> {
    let sql = "SELECT * FROM bundle_tasks WHERE account = ?1 ORDER BY started_at, id";
    let mut query = tx.prepare_cached(sql)?;
    let rows = query.query_map([account.as_str()], from_row)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The one of an instance that has not ended.
pub fn open_of(tx: &Tx, instance: &InstanceId) -> Result<Option<Task>, Error> {
    Ok(tx
        .prepare_cached(
            "SELECT * FROM bundle_tasks WHERE instance = ?1 AND state NOT IN ('complete', 'failed', 'cancelled')",
        )?
        .query_row([instance.as_str()], from_row)
        .optional()?)
}

/// What an instance's node is told of it.
pub fn wish_of(tx: &Tx, instance: &InstanceId) -> Result<Option<BundleWish>, Error> {
    Ok(open_of(tx, instance)?.map(|task| BundleWish {
        task: task.id,
        cancelled: task.is_cancelled,
    }))
}

/// It is to be given up.
pub fn want_cancelled(tx: &Tx, id: &BundleId, now: Timestamp) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE bundle_tasks SET cancelled = 1, state = 'cancelling', updated_at = ?2 WHERE id = ?1",
    )?
    .execute(rusqlite::params![id.as_str(), now.as_millis()])?;
    Ok(())
}

/// Records what its node says, and the state that follows.
pub fn set_seen(
    tx: &Tx,
    state: BundleState,
    report: &BundleReport,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE bundle_tasks SET state = :state, percent = :percent, error_code = :code, \
         error_message = :message, updated_at = :now WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": report.task.as_str(),
        ":state": state.as_str(),
        ":percent": report.percent,
        ":code": report.error.as_ref().map(|error| &error.code),
        ":message": report.error.as_ref().map(|error| &error.message),
        ":now": now.as_millis(),
    })?;
    Ok(())
}

/// Ends the one of an instance that has not ended, for that reason.
pub fn fail_open_of(
    tx: &Tx,
    instance: &InstanceId,
    why: &StateReason,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "UPDATE bundle_tasks SET state = 'failed', error_code = :code, error_message = :message, \
         updated_at = :now WHERE instance = :instance AND state NOT IN ('complete', 'failed', 'cancelled')",
    )?
    .execute(named_params! {
        ":instance": instance.as_str(),
        ":code": why.code,
        ":message": why.message,
        ":now": now.as_millis(),
    })?;
    Ok(())
}

/// Ends those that were begun before then and have not ended; gives their instances.
pub fn fail_overdue(
    tx: &Tx,
    before: Timestamp,
    why: &StateReason,
    now: Timestamp,
) -> Result<Vec<InstanceId>, Error> {
    let mut ended = tx.prepare_cached(
        "UPDATE bundle_tasks SET state = 'failed', error_code = :code, error_message = :message, \
         updated_at = :now WHERE started_at < :before AND state NOT IN ('complete', 'failed', 'cancelled') \
         RETURNING instance",
    )?;
    let values = named_params! {
        ":code": why.code,
        ":message": why.message,
        ":before": before.as_millis(),
        ":now": now.as_millis(),
    };
    let rows = ended.query_map(values, |row| parsed(row, "instance"))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Forgets those that ended before then.
pub fn forget_ended(tx: &Tx, before: Timestamp) -> Result<usize, Error> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM bundle_tasks WHERE state IN ('complete', 'failed', 'cancelled') AND updated_at < ?1",
        )?
        .execute([before.as_millis()])?)
}
