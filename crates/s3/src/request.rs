//! The typed request. [`Request::parse`] reads method, host, path, query and headers once; after it
//! nobody looks at them again but the signature check. Bodies are read later, after authentication.

mod parse;
mod route;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use types::AccountId;

use crate::{
    Action, BucketName, Error, Key, Qualifier, Result, VersionId,
    acl::AclWish,
    address::Address,
    checksum::Algorithm,
    conditions::{DeleteConditions, ReadConditions, WriteConditions},
    copy_source::CopySource,
    documents::{
        attributes::Attribute, cors::Asked, lock::Locked, ownership::Ownership, tagging::Tags,
    },
    encryption::{CustomerKey, Encryption},
    headers::{Attributes, BodyClaims, ChecksumPlan},
    range::ByteRange,
    settings::Kind,
};

/// Keys, parts, uploads or buckets in one page, whatever a client asks for.
pub const MAX_PAGE: u32 = 1000;
/// Buckets in one page of ListBuckets (API reference).
pub const MAX_BUCKET_PAGE: u32 = 10_000;
/// Parts of one upload.
pub const MAX_PARTS: u32 = 10_000;

/// One request: what is asked, of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it is about.
    pub address: Address,
    /// What is to be done.
    pub operation: Operation,
    /// The operation's row in the table, for policies, logs and metrics.
    pub action: Action,
    /// What is claimed about the body.
    pub body: BodyClaims,
    /// Whose its bucket must be.
    pub whose: Whose,
    /// The path and query as they came: the `Resource` of an error.
    pub resource: String,
}

/// Whose a bucket must be, as far as its client says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whose {
    /// `x-amz-expected-bucket-owner`: what is somebody else's is refused.
    pub expected: Option<String>,
    /// The account before the bucket's colon: what is somebody else's is not there.
    pub qualifier: Option<Qualifier>,
}

impl Whose {
    /// Whether a bucket of this account is there under the name that the client wrote.
    pub fn admits(&self, owner: &AccountId) -> bool {
        let qualifier = self.qualifier.as_ref();
        qualifier.is_none_or(|qualifier| qualifier.admits(owner))
    }
}

/// An operation with everything that its headers and parameters say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the S3 API reference")]
#[allow(
    clippy::large_enum_variant,
    reason = "one lives as long as its request, and is never in a list"
)]
pub enum Operation {
    ListBuckets(ListBuckets),
    GetAccountUsage,

    CreateBucket {
        bucket: BucketName,
        create: CreateBucket,
    },
    DeleteBucket {
        bucket: BucketName,
    },
    HeadBucket {
        bucket: BucketName,
        read_stats: bool,
    },
    GetBucketLocation {
        bucket: BucketName,
    },
    GetBucketAcl {
        bucket: BucketName,
    },
    PutBucketAcl {
        bucket: BucketName,
        acl: Option<AclWish>,
    },
    ListObjects {
        bucket: BucketName,
        list: ListObjects,
    },
    DeleteObjects {
        bucket: BucketName,
        bypass_governance: bool,
    },
    ListMultipartUploads {
        bucket: BucketName,
        list: ListUploads,
    },
    ListObjectVersions {
        bucket: BucketName,
        list: ListVersions,
    },
    GetSetting {
        bucket: BucketName,
        kind: Kind,
    },
    PutSetting {
        bucket: BucketName,
        kind: Kind,
    },
    DeleteSetting {
        bucket: BucketName,
        kind: Kind,
    },
    GetBucketPolicyStatus {
        bucket: BucketName,
    },
    Preflight {
        bucket: BucketName,
        asked: Asked,
    },
    PostObject {
        bucket: BucketName,
    },

