//! What is kept, as it stands in the journal: facts, one after the other, each about one bucket,
//! object, upload or part. These shapes live as long as the data: they only ever gain optional
//! fields. The index can be made anew from them at any time and keeps nothing that they lack.

use s3::{
    Acl, BucketName, Key, VersionId,
    checksum::Checksum,
    documents::{lock::Locked, tagging::Tags},
    headers::{Attributes, ChecksumPlan},
    settings::Settings,
};
use serde::{Deserialize, Serialize};
use types::{
    AccountId, Timestamp,
    quota::{Limits, QuotaOf},
};

use super::{blobs::BlobId, events::Cause};
use crate::seal;

/// One change of what there is. The later of two facts about one thing is the true one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A bucket is so.
    BucketSet(Box<Bucket>),
    /// A bucket is no more.
    BucketGone(BucketName),
    /// A version of an object is so.
    ObjectSet(Box<Object>),
    /// A version of an object is no more.
    ObjectGone {
        /// Its bucket.
        bucket: BucketName,
        /// Its key.
        key: Key,
        /// Which version.
        #[serde(default, skip_serializing_if = "VersionId::is_null")]
        version: VersionId,
    },
    /// An upload is under way.
    UploadSet(Box<Upload>),
    /// An upload and all its parts are no more.
    UploadGone {
        /// Its id.
        upload_id: String,
    },
    /// A part of an upload is so.
    PartSet(Box<Part>),
    /// Something happened that waits to be told.
    EventSet(Box<Event>),
    /// Events wait no longer.
    EventsGone {
        /// For which destination.
        to: String,
        /// Which.
        ids: Vec<u64>,
    },
    /// The quota of an account or a bucket is so.
    QuotaSet(Quota),
    /// An account or a bucket has no quota of its own any more.
    QuotaGone(QuotaOf),
}

/// Something that happened and waits to be told to a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place: later ones have higher ids.
    pub id: u64,
    /// The destination, by its name.
    pub to: String,
    /// The configuration of the bucket that names it.
    pub rule: String,
    /// What happened: `s3:ObjectCreated:Put`.
    pub name: String,
    /// When.
    pub at: Timestamp,
    /// In which bucket.
    pub bucket: BucketName,
    /// Whose that is.
    pub owner: AccountId,
    /// To which object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its entity tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Its version, in a bucket that has versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// By whom.
    pub cause: Cause,
}

/// What an administrator set for one account or bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// For which.
    pub of: QuotaOf,
    /// How much it may hold.
    pub limits: Limits,
}

/// A bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// Which bucket of that name: a bucket that was deleted and made again is another one.
    pub id: String,
    /// Whose it is.
    pub owner: AccountId,
    /// When it was made.
    pub created: Timestamp,
    /// The location that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Who may do what.
    pub acl: Acl,
    /// What its owner set.
    #[serde(default, skip_serializing_if = "Settings::is_empty")]
    pub settings: Settings,
}

/// A version of an object, or a delete marker in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Its bucket.
    pub bucket: BucketName,
    /// Its key.
    pub key: Key,
    /// Which version of the object.
    #[serde(default, skip_serializing_if = "VersionId::is_null")]
    pub version: VersionId,
    /// Its place among the versions of its key: the newest has the highest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub order: u64,
    /// Its entity tag without quotes: the MD5, or `MD5 of MD5s-N`.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written.
    pub modified: Timestamp,
    /// Whose it is.
    pub owner: AccountId,
    /// Who may do what.
    pub acl: Acl,
    /// What is given back with it.
    #[serde(default)]
    pub attributes: Attributes,
    /// Its checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Names for whoever sorts objects.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// What keeps it from being deleted.
    #[serde(default, skip_serializing_if = "Locked::is_empty")]
    pub lock: Locked,
    /// How its bytes are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Sealing>,
    /// Where its bytes are.
    pub body: Body,
    /// The upload that it was made by, so that a repeated completion finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_id: Option<String>,
}

impl Object {
    /// Whether this is a delete marker: no object, but a version all the same.
    pub fn is_marker(&self) -> bool {
        self.body == Body::Marker
    }
}

/// Where an object's bytes are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// In the journal, behind the fact itself.
    Inline,
    /// In files, in this order. More than one if it was uploaded in parts.
    Pieces(Vec<Piece>),
    /// There are none: a delete marker.
    Marker,
}

impl Body {
    /// The files that the body lies in.
    pub fn pieces(&self) -> &[Piece] {
        match self {
            Self::Inline | Self::Marker => &[],
            Self::Pieces(pieces) => pieces,
        }
    }
}

/// One file of a body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// Its file.
    pub blob: BlobId,
    /// Bytes of the object that it holds.
    pub size: u64,
    /// What makes its key another one than that of the object's other files, if it is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// The checksum that it had as a part of an upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
}

impl Piece {
    /// Bytes of the file.
    pub fn stored_size(&self) -> u64 {
        match self.salt {
            None => self.size,
            Some(_) => seal::sealed_size(self.size),
        }
    }
}

