//! What an object's fact looks like where a test does not care.

use s3::{Acl, BucketName, Key, VersionId, headers::Attributes};
use types::Timestamp;
use walrus::engine::{Body, Object};

/// A small object of the first account's, in the journal.
pub(crate) fn object(bucket: BucketName, key: Key, size: u64) -> Object {
    Object {
        bucket,
        key,
        version: VersionId::null(),
        order: 0,
        etag: "e".into(),
        size,
        modified: Timestamp(0),
        owner: "111111111111".parse().unwrap(),
        acl: Acl::default(),
        attributes: Attributes::default(),
        checksum: None,
        tags: Default::default(),
        lock: Default::default(),
        encryption: None,
        body: Body::Inline,
        upload_id: None,
    }
}
