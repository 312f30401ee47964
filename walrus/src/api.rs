//! The S3 API: one request, parsed, authenticated, authorised and done. Each operation is one
//! function that reads in that order.

mod access;
mod attributes;
mod buckets;
mod context;
mod copy;
mod cors;
mod delete;
mod encryption;
mod list;
mod lock;
mod logging;
mod multipart;
mod notifications;
mod objects;
mod post;
mod settings;
mod tagging;
mod usage;
mod versions;
mod website;

use std::sync::Arc;

use daemon::{clock::SharedClock, public::Client};
use http::request::Parts;
use hyper::body::Incoming;
use s3::{
    BucketName, Code, Error, Key, Operation, Request, VersionId,
    address::Domains,
    request::{Place, Whose},
};
use sigv4::{Rules, vouch::Origin};
use types::Timestamp;

use cors::AskingPage;

use crate::{
    access_log::{AccessLog, Trail, Watch},
    answer::{self, Answer},
    auth,
    authorise::Wish,
    body::RequestBody,
    client,
    directory::{Caller, Directory},
    engine::{
        Change, Engine, Failure, Found, Object, Sought,
        change::{ObjectChange, SameBucket, Seen, no_such_bucket},
        facts::Bucket,
    },
    identity::{Identity, Standing},
    metrics::Metrics,
    notify::Destinations,
    seal::MasterKey,
};

/// Everything that an operation needs.
pub struct Api {
    /// Where objects are kept.
    pub engine: Engine,
    /// Who is who.
    pub identity: Identity,
    /// The time.
    pub clock: SharedClock,
    /// Names that buckets are hosts under.
    pub domains: Domains,
    /// Names that buckets are websites under.
    pub website_domains: Domains,
    /// The region of all buckets.
    pub region: String,
    /// What a signature must keep to.
    pub rules: Rules,
    /// What is counted.
    pub metrics: Metrics,
    /// What data keys are wrapped under.
    pub master_key: MasterKey,
    /// Where requests are logged.
    pub access_log: AccessLog,
    /// Whom owners of buckets may have told what happens in them.
    pub destinations: Destinations,
}

/// One request on its way through an operation.
struct Ask<'a> {
    api: &'a Api,
    directory: Arc<Directory>,
    caller: Caller,
    context: iam::Context,
    action: s3::Action,
    whose: Whose,
    now: Timestamp,
    parts: &'a Parts,
    host: String,
    path: String,
    trail: &'a Trail,
    is_logged: bool,
    origin: Origin,
    request_id: &'a str,
}

/// The circumstances of a request.
struct Circumstances<'a> {
    origin: Origin,
    request_id: &'a str,
    trail: &'a Trail,
    is_logged: bool,
}

/// What an operation answers; a failure becomes an error of S3 in [`told`].
type Done = Result<Answer, Failure>;

impl Api {
    /// Answers one request.
    pub async fn serve(
        &self,
        mut parts: Parts,
        stream: Incoming,
        client: Client,
        request_id: &str,
    ) -> Answer {
        let started = self.clock.monotonic_ms();
        let directory = self.identity.directory();
        let now = Timestamp(self.clock.now_ms());
        let (origin, tls) = client::origin(&mut parts, client, &directory, now);
        let client = Client { tls, ..client };
        if let Some(bucket) = self.website_of(&parts) {
            let visitor = (client, origin);
            let (answer, code) = self.show(&parts, &bucket, visitor, request_id).await;
            let claims = s3::headers::BodyClaims::default();
            RequestBody::new(stream, claims).drain().await;
            let spent_ms = self.clock.monotonic_ms().saturating_sub(started);
            self.metrics.answered("Website", code, spent_ms);
            return answer::finish(answer, request_id);
        }
        let is_head = parts.method == http::Method::HEAD;
        let resource = parts.uri.path().to_owned();
        let (mut page, mut watch, mut received) = (None, None, None);
        let trail = Trail::default();

        let (action, outcome) = match Request::parse(&parts, &self.domains) {
            Err(error) => {
                let claims = s3::headers::BodyClaims::parse(s3::headers::Headers(&parts.headers));
                RequestBody::new(stream, claims.unwrap_or_default())
                    .drain()
                    .await;
                (None, Err(error))
            }
            Ok(request) => {
                let action = request.action;
                page = AskingPage::of(&parts, &request);
                watch = Watch::begin(
                    &self.access_log,
                    &parts,
                    &request,
                    request_id,
                    (client, origin.address),
                    now,
                    &directory,
                );
                let mut body = RequestBody::new(stream, request.body.clone());
                let circumstances = Circumstances {
                    origin,
                    request_id,
                    trail: &trail,
                    is_logged: watch.is_some(),
                };
                let outcome = self.run(&parts, request, &mut body, circumstances).await;
                if outcome.is_err() {
                    body.drain().await;
                }
                received = body.ended_at();
                (
                    Some(action),
                    outcome.map_err(|failure| told(failure, request_id)),
                )
            }
        };

        let name = action.map_or("none", s3::Action::name);
        let code = outcome
            .as_ref()
            .err()
            .map_or("OK", |error| error.code.as_str());
        let spent_ms = self.clock.monotonic_ms().saturating_sub(started);
        self.metrics.answered(name, code, spent_ms);
        tracing::debug!(
            request_id,
            action = name,
            code,
            spent_ms,
            resource,
            "answered"
        );

        let error = outcome.as_ref().err().map(|error| error.code.as_str());
        let mut answer =
            outcome.unwrap_or_else(|error| answer::error(&error, &resource, request_id, is_head));
        if let Some(watch) = watch {
            answer = watch.answered(answer, error, trail, received);
        }
        if let Some(page) = page {
            self.allow_origin(page, answer.headers_mut()).await;
        }
        answer::finish(answer, request_id)
    }

