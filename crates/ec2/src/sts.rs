//! The Security Token Service: the one call that Terraform and Ansible make before all else.

use serde::{Deserialize, Serialize};
use types::{AccountId, Arn};

use crate::Action;

/// The namespace of STS's answers.
pub const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Who am I?
#[derive(Debug, Deserialize)]
pub struct GetCallerIdentity {}

/// It is the caller's, whoever that is: no policy can refuse it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetCallerIdentityOutput {
    pub user_id: String,
    pub account: AccountId,
    pub arn: Arn,
}

impl Action for GetCallerIdentity {
    const NAME: &'static str = "GetCallerIdentity";
    type Output = GetCallerIdentityOutput;
}
