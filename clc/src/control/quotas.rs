//! Quotas of the object store, as the administrator's command asks and sets them. Walrus keeps and
//! decides them; here is only the way there, and who is an account.

use std::sync::Arc;

use control::{
    CallError, Code, Objects,
    node::Done,
    objects::{AskQuotas, Quotas, SetQuota},
    rpc::Call,
};
use types::quota::QuotaOf;

use super::internal;
use crate::{Clc, rows::identity};

/// How much accounts and buckets may hold, and do.
pub(super) async fn ask(clc: &Arc<Clc>, call: &Call, ask: AskQuotas) -> Result<Quotas, CallError> {
    if let Some(of) = &ask.of {
        check(clc, of).await?;
    }
    walrus(clc)?.quotas(call, ask).await
}

/// Says how much one may hold.
pub(super) async fn set(clc: &Arc<Clc>, call: &Call, ask: SetQuota) -> Result<Done, CallError> {
    check(clc, &ask.of).await?;
    let (of, done) = (ask.of.clone(), walrus(clc)?.set_quota(call, ask).await?);
    tracing::info!(%of, "quota set by the administrator");
    Ok(done)
}

fn walrus(clc: &Clc) -> Result<Arc<dyn Objects>, CallError> {
    let joined = clc.peers.objects();
    joined.ok_or_else(|| CallError::new(Code::NotReady, "no Walrus has joined"))
}

/// A quota of nobody would be a mistyped number that nobody notices.
async fn check(clc: &Arc<Clc>, of: &QuotaOf) -> Result<(), CallError> {
    let QuotaOf::Account(account) = of else {
        return Ok(());
    };
    let everyone = clc.db.read(identity::everyone).await.map_err(internal)?;
    let mut living = everyone.accounts.iter().filter(|row| !row.deleted);
    match living.any(|row| row.id == *account) {
        true => Ok(()),
        false => Err(CallError::not_found(of)),
    }
}
