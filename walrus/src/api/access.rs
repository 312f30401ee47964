//! Access lists of buckets and objects, read and written.

use http::StatusCode;
use s3::{
    Acl, AclWish, Action, BucketName, Code, Error, Key,
    acl::Canned,
    documents::access::{read_acl, write_acl},
    request::Place,
};
use types::AccountId;

use super::{Ask, Done, same, versions::shown};
use crate::{
    answer,
    body::RequestBody,
    engine::{
        Change,
        change::{BucketChange, ObjectChange, Seen},
        facts::Bucket,
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
        let acl = self.list_of(&wish, &bucket.owner, &bucket)?;
        let change = Change::SetBucket(same(&bucket), BucketChange::Acl(acl));
        self.api.engine.commit(change).await?;
        Ok(answer::status(StatusCode::OK))
    }

    /// The list that a wish stands for, if the bucket allows it.
    fn list_of(&self, wish: &AclWish, owner: &AccountId, bucket: &Bucket) -> Result<Acl, Error> {
        let acl = wish.resolve(owner, &bucket.owner, self.people())?;
        let full_control = AclWish::Canned(Canned::BucketOwnerFullControl);
        if bucket.settings.lists_are_off() && *wish != full_control {
            return Err(Code::AccessControlListNotSupported.into());
        }
        let block = bucket.settings.public_access_block.unwrap_or_default();
        if block.block_acls && acl.is_public() {
            let why = "public ACLs are prevented by the BlockPublicAcls setting";
            return Err(Error::new(Code::AccessDenied, why));
        }
        Ok(acl)
    }

    pub(super) async fn get_object_acl(&self, at: Place) -> Done {
        let (bucket, found) = self.find_allowed(at).await?;
        let object = &found.object;
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
        let key = at.key.clone();
        let (bucket, found) = self.find_allowed(at).await?;
        let object = &found.object;

        let wish = self.read_list(acl, &object.owner, body).await?;
        let acl = self.list_of(&wish, &object.owner, &bucket)?;
        let change = Change::SetObject {
            bucket: same(&bucket),
            key,
            seen: Seen::of(object),
            change: ObjectChange::Acl(acl),
        };
        self.commit(change).await?;
        let mut answer = answer::status(StatusCode::OK);
        answer::set_version(answer.headers_mut(), shown(&bucket, object));
        Ok(answer)
    }

    /// The list of what is written under a key, which may be a right of its own to choose.
    pub(super) fn list_of_new(
        &self,
        acl: Option<AclWish>,
        bucket: &Bucket,
        key: &Key,
        owner: &AccountId,
    ) -> Result<Acl, Error> {
        match acl {
            None => Ok(Canned::Private.resolve(owner, &bucket.owner)),
            Some(wish) => {
                let acl = wish.resolve(owner, &bucket.owner, self.people())?;
                self.wish_to(Action::PutObjectAcl)
                    .on_list(&acl, bucket, key)?;
                self.list_of(&wish, owner, bucket)
            }
        }
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
