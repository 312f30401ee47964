//! GetObjectAttributes: an object's facts as a document.

use http::header;
use s3::{
    documents::attributes::{ObjectAttributes, ObjectPart},
    request::{GetAttributes, Place},
};

use super::{Ask, Done, encryption::set_encryption, versions::shown};
use crate::{answer, engine::Object};

impl Ask<'_> {
    pub(super) async fn get_object_attributes(&self, at: Place, get: GetAttributes) -> Done {
        let (bucket, found) = self.find_allowed(at).await?;
        let object = &found.object;
        // Who has not the key learns nothing.
        self.key_of(object, get.key.as_ref())?;

        let parts = parts_of(object);
        let attributes = ObjectAttributes {
            etag: &object.etag,
            checksum: object.checksum.as_ref(),
            parts: parts.as_deref(),
            storage_class: object.attributes.storage_class(),
            size: object.size,
        };
        let document = attributes.write(&get.attributes, get.after, get.max_parts);
        let mut answer = answer::xml(document);
        let headers = answer.headers_mut();
        answer::set(headers, header::LAST_MODIFIED, object.modified.http_date());
        answer::set_version(headers, shown(&bucket, object));
        set_encryption(headers, object.encryption.as_ref());
        Ok(answer)
    }
}

/// The parts of an object that was uploaded in parts.
fn parts_of(object: &Object) -> Option<Vec<ObjectPart>> {
    object.upload_id.as_ref()?;
    let pieces = (1..).zip(object.body.pieces());
    let parts = pieces.map(|(number, piece)| ObjectPart {
        number,
        size: piece.size,
        checksum: piece.checksum.clone(),
    });
    Some(parts.collect())
}