/// How an object's bytes are sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealing {
    /// Under whose key.
    pub under: Under,
    /// The data key, wrapped under that key.
    pub key: String,
    /// The salt of a body in the journal.
    pub salt: String,
}

/// Whose key wraps a data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Under {
    /// The key file's.
    Server,
    /// The one of that name, which is made of the key file's.
    Kms(String),
    /// The customer's, with the MD5 of it.
    Customer(String),
}

/// An upload that is under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upload {
    /// Its id.
    pub id: String,
    /// The object's bucket.
    pub bucket: BucketName,
    /// The object's key.
    pub key: Key,
    /// Who began it and will own the object.
    pub owner: AccountId,
    /// When it began.
    pub initiated: Timestamp,
    /// Who will be allowed what.
    pub acl: Acl,
    /// What will be given back with the object.
    #[serde(default)]
    pub attributes: Attributes,
    /// The checksums of its parts.
    #[serde(default)]
    pub checksum: ChecksumPlan,
    /// The object's tags.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// The object's lock.
    #[serde(default, skip_serializing_if = "Locked::is_empty")]
    pub lock: Locked,
    /// How the object's bytes are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Sealing>,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its upload.
    pub upload_id: String,
    /// 1 to 10,000.
    pub number: u32,
    /// The MD5 of its bytes, in hex.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
    /// Its checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Its file.
    pub piece: Piece,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(order: &u64) -> bool {
    *order == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What version 1 wrote. These lines never change: data on disks look like them.
    const VERSION_1: [&str; 7] = [
        r#"{"bucket_set":{"name":"photos","id":"00ff","owner":"111111111111","created":1,"acl":[{"grantee":{"account":"111111111111"},"permission":"FULL_CONTROL"}]}}"#,
        r#"{"bucket_gone":"photos"}"#,
        r#"{"object_set":{"bucket":"photos","key":"a/b","etag":"0cc175b9c0f1b6a831c399e269772661","size":1,"modified":2,"owner":"111111111111","acl":[{"grantee":"all_users","permission":"READ"}],"attributes":{"content_type":"text/plain","metadata":[["colour","green"]]},"checksum":{"algorithm":"CRC64NVME","value":"AAAAAAAAAAA=","kind":"FULL_OBJECT"},"body":"inline"}}"#,
        r#"{"object_set":{"bucket":"photos","key":"c","etag":"0cc175b9c0f1b6a831c399e269772661-1","size":9,"modified":2,"owner":"111111111111","acl":[],"attributes":{},"body":{"pieces":[{"blob":"00112233445566778899aabbccddeeff","size":9}]},"upload_id":"u"}}"#,
        r#"{"object_gone":{"bucket":"photos","key":"a/b"}}"#,
        r#"{"upload_set":{"id":"u","bucket":"photos","key":"c","owner":"111111111111","initiated":3,"acl":[],"attributes":{},"checksum":{"algorithm":"CRC32","kind":"COMPOSITE"}}}"#,
        r#"{"part_set":{"upload_id":"u","number":1,"etag":"0cc175b9c0f1b6a831c399e269772661","modified":4,"piece":{"blob":"00112233445566778899aabbccddeeff","size":9}}}"#,
    ];

    #[test]
    fn facts_of_version_1_are_read_and_written_as_they_were() {
        for line in VERSION_1 {
            let fact: Fact = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&fact).unwrap(), line);
        }
    }

    #[test]
    fn later_facts_are_read_and_written_as_they_were() {
        for line in [
            r#"{"object_gone":{"bucket":"photos","key":"a","version":"v1"}}"#,
            r#"{"bucket_set":{"name":"photos","id":"00ff","owner":"111111111111","created":1,"acl":[],"settings":{"versioning":"enabled"}}}"#,
            r#"{"object_set":{"bucket":"photos","key":"a","version":"v2","order":3,"etag":"","size":0,"modified":2,"owner":"111111111111","acl":[],"attributes":{},"body":"marker"}}"#,
            r#"{"quota_set":{"of":{"account":"111111111111"},"limits":{"bytes":{"at":5},"buckets":"none"}}}"#,
            r#"{"quota_gone":{"bucket":"photos"}}"#,
            r#"{"event_set":{"id":7,"to":"hook","rule":"r","name":"s3:ObjectCreated:Copy","at":1,"bucket":"photos","owner":"111111111111","key":"a","size":3,"etag":"e","version":"v1","cause":{"verb":"copy","who":"AWS:111111111111","address":"192.0.2.3","request_id":"R"}}}"#,
            r#"{"event_set":{"id":8,"to":"hook","rule":"r","name":"s3:TestEvent","at":1,"bucket":"photos","owner":"111111111111","cause":{"who":"s3"}}}"#,
            r#"{"events_gone":{"to":"hook","ids":[7,8]}}"#,
        ] {
            let fact: Fact = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&fact).unwrap(), line);
        }
    }

    #[test]
    fn a_field_of_a_later_version_is_no_obstacle() {
        let line = r#"{"object_gone":{"bucket":"photos","key":"a","colour":"red"}}"#;
        assert!(serde_json::from_str::<Fact>(line).is_ok());
    }
}
