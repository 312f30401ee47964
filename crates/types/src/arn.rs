//! Amazon resource names: `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::AccountId;

/// A resource name, kept as text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Arn(String);

impl Arn {
    /// The root of an account, `arn:aws:iam::ACCOUNT:root`.
    pub fn account_root(account: &AccountId) -> Self {
        Self(format!("arn:aws:iam::{account}:root"))
    }

    /// A user, `arn:aws:iam::ACCOUNT:user/NAME`. The path starts and ends with a slash.
    pub fn user(account: &AccountId, path: &str, name: &str) -> Self {
        Self(format!("arn:aws:iam::{account}:user{path}{name}"))
    }

    /// A thing of EC2, `arn:aws:ec2:REGION:ACCOUNT:KIND/ID`.
    pub fn ec2(region: &str, account: &AccountId, kind: &str, id: &str) -> Self {
        Self(format!("arn:aws:ec2:{region}:{account}:{kind}/{id}"))
    }

    /// A bucket, or with a key an object, `arn:aws:s3:::BUCKET/KEY`.
    pub fn s3(bucket: &str, key: Option<&str>) -> Self {
        match key {
            Some(key) => Self(format!("arn:aws:s3:::{bucket}/{key}")),
            None => Self(format!("arn:aws:s3:::{bucket}")),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
