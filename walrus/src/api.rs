//! The S3 API: one request, parsed, authenticated, authorised and done. Each operation is one
//! function that reads in that order.

mod access;
mod attributes;
mod buckets;
mod context;
mod copy;
mod cors;
mod delete;
mod dispatch;
mod encryption;
mod failures;
mod find;
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
    Code, Error, Request,
    address::Domains,
    headers::{BodyClaims, Headers},
    request::Whose,
};
use sigv4::{Rules, vouch::Origin};
use types::Timestamp;

use crate::{
    access_log::{AccessLog, Trail, Watch},
    answer::{self, Answer},
    auth,
    authorise::Wish,
    body::RequestBody,
    client,
    directory::{Caller, Directory},
    engine::{Engine, Failure},
    identity::{Identity, Standing},
    metrics::Metrics,
    notify::Destinations,
    seal::MasterKey,
};

use cors::AskingPage;
use failures::told;
use find::same;

pub(crate) use failures::away;

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

/// An answer, and what is counted of it.
struct Served {
    answer: Answer,
    name: &'static str,
    code: &'static str,
}

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
        let now = Timestamp(self.clock.now_ms());
        let directory = self.identity.directory();
        let (origin, tls) = client::origin(&mut parts, client, &directory, now);
        let from = (Client { tls, ..client }, origin);

        let served = match self.website_of(&parts) {
            Some(bucket) => self.visit(&parts, stream, &bucket, from, request_id).await,
            None => self.answer(&parts, stream, from, now, request_id).await,
        };

        let Served { answer, name, code } = served;
        let spent_ms = self.clock.monotonic_ms().saturating_sub(started);
        self.metrics.answered(name, code, spent_ms);
        let resource = parts.uri.path();
        tracing::debug!(
            request_id,
            action = name,
            code,
            spent_ms,
            resource,
            "answered"
        );
        answer::finish(answer, request_id)
    }

    /// Answers a browser at a website.
    async fn visit(
        &self,
        parts: &Parts,
        stream: Incoming,
        bucket: &str,
        from: (Client, Origin),
        request_id: &str,
    ) -> Served {
        let (answer, code) = self.show(parts, bucket, from, request_id).await;
        let claims = BodyClaims::default();
        RequestBody::new(stream, claims).drain().await;
        Served {
            answer,
            name: "Website",
            code,
        }
    }

    /// Answers a request of the S3 API. Whatever becomes of it, its body is read to its end or given
    /// up, its access log has its line, and a page of another site is told whether it may look.
    async fn answer(
        &self,
        parts: &Parts,
        stream: Incoming,
        (client, origin): (Client, Origin),
        now: Timestamp,
        request_id: &str,
    ) -> Served {
        let request = match Request::parse(parts, &self.domains) {
            Ok(request) => request,
            Err(error) => {
                let claims = BodyClaims::parse(Headers(&parts.headers)).unwrap_or_default();
                RequestBody::new(stream, claims).drain().await;
                return Served {
                    name: "none",
                    code: error.code.as_str(),
                    answer: refusal(&error, parts, request_id),
                };
            }
        };
        let name = request.action.name();
        let page = AskingPage::of(parts, &request);
        let (trail, directory) = (Trail::default(), self.identity.directory());
        let from = (client, origin.address);
        let log = &self.access_log;
        let watch = Watch::begin(log, parts, &request, request_id, from, now, &directory);

        let mut body = RequestBody::new(stream, request.body.clone());
        let circumstances = Circumstances {
            origin,
            request_id,
            trail: &trail,
            is_logged: watch.is_some(),
        };
        let outcome = self.run(parts, request, &mut body, circumstances).await;
        if outcome.is_err() {
            body.drain().await;
        }

        let outcome = outcome.map_err(|failure| told(failure, request_id));
        let error = outcome.as_ref().err().map(|error| error.code.as_str());
        let mut answer = outcome.unwrap_or_else(|error| refusal(&error, parts, request_id));
        if let Some(watch) = watch {
            answer = watch.answered(answer, error, trail, body.ended_at());
        }
        if let Some(page) = page {
            self.allow_origin(page, answer.headers_mut()).await;
        }
        Served {
            answer,
            name,
            code: error.unwrap_or("OK"),
        }
    }

    /// The bucket whose website the request asks for.
    fn website_of(&self, parts: &Parts) -> Option<String> {
        let host = Headers(&parts.headers).text("host")?;
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
}

/// An error as an answer.
fn refusal(error: &Error, parts: &Parts, request_id: &str) -> Answer {
    let is_head = parts.method == http::Method::HEAD;
    answer::error(error, parts.uri.path(), request_id, is_head)
}
