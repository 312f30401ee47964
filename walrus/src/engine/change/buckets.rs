//! Buckets: made, deleted, and what is set about them.

use s3::{
    Acl, Code, Error,
    acl::Canned,
    documents::{ownership::Ownership, versions::Versioning},
    settings::{Kind, Setting},
};
use types::quota::QuotaOf;

use super::{Decision, Done, SameBucket, same_bucket};
use crate::engine::{
    events::Happened,
    facts::{Bucket, Fact},
    failure::Result,
    index::{Kept, View},
};

/// Something about a bucket that is changed.
#[derive(Debug)]
pub enum BucketChange {
    /// Its access list.
    Acl(Acl),
    /// One setting is set,
    Set(Setting),
    /// or as if it had never been.
    Clear(Kind),
}

pub(super) fn create(bucket: Bucket, view: View<'_>) -> Result<Decision> {
    if let Some(Kept { thing, .. }) = view.find_bucket(&bucket.name)? {
        return again(&bucket, &thing);
    }
    Ok(Decision::of(vec![Fact::BucketSet(Box::new(bucket))]))
}

/// A bucket that is there is made again by its owner's clients, before they use it: no harm if
/// nothing about it would change, as in AWS's oldest region.
fn again(asked: &Bucket, there: &Bucket) -> Result<Decision> {
    let own = there.owner == asked.owner;
    if own && there.acl == asked.acl && there.location == asked.location {
        return Ok(Decision::of(Vec::new()).done(Done::Same));
    }
    let code = if own && there.acl == asked.acl {
        Code::BucketAlreadyOwnedByYou
    } else {
        Code::BucketAlreadyExists
    };
    let error = Error::from(code).with("BucketName", asked.name.as_str());
    Err(error.into())
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
    let quota = QuotaOf::Bucket(bucket.name.as_str().to_owned());
    if view.find_quota(&quota)?.is_some() {
        facts.push(Fact::QuotaGone(quota));
    }
    facts.push(Fact::BucketGone(bucket.name));
    Ok(Decision::of(facts))
}

pub(super) fn set(seen: &SameBucket, change: BucketChange, view: View<'_>) -> Result<Decision> {
    let mut bucket = same_bucket(seen, view)?;
    let told = matches!(change, BucketChange::Set(Setting::Notification(_)));
    match change {
        BucketChange::Acl(acl) => bucket.acl = acl,
        BucketChange::Set(setting) => {
            check(&bucket, &setting)?;
            bucket.settings.set(setting);
        }
        BucketChange::Clear(kind) => bucket.settings.clear(kind),
    }
    let decision = Decision::of(vec![Fact::BucketSet(Box::new(bucket.clone()))]);
    Ok(match told {
        true => decision.inside(bucket).tells(Happened::Configured),
        false => decision,
    })
}

/// Settings that depend on one another.
fn check(bucket: &Bucket, setting: &Setting) -> Result<()> {
    let settings = &bucket.settings;
    match setting {
        Setting::Versioning(Versioning::Suspended) if settings.object_lock.is_some() => {
            let why = "An Object Lock configuration is present on this bucket, so the versioning \
                       state cannot be changed.";
            Err(Error::new(Code::InvalidBucketState, why).into())
        }
        Setting::ObjectLock(_) if settings.versioning != Some(Versioning::Enabled) => {
            let why = "Versioning must be 'Enabled' on the bucket to apply an Object Lock \
                       configuration";
            Err(Error::new(Code::InvalidBucketState, why).into())
        }
        Setting::Ownership(Ownership::BucketOwnerEnforced) if !is_private(bucket) => {
            Err(Code::InvalidBucketAclWithObjectOwnership.into())
        }
        _ => Ok(()),
    }
}

fn is_private(bucket: &Bucket) -> bool {
    bucket.acl == Canned::Private.resolve(&bucket.owner, &bucket.owner)
}