    PutObject {
        at: Place,
        put: PutObject,
    },
    CopyObject {
        at: Place,
        copy: CopyObject,
    },
    GetObject {
        at: Place,
        get: GetObject,
    },
    HeadObject {
        at: Place,
        get: GetObject,
    },
    DeleteObject {
        at: Place,
        delete: DeleteObject,
    },
    GetObjectAttributes {
        at: Place,
        get: GetAttributes,
    },
    GetObjectTagging {
        at: Place,
    },
    PutObjectTagging {
        at: Place,
    },
    DeleteObjectTagging {
        at: Place,
    },
    GetObjectRetention {
        at: Place,
    },
    PutObjectRetention {
        at: Place,
        bypass_governance: bool,
    },
    GetObjectLegalHold {
        at: Place,
    },
    PutObjectLegalHold {
        at: Place,
    },
    GetObjectAcl {
        at: Place,
    },
    PutObjectAcl {
        at: Place,
        acl: Option<AclWish>,
    },

    CreateMultipartUpload {
        at: Place,
        create: CreateUpload,
    },
    UploadPart {
        at: Place,
        part: PartName,
    },
    UploadPartCopy {
        at: Place,
        part: PartName,
        source: Source,
        range: Option<ByteRange>,
    },
    CompleteMultipartUpload {
        at: Place,
        upload_id: String,
        complete: Complete,
    },
    AbortMultipartUpload {
        at: Place,
        upload_id: String,
    },
    ListParts {
        at: Place,
        upload_id: String,
        list: ListParts,
    },

    /// Named in the table and refused.
    NotServed,
}

impl Operation {
    /// What is copied, if something is.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::CopyObject { copy, .. } => Some(&copy.source),
            Self::UploadPartCopy { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// An object's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket.
    pub bucket: BucketName,
    /// The key.
    pub key: Key,
    /// The version; none means the current one.
    pub version: Option<VersionId>,
}

/// Parameters of ListBuckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListBuckets {
    /// Only names that start so.
    pub prefix: String,
    /// Only names after this one.
    pub after: String,
    /// So many at most; `None` means all.
    pub max: Option<u32>,
}

/// Parameters of CreateBucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateBucket {
    /// Who may do what.
    pub acl: Option<AclWish>,
    /// Who owns new objects.
    pub ownership: Option<Ownership>,
    /// Whether versions can be locked.
    pub object_lock: bool,
}

/// Parameters of DeleteObject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteObject {
    /// Whether it may be deleted.
    pub conditions: DeleteConditions,
    /// Whether the right to bypass a governed retention is to be used.
    pub bypass_governance: bool,
}

/// Parameters of both ListObjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListObjects {
    /// Only keys that start so.
    pub prefix: String,
    /// Roll up what follows this.
    pub delimiter: Option<String>,
    /// So many keys and prefixes at most.
    pub max_keys: u32,
    /// Whether keys are answered percent-encoded.
    pub encode: bool,
    /// What the two versions do differently.
    pub version: ListVersion,
}

/// How a list is continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListVersion {
    /// By the last key.
    V1 {
        /// List what comes after this.
        marker: String,
    },
    /// By a token.
    V2 {
        /// The token as it came, to be echoed.
        token: Option<String>,
        /// List what comes after this: what the token says, else `start_after`.
        after: String,
        /// Echoed.
        start_after: Option<String>,
        /// Whether owners are listed.
        fetch_owner: bool,
    },
}

impl ListObjects {
    /// List what comes after this.
    pub fn after(&self) -> &str {
        match &self.version {
            ListVersion::V1 { marker } => marker,
            ListVersion::V2 { after, .. } => after,
        }
    }
}

/// The opaque continuation of a version 2 list.
pub fn token_of(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

fn after_token(token: &str) -> Result<String> {
    let text = URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| {
        let message = "The continuation token provided is incorrect";
        Error::invalid_argument("continuation-token", token, message)
    })
}

/// Parameters of ListMultipartUploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListUploads {
    /// Only keys that start so.
    pub prefix: String,
    /// Roll up what follows this.
    pub delimiter: Option<String>,
    /// List what comes after this key,
    pub key_marker: String,
    /// and at this key after this upload.
    pub upload_id_marker: String,
    /// So many at most.
    pub max_uploads: u32,
    /// Whether keys are answered percent-encoded.
    pub encode: bool,
}

