//! Tokens by which a repeated request gets the first one's answer.

use rusqlite::{OptionalExtension, named_params};
use store::{Error, Tx};
use types::{AccountId, Timestamp};

/// A token that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientToken {
    /// SHA-256 of the request that used it.
    pub digest: String,
    /// The id of what that request made.
    pub made: String,
}

/// What the token made, if it was used before.
pub fn find(
    tx: &Tx,
    account: &AccountId,
    action: &str,
    token: &str,
) -> Result<Option<ClientToken>, Error> {
    Ok(tx
        .prepare_cached(
            "SELECT digest, made FROM client_tokens \
             WHERE account = :account AND action = :action AND token = :token",
        )?
        .query_row(
            named_params! {":account": account.as_str(), ":action": action, ":token": token},
            |row| {
                Ok(ClientToken {
                    digest: row.get(0)?,
                    made: row.get(1)?,
                })
            },
        )
        .optional()?)
}

/// Records what the token made, in the transaction that makes it.
pub fn insert(
    tx: &Tx,
    account: &AccountId,
    action: &str,
    token: &str,
    used: &ClientToken,
    now: Timestamp,
) -> Result<(), Error> {
    tx.prepare_cached(
        "INSERT INTO client_tokens (account, action, token, digest, made, created_at) \
         VALUES (:account, :action, :token, :digest, :made, :now)",
    )?
    .execute(named_params! {
        ":account": account.as_str(),
        ":action": action,
        ":token": token,
        ":digest": used.digest,
        ":made": used.made,
        ":now": now.as_millis(),
    })?;
    Ok(())
}

/// Forgets tokens used before `before` of which nothing is seen any more. Every boto3 and Terraform launch
/// brings one, so they must not pile up.
pub fn expire(tx: &Tx, before: Timestamp) -> Result<usize, Error> {
    Ok(tx
        .prepare_cached(
            "DELETE FROM client_tokens WHERE created_at < ?1 \
             AND NOT EXISTS (SELECT 1 FROM instances WHERE reservation = client_tokens.made \
             AND forgotten_at IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM volumes WHERE id = client_tokens.made \
             AND (state <> 'deleted' OR state_since >= ?1))",
        )?
        .execute([before.as_millis()])?)
}
