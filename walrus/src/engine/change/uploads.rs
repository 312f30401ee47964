//! Uploads in parts: a part written, the whole completed or forgotten.

use s3::{Code, Error, Key};

use super::{
    CompleteChange, Decision, Done, SameBucket, no_such_upload, place, same_bucket, told_written,
};
use crate::engine::{
    assemble::assemble,
    blobs::NewBlob,
    events::Happened,
    facts::{Bucket, Fact, Part, Upload},
    failure::{Failure, Result},
    index::View,
};

fn find_upload(
    bucket: &Bucket,
    key: Option<&Key>,
    upload_id: &str,
    view: View<'_>,
) -> Result<Upload> {
    let upload = view.find_upload(upload_id)?.map(|kept| kept.thing);
    let upload = upload
        .filter(|upload| upload.bucket == bucket.name && key.is_none_or(|key| upload.key == *key));
    upload.ok_or_else(|| no_such_upload(upload_id).into())
}

pub(super) fn put_part(
    bucket: &SameBucket,
    part: Box<Part>,
    blob: NewBlob,
    view: View<'_>,
) -> Result<Decision> {
    let bucket = same_bucket(bucket, view)?;
    find_upload(&bucket, None, &part.upload_id, view)?;
    let fact = Fact::PartSet(part);
    Ok(Decision {
        blobs: vec![blob],
        ..Decision::of(vec![fact]).inside(bucket)
    })
}

pub(super) fn abort(
    bucket: &SameBucket,
    key: &Key,
    upload_id: String,
    view: View<'_>,
) -> Result<Decision> {
    let bucket = same_bucket(bucket, view)?;
    find_upload(&bucket, Some(key), &upload_id, view)?;
    Ok(Decision::of(vec![Fact::UploadGone { upload_id }]))
}

pub(super) fn complete(ask: &CompleteChange, view: View<'_>) -> Result<Decision> {
    let bucket = same_bucket(&ask.bucket, view)?;
    let newest = view.find_newest(&bucket.name, &ask.key)?;
    let newest = newest.map(|kept| kept.thing);
    let current = newest.as_ref().filter(|newest| !newest.is_marker());
    let upload = match find_upload(&bucket, Some(&ask.key), &ask.upload_id, view) {
        Ok(upload) => upload,
        // The answer to the first completion may have been lost: the second one answers the same.
        Err(Failure::Refused(error)) if error.code == Code::NoSuchUpload => {
            let made = current.filter(|old| old.upload_id.as_deref() == Some(&ask.upload_id));
            let made = made.ok_or(error)?.clone();
            let version = told_written(&made.version, &bucket);
            let done = Done::Completed(Box::new(made), version);
            return Ok(Decision::of(Vec::new()).done(done));
        }
        Err(other) => return Err(other),
    };
    ask.conditions
        .judge(current.map(|object| object.etag.as_str()))?;

    let parts = view.list_parts(&ask.upload_id, 0, u32::MAX)?;
    let parts: Vec<Part> = parts.into_iter().map(|kept| kept.thing).collect();
    let mut object = assemble(upload, &parts, &ask.parts, ask.checksum.as_ref(), ask.now)?;
    if ask.size.is_some_and(|size| size != object.size) {
        let why = format!(
            "The object has {} bytes, not what x-amz-mp-object-size says.",
            object.size
        );
        return Err(Error::new(Code::InvalidRequest, why).into());
    }
    place(&mut object, &bucket, newest.as_ref(), ask.unique)?;

    let version = told_written(&object.version, &bucket);
    let facts = vec![
        Fact::ObjectSet(Box::new(object.clone())),
        Fact::UploadGone {
            upload_id: ask.upload_id.clone(),
        },
    ];
    let decision = Decision::of(facts)
        .inside(bucket)
        .tells(Happened::Completed);
    Ok(decision.done(Done::Completed(Box::new(object), version)))
}
