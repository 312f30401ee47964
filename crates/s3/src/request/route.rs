//! Method, address and sub-resource → the row in the table.

use http::Method;

use crate::{Action, Code, Error, Result, address::Address, headers::Headers, query::Query};

/// Sub-resources of a bucket with the operations of GET, PUT and DELETE.
type Row = (&'static str, Option<Action>, Option<Action>, Option<Action>);

#[rustfmt::skip]
const BUCKET: [Row; 23] = {
    use Action as A;
    [
        ("acl", Some(A::GetBucketAcl), Some(A::PutBucketAcl), None),
        ("location", Some(A::GetBucketLocation), None, None),
        ("uploads", Some(A::ListMultipartUploads), None, None),
        ("versions", Some(A::ListObjectVersions), None, None),
        ("versioning", Some(A::GetBucketVersioning), Some(A::PutBucketVersioning), None),
        ("policy", Some(A::GetBucketPolicy), Some(A::PutBucketPolicy), Some(A::DeleteBucketPolicy)),
        ("policyStatus", Some(A::GetBucketPolicyStatus), None, None),
        ("tagging", Some(A::GetBucketTagging), Some(A::PutBucketTagging), Some(A::DeleteBucketTagging)),
        ("cors", Some(A::GetBucketCors), Some(A::PutBucketCors), Some(A::DeleteBucketCors)),
        ("lifecycle", Some(A::GetBucketLifecycleConfiguration), Some(A::PutBucketLifecycleConfiguration), Some(A::DeleteBucketLifecycle)),
        ("logging", Some(A::GetBucketLogging), Some(A::PutBucketLogging), None),
        ("notification", Some(A::GetBucketNotificationConfiguration), Some(A::PutBucketNotificationConfiguration), None),
        ("requestPayment", Some(A::GetBucketRequestPayment), Some(A::PutBucketRequestPayment), None),
        ("website", Some(A::GetBucketWebsite), Some(A::PutBucketWebsite), Some(A::DeleteBucketWebsite)),
        ("encryption", Some(A::GetBucketEncryption), Some(A::PutBucketEncryption), Some(A::DeleteBucketEncryption)),
        ("ownershipControls", Some(A::GetBucketOwnershipControls), Some(A::PutBucketOwnershipControls), Some(A::DeleteBucketOwnershipControls)),
        ("publicAccessBlock", Some(A::GetPublicAccessBlock), Some(A::PutPublicAccessBlock), Some(A::DeletePublicAccessBlock)),
        ("object-lock", Some(A::GetObjectLockConfiguration), Some(A::PutObjectLockConfiguration), None),
        ("accelerate", Some(A::GetBucketAccelerateConfiguration), Some(A::PutBucketAccelerateConfiguration), None),
        ("replication", Some(A::GetBucketReplication), Some(A::PutBucketReplication), Some(A::DeleteBucketReplication)),
        ("analytics", Some(A::GetBucketAnalyticsConfiguration), Some(A::PutBucketAnalyticsConfiguration), Some(A::DeleteBucketAnalyticsConfiguration)),
        ("inventory", Some(A::GetBucketInventoryConfiguration), Some(A::PutBucketInventoryConfiguration), Some(A::DeleteBucketInventoryConfiguration)),
        ("metrics", Some(A::GetBucketMetricsConfiguration), Some(A::PutBucketMetricsConfiguration), Some(A::DeleteBucketMetricsConfiguration)),
    ]
};

#[rustfmt::skip]
const OBJECT: [Row; 6] = {
    use Action as A;
    [
        ("acl", Some(A::GetObjectAcl), Some(A::PutObjectAcl), None),
        ("tagging", Some(A::GetObjectTagging), Some(A::PutObjectTagging), Some(A::DeleteObjectTagging)),
        ("retention", Some(A::GetObjectRetention), Some(A::PutObjectRetention), None),
        ("legal-hold", Some(A::GetObjectLegalHold), Some(A::PutObjectLegalHold), None),
        ("attributes", Some(A::GetObjectAttributes), None, None),
        ("torrent", Some(A::GetObjectTorrent), None, None),
    ]
};

pub(super) fn action(
    method: &Method,
    address: &Address,
    query: &Query,
    headers: Headers<'_>,
) -> Result<Action> {
    let found = match address {
        Address::Account => account(method, query),
        Address::Bucket(_) => bucket(method, query),
        Address::Object(..) => object(method, query, headers),
    };
    found.ok_or_else(|| {
        Error::from(Code::MethodNotAllowed).with("Method", method.as_str().to_owned())
    })
}

fn account(method: &Method, query: &Query) -> Option<Action> {
    match *method {
        Method::GET if query.has("usage") => Some(Action::GetAccountUsage),
        Method::GET => Some(Action::ListBuckets),
        _ => None,
    }
}

/// `Some(None)` if a sub-resource is named that does not take the method.
fn sub(rows: &[Row], method: &Method, query: &Query) -> Option<Option<Action>> {
    let (_, get, put, delete) = rows.iter().find(|(name, ..)| query.has(name))?;
    Some(match *method {
        Method::GET => *get,
        Method::PUT => *put,
        Method::DELETE => *delete,
        _ => None,
    })
}

fn bucket(method: &Method, query: &Query) -> Option<Action> {
    if let Some(found) = sub(&BUCKET, method, query) {
        return found;
    }
    match *method {
        Method::GET if query.get("list-type") == Some("2") => Some(Action::ListObjectsV2),
        Method::GET if query.has("intelligent-tiering") => {
            Some(Action::GetBucketIntelligentTieringConfiguration)
        }
        Method::PUT if query.has("intelligent-tiering") => {
            Some(Action::PutBucketIntelligentTieringConfiguration)
        }
        Method::DELETE if query.has("intelligent-tiering") => {
            Some(Action::DeleteBucketIntelligentTieringConfiguration)
        }
        Method::GET => Some(Action::ListObjects),
        Method::PUT => Some(Action::CreateBucket),
        Method::DELETE => Some(Action::DeleteBucket),
        Method::HEAD => Some(Action::HeadBucket),
        Method::POST if query.has("delete") => Some(Action::DeleteObjects),
        Method::POST => Some(Action::PostObject),
        Method::OPTIONS => Some(Action::PreflightCors),
        _ => None,
    }
}

fn object(method: &Method, query: &Query, headers: Headers<'_>) -> Option<Action> {
    if let Some(found) = sub(&OBJECT, method, query) {
        return found;
    }
    let (upload, copy) = (
        query.has("uploadId"),
        headers.0.contains_key("x-amz-copy-source"),
    );
    match *method {
        Method::PUT if upload && copy => Some(Action::UploadPartCopy),
        Method::PUT if upload => Some(Action::UploadPart),
        Method::PUT if copy => Some(Action::CopyObject),
        Method::PUT => Some(Action::PutObject),
        Method::GET if upload => Some(Action::ListParts),
        Method::GET => Some(Action::GetObject),
        Method::HEAD => Some(Action::HeadObject),
        Method::DELETE if upload => Some(Action::AbortMultipartUpload),
        Method::DELETE => Some(Action::DeleteObject),
        Method::POST if query.has("uploads") => Some(Action::CreateMultipartUpload),
        Method::POST if upload => Some(Action::CompleteMultipartUpload),
        Method::POST if query.has("restore") => Some(Action::RestoreObject),
        Method::POST if query.has("select") => Some(Action::SelectObjectContent),
        Method::OPTIONS => Some(Action::PreflightCors),
        _ => None,
    }
}
