//! Lists of a bucket's objects.

use s3::{BucketName, documents::list::write_page, request::ListObjects};

use super::{Ask, Done};
use crate::answer;

impl Ask<'_> {
    pub(super) async fn list_objects(&self, name: BucketName, list: ListObjects) -> Done {
        let bucket = self.find_bucket(name.clone()).await?;
        self.wish().on_bucket(&bucket)?;

        let (asked, wanted) = (name.clone(), list.clone());
        let page = self
            .api
            .engine
            .view(move |view| view.list_objects(&asked, &wanted))
            .await?;
        Ok(answer::xml(write_page(
            name.as_str(),
            &list,
            &page,
            self.people(),
        )))
    }
}
