//! What a request wants to become true. [`Change::decide`] looks at what is, and answers the facts
//! that make it so, or why not. It runs inside the commit: nothing changes between look and write.

mod buckets;
mod objects;
mod quotas;
mod uploads;

use bytes::Bytes;
use s3::{
    BucketName, Code, Error, Key, VersionId,
    conditions::{DeleteConditions, WriteConditions},
    documents::{delete::Deleted, lock::Locked, multipart::NamedPart, versions::Versioning},
};
use types::{
    Timestamp,
    quota::{Limit, QuotaOf},
};

use super::{
    blobs::NewBlob,
    events::Happened,
    facts::{Bucket, Fact, Object, Part, Upload},
    failure::Result,
    index::{Kept, View},
};

pub use buckets::BucketChange;
pub use objects::{ObjectChange, no_lock};

/// A bucket as the request saw it: another one of the same name is not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SameBucket {
    /// Its name.
    pub name: BucketName,
    /// Its id.
    pub id: String,
}

/// One change that is wished for. New files belong to the change: they are deleted if it is not
/// made.
#[derive(Debug)]
pub enum Change {
    /// Make a bucket.
    CreateBucket(Box<Bucket>),
    /// Delete an empty bucket, and its unfinished uploads.
    DeleteBucket(SameBucket),
    /// Change something about a bucket.
    SetBucket(SameBucket, BucketChange),
    /// Write an object.
    PutObject(Box<PutChange>),
    /// Delete an object or a version of it; what is not there is deleted already.
    DeleteObject(Box<DeleteChange>),
    /// Change something about a version of an object.
    SetObject {
        /// Its bucket.
        bucket: SameBucket,
        /// Its key.
        key: Key,
        /// The version that was looked at.
        seen: Seen,
        /// What to change.
        change: ObjectChange,
    },
    /// Begin an upload.
    CreateUpload(SameBucket, Box<Upload>),
    /// Write a part.
    PutPart {
        /// The bucket of the upload.
        bucket: SameBucket,
        /// The part.
        part: Box<Part>,
        /// Its file.
        blob: NewBlob,
    },
    /// Make an object of an upload's parts.
    CompleteUpload(Box<CompleteChange>),
    /// Forget an upload.
    AbortUpload {
        /// The bucket of the upload.
        bucket: SameBucket,
        /// The key of the upload.
        key: Key,
        /// Its id.
        upload_id: String,
    },
    /// Forget events: they were delivered, or given up.
    RemoveEvents {
        /// For which destination.
        to: String,
        /// Which.
        ids: Vec<u64>,
    },
    /// Set how much an account or a bucket may hold.
    SetQuota(QuotaOf, QuotaChange),
}

/// Limits to be set; those that are absent stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuotaChange {
    /// Of bytes.
    pub bytes: Option<Limit>,
    /// Of versions of objects.
    pub objects: Option<Limit>,
    /// Of buckets.
    pub buckets: Option<Limit>,
}

/// Which object a request looked at before it changed something about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its version.
    pub version: VersionId,
    /// Its entity tag.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
}

impl Seen {
    /// Of an object.
    pub fn of(object: &Object) -> Self {
        Self {
            version: object.version.clone(),
            etag: object.etag.clone(),
            modified: object.modified,
        }
    }
}

/// An object to be written.
#[derive(Debug)]
pub struct PutChange {
    /// Its bucket.
    pub bucket: SameBucket,
    /// The object; its version and order are decided by the commit.
    pub object: Object,
    /// Its bytes, if they are inline.
    pub inline: Bytes,
    /// Its files, if they are not.
    pub blobs: Vec<NewBlob>,
    /// Whether it may be written.
    pub conditions: WriteConditions,
    /// What makes its version id one that nobody can guess.
    pub unique: u64,
}

/// A version to be deleted, or a delete marker to be set.
#[derive(Debug)]
pub struct DeleteChange {
    /// Its bucket.
    pub bucket: SameBucket,
    /// Its key.
    pub key: Key,
    /// Which version to delete for good; none means what the bucket's versioning says.
    pub version: Option<VersionId>,
    /// Whether it may be deleted.
    pub conditions: DeleteConditions,
    /// Whether the caller may and wants to bypass a governed retention.
    pub bypass_governance: bool,
    /// Whose a delete marker will be.
    pub owner: types::AccountId,
    /// When.
    pub now: Timestamp,
    /// What makes a marker's version id one that nobody can guess.
    pub unique: u64,
}

/// An upload to be completed.
#[derive(Debug)]
pub struct CompleteChange {
    /// Its bucket.
    pub bucket: SameBucket,
    /// Its key.
    pub key: Key,
    /// Its id.
    pub upload_id: String,
    /// The parts that the client names.
    pub parts: Vec<NamedPart>,
    /// A checksum of the whole that the client names.
    pub checksum: Option<(s3::checksum::Algorithm, String)>,
    /// A size of the whole that the client names.
    pub size: Option<u64>,
    /// Whether the object may be written.
    pub conditions: WriteConditions,
    /// When.
    pub now: Timestamp,
    /// What makes its version id one that nobody can guess.
    pub unique: u64,
}

