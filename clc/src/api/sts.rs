//! Who is asking.

use ec2::sts::{GetCallerIdentity, GetCallerIdentityOutput};

use super::errors::Result;
use crate::{Caller, Clc};

/// Tells the caller who the signature says it is.
pub async fn get_caller_identity(
    _: &Clc,
    caller: &Caller,
    _: GetCallerIdentity,
) -> Result<GetCallerIdentityOutput> {
    Ok(GetCallerIdentityOutput {
        user_id: caller.user_id().to_owned(),
        account: caller.account().clone(),
        arn: caller.arn().clone(),
    })
}