    /// The bucket whose website the request asks for.
    fn website_of(&self, parts: &Parts) -> Option<String> {
        let host = s3::headers::Headers(&parts.headers).text("host")?;
        self.website_domains.bucket_of(&host).map(str::to_owned)
    }

    async fn run(
        &self,
        parts: &Parts,
        request: Request,
        body: &mut RequestBody,
        circumstances: Circumstances<'_>,
    ) -> Done {
        let Circumstances {
            origin,
            request_id,
            trail,
            is_logged,
        } = circumstances;
        let directory = self.identity.directory();
        let now = Timestamp(self.clock.now_ms());
        let known =
            auth::authenticate(parts, &request, &self.domains, &directory, &self.rules, now)?;
        if known.caller.account().is_some() && !parts.method.is_safe() {
            self.check_standing()?;
        }
        let context = context::of(parts, &request, &known, origin, now);
        body.verify_with(known.body);
        // Who sends a form is read in it.
        if is_logged && request.action != s3::Action::PostObject {
            trail.is_by(known.caller.principal.clone(), known.signed);
        }

        let header = |name| {
            let value = parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let ask = Ask {
            api: self,
            directory,
            caller: known.caller,
            context,
            action: request.action,
            whose: request.whose,
            now,
            parts,
            host: header(http::header::HOST),
            path: request.resource,
            trail,
            is_logged,
            origin,
            request_id,
        };
        ask.run(request.operation, body).await
    }
}

impl Api {
    /// Whether a key that may have been revoked may still write.
    fn check_standing(&self) -> Result<(), Error> {
        match self.identity.standing() {
            Standing::Trusted { .. } => Ok(()),
            Standing::ReadsOnly => {
                let why = "The Cloud Controller has not been heard for too long to know whether this \
                           key may still write. Reading goes on. Please try again.";
                Err(Error::new(Code::ServiceUnavailable, why))
            }
        }
    }
}

impl Ask<'_> {
    async fn run(self, operation: Operation, body: &mut RequestBody) -> Done {
        match operation {
            Operation::ListBuckets(list) => self.list_buckets(list).await,
            Operation::GetAccountUsage => self.get_account_usage().await,
            Operation::CreateBucket { bucket, create } => {
                self.create_bucket(bucket, create, body).await
            }
            Operation::DeleteBucket { bucket } => self.delete_bucket(bucket).await,
            Operation::HeadBucket { bucket, read_stats } => {
                self.head_bucket(bucket, read_stats).await
            }
            Operation::GetBucketLocation { bucket } => self.get_bucket_location(bucket).await,
            Operation::GetBucketAcl { bucket } => self.get_bucket_acl(bucket).await,
            Operation::PutBucketAcl { bucket, acl } => self.put_bucket_acl(bucket, acl, body).await,
            Operation::ListObjects { bucket, list } => self.list_objects(bucket, list).await,
            Operation::DeleteObjects {
                bucket,
                bypass_governance,
            } => self.delete_objects(bucket, bypass_governance, body).await,
            Operation::ListObjectVersions { bucket, list } => {
                self.list_object_versions(bucket, list).await
            }
            Operation::GetSetting { bucket, kind } => self.get_setting(bucket, kind).await,
            Operation::PutSetting { bucket, kind } => self.put_setting(bucket, kind, body).await,
            Operation::DeleteSetting { bucket, kind } => self.delete_setting(bucket, kind).await,
            Operation::GetBucketPolicyStatus { bucket } => {
                self.get_bucket_policy_status(bucket).await
            }
            Operation::Preflight { bucket, asked } => self.preflight(bucket, asked).await,
            Operation::PostObject { bucket } => self.post_object(bucket, body).await,
            Operation::ListMultipartUploads { bucket, list } => {
                self.list_multipart_uploads(bucket, list).await
            }
            Operation::PutObject { at, put } => self.put_object(at, put, body).await,
            Operation::CopyObject { at, copy } => self.copy_object(at, copy).await,
            Operation::GetObject { at, get } => self.get_object(at, get, false).await,
            Operation::HeadObject { at, get } => self.get_object(at, get, true).await,
            Operation::DeleteObject { at, delete } => self.delete_object(at, delete).await,
            Operation::GetObjectAttributes { at, get } => self.get_object_attributes(at, get).await,
            Operation::GetObjectTagging { at } => self.get_object_tagging(at).await,
            Operation::PutObjectTagging { at } => self.put_object_tagging(at, body).await,
            Operation::DeleteObjectTagging { at } => self.delete_object_tagging(at).await,
            Operation::GetObjectRetention { at } => self.get_object_retention(at).await,
            Operation::PutObjectRetention {
                at,
                bypass_governance,
            } => self.put_object_retention(at, bypass_governance, body).await,
            Operation::GetObjectLegalHold { at } => self.get_object_legal_hold(at).await,
            Operation::PutObjectLegalHold { at } => self.put_object_legal_hold(at, body).await,
            Operation::GetObjectAcl { at } => self.get_object_acl(at).await,
            Operation::PutObjectAcl { at, acl } => self.put_object_acl(at, acl, body).await,
            Operation::CreateMultipartUpload { at, create } => {
                self.create_multipart_upload(at, create).await
            }
            Operation::UploadPart { at, part } => self.upload_part(at, part, body).await,
            Operation::UploadPartCopy {
                at,
                part,
                source,
                range,
            } => self.upload_part_copy(at, part, source, range).await,
            Operation::CompleteMultipartUpload {
                at,
                upload_id,
                complete,
            } => {
                self.complete_multipart_upload(at, upload_id, complete, body)
                    .await
            }
            Operation::AbortMultipartUpload { at, upload_id } => {
                self.abort_multipart_upload(at, upload_id).await
            }
            Operation::ListParts {
                at,
                upload_id,
                list,
            } => self.list_parts(at, upload_id, list).await,
            Operation::NotServed => Err(Error::not_implemented(self.action.name()).into()),
        }
    }

