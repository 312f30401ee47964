//! Finding what a request is about: a bucket that is whose its client says, an object that its caller
//! may touch. What is found comes from one snapshot, and a change names it again, so that nothing is
//! done to another one that took its name meanwhile.

use s3::{
    BucketName, Code, Error, Key, VersionId,
    request::{Place, Whose},
};

use super::{Ask, Done, versions};
use crate::{
    answer,
    authorise::Wish,
    engine::{
        Bucket, Change, Failure, Found, Object, Sought,
        change::{ObjectChange, SameBucket, Seen, no_such_bucket},
    },
};

impl Ask<'_> {
    /// Finds a bucket that is whose the client says.
    pub(super) async fn find_bucket(&self, name: BucketName) -> Result<Bucket, Failure> {
        let found = self.api.engine.find_bucket(name.clone()).await?;
        let found = found.ok_or_else(|| no_such_bucket(&name))?;
        check_owner(&self.whose, &found)?;
        Ok(found)
    }

    /// Finds a bucket in which the caller may write that key.
    pub(super) async fn bucket_to_write(
        &self,
        name: BucketName,
        key: &Key,
    ) -> Result<Bucket, Failure> {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_key(&bucket, key)?;
        Ok(bucket)
    }

    /// Finds an object, ready to be read, in a bucket that is whose the client says. Only who may
    /// list the bucket learns that an object is not there.
    pub(super) async fn find_object(&self, at: Place) -> Result<(Bucket, Found), Failure> {
        self.find_object_as(&self.wish(), &self.whose, at).await
    }

    /// Finds an object that the caller may do this with.
    pub(super) async fn find_allowed(&self, at: Place) -> Result<(Bucket, Found), Failure> {
        let is_named = at.version.is_some();
        let (bucket, found) = self.find_object(at).await?;
        self.wish().on_object(&bucket, &found.object, is_named)?;
        Ok((bucket, found))
    }

    /// Changes something about an object, if the caller may.
    pub(super) async fn set_object(
        &self,
        at: Place,
        status: http::StatusCode,
        change: impl FnOnce(&Bucket) -> s3::Result<ObjectChange>,
    ) -> Done {
        let key = at.key.clone();
        let (bucket, found) = self.find_allowed(at).await?;
        let change = Change::SetObject {
            bucket: same(&bucket),
            key,
            seen: Seen::of(&found.object),
            change: change(&bucket)?,
        };
        self.commit(change).await?;
        let mut answer = answer::status(status);
        answer::set_version(
            answer.headers_mut(),
            versions::shown(&bucket, &found.object),
        );
        Ok(answer)
    }

    /// Finds what is to be done something else with than the request is named after.
    pub(super) async fn find_object_as(
        &self,
        wish: &Wish<'_>,
        whose: &Whose,
        at: Place,
    ) -> Result<(Bucket, Found), Failure> {
        let Place {
            bucket,
            key,
            version,
        } = at;
        let engine = &self.api.engine;
        let look = engine
            .look(bucket.clone(), key.clone(), version.clone())
            .await?;
        let look = look.ok_or_else(|| no_such_bucket(&bucket))?;
        check_owner(whose, &look.bucket)?;
        let absent = || wish.on_absent(&look.bucket, &key, version.as_ref());
        match look.sought {
            Sought::Object(found) => Ok((look.bucket, found)),
            Sought::Marker(marker) => Err(on_marker(absent(), &marker, version.as_ref()).into()),
            Sought::Nothing => Err(absent().into()),
        }
    }
}

/// What is said of a delete marker: as the newest version it hides the object; named itself it can
/// only be deleted (S3 user guide, "Working with delete markers").
fn on_marker(absent: Error, marker: &Object, asked: Option<&VersionId>) -> Error {
    if absent.code == Code::AccessDenied {
        return absent;
    }
    let error = match asked {
        None => absent,
        Some(_) => Error::from(Code::MethodNotAllowed),
    };
    error
        .header("x-amz-delete-marker", "true")
        .header("x-amz-version-id", marker.version.as_str())
}

fn check_owner(whose: &Whose, bucket: &Bucket) -> Result<(), Error> {
    if !whose.admits(&bucket.owner) {
        return Err(no_such_bucket(&bucket.name));
    }
    match &whose.expected {
        Some(expected) if expected != bucket.owner.as_str() => Err(Code::AccessDenied.into()),
        _ => Ok(()),
    }
}

/// A bucket that was found, for a change that is to be of no other.
pub(super) fn same(bucket: &Bucket) -> SameBucket {
    SameBucket {
        name: bucket.name.clone(),
        id: bucket.id.clone(),
    }
}
