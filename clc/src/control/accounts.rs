//! Accounts, as the administrator's command makes and lists them.

use std::sync::Arc;

use control::{
    CallError, Code,
    cloud::{Account, AccountAsk, AccountList, NewAccount},
};

use super::internal;
use crate::{
    Clc,
    accounts::{Making, is_name},
    rows::identity,
};

/// Makes an account with a default VPC and an access key.
pub(super) async fn create(clc: &Arc<Clc>, ask: AccountAsk) -> Result<NewAccount, CallError> {
    if !is_name(&ask.name) {
        let text = "an account's name is 1 to 63 lower-case letters, digits and inner dashes";
        return Err(CallError::new(Code::Invalid, text));
    }
    let making = Making::named(&ask.name);
    let (made, seal) = (making.clone(), clc.seal.clone());
    let (vpc, now) = (clc.config.network.default_vpc, clc.now());
    let written = clc
        .db
        .write(move |tx| made.write_with_network(tx, &seal, vpc, now))
        .await;
    match written {
        Ok(()) => {}
        Err(error) if error.is_constraint() => {
            let text = format!("there is an account {} already", making.name);
            return Err(CallError::new(Code::Conflict, text));
        }
        Err(error) => return Err(internal(error)),
    }
    clc.identity.reload(&clc.db).await.map_err(internal)?;
    tracing::info!(account = %making.account, name = making.name, "account made");
    Ok(NewAccount {
        account: making.account,
        name: making.name,
        access_key_id: making.access_key,
        secret_access_key: making.secret,
    })
}

/// All accounts but the deleted ones, by name.
pub(super) async fn list(clc: &Arc<Clc>) -> Result<AccountList, CallError> {
    let everyone = clc.db.read(identity::everyone).await.map_err(internal)?;
    let living = everyone.accounts.into_iter().filter(|row| !row.deleted);
    let mut accounts: Vec<Account> = living
        .map(|row| Account {
            account: row.id,
            name: row.name,
            canonical_id: row.canonical_id,
            deleted: false,
        })
        .collect();
    accounts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(AccountList { accounts })
}