    fn wish(&self) -> Wish<'_> {
        self.wish_to(self.action)
    }

    /// What the request wants besides what it is named after.
    fn wish_to(&self, action: s3::Action) -> Wish<'_> {
        Wish {
            caller: &self.caller,
            action,
            context: &self.context,
            people: &self.directory,
            list_needed: self.is_logged.then_some(&self.trail.list_needed),
        }
    }

    /// By which the client came.
    fn scheme(&self) -> &'static str {
        if self.origin.secure { "https" } else { "http" }
    }

    fn people(&self) -> &Directory {
        &self.directory
    }

    /// Finds a bucket that is the expected owner's.
    async fn find_bucket(&self, name: BucketName) -> Result<Bucket, Failure> {
        let found = self.api.engine.find_bucket(name.clone()).await?;
        let found = found.ok_or_else(|| no_such_bucket(&name))?;
        check_owner(&self.whose, &found)?;
        Ok(found)
    }

    /// Finds a bucket in which the caller may write that key.
    async fn bucket_to_write(&self, name: BucketName, key: &Key) -> Result<Bucket, Failure> {
        let bucket = self.find_bucket(name).await?;
        self.wish().on_key(&bucket, key)?;
        Ok(bucket)
    }
}

impl Ask<'_> {
    /// Finds an object, ready to be read, in a bucket that is the expected owner's. Only who may
    /// list the bucket learns that an object is not there.
    async fn find_object(&self, at: Place) -> Result<(Bucket, Found), Failure> {
        self.find_object_as(&self.wish(), &self.whose, at).await
    }

    /// Finds an object that the caller may do this with.
    async fn find_allowed(&self, at: Place) -> Result<(Bucket, Found), Failure> {
        let is_named = at.version.is_some();
        let (bucket, found) = self.find_object(at).await?;
        self.wish().on_object(&bucket, &found.object, is_named)?;
        Ok((bucket, found))
    }

    /// Changes something about an object, if the caller may.
    async fn set_object(
        &self,
        at: Place,
        status: http::StatusCode,
        change: impl FnOnce(&Bucket) -> s3::Result<ObjectChange>,
    ) -> Done {
        let key = at.key.clone();
        let (bucket, found) = self.find_allowed(at).await?;
        let change = Change::SetObject {
            bucket: same(&bucket),
            key,
            seen: Seen::of(&found.object),
            change: change(&bucket)?,
        };
        self.commit(change).await?;
        let mut answer = answer::status(status);
        answer::set_version(
            answer.headers_mut(),
            versions::shown(&bucket, &found.object),
        );
        Ok(answer)
    }

    async fn find_object_as(
        &self,
        wish: &Wish<'_>,
        whose: &Whose,
        at: Place,
    ) -> Result<(Bucket, Found), Failure> {
        let Place {
            bucket,
            key,
            version,
        } = at;
        let engine = &self.api.engine;
        let look = engine
            .look(bucket.clone(), key.clone(), version.clone())
            .await?;
        let look = look.ok_or_else(|| no_such_bucket(&bucket))?;
        check_owner(whose, &look.bucket)?;
        let absent = || wish.on_absent(&look.bucket, &key, version.as_ref());
        match look.sought {
            Sought::Object(found) => Ok((look.bucket, found)),
            Sought::Marker(marker) => Err(on_marker(absent(), &marker, version.as_ref()).into()),
            Sought::Nothing => Err(absent().into()),
        }
    }
}

