//! What Walrus answers to the Cloud Controller: objects, read in somebody's name.

use serde::{Deserialize, Serialize};
use types::{
    AccountId,
    quota::{Bounds, Limit, Limits, QuotaOf, Usage},
};

use crate::{error::CallError, node::Done, peer::Role, rpc::rpc};

/// In whose name: Walrus decides as if that user had asked over S3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The account.
    pub account: AccountId,
    /// The user within the account; `admin` is the account's own.
    pub user: String,
}

/// Asks for a small object, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadObject {
    /// In whose name.
    pub principal: Principal,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The most that the caller takes: `Invalid` if the object is larger.
    pub bytes_max: u64,
}

/// A small object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectBytes {
    /// The bytes, in base64.
    pub content: String,
    /// The entity tag, without quotes.
    pub etag: String,
}

/// Asks what may be read of a list of objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatObjects {
    /// In whose name.
    pub principal: Principal,
    /// The bucket.
    pub bucket: String,
    /// The keys; 10,000 at most.
    pub keys: Vec<String>,
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectStat {
    /// The key.
    pub key: String,
    /// Its size, or why it cannot be read: `NoSuchKey`, `AccessDenied`.
    pub size: Result<u64, String>,
}

/// What is known of a list of objects, in the order asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectStats {
    /// One for each key.
    pub objects: Vec<ObjectStat>,
}

/// Asks for objects under other names too, in a bucket of the cloud's own account, which is made if
/// it is not there. What is there already is made anew: this may be asked twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkObjects {
    /// Where they are.
    pub from_bucket: String,
    /// What stands before their names there; empty, or ends in a slash.
    pub from_prefix: String,
    /// Their names; 1,000 at most.
    pub names: Vec<String>,
    /// The bucket in which they are to be as well, by name alone.
    pub to_bucket: String,
}

/// Asks for a bucket of the cloud's own account to be gone, with all that is in it. One that is not
/// there is no error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropObjects {
    /// The bucket.
    pub bucket: String,
}

/// Asks how Walrus is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskObjectsStatus {}

/// How Walrus is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectsStatus {
    /// Buckets in all.
    pub buckets: u64,
    /// Objects in all.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes free where they lie.
    pub free_bytes: u64,
    /// The revision of the identity feed that it has.
    pub identity_revision: u64,
}

/// Asks how much accounts and buckets may hold, and do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskQuotas {
    /// Of which: `NotFound` if there is no such bucket. Absent: of all accounts that have buckets or
    /// limits, and of all buckets that have limits of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<QuotaOf>,
}

/// How much one account or bucket may hold, and does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaLine {
    /// Which.
    pub of: QuotaOf,
    /// What was set for it.
    pub limits: Limits,
    /// What holds: that, or what Walrus's configuration says.
    pub bounds: Bounds,
    /// What it holds.
    pub used: Usage,
    /// How many buckets an account has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<u64>,
}

/// How much accounts and buckets may hold, and do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// One for each.
    pub quotas: Vec<QuotaLine>,
}

/// Asks that an account or a bucket may hold so much. A limit that is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetQuota {
    /// Which: `NotFound` if there is no such account or bucket.
    pub of: QuotaOf,
    /// The limit of its bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Limit>,
    /// The limit of its versions of objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects: Option<Limit>,
    /// The limit of an account's buckets; `Invalid` for a bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Limit>,
}

rpc! {
    /// Walrus, to the cloud itself. Only the CLC may call it.
    trait Objects serves Role::Walrus {
        /// Reads a small object. `NotFound` and `Forbidden` as S3 would say.
        read_object(ReadObject) -> ObjectBytes, by [Role::Clc];
        /// Says which objects may be read, and their sizes.
        stat_objects(StatObjects) -> ObjectStats, by [Role::Clc];
        /// Gives objects another name in a bucket of the cloud's own. `NotFound` if one is not there,
        /// `Conflict` if the bucket is somebody's.
        link_objects(LinkObjects) -> Done, by [Role::Clc];
        /// Removes a bucket of the cloud's own. `Conflict` if it is somebody's.
        drop_objects(DropObjects) -> Done, by [Role::Clc];
        /// How much accounts and buckets may hold, and do.
        quotas(AskQuotas) -> Quotas, by [Role::Clc];
        /// Says how much one may hold. What it holds already stays.
        set_quota(SetQuota) -> Done, by [Role::Clc];
        /// How it is.
        status(AskObjectsStatus) -> ObjectsStatus, by [Role::Clc];
    }
}