/// Parameters of ListObjectVersions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListVersions {
    /// Only keys that start so.
    pub prefix: String,
    /// Roll up what follows this.
    pub delimiter: Option<String>,
    /// List what comes after this key,
    pub key_marker: String,
    /// or what is older than this version of it.
    pub version_marker: String,
    /// So many versions and prefixes at most.
    pub max_keys: u32,
    /// Whether keys are answered percent-encoded.
    pub encode: bool,
}

/// Parameters of ListParts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListParts {
    /// List parts after this number.
    pub after: u32,
    /// So many at most.
    pub max_parts: u32,
}

/// What a PUT says besides its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutObject {
    /// What is kept with the object.
    pub attributes: Attributes,
    /// Who may do what with it.
    pub acl: Option<AclWish>,
    /// Whether it may be written.
    pub conditions: WriteConditions,
    /// Its tags.
    pub tags: Tags,
    /// Its lock.
    pub lock: Locked,
    /// How it is kept.
    pub encryption: Encryption,
}

/// A copy's source and when it may be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Where.
    pub from: CopySource,
    /// `x-amz-copy-source-if-…`.
    pub conditions: ReadConditions,
    /// Whose its bucket must be: `x-amz-source-expected-bucket-owner`, and the account before a colon.
    pub whose: Whose,
    /// The key that it is kept under.
    pub key: Option<CustomerKey>,
}

/// Parameters of CopyObject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyObject {
    /// What to copy.
    pub source: Source,
    /// New attributes; `None` keeps the source's.
    pub replace: Option<Attributes>,
    /// A storage class that was asked for, if attributes are kept.
    pub storage_class: Option<String>,
    /// Who may do what with the copy.
    pub acl: Option<AclWish>,
    /// Whether it may be written.
    pub conditions: WriteConditions,
    /// New tags; `None` keeps the source's.
    pub tags: Option<Tags>,
    /// The copy's lock.
    pub lock: Locked,
    /// How the copy is kept.
    pub encryption: Encryption,
}

/// Parameters of GetObject and HeadObject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetObject {
    /// Which bytes.
    pub range: Option<ByteRange>,
    /// Which part of an object that was uploaded in parts.
    pub part_number: Option<u32>,
    /// When it may be sent.
    pub conditions: ReadConditions,
    /// `response-…`: header and value to answer instead of what is kept.
    pub overrides: Vec<(&'static str, String)>,
    /// Whether the checksum is answered.
    pub checksum_mode: bool,
    /// The key that it is kept under.
    pub key: Option<CustomerKey>,
}

/// Parameters of GetObjectAttributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetAttributes {
    /// What is asked for.
    pub attributes: Vec<Attribute>,
    /// List parts after this number.
    pub after: u32,
    /// So many at most.
    pub max_parts: u32,
    /// The key that it is kept under.
    pub key: Option<CustomerKey>,
}

/// Parameters of CreateMultipartUpload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateUpload {
    /// What will be kept with the object.
    pub attributes: Attributes,
    /// Who may do what with it.
    pub acl: Option<AclWish>,
    /// Which checksums its parts have.
    pub checksum: ChecksumPlan,
    /// Its tags.
    pub tags: Tags,
    /// Its lock.
    pub lock: Locked,
    /// How it is kept.
    pub encryption: Encryption,
}

/// Parameters of CompleteMultipartUpload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Complete {
    /// Whether the object may be written.
    pub conditions: WriteConditions,
    /// The checksum that the whole object must have. Here the header does not speak of the body.
    pub checksum: Option<(Algorithm, String)>,
    /// The size that the whole object must have.
    pub size: Option<u64>,
    /// The key that the upload is kept under.
    pub key: Option<CustomerKey>,
}

/// One part of one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartName {
    /// The upload.
    pub upload_id: String,
    /// 1 to 10,000.
    pub number: u32,
    /// The key that the upload is kept under.
    pub key: Option<CustomerKey>,
}

#[cfg(test)]
mod tests;
