//! Buckets: made, deleted, and what is set about them.

use s3::{Acl, Code, Error, documents::versions::Versioning};

use super::{Decision, SameBucket, same_bucket};
use crate::engine::{
    facts::{Bucket, Fact},
    failure::Result,
    index::{Kept, View},
};

/// The most buckets of one account. S3's own default limit is 10,000 since 2024.
pub const BUCKETS_MAX: u64 = 10_000;

/// Something about a bucket that is changed.
#[derive(Debug)]
pub enum BucketChange {
    /// Its access list.
    Acl(Acl),
    /// Whether it keeps old versions.
    Versioning(Versioning),
}

pub(super) fn create(bucket: Bucket, view: View<'_>) -> Result<Decision> {
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

pub(super) fn delete(seen: &SameBucket, view: View<'_>) -> Result<Decision> {
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

pub(super) fn set(seen: &SameBucket, change: BucketChange, view: View<'_>) -> Result<Decision> {
    let mut bucket = same_bucket(seen, view)?;
    match change {
        BucketChange::Acl(acl) => bucket.acl = acl,
        BucketChange::Versioning(versioning) => bucket.settings.versioning = Some(versioning),
    }
    Ok(Decision::of(vec![Fact::BucketSet(bucket)]))
}
