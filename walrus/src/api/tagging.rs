//! Tags of objects: read, set, taken away.

use http::StatusCode;
use s3::{
    documents::tagging::{OBJECT_TAGS_MAX, Tags},
    request::Place,
    xml::MAX_DOCUMENT_BYTES,
};

use super::{Ask, Done, versions::shown};
use crate::{answer, body::RequestBody, engine::change::ObjectChange};

impl Ask<'_> {
    pub(super) async fn get_object_tagging(&self, at: Place) -> Done {
        let (bucket, found) = self.find_allowed(at).await?;
        let mut answer = answer::xml(found.object.tags.write());
        answer::set_version(answer.headers_mut(), shown(&bucket, &found.object));
        Ok(answer)
    }

    pub(super) async fn put_object_tagging(&self, at: Place, body: &mut RequestBody) -> Done {
        let document = body.read_document(MAX_DOCUMENT_BYTES).await?;
        let tags = Tags::read(&document, OBJECT_TAGS_MAX)?;
        self.set_object(at, StatusCode::OK, |_| Ok(ObjectChange::Tags(tags)))
            .await
    }

    pub(super) async fn delete_object_tagging(&self, at: Place) -> Done {
        let none = |_: &_| Ok(ObjectChange::Tags(Tags::default()));
        self.set_object(at, StatusCode::NO_CONTENT, none).await
    }
}