/// What a change did.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// What was asked.
    Made,
    /// It was so already.
    Same,
    /// An object was written, as this version if its bucket has versions.
    Written(Option<VersionId>),
    /// Something was deleted, or a delete marker was set.
    Deleted(Deleted),
    /// The upload became this object, in a bucket that has versions or not.
    Completed(Box<Object>, Option<VersionId>),
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) facts: Vec<Fact>,
    pub(super) body: Bytes,
    pub(super) blobs: Vec<NewBlob>,
    pub(super) done: Done,
    /// The bucket that it is about, where objects or parts change.
    pub(super) bucket: Option<Bucket>,
    /// What it tells, if somebody listens.
    pub(super) happened: Option<Happened>,
}

impl Decision {
    fn of(facts: Vec<Fact>) -> Self {
        Self {
            facts,
            body: Bytes::new(),
            blobs: Vec::new(),
            done: Done::Made,
            bucket: None,
            happened: None,
        }
    }

    fn tells(self, happened: Happened) -> Self {
        Self {
            happened: Some(happened),
            ..self
        }
    }

    fn inside(self, bucket: Bucket) -> Self {
        let bucket = Some(bucket);
        Self { bucket, ..self }
    }

    fn done(self, done: Done) -> Self {
        Self { done, ..self }
    }
}

/// Reads the inline body of an object that is kept.
pub(super) type InlineBody<'a> = &'a dyn Fn(&Kept<Object>) -> Result<Bytes>;

impl Change {
    pub(super) fn decide(self, view: View<'_>, inline: InlineBody<'_>) -> Result<Decision> {
        match self {
            Self::CreateBucket(bucket) => buckets::create(*bucket, view),
            Self::DeleteBucket(bucket) => buckets::delete(&bucket, view),
            Self::SetBucket(bucket, change) => buckets::set(&bucket, change, view),
            Self::PutObject(put) => objects::put(*put, view),
            Self::DeleteObject(delete) => objects::delete(*delete, view),
            Self::SetObject {
                bucket,
                key,
                seen,
                change,
            } => objects::set(&bucket, &key, &seen, change, view, inline),
            Self::CreateUpload(bucket, upload) => {
                same_bucket(&bucket, view)?;
                Ok(Decision::of(vec![Fact::UploadSet(upload)]))
            }
            Self::PutPart { bucket, part, blob } => uploads::put_part(&bucket, part, blob, view),
            Self::CompleteUpload(complete) => uploads::complete(&complete, view),
            Self::AbortUpload {
                bucket,
                key,
                upload_id,
            } => uploads::abort(&bucket, &key, upload_id, view),
            Self::SetQuota(of, change) => quotas::set(of, change, view),
            Self::RemoveEvents { to, ids } => Ok(Decision::of(vec![Fact::EventsGone { to, ids }])),
        }
    }
}

fn same_bucket(seen: &SameBucket, view: View<'_>) -> Result<Bucket> {
    let bucket = view.find_bucket(&seen.name)?.map(|kept| kept.thing);
    let bucket = bucket.filter(|bucket| bucket.id == seen.id);
    bucket.ok_or_else(|| no_such_bucket(&seen.name).into())
}

/// `NoSuchBucket` with the name.
pub fn no_such_bucket(name: &BucketName) -> Error {
    Error::from(Code::NoSuchBucket).with("BucketName", name.as_str())
}

/// `NoSuchUpload` with the id.
pub fn no_such_upload(upload_id: &str) -> Error {
    Error::from(Code::NoSuchUpload).with("UploadId", upload_id)
}

/// Gives a new version its place and its id, as the bucket's versioning has it.
fn place(object: &mut Object, bucket: &Bucket, newest: Option<&Object>, unique: u64) -> Result<()> {
    object.order = newest.map_or(0, |newest| newest.order + 1);
    object.version = match bucket.settings.versioning {
        Some(Versioning::Enabled) => VersionId::mint(object.order, unique),
        Some(Versioning::Suspended) | None => VersionId::null(),
    };
    object.lock = lock(object, bucket)?;
    Ok(())
}

/// What keeps a new version: what its writer says, else what the bucket says.
fn lock(object: &Object, bucket: &Bucket) -> Result<Locked> {
    let mut lock = object.lock;
    let Some(configuration) = bucket.settings.object_lock else {
        if lock.is_empty() {
            return Ok(lock);
        }
        let why = "Bucket is missing Object Lock Configuration";
        return Err(Error::new(Code::InvalidRequest, why).into());
    };
    if let Some(retention) = lock.retention
        && retention.until <= object.modified
    {
        let why = "The retain until date must be in the future!";
        return Err(Error::new(Code::InvalidArgument, why).into());
    }
    if lock.retention.is_none() && !object.is_marker() {
        let default = configuration.default;
        lock.retention = default.map(|default| default.from(object.modified));
    }
    Ok(lock)
}

/// The version that an answer names.
fn told(version: &VersionId, bucket: &Bucket) -> Option<VersionId> {
    bucket.settings.versioning.map(|_| version.clone())
}

/// The version that the answer to a write names: one that the next write replaces has no name.
fn told_written(version: &VersionId, bucket: &Bucket) -> Option<VersionId> {
    told(version, bucket).filter(|version| !version.is_null())
}
