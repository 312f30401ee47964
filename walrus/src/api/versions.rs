//! Lists of versions, and which version an answer names.

use s3::{BucketName, VersionId, documents::versions::write_version_list, request::ListVersions};

use super::{Ask, Done};
use crate::{
    answer,
    engine::{Object, facts::Bucket},
};

/// The version that an answer names: none in a bucket that never had versions.
pub(super) fn shown<'a>(bucket: &Bucket, object: &'a Object) -> Option<&'a VersionId> {
    bucket.settings.versioning.map(|_| &object.version)
}

impl Ask<'_> {
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
