//! Objects: written, deleted, and what is set about them.

use bytes::Bytes;
use s3::{
    Acl, Code, Error, Key, VersionId,
    documents::{
        delete::Deleted,
        lock::{Locked, Retention},
        tagging::Tags,
        versions::Versioning,
    },
    headers::Attributes,
};
use types::Timestamp;

use super::{
    Decision, DeleteChange, Done, InlineBody, PutChange, SameBucket, Seen, place, same_bucket,
    told, told_written,
};
use crate::engine::{
    events::Happened,
    facts::{Body, Bucket, Fact, Object},
    failure::Result,
    index::View,
};

/// Something about an object that is changed.
#[derive(Debug)]
pub enum ObjectChange {
    /// Its access list.
    Acl(Acl),
    /// Its tags.
    Tags(Tags),
    /// Until when it is kept.
    Retention {
        /// The new retention; none takes it away.
        retention: Option<Retention>,
        /// Whether the caller may and wants to bypass a governed retention.
        bypass_governance: bool,
        /// When.
        now: Timestamp,
    },
    /// Whether somebody holds it.
    LegalHold(bool),
}

pub(super) fn put(put: PutChange, view: View<'_>) -> Result<Decision> {
    let bucket = same_bucket(&put.bucket, view)?;
    let mut object = put.object;
    let newest = view.find_newest(&object.bucket, &object.key)?;
    let newest = newest.map(|kept| kept.thing);
    let current = newest.as_ref().filter(|newest| !newest.is_marker());
    put.conditions
        .judge(current.map(|object| object.etag.as_str()))?;

    place(&mut object, &bucket, newest.as_ref(), put.unique)?;
    let version = told_written(&object.version, &bucket);
    let fact = Fact::ObjectSet(Box::new(object));
    Ok(Decision {
        body: put.inline,
        blobs: put.blobs,
        done: Done::Written(version),
        ..Decision::of(vec![fact])
            .inside(bucket)
            .tells(Happened::Created)
    })
}

pub(super) fn delete(delete: DeleteChange, view: View<'_>) -> Result<Decision> {
    let bucket = same_bucket(&delete.bucket, view)?;
    if let Some(version) = &delete.version {
        return delete_version(&delete, version, &bucket, view);
    }
    let newest = view.find_newest(&bucket.name, &delete.key)?;
    let newest = newest.map(|kept| kept.thing);
    if let Some(newest) = &newest {
        judge(&delete, newest)?;
    }
    match bucket.settings.versioning {
        None => delete_version(&delete, &VersionId::null(), &bucket, view),
        Some(Versioning::Enabled | Versioning::Suspended) => {
            set_marker(&delete, &bucket, newest.as_ref())
        }
    }
}

fn judge(delete: &DeleteChange, object: &Object) -> Result<()> {
    let etag = (!object.is_marker()).then_some(object.etag.as_str());
    Ok(delete
        .conditions
        .judge(etag, object.modified, object.size)?)
}

fn delete_version(
    delete: &DeleteChange,
    version: &VersionId,
    bucket: &Bucket,
    view: View<'_>,
) -> Result<Decision> {
    let found = view.find_version(&bucket.name, &delete.key, version)?;
    let Some(object) = found.map(|kept| kept.thing) else {
        let deleted = Deleted {
            version: delete.version.clone(),
            is_marker: false,
        };
        return Ok(Decision::of(Vec::new()).done(Done::Deleted(deleted)));
    };
    judge(delete, &object)?;
    if !object
        .lock
        .allows_deletion(delete.now, delete.bypass_governance)
    {
        let why = "Access Denied because object protected by object lock.";
        return Err(Error::new(Code::AccessDenied, why).into());
    }
    let deleted = Deleted {
        version: told(version, bucket),
        is_marker: object.is_marker(),
    };
    let fact = Fact::ObjectGone {
        bucket: bucket.name.clone(),
        key: object.key,
        version: version.clone(),
    };
    let decision = Decision::of(vec![fact]).inside(bucket.clone());
    let decision = decision.tells(Happened::Removed);
    Ok(decision.done(Done::Deleted(deleted)))
}

/// With versions a delete deletes nothing: a marker becomes the newest version. Where versioning is
/// suspended it takes the place of the null version.
fn set_marker(delete: &DeleteChange, bucket: &Bucket, newest: Option<&Object>) -> Result<Decision> {
    let mut marker = Object {
        bucket: bucket.name.clone(),
        key: delete.key.clone(),
        version: VersionId::null(),
        order: 0,
        etag: String::new(),
        size: 0,
        modified: delete.now,
        owner: delete.owner.clone(),
        acl: Acl::default(),
        attributes: Attributes::default(),
        checksum: None,
        tags: Tags::default(),
        lock: Locked::default(),
        encryption: None,
        body: Body::Marker,
        upload_id: None,
    };
    place(&mut marker, bucket, newest, delete.unique)?;
    let deleted = Deleted {
        version: Some(marker.version.clone()),
        is_marker: true,
    };
    let fact = Fact::ObjectSet(Box::new(marker));
    let decision = Decision::of(vec![fact]).inside(bucket.clone());
    let decision = decision.tells(Happened::Marked);
    Ok(decision.done(Done::Deleted(deleted)))
}

fn apply(change: ObjectChange, object: &mut Object, bucket: &Bucket) -> Result<()> {
    let lockable = || match bucket.settings.object_lock {
        Some(_) => Ok(()),
        None => Err(no_lock()),
    };
    match change {
        ObjectChange::Acl(acl) => object.acl = acl,
        ObjectChange::Tags(tags) => object.tags = tags,
        ObjectChange::LegalHold(held) => {
            lockable()?;
            object.lock.held = Some(held);
        }
        ObjectChange::Retention {
            retention,
            bypass_governance,
            now,
        } => {
            lockable()?;
            let old = object.lock.retention;
            if old.is_some_and(|old| !old.may_become(retention, now, bypass_governance)) {
                return Err(Code::AccessDenied.into());
            }
            object.lock.retention = retention;
        }
    }
    Ok(())
}

/// What a request about a lock is told in a bucket without.
pub fn no_lock() -> Error {
    Error::new(
        Code::InvalidRequest,
        "Bucket is missing Object Lock Configuration",
    )
}

pub(super) fn set(
    bucket: &SameBucket,
    key: &Key,
    seen: &Seen,
    change: ObjectChange,
    view: View<'_>,
    inline: InlineBody<'_>,
) -> Result<Decision> {
    let bucket = same_bucket(bucket, view)?;
    let old = view.find_version(&bucket.name, key, &seen.version)?;
    let old = old.ok_or_else(|| Error::from(Code::NoSuchKey).with("Key", key.as_str()))?;
    // Whoever was allowed to change something about one object was not asked about its successor.
    if Seen::of(&old.thing) != *seen {
        return Err(Code::ConditionalRequestConflict.into());
    }
    let body = match old.thing.body {
        Body::Inline => inline(&old)?,
        Body::Pieces(_) | Body::Marker => Bytes::new(),
    };
    let happened = match &change {
        ObjectChange::Acl(_) => Some(Happened::Listed),
        ObjectChange::Tags(_) => Some(Happened::Tagged),
        ObjectChange::Retention { .. } | ObjectChange::LegalHold(_) => None,
    };
    let mut object = old.thing;
    apply(change, &mut object, &bucket)?;
    let version = told(&object.version, &bucket);
    let fact = Fact::ObjectSet(Box::new(object));
    Ok(Decision {
        body,
        happened,
        done: Done::Written(version),
        ..Decision::of(vec![fact]).inside(bucket)
    })
}
