//! Accounts, users, access keys.

use store::{Error, Tx};
use types::{AccessKeyId, AccountId, Timestamp};

use super::parsed;

/// An account.
#[derive(Debug, Clone)]
pub struct AccountRow {
    /// Its number.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// What S3 shows as owner: 64 hex digits.
    pub canonical_id: String,
    /// Whether it is gone.
    pub deleted: bool,
}

/// A user.
#[derive(Debug, Clone)]
pub struct UserRow {
    /// Its account.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// `AIDA...`.
    pub unique_id: String,
    /// Its policies, as JSON.
    pub policies: Vec<String>,
    /// Whether it is gone.
    pub deleted: bool,
}

/// An access key.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// Its id.
    pub id: AccessKeyId,
    /// Its account.
    pub account: AccountId,
    /// Its user.
    pub user: String,
    /// The secret, sealed for the id.
    pub sealed_secret: Vec<u8>,
    /// Whether it may be used.
    pub active: bool,
    /// Whether it is gone.
    pub deleted: bool,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Everyone {
    /// In the order of their numbers.
    pub accounts: Vec<AccountRow>,
    /// In the order of account and name.
    pub users: Vec<UserRow>,
    /// In the order of their ids.
    pub keys: Vec<KeyRow>,
}

/// Reads all identities, the deleted ones included.
pub fn everyone(tx: &Tx) -> Result<Everyone, Error> {
    Ok(Everyone {
        accounts: accounts(tx)?,
        users: users(tx)?,
        keys: keys(tx)?,
    })
}

fn accounts(tx: &Tx) -> Result<Vec<AccountRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM accounts ORDER BY id")?;
    let rows = found.query_map([], |row| {
        Ok(AccountRow {
            id: parsed(row, "id")?,
            name: row.get("name")?,
            canonical_id: row.get("canonical_id")?,
            deleted: row.get::<_, Option<i64>>("deleted_at")?.is_some(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn users(tx: &Tx) -> Result<Vec<UserRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM users ORDER BY account, name")?;
    let rows = found.query_map([], |row| {
        Ok(UserRow {
            account: parsed(row, "account")?,
            name: row.get("name")?,
            path: row.get("path")?,
            unique_id: row.get("unique_id")?,
            policies: Vec::new(),
            deleted: row.get::<_, Option<i64>>("deleted_at")?.is_some(),
        })
    })?;
    let mut users = rows.collect::<Result<Vec<_>, _>>()?;
    for user in &mut users {
        user.policies = policies(tx, &user.account, &user.name)?;
    }
    Ok(users)
}

fn policies(tx: &Tx, account: &AccountId, user: &str) -> Result<Vec<String>, Error> {
    let sql = "SELECT document FROM user_policies WHERE account = ?1 AND user = ?2 ORDER BY name";
    let mut found = tx.prepare_cached(sql)?;
    let rows = found.query_map((account.as_str(), user), |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn keys(tx: &Tx) -> Result<Vec<KeyRow>, Error> {
    let mut found = tx.prepare_cached("SELECT * FROM access_keys ORDER BY id")?;
    let rows = found.query_map([], |row| {
        Ok(KeyRow {
            id: parsed(row, "id")?,
            account: parsed(row, "account")?,
            user: row.get("user")?,
            sealed_secret: row.get("sealed_secret")?,
            active: row.get("active")?,
            deleted: row.get::<_, Option<i64>>("deleted_at")?.is_some(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Adds an account.
pub fn insert_account(
    tx: &Tx,
    id: &AccountId,
    name: &str,
    canonical_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "INSERT INTO accounts (id, name, canonical_id, created_at) VALUES (?1, ?2, ?3, ?4)";
    tx.execute(sql, (id.as_str(), name, canonical_id, now.0))?;
    Ok(())
}

/// Adds a user at the path `/`.
pub fn insert_user(
    tx: &Tx,
    account: &AccountId,
    name: &str,
    unique_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "INSERT INTO users (account, name, unique_id, created_at) VALUES (?1, ?2, ?3, ?4)";
    tx.execute(sql, (account.as_str(), name, unique_id, now.0))?;
    Ok(())
}

/// Adds an active access key.
pub fn insert_key(tx: &Tx, key: &KeyRow, now: Timestamp) -> Result<(), Error> {
    let sql = "INSERT INTO access_keys (id, account, user, sealed_secret, active, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let account = key.account.as_str();
    tx.execute(
        sql,
        (
            key.id.as_str(),
            account,
            &key.user,
            &key.sealed_secret,
            key.active,
            now.0,
        ),
    )?;
    Ok(())
}

/// Adds a user's X.509 certificate, by the SHA-1 of its DER in hex.
pub fn insert_certificate(
    tx: &Tx,
    id: &str,
    account: &AccountId,
    user: &str,
    pem: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "INSERT INTO signing_certificates (id, account, user, pem, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    tx.execute(sql, (id, account.as_str(), user, pem, now.0))?;
    Ok(())
}

/// The certificate of an account's administrator, in PEM; the newest if there are several.
pub fn certificate_of(tx: &Tx, account: &AccountId) -> Result<Option<String>, Error> {
    let sql = "SELECT pem FROM signing_certificates WHERE account = ?1 AND active \
               ORDER BY user <> 'admin', created_at DESC LIMIT 1";
    let mut found = tx.prepare_cached(sql)?;
    let mut rows = found.query([account.as_str()])?;
    Ok(rows.next()?.map(|row| row.get("pem")).transpose()?)
}

/// The account that `init` made for people: the cloud's own administrators.
pub fn first_account(tx: &Tx) -> Result<Option<AccountId>, Error> {
    let sql = "SELECT id FROM accounts WHERE id <> ?1 AND deleted_at IS NULL
               ORDER BY created_at, rowid LIMIT 1";
    let mut found = tx.prepare_cached(sql)?;
    let mut rows = found.query([AccountId::system().as_str()])?;
    Ok(rows
        .next()?
        .map(|row| super::parsed(row, "id"))
        .transpose()?)
}

/// Whether there is such an account.
pub fn is_account(tx: &Tx, id: &AccountId) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM accounts WHERE id = ?1 AND deleted_at IS NULL";
    Ok(tx.prepare_cached(sql)?.exists([id.as_str()])?)
}