/// What is said of a delete marker: as the newest version it hides the object; named itself it can
/// only be deleted (S3 user guide, "Working with delete markers").
fn on_marker(absent: Error, marker: &Object, asked: Option<&VersionId>) -> Error {
    if absent.code == Code::AccessDenied {
        return absent;
    }
    let error = match asked {
        None => absent,
        Some(_) => Error::from(Code::MethodNotAllowed),
    };
    error
        .header("x-amz-delete-marker", "true")
        .header("x-amz-version-id", marker.version.as_str())
}

fn check_owner(whose: &Whose, bucket: &Bucket) -> Result<(), Error> {
    if !whose.admits(&bucket.owner) {
        return Err(no_such_bucket(&bucket.name));
    }
    match &whose.expected {
        Some(expected) if expected != bucket.owner.as_str() => Err(Code::AccessDenied.into()),
        _ => Ok(()),
    }
}

fn same(bucket: &Bucket) -> SameBucket {
    SameBucket {
        name: bucket.name.clone(),
        id: bucket.id.clone(),
    }
}

/// A failure in S3's words; what is ours to mend is logged with its whole chain, once.
fn told(failure: Failure, request_id: &str) -> Error {
    match failure {
        Failure::Refused(error) => error,
        Failure::Stopped(why) => {
            tracing::error!(request_id, why, "a request was refused");
            Code::ServiceUnavailable.into()
        }
        Failure::Away(why) => {
            tracing::warn!(request_id, why, "a request was refused");
            away()
        }
        // A restart makes the index anew: worth another try.
        failure if failure.is_of_index() => {
            let error = daemon::chain(&failure);
            tracing::error!(request_id, error, "a request was refused");
            Code::ServiceUnavailable.into()
        }
        failure if failure.is_full() => {
            tracing::error!(request_id, "the disk is full");
            Code::InsufficientStorage.into()
        }
        failure => {
            tracing::error!(
                request_id,
                error = daemon::chain(&failure),
                "a request failed"
            );
            Code::InternalError.into()
        }
    }
}

/// What is told while the store of large objects is away: SDKs come again by themselves.
pub(crate) fn away() -> Error {
    let why = "The store that keeps large objects does not answer. Try again.";
    Error::new(Code::ServiceUnavailable, why)
}
