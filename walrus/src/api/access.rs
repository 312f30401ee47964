//! Access lists of buckets and objects, read and written.

use http::StatusCode;
use s3::{
    Acl, AclWish, Action, BucketName, Error, Key,
    documents::access::{read_acl, write_acl},
    request::Place,
};
use types::AccountId;

use super::{Ask, Done, same, versions::shown};
use crate::{
    answer,
    body::RequestBody,
    engine::{
        Bucket, Change,
        change::{BucketChange, ObjectChange, Seen},
    },
};

/// A hundred grants with long names.
const LIST_BYTES_MAX: usize = 256 << 10;

impl Ask<'_> {
    pub(super) async fn get_bucket_acl(&self, name: BucketName) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        Ok(answer::xml(write_acl(
            &bucket.owner,
            &bucket.acl,
            self.people(),
        )))
    }

    pub(super) async fn put_bucket_acl(
        &self,
        name: BucketName,
        acl: Option<AclWish>,
        body: &mut RequestBody,
    ) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;

        let wish = self.read_list(acl, &bucket.owner, body).await?;
        let acl = wish.resolve(&bucket.owner, &bucket.owner, self.people())?;
        self.api
            .engine
            .commit(Change::SetBucket(same(&bucket), BucketChange::Acl(acl)))
            .await?;
        Ok(answer::status(StatusCode::OK))
    }

    pub(super) async fn get_object_acl(&self, at: Place) -> Done {
        let is_named = at.version.is_some();
        let (bucket, found) = self.find_object(at).await?;
        let object = &found.object;
        self.wish().on_object(object, is_named)?;
        let mut answer = answer::xml(write_acl(&object.owner, &object.acl, self.people()));
        answer::set_version(answer.headers_mut(), shown(&bucket, object));
        Ok(answer)
    }

    pub(super) async fn put_object_acl(
        &self,
        at: Place,
        acl: Option<AclWish>,
        body: &mut RequestBody,
    ) -> Done {
        let (key, is_named) = (at.key.clone(), at.version.is_some());
        let (bucket, found) = self.find_object(at).await?;
        let object = &found.object;
        self.wish().on_object(object, is_named)?;

        let wish = self.read_list(acl, &object.owner, body).await?;
        let acl = wish.resolve(&object.owner, &bucket.owner, self.people())?;
        let version = shown(&bucket, object).cloned();
        let change = Change::SetObject {
            bucket: same(&bucket),
            key,
            seen: Seen::of(object),
            change: ObjectChange::Acl(acl),
        };
        self.api.engine.commit(change).await?;
        let mut answer = answer::status(StatusCode::OK);
        answer::set_version(answer.headers_mut(), version.as_ref());
        Ok(answer)
    }

    /// The list of what is written under a key. Who chooses one has to be allowed to set lists, too
    /// (PutObject reference, "Permissions").
    pub(super) fn list_of_new(
        &self,
        acl: Option<AclWish>,
        bucket: &Bucket,
        key: &Key,
        owner: &AccountId,
    ) -> Result<Acl, Error> {
        if acl.is_some() {
            self.wish_to(Action::PutObjectAcl).on_key(bucket, key)?;
        }
        let acl = acl.unwrap_or_default();
        acl.resolve(owner, &bucket.owner, self.people())
    }

    /// The list comes in headers, else in the body.
    async fn read_list(
        &self,
        acl: Option<AclWish>,
        owner: &AccountId,
        body: &mut RequestBody,
    ) -> Result<AclWish, Error> {
        let document = body.read_document(LIST_BYTES_MAX).await?;
        match acl {
            Some(acl) => Ok(acl),
            None => Ok(AclWish::Explicit(read_acl(
                &document,
                owner,
                self.people(),
            )?)),
        }
    }
}
