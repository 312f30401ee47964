//! What of a request and its answer goes into a line. The line is written when the answer's body has
//! been sent, or given up.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use daemon::public::Client;
use http::{HeaderMap, Method, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use iam::Principal;
use s3::{
    Action, Key, Operation, Request, VersionId, acl::People as _, address::Address,
    headers::Headers, request::Whose,
};
use types::{AccountId, Timestamp};

use super::{AccessLog, Entry, Source, record::Record};
use crate::{
    answer::{Answer, AnswerBody, StreamError},
    auth::Signed,
    directory::Directory,
};

/// A key, its version, and the code of an error.
type Deleted = (String, Option<VersionId>, Option<&'static str>);

/// What is found out while a request is answered.
#[derive(Debug, Default)]
pub struct Trail {
    who: OnceLock<(Principal, Signed)>,
    /// Whether something was allowed by nothing but an access list.
    pub list_needed: AtomicBool,
    /// Objects of one DeleteObjects.
    deleted: Mutex<Vec<Deleted>>,
    /// The key that a form has, and its file's size.
    posted: OnceLock<(Key, u64)>,
}

impl Trail {
    /// Who it is.
    pub fn is_by(&self, principal: Principal, signed: Signed) {
        let _ = self.who.set((principal, signed));
    }

    /// What a form writes.
    pub fn posted(&self, key: Key, size: u64) {
        let _ = self.posted.set((key, size));
    }

    /// One of many was deleted, or not.
    pub fn deleted(&self, key: &str, version: Option<&VersionId>, error: Option<&'static str>) {
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.push((key.to_owned(), version.cloned(), error));
    }
}

/// A request that is to be logged: for its own bucket, for that which it copies from, or both.
#[derive(Debug)]
pub struct Watch {
    log: AccessLog,
    started: Instant,
    own: Option<Arc<Source>>,
    /// The bucket and the key that are copied from.
    origin: Option<(Arc<Source>, Key)>,
    action: Action,
    record: Record,
    people: Arc<Directory>,
    object_bytes: Option<u64>,
}

impl Watch {
    /// Begins to watch a request, if a bucket of its is logged.
    pub fn begin(
        log: &AccessLog,
        parts: &Parts,
        request: &Request,
        request_id: &str,
        (client, remote): (Client, IpAddr),
        now: Timestamp,
        people: &Arc<Directory>,
    ) -> Option<Self> {
        let (bucket, key) = match &request.address {
            Address::Account => return None,
            Address::Bucket(bucket) => (bucket, None),
            Address::Object(bucket, key) => (bucket, Some(key)),
        };
        // A name that somebody else's account stands before means no bucket, and no log of one.
        let find = |bucket, whose: &Whose| {
            let source = log.sources.find(bucket);
            source.filter(|source| whose.admits(&source.owner))
        };
        let own = find(bucket, &request.whose);
        let origin = request.operation.source().and_then(|source| {
            let logged = find(&source.from.bucket, &source.whose)?;
            Some((logged, source.from.key.clone()))
        });
        if own.is_none() && origin.is_none() {
            return None;
        }
        let headers = Headers(&parts.headers);
        let target = parts.uri.path_and_query().map(|target| target.as_str());
        // The path of a URI that is absolute was taken apart; its bucket is in `Host` then.
        let request_line = format!(
            "{} {} {:?}",
            parts.method,
            target.unwrap_or("/"),
            parts.version
        );
        let upload = (parts.method == Method::PUT && key.is_some())
            .then(|| request.body.length().ok())
            .flatten();
        // What its answer says is put in when that is there.
        let record = Record {
            bucket: bucket.as_str().to_owned(),
            at: now,
            remote: Some(remote),
            request_id: request_id.to_owned(),
            operation: operation(&parts.method, request.action),
            key: key.map(|key| key.as_str().to_owned()),
            request_line,
            referer: headers.text("referer"),
            user_agent: headers.text("user-agent"),
            version_id: version(&request.operation),
            cipher_suite: client.tls.map(|tls| tls.cipher_suite),
            host: headers.text("host"),
            tls_version: client.tls.map(|tls| tls.version),
            ..Record::default()
        };
        Some(Self {
            log: log.clone(),
            started: Instant::now(),
            own,
            origin,
            action: request.action,
            record,
            people: people.clone(),
            object_bytes: upload,
        })
    }

    /// The same for a visit of a website.
    #[must_use]
    pub fn of_website(mut self) -> Self {
        self.record.operation = format!("WEBSITE.{}", &self.record.operation["REST.".len()..]);
        self
    }

    /// The answer is known: its line is written when its body ends. `received` is when the request's
    /// body did.
    pub fn answered(
        mut self,
        answer: Answer,
        error: Option<&str>,
        trail: Trail,
        received: Option<Instant>,
    ) -> Answer {
        let since = received.unwrap_or(self.started);
        self.record.turn_around_ms = Some(millis(since));
        self.record.status = Some(answer.status().as_u16());
        self.record.error = error.map(str::to_owned);
        self.record.object_bytes = match self.action {
            Action::GetObject | Action::HeadObject if error.is_none() => size(answer.headers()),
            _ => self.object_bytes,
        };
        self.record.acl_required = trail.list_needed.load(Ordering::Relaxed);
        if let Some((principal, signed)) = trail.who.get() {
            self.record.requester = requester(principal, &self.people);
            self.record.signature = signed.log_version();
            self.record.auth = signed.log_kind();
        }
        if let Some((key, size)) = trail.posted.into_inner() {
            self.record.key = Some(key.as_str().to_owned());
            self.record.object_bytes = Some(size);
        }
        let deleted = trail.deleted.into_inner();
        let (parts, inner) = answer.into_parts();
        let watched = Watched {
            inner,
            sent: 0,
            watch: Some((self, deleted.unwrap_or_else(PoisonError::into_inner))),
        };
        Answer::from_parts(parts, watched.boxed_unsync())
    }

    fn write(mut self, sent: u64, deleted: Vec<Deleted>) {
        self.record.total_ms = Some(millis(self.started));
        self.record.sent_bytes = sent;
        if let Some((source, key)) = &self.origin {
            let part = self.action == Action::UploadPartCopy;
            let record = Record {
                bucket: source.bucket.as_str().to_owned(),
                key: Some(key.as_str().to_owned()),
                operation: if part {
                    "REST.COPY.PART_GET".to_owned()
                } else {
                    "REST.COPY.OBJECT_GET".to_owned()
                },
                ..self.record.clone()
            };
            self.note(source, record);
        }
        let Some(source) = &self.own else {
            return;
        };
        for (key, version, error) in deleted {
            let record = Record {
                operation: "BATCH.DELETE.OBJECT".to_owned(),
                key: Some(key),
                version_id: version.map(|version| version.as_str().to_owned()),
                status: Some(if error.is_none() { 204 } else { 403 }),
                error: error.map(str::to_owned),
                sent_bytes: 0,
                ..self.record.clone()
            };
            self.note(source, record);
        }
        self.note(source, self.record.clone());
    }

    fn note(&self, source: &Arc<Source>, record: Record) {
        let owner = self.people.person(&source.owner).id;
        let record = Record { owner, ..record };
        self.log.note(Entry {
            source: source.clone(),
            at: record.at,
            line: record.line(),
        });
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A canonical id for an account, an ARN for one of its users.
fn requester(principal: &Principal, people: &Directory) -> Option<String> {
    match principal {
        Principal::Anonymous => None,
        Principal::Service(name) => Some((*name).to_owned()),
        Principal::Known { account, .. } if *principal == Principal::root(account.clone()) => {
            Some(canonical(account, people))
        }
        Principal::Known { arn, .. } => Some(arn.as_str().to_owned()),
    }
}

fn canonical(account: &AccountId, people: &Directory) -> String {
    people.person(account).id
}

fn version(operation: &Operation) -> Option<String> {
    let at = match operation {
        Operation::GetObject { at, .. }
        | Operation::HeadObject { at, .. }
        | Operation::DeleteObject { at, .. }
        | Operation::GetObjectAcl { at }
        | Operation::PutObjectAcl { at, .. }
        | Operation::GetObjectTagging { at }
        | Operation::PutObjectTagging { at }
        | Operation::DeleteObjectTagging { at } => at,
        _ => return None,
    };
    at.version
        .as_ref()
        .map(|version| version.as_str().to_owned())
}

/// The whole size of an object of which an answer has all or some.
fn size(headers: &HeaderMap) -> Option<u64> {
    let text = |name| headers.get(name)?.to_str().ok();
    let whole = text(header::CONTENT_RANGE).and_then(|range| range.rsplit('/').next());
    whole.or_else(|| text(header::CONTENT_LENGTH))?.parse().ok()
}

fn operation(method: &Method, action: Action) -> String {
    use Action as A;
    let verb = match action {
        A::CopyObject | A::UploadPartCopy => "COPY",
        _ => method.as_str(),
    };
    format!("REST.{verb}.{}", resource_type(action))
}

/// The last word of an operation, as the logs of AWS have it.
fn resource_type(action: Action) -> &'static str {
    use Action as A;
    match action {
        A::ListObjects | A::ListObjectsV2 | A::CreateBucket | A::DeleteBucket | A::HeadBucket => {
            "BUCKET"
        }
        A::ListObjectVersions => "BUCKETVERSIONS",
        A::GetBucketLocation => "LOCATION",
        A::ListMultipartUploads | A::CreateMultipartUpload => "UPLOADS",
        A::GetBucketAcl | A::PutBucketAcl => "ACL",
        A::GetObjectAcl | A::PutObjectAcl => "OBJECT_ACL",
        A::DeleteObjects => "MULTI_OBJECT_DELETE",
        A::GetBucketVersioning | A::PutBucketVersioning => "VERSIONING",
        A::GetBucketPolicy | A::PutBucketPolicy | A::DeleteBucketPolicy => "BUCKETPOLICY",
        A::GetBucketPolicyStatus => "POLICY_STATUS",
        A::GetBucketTagging | A::PutBucketTagging | A::DeleteBucketTagging => "TAGGING",
        A::GetObjectTagging | A::PutObjectTagging | A::DeleteObjectTagging => "OBJECT_TAGGING",
        A::GetBucketCors | A::PutBucketCors | A::DeleteBucketCors => "CORS",
        A::PreflightCors => "PREFLIGHT",
        A::GetBucketLifecycleConfiguration
        | A::PutBucketLifecycleConfiguration
        | A::DeleteBucketLifecycle => "LIFECYCLE",
        A::GetBucketLogging | A::PutBucketLogging => "LOGGING_STATUS",
        A::GetBucketNotificationConfiguration | A::PutBucketNotificationConfiguration => {
            "NOTIFICATION"
        }
        A::GetBucketRequestPayment | A::PutBucketRequestPayment => "REQUEST_PAYMENT",
        A::GetBucketWebsite | A::PutBucketWebsite | A::DeleteBucketWebsite => "WEBSITE",
        A::GetBucketEncryption | A::PutBucketEncryption | A::DeleteBucketEncryption => "ENCRYPTION",
        A::GetBucketOwnershipControls
        | A::PutBucketOwnershipControls
        | A::DeleteBucketOwnershipControls => "OWNERSHIP_CONTROLS",
        A::GetPublicAccessBlock | A::PutPublicAccessBlock | A::DeletePublicAccessBlock => {
            "PUBLIC_ACCESS_BLOCK"
        }
        A::GetObjectLockConfiguration | A::PutObjectLockConfiguration => {
            "OBJECT_LOCK_CONFIGURATION"
        }
        A::GetObjectRetention | A::PutObjectRetention => "OBJECT_LOCK_RETENTION",
        A::GetObjectLegalHold | A::PutObjectLegalHold => "OBJECT_LOCK_LEGALHOLD",
        A::UploadPart | A::UploadPartCopy => "PART",
        A::CompleteMultipartUpload | A::AbortMultipartUpload | A::ListParts => "UPLOAD",
        A::GetObjectAttributes => "OBJECT_ATTRIBUTES",
        A::GetObjectTorrent => "OBJECT_TORRENT",
        // A whole object, and what is not served.
        _ => "OBJECT",
    }
}

/// A body whose bytes are counted. Whatever becomes of it, its end writes the line.
struct Watched {
    inner: AnswerBody,
    sent: u64,
    watch: Option<(Watch, Vec<Deleted>)>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((watch, deleted)) = self.watch.take() {
            watch.write(self.sent, deleted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_called_as_in_the_logs_of_aws() {
        for (method, action, expect) in [
            ("GET", Action::ListObjectsV2, "REST.GET.BUCKET"),
            ("PUT", Action::PutObject, "REST.PUT.OBJECT"),
            ("PUT", Action::CopyObject, "REST.COPY.OBJECT"),
            ("GET", Action::GetBucketVersioning, "REST.GET.VERSIONING"),
            ("GET", Action::GetBucketLogging, "REST.GET.LOGGING_STATUS"),
            ("GET", Action::GetBucketPolicy, "REST.GET.BUCKETPOLICY"),
            ("POST", Action::CompleteMultipartUpload, "REST.POST.UPLOAD"),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(operation(&method, action), expect);
        }
    }

    #[test]
    fn the_size_of_an_object_is_that_of_all_of_it() {
        let mut headers = HeaderMap::new();
        assert_eq!(size(&headers), None);
        headers.insert("content-length", "10".parse().unwrap());
        assert_eq!(size(&headers), Some(10));
        headers.insert("content-range", "bytes 0-9/100".parse().unwrap());
        assert_eq!(size(&headers), Some(100));
    }
}
