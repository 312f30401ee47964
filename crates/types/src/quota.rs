//! Quotas of the object store: how much an account or a bucket may hold, and how much it does.

use serde::{Deserialize, Serialize};

use crate::AccountId;

/// What a quota is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaOf {
    /// All buckets of an account together.
    Account(AccountId),
    /// One bucket, by its name.
    Bucket(String),
}

impl std::fmt::Display for QuotaOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Account(account) => write!(f, "account {account}"),
            Self::Bucket(bucket) => write!(f, "bucket {bucket}"),
        }
    }
}

/// One limit as an administrator sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// What the configuration says for everybody.
    #[default]
    Default,
    /// There is none, whatever the configuration says.
    None,
    /// So much and not more.
    At(u64),
}

impl Limit {
    /// The limit that holds where the configuration says `default`; `None` is no limit.
    pub const fn or(self, default: Option<u64>) -> Option<u64> {
        match self {
            Self::Default => default,
            Self::None => None,
            Self::At(limit) => Some(limit),
        }
    }

    /// Whether nobody set it.
    pub fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

/// The limits that were set for one account or bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of all versions of all objects, and of the parts of unfinished uploads.
    #[serde(skip_serializing_if = "Limit::is_default")]
    pub bytes: Limit,
    /// Versions of objects; delete markers are none.
    #[serde(skip_serializing_if = "Limit::is_default")]
    pub objects: Limit,
    /// Buckets. Means something for an account only.
    #[serde(skip_serializing_if = "Limit::is_default")]
    pub buckets: Limit,
}

impl Limits {
    /// Whether nothing was set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The limits that hold where the configuration says `defaults`.
    pub const fn or(self, defaults: Bounds) -> Bounds {
        Bounds {
            bytes: self.bytes.or(defaults.bytes),
            objects: self.objects.or(defaults.objects),
            buckets: self.buckets.or(defaults.buckets),
        }
    }
}

/// Limits that hold; absent is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Versions of objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<u64>,
    /// Buckets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<u64>,
}

/// What an account or a bucket holds, counted as [`Limits`] says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Versions of objects.
    pub objects: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_goes_before_the_default() {
        let defaults = Bounds {
            bytes: Some(10),
            objects: Some(20),
            buckets: None,
        };
        let limits = Limits {
            bytes: Limit::None,
            buckets: Limit::At(3),
            ..Limits::default()
        };
        let bounds = Bounds {
            bytes: None,
            objects: Some(20),
            buckets: Some(3),
        };
        assert_eq!(limits.or(defaults), bounds);
    }

    #[test]
    fn limits_are_written_as_they_have_always_been() {
        let limits = Limits {
            bytes: Limit::At(5),
            objects: Limit::None,
            ..Limits::default()
        };
        let text = r#"{"bytes":{"at":5},"objects":"none"}"#;
        assert_eq!(serde_json::to_string(&limits).unwrap(), text);
        assert_eq!(serde_json::from_str::<Limits>(text).unwrap(), limits);
        let of = QuotaOf::Bucket("photos".into());
        assert_eq!(
            serde_json::to_string(&of).unwrap(),
            r#"{"bucket":"photos"}"#
        );
    }
}
