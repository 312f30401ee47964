//! Answers of CopyObject and UploadPartCopy.

use types::Timestamp;

use crate::{checksum::Checksum, xml::Writer};

/// `CopyObjectResult`, or for a part `CopyPartResult`.
pub fn write_copy(
    root: &str,
    etag: &str,
    modified: Timestamp,
    checksum: Option<&Checksum>,
) -> String {
    Writer::document(root, |xml| {
        xml.plain("LastModified", modified);
        xml.text("ETag", format!("\"{etag}\""));
        if let Some(checksum) = checksum {
            xml.text(checksum.algorithm.element(), &checksum.value);
        }
    })
}
