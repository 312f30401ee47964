//! `x-amz-copy-source`: `/bucket/key` or `bucket/key`, percent-encoded, perhaps with a version, perhaps
//! with the owner's account before the bucket's colon.

use crate::{BucketName, Code, Error, Key, Qualifier, Result, VersionId, query};

/// Where a copy comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySource {
    /// The account before the bucket's colon.
    pub qualifier: Option<Qualifier>,
    /// The source's bucket.
    pub bucket: BucketName,
    /// The source's key.
    pub key: Key,
    /// The version asked for, if one was.
    pub version: Option<VersionId>,
}

impl CopySource {
    /// Reads the header.
    pub fn parse(header: &str) -> Result<Self> {
        let (path, version) = match header.split_once("?versionId=") {
            Some((path, version)) => (path, Some(VersionId::parse(&query::decode(version)?)?)),
            None => (header, None),
        };
        // Split before decoding where that is possible, so that an escaped slash stays a letter.
        let path = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = match path.split_once('/') {
            Some((bucket, key)) => (query::decode(bucket)?, query::decode(key)?),
            None => split_decoded(&query::decode(path)?)?,
        };
        let (qualifier, bucket) = Qualifier::split(&bucket);
        Ok(Self {
            qualifier,
            bucket: BucketName::parse(bucket)?,
            key: Key::parse(&key)?,
            version,
        })
    }

    /// The source as clients of S3 write it.
    pub fn unqualified(&self) -> String {
        let place = format!("{}/{}", self.bucket, self.key);
        match &self.version {
            None => place,
            Some(version) => format!("{place}?versionId={}", version.as_str()),
        }
    }
}

fn split_decoded(path: &str) -> Result<(String, String)> {
    let path = path.strip_prefix('/').unwrap_or(path);
    match path.split_once('/') {
        Some((bucket, key)) => Ok((bucket.to_owned(), key.to_owned())),
        None => Err(Error::new(
            Code::InvalidArgument,
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, bucket: &str, key: &str) {
        let source = CopySource::parse(header).unwrap();
        assert_eq!(
            (source.bucket.as_str(), source.key.as_str()),
            (bucket, key),
            "{header}"
        );
    }

    #[test]
    fn sources_come_in_every_encoding() {
        check("bucket/a/b", "bucket", "a/b");
        check("/bucket/a%20b%2Fc", "bucket", "a b/c");
        check("bucket%2Fa%25b", "bucket", "a%b");
        check("bucket/%2525", "bucket", "%25");
        check("bucket/+", "bucket", "+");
        check("bucket/x:y", "bucket", "x:y");
        check("111111111111:bucket/a", "bucket", "a");
        check("/%3Abucket/a", "bucket", "a");
        check("111111111111%3Abucket%2Fa", "bucket", "a");
    }

    #[test]
    fn a_qualified_source_is_written_without_its_account() {
        let source = CopySource::parse("111111111111%3Abucket/a%20b?versionId=null").unwrap();
        assert_eq!(source.unqualified(), "bucket/a b?versionId=null");
    }

    #[test]
    fn a_source_without_a_key_is_refused() {
        for bad in [
            "",
            "/",
            "bucket",
            "bucket/",
            "/bucket/",
            "B/x",
            "bucket/%ff",
            "a:b:bucket/key",
            "111111111111:/key",
            "arn:aws:s3:mallee-1:111111111111:accesspoint/name/object/key",
        ] {
            assert!(CopySource::parse(bad).is_err(), "{bad}");
        }
    }
}
