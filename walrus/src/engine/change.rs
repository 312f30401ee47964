//! What a request wants to become true. [`Change::decide`] looks at what is, and answers the facts
//! that make it so, or why not. It runs inside the commit: nothing changes between look and write.

use bytes::Bytes;
use s3::{
    Acl, BucketName, Code, Error, Key, conditions::WriteConditions, documents::multipart::NamedPart,
};
use types::Timestamp;

use super::{
    assemble::assemble,
    blobs::NewBlob,
    facts::{Body, Bucket, Fact, Object, Part, Upload},
    failure::{Failure, Result},
    index::{Kept, View},
};

/// The most buckets of one account. S3's own default limit is 10,000 since 2024.
pub const BUCKETS_MAX: u64 = 10_000;

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
    CreateBucket(Bucket),
    /// Delete an empty bucket, and its unfinished uploads.
    DeleteBucket(SameBucket),
    /// Set a bucket's access list.
    SetBucketAcl(SameBucket, Acl),
    /// Write an object.
    PutObject(Box<PutChange>),
    /// Delete an object; one that is not there is no error.
    DeleteObject {
        /// Its bucket.
        bucket: SameBucket,
        /// Its key.
        key: Key,
        /// Whether it may be deleted.
        conditions: WriteConditions,
    },
    /// Set an object's access list.
    SetObjectAcl {
        /// Its bucket.
        bucket: SameBucket,
        /// Its key.
        key: Key,
        /// The object that was looked at.
        seen: Seen,
        /// The list.
        acl: Acl,
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
}

/// Which object a request looked at before it changed something about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its entity tag.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
}

impl Seen {
    /// Of an object.
    pub fn of(object: &Object) -> Self {
        Self {
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
    /// The object.
    pub object: Object,
    /// Its bytes, if they are inline.
    pub inline: Bytes,
    /// Its files, if they are not.
    pub blobs: Vec<NewBlob>,
    /// Whether it may be written.
    pub conditions: WriteConditions,
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
}

/// What a change did.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// What was asked.
    Made,
    /// It was so already.
    Same,
    /// The upload became this object.
    Completed(Box<Object>),
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) facts: Vec<Fact>,
    pub(super) body: Bytes,
    pub(super) blobs: Vec<NewBlob>,
    pub(super) done: Done,
}

impl Decision {
    fn of(facts: Vec<Fact>) -> Self {
        Self {
            facts,
            body: Bytes::new(),
            blobs: Vec::new(),
            done: Done::Made,
        }
    }

    fn same() -> Self {
        Self {
            done: Done::Same,
            ..Self::of(Vec::new())
        }
    }
}

/// Reads the inline body of an object that is kept.
pub(super) type InlineBody<'a> = &'a dyn Fn(&Kept<Object>) -> Result<Bytes>;

