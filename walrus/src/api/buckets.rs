//! Buckets: list, create, delete, head, location.

use http::StatusCode;
use s3::{
    Action, BucketName, Code,
    acl::{Canned, People as _, Person},
    documents::{
        bucket::{BucketList, read_location, write_location},
        lock::LockConfiguration,
        versions::Versioning,
    },
    request::{CreateBucket, ListBuckets, token_of},
    settings::Settings,
};

use super::{Ask, Done, same};
use crate::{
    answer,
    body::RequestBody,
    engine::{Change, facts::Bucket},
};

/// A CreateBucketConfiguration with everything that AWS knows.
const CONFIGURATION_BYTES_MAX: usize = 64 << 10;

impl Ask<'_> {
    pub(super) async fn list_buckets(&self, list: ListBuckets) -> Done {
        let Some(owner) = self.caller.account().cloned() else {
            return Ok(answer::xml(self.no_buckets()));
        };
        self.wish().on_account(None)?;

        let (asked, after, prefix) = (owner.clone(), list.after, list.prefix.clone());
        let limit = list.max.unwrap_or(s3::request::MAX_BUCKET_PAGE);
        let view = self
            .api
            .engine
            .view(move |view| view.list_buckets(&asked, &after, &prefix, limit + 1));
        let mut buckets = view.await?;
        let is_more = buckets.len() > limit as usize;
        buckets.truncate(limit as usize);

        let token = buckets
            .last()
            .filter(|_| is_more)
            .map(|last| token_of(&last.name));
        let list = BucketList {
            owner: &self.people().person(&owner),
            buckets: &buckets,
            token,
            region: &self.api.region,
            prefix: &list.prefix,
        };
        Ok(answer::xml(list.write()))
    }

    /// What nobody in particular owns: AWS sends such visitors to its own pages instead.
    fn no_buckets(&self) -> String {
        let nobody = Person {
            id: "anonymous".to_owned(),
            name: "anonymous".to_owned(),
        };
        let list = BucketList {
            owner: &nobody,
            buckets: &[],
            token: None,
            region: &self.api.region,
            prefix: "",
        };
        list.write()
    }

    pub(super) async fn create_bucket(
        &self,
        name: BucketName,
        create: CreateBucket,
        body: &mut RequestBody,
    ) -> Done {
        self.wish().on_account(Some(&name))?;
        if create.acl.is_some() {
            self.wish_to(Action::PutBucketAcl).on_account(Some(&name))?;
        }
        let owner = self.caller.account().ok_or(Code::AccessDenied)?.clone();
        let document = body.read_document(CONFIGURATION_BYTES_MAX).await?;

        let mut settings = Settings {
            ownership: create.ownership,
            ..Settings::default()
        };
        if create.object_lock {
            settings.object_lock = Some(LockConfiguration::default());
            settings.versioning = Some(Versioning::Enabled);
        }
        let acl = create.acl.unwrap_or_default();
        let acl = acl.resolve(&owner, &owner, self.people())?;
        let private = Canned::Private.resolve(&owner, &owner);
        if settings.lists_are_off() && acl != private {
            return Err(Code::InvalidBucketAclWithObjectOwnership.into());
        }
        let bucket = Bucket {
            id: hex::encode(rand::random::<[u8; 8]>()),
            created: self.now,
            location: read_location(&document)?,
            acl,
            owner,
            settings,
            name: name.clone(),
        };
        let change = Change::CreateBucket(Box::new(bucket));
        self.api.engine.commit(change).await?;

        let mut answer = answer::status(StatusCode::OK);
        answer::set(answer.headers_mut(), "location", format!("/{name}"));
        Ok(answer)
    }

    pub(super) async fn delete_bucket(&self, name: BucketName) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        self.api
            .engine
            .commit(Change::DeleteBucket(same(&bucket)))
            .await?;
        self.forget_logging(&bucket).await?;
        Ok(answer::status(StatusCode::NO_CONTENT))
    }

    pub(super) async fn head_bucket(&self, name: BucketName, read_stats: bool) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        let mut answer = answer::status(StatusCode::OK);
        let region = bucket.location.as_ref().unwrap_or(&self.api.region);
        answer::set(answer.headers_mut(), "x-amz-bucket-region", region);
        if read_stats {
            self.set_stats(&bucket, answer.headers_mut()).await?;
        }
        Ok(answer)
    }

    /// The location as it was asked for at creation; none means the one region that there is,
    /// which is answered as nothing, as AWS does for its oldest region.
    pub(super) async fn get_bucket_location(&self, name: BucketName) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        Ok(answer::xml(write_location(
            bucket.location.as_deref().unwrap_or_default(),
        )))
    }
}
