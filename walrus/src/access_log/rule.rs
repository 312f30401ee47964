//! Lines of what rules of a lifecycle did ("Lifecycle and logging" of the S3 user guide): nobody asked
//! for it, so that most of their fields are unknown.

use s3::{BucketName, Key, VersionId, acl::People as _};
use types::Timestamp;

use super::{AccessLog, Entry, record::Record};
use crate::identity::Identity;

/// By whom rules are followed, as the logs of AWS have it.
const REQUESTER: &str = "AmazonS3";

/// What a rule did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// An object or a version of it is gone.
    Expired,
    /// A delete marker hides it.
    Marked,
    /// An upload that was not finished is gone.
    Aborted,
}

impl Act {
    fn operation(self) -> &'static str {
        match self {
            Self::Expired => "S3.EXPIRE.OBJECT",
            Self::Marked => "S3.CREATE.DELETEMARKER",
            Self::Aborted => "S3.DELETE.UPLOAD",
        }
    }
}

/// To what a rule did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its key.
    pub key: Key,
    /// The version that is gone, or the marker that was made.
    pub version: Option<VersionId>,
    /// How large what is gone was.
    pub size: Option<u64>,
}

/// Where it is noted what rules did. Cheap to clone.
#[derive(Clone)]
pub struct RuleLog {
    log: AccessLog,
    identity: Identity,
}

impl RuleLog {
    /// Lines go into this log; who is who is known by that.
    pub fn new(log: AccessLog, identity: Identity) -> Self {
        Self { log, identity }
    }

    /// Notes what a rule of a bucket did, if the bucket is logged.
    pub fn note(&self, bucket: &BucketName, act: Act, subject: Subject, at: Timestamp) {
        let Some(source) = self.log.sources.find(bucket) else {
            return;
        };
        let people = self.identity.directory();
        let owner = people.person(&source.owner).id;
        let line = record(owner, bucket, act, subject, at).line();
        self.log.note(Entry { source, at, line });
    }
}

fn record(owner: String, bucket: &BucketName, act: Act, subject: Subject, at: Timestamp) -> Record {
    Record {
        owner,
        bucket: bucket.as_str().to_owned(),
        at,
        requester: Some(REQUESTER.to_owned()),
        request_id: hex::encode_upper(rand::random::<[u8; 8]>()),
        operation: act.operation().to_owned(),
        key: Some(subject.key.as_str().to_owned()),
        object_bytes: subject.size,
        version_id: subject.version.map(|version| version.as_str().to_owned()),
        ..Record::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_a_rule_did_and_nothing_of_a_request() {
        let subject = Subject {
            key: Key::parse("logs/a b").unwrap(),
            version: Some(VersionId::null()),
            size: Some(10),
        };
        let bucket = BucketName::parse("photos").unwrap();
        let mut record = record(
            "c0ffee".into(),
            &bucket,
            Act::Expired,
            subject,
            Timestamp(0),
        );
        record.request_id = "3E57427F3".into();
        let line = "c0ffee photos [01/Jan/1970:00:00:00 +0000] - AmazonS3 3E57427F3 \
            S3.EXPIRE.OBJECT logs/a%20b \"-\" - - - 10 - - \"-\" \"-\" null mallee-walrus - - - - - - -";
        assert_eq!(record.line(), line);
    }
}
