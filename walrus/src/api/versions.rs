//! Versions: the bucket's setting, and lists of them.

use http::StatusCode;
use s3::{
    BucketName, VersionId,
    documents::versions::{Versioning, write_version_list, write_versioning},
    request::ListVersions,
    xml::MAX_DOCUMENT_BYTES,
};

use super::{Ask, Done, same};
use crate::{
    answer,
    body::RequestBody,
    engine::{Change, Object, change::BucketChange, facts::Bucket},
};

/// The version that an answer names: none in a bucket that never had versions.
pub(super) fn shown<'a>(bucket: &Bucket, object: &'a Object) -> Option<&'a VersionId> {
    bucket.settings.versioning.map(|_| &object.version)
}

impl Ask<'_> {
    pub(super) async fn get_bucket_versioning(&self, name: BucketName) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        Ok(answer::xml(write_versioning(bucket.settings.versioning)))
    }

    pub(super) async fn put_bucket_versioning(
        &self,
        name: BucketName,
        body: &mut RequestBody,
    ) -> Done {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_bucket(&bucket)?;
        let document = body.read_document(MAX_DOCUMENT_BYTES).await?;
        let change = BucketChange::Versioning(Versioning::read(&document)?);
        let change = Change::SetBucket(same(&bucket), change);
        self.api.engine.commit(change).await?;
        Ok(answer::status(StatusCode::OK))
    }

    pub(super) async fn list_object_versions(&self, name: BucketName, list: ListVersions) -> Done {
        let bucket = self.find_bucket(name.clone()).await?;
        self.wish().on_bucket(&bucket)?;
        let (asked, wanted) = (name.clone(), list.clone());
        let page = self
            .api
            .engine
            .view(move |view| view.list_versions(&asked, &wanted))
            .await?;
        Ok(answer::xml(write_version_list(
            name.as_str(),
            &list,
            &page,
            self.people(),
        )))
    }
}
