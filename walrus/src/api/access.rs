//! Access lists of buckets and objects, read and written.

use http::StatusCode;
use s3::{
    AclWish, BucketName, Error,
    documents::access::{read_acl, write_acl},
    request::Place,
};
use types::AccountId;

use super::{Ask, Done, same};
use crate::{
    answer,
    body::RequestBody,
    engine::{Change, change::Seen},
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
            .commit(Change::SetBucketAcl(same(&bucket), acl))
            .await?;
        Ok(answer::status(StatusCode::OK))
    }

    pub(super) async fn get_object_acl(&self, at: Place) -> Done {
        let (_, found) = self.find_object(at).await?;
        let object = &found.object;
        self.wish().on_object(object)?;
        Ok(answer::xml(write_acl(
            &object.owner,
            &object.acl,
            self.people(),
        )))
    }

    pub(super) async fn put_object_acl(
        &self,
        at: Place,
        acl: Option<AclWish>,
        body: &mut RequestBody,
    ) -> Done {
        let key = at.key.clone();
        let (bucket, found) = self.find_object(at).await?;
        let object = &found.object;
        self.wish().on_object(object)?;

        let wish = self.read_list(acl, &object.owner, body).await?;
        let acl = wish.resolve(&object.owner, &bucket.owner, self.people())?;
        let (bucket, seen) = (same(&bucket), Seen::of(object));
        self.api
            .engine
            .commit(Change::SetObjectAcl {
                bucket,
                key,
                seen,
                acl,
            })
            .await?;
        Ok(answer::status(StatusCode::OK))
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
