//! Locks of objects: retention and legal hold. What a lock forbids is decided by the commit, so that
//! it binds lifecycle and the cloud's own deletes as well.

use http::StatusCode;
use s3::{
    Code,
    documents::lock::{Retention, read_legal_hold, write_legal_hold},
    request::Place,
    xml::MAX_DOCUMENT_BYTES,
};

use super::{Ask, Done};
use crate::{
    answer,
    body::RequestBody,
    engine::{
        Found,
        change::{ObjectChange, no_lock},
        facts::Bucket,
    },
};

impl Ask<'_> {
    async fn find_lockable(&self, at: Place) -> Result<Found, crate::engine::Failure> {
        let (bucket, found) = self.find_allowed(at).await?;
        bucket.settings.object_lock.ok_or_else(no_lock)?;
        Ok(found)
    }

    pub(super) async fn get_object_retention(&self, at: Place) -> Done {
        let found = self.find_lockable(at).await?;
        let retention = found.object.lock.retention;
        let retention = retention.ok_or(Code::NoSuchObjectLockConfiguration)?;
        Ok(answer::xml(retention.write()))
    }

    pub(super) async fn put_object_retention(
        &self,
        at: Place,
        bypass_governance: bool,
        body: &mut RequestBody,
    ) -> Done {
        let document = body.read_document(MAX_DOCUMENT_BYTES).await?;
        let key = at.key.clone();
        let change = |bucket: &Bucket| {
            bucket.settings.object_lock.ok_or_else(no_lock)?;
            Ok(ObjectChange::Retention {
                retention: Retention::read(&document)?,
                bypass_governance: bypass_governance && self.may_bypass(bucket, &key),
                now: self.now,
            })
        };
        self.set_object(at, StatusCode::OK, change).await
    }

    /// Whether the caller has the right to bypass a governed retention.
    pub(super) fn may_bypass(&self, bucket: &Bucket, key: &s3::Key) -> bool {
        self.wish().on_bypass(bucket, key).is_ok()
    }

    pub(super) async fn get_object_legal_hold(&self, at: Place) -> Done {
        let found = self.find_lockable(at).await?;
        let held = found.object.lock.held;
        let held = held.ok_or(Code::NoSuchObjectLockConfiguration)?;
        Ok(answer::xml(write_legal_hold(held)))
    }

    pub(super) async fn put_object_legal_hold(&self, at: Place, body: &mut RequestBody) -> Done {
        let document = body.read_document(MAX_DOCUMENT_BYTES).await?;
        let change = |bucket: &Bucket| {
            bucket.settings.object_lock.ok_or_else(no_lock)?;
            Ok(ObjectChange::LegalHold(read_legal_hold(&document)?))
        };
        self.set_object(at, StatusCode::OK, change).await
    }
}