impl Change {
    pub(super) fn decide(self, view: View<'_>, inline: InlineBody<'_>) -> Result<Decision> {
        match self {
            Self::CreateBucket(bucket) => create_bucket(bucket, view),
            Self::DeleteBucket(bucket) => delete_bucket(&bucket, view),
            Self::SetBucketAcl(bucket, acl) => {
                let bucket = same_bucket(&bucket, view)?;
                Ok(Decision::of(vec![Fact::BucketSet(Bucket {
                    acl,
                    ..bucket
                })]))
            }
            Self::PutObject(put) => put_object(*put, view),
            Self::DeleteObject {
                bucket,
                key,
                conditions,
            } => delete_object(&bucket, key, &conditions, view),
            Self::SetObjectAcl {
                bucket,
                key,
                seen,
                acl,
            } => set_object_acl(&bucket, &key, &seen, acl, view, inline),
            Self::CreateUpload(bucket, upload) => {
                same_bucket(&bucket, view)?;
                Ok(Decision::of(vec![Fact::UploadSet(upload)]))
            }
            Self::PutPart { bucket, part, blob } => {
                find_upload(&bucket, None, &part.upload_id, view)?;
                let fact = Fact::PartSet(part);
                Ok(Decision {
                    blobs: vec![blob],
                    ..Decision::of(vec![fact])
                })
            }
            Self::CompleteUpload(complete) => complete_upload(&complete, view),
            Self::AbortUpload {
                bucket,
                key,
                upload_id,
            } => {
                find_upload(&bucket, Some(&key), &upload_id, view)?;
                Ok(Decision::of(vec![Fact::UploadGone { upload_id }]))
            }
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

fn create_bucket(bucket: Bucket, view: View<'_>) -> Result<Decision> {
    if let Some(Kept { thing, .. }) = view.find_bucket(&bucket.name)? {
        let own = thing.owner == bucket.owner;
        let code = if own {
            Code::BucketAlreadyOwnedByYou
        } else {
            Code::BucketAlreadyExists
        };
        return Err(Error::from(code)
            .with("BucketName", bucket.name.as_str())
            .into());
    }
    if view.count_buckets(&bucket.owner)? >= BUCKETS_MAX {
        return Err(Code::TooManyBuckets.into());
    }
    Ok(Decision::of(vec![Fact::BucketSet(bucket)]))
}

fn delete_bucket(seen: &SameBucket, view: View<'_>) -> Result<Decision> {
    let bucket = same_bucket(seen, view)?;
    if view.has_objects(&bucket.name)? {
        let error = Error::from(Code::BucketNotEmpty);
        return Err(error.with("BucketName", bucket.name.as_str()).into());
    }
    let uploads = view.upload_ids(&bucket.name)?;
    let mut facts: Vec<_> = uploads
        .into_iter()
        .map(|upload_id| Fact::UploadGone { upload_id })
        .collect();
    facts.push(Fact::BucketGone(bucket.name));
    Ok(Decision::of(facts))
}

fn judge(conditions: &WriteConditions, object: Option<&Object>) -> Result<()> {
    Ok(conditions.judge(object.map(|object| object.etag.as_str()))?)
}

fn put_object(put: PutChange, view: View<'_>) -> Result<Decision> {
    same_bucket(&put.bucket, view)?;
    let old = view.find_object(&put.object.bucket, &put.object.key)?;
    judge(&put.conditions, old.as_ref().map(|kept| &kept.thing))?;

    let fact = Fact::ObjectSet(Box::new(put.object));
    Ok(Decision {
        body: put.inline,
        blobs: put.blobs,
        ..Decision::of(vec![fact])
    })
}

fn delete_object(
    bucket: &SameBucket,
    key: Key,
    conditions: &WriteConditions,
    view: View<'_>,
) -> Result<Decision> {
    same_bucket(bucket, view)?;
    let old = view.find_object(&bucket.name, &key)?;
    judge(conditions, old.as_ref().map(|kept| &kept.thing))?;
    match old {
        None => Ok(Decision::same()),
        Some(_) => Ok(Decision::of(vec![Fact::ObjectGone {
            bucket: bucket.name.clone(),
            key,
        }])),
    }
}

fn set_object_acl(
    bucket: &SameBucket,
    key: &Key,
    seen: &Seen,
    acl: Acl,
    view: View<'_>,
    inline: InlineBody<'_>,
) -> Result<Decision> {
    same_bucket(bucket, view)?;
    let old = view.find_object(&bucket.name, key)?;
    let old = old.ok_or_else(|| Error::from(Code::NoSuchKey).with("Key", key.as_str()))?;
    // Whoever was allowed to change the list of one object was not asked about its successor.
    if Seen::of(&old.thing) != *seen {
        return Err(Code::ConditionalRequestConflict.into());
    }
    let body = match old.thing.body {
        Body::Inline => inline(&old)?,
        Body::Pieces(_) => Bytes::new(),
    };
    let fact = Fact::ObjectSet(Box::new(Object { acl, ..old.thing }));
    Ok(Decision {
        body,
        ..Decision::of(vec![fact])
    })
}

fn find_upload(
    bucket: &SameBucket,
    key: Option<&Key>,
    upload_id: &str,
    view: View<'_>,
) -> Result<Upload> {
    same_bucket(bucket, view)?;
    let upload = view.find_upload(upload_id)?.map(|kept| kept.thing);
    let upload = upload
        .filter(|upload| upload.bucket == bucket.name && key.is_none_or(|key| upload.key == *key));
    upload.ok_or_else(|| no_such_upload(upload_id).into())
}

fn complete_upload(ask: &CompleteChange, view: View<'_>) -> Result<Decision> {
    let old = view
        .find_object(&ask.bucket.name, &ask.key)?
        .map(|kept| kept.thing);
    let upload = match find_upload(&ask.bucket, Some(&ask.key), &ask.upload_id, view) {
        Ok(upload) => upload,
        // The answer to the first completion may have been lost: the second one answers the same.
        Err(Failure::Refused(error)) if error.code == Code::NoSuchUpload => {
            let made = old.filter(|old| old.upload_id.as_deref() == Some(&ask.upload_id));
            let made = made.ok_or(error)?;
            return Ok(Decision {
                done: Done::Completed(Box::new(made)),
                ..Decision::same()
            });
        }
        Err(other) => return Err(other),
    };
    judge(&ask.conditions, old.as_ref())?;

    let parts = view.list_parts(&ask.upload_id, 0, u32::MAX)?;
    let parts: Vec<Part> = parts.into_iter().map(|kept| kept.thing).collect();
    let object = assemble(upload, &parts, &ask.parts, ask.checksum.as_ref(), ask.now)?;
    if ask.size.is_some_and(|size| size != object.size) {
        let why = format!(
            "The object has {} bytes, not what x-amz-mp-object-size says.",
            object.size
        );
        return Err(Error::new(Code::InvalidRequest, why).into());
    }

    let facts = vec![
        Fact::ObjectSet(Box::new(object.clone())),
        Fact::UploadGone {
            upload_id: ask.upload_id.clone(),
        },
    ];
    Ok(Decision {
        done: Done::Completed(Box::new(object)),
        ..Decision::of(facts)
    })
}
