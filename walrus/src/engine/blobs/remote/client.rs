//! Requests to the other store: signed by version 4 over the hash of what they carry, so that what it
//! acknowledges is what was sent; tried again while they fail for a reason that may pass.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use daemon::{clock::SystemClock, public::client_config};
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use s3::xml::Element;
use sha2::{Digest as _, Sha256};
use sigv4::sign::{self, Target};

use super::{
    away::{Availability, Turn},
    settings::{Credentials, Endpoint, Settings},
};
use crate::engine::failure::{Failure, Result};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type SentBody = UnsyncBoxBody<Bytes, BoxError>;

/// Tries of one request, and the pause before the second; each later one is twice as long.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Silence before the head of an answer: a store that is that slow is away.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A body may be sent as slowly as this.
const SLOWEST_BYTES_PER_S: u64 = 128 << 10;
/// Connections that are kept for the next request; ours close them before a Walrus does.
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// A page of a list, an error, a completion.
const DOCUMENT_BYTES_MAX: usize = 2 << 20;
/// Read from a spooled part at once.
const CHUNK_BYTES: u64 = 256 << 10;

/// What a request carries; it can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    source: Source,
    length: u64,
    sha256: String,
}

#[derive(Debug, Clone)]
enum Source {
    Memory(Bytes),
    File(Arc<File>),
}

impl Payload {
    /// Bytes in memory.
    pub(super) fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let sha256 = hex::encode(Sha256::digest(&bytes));
        Self::hashed(bytes, sha256)
    }

    /// The same when their hash is known.
    pub(super) fn hashed(bytes: Bytes, sha256: String) -> Self {
        Self {
            length: bytes.len() as u64,
            source: Source::Memory(bytes),
            sha256,
        }
    }

    /// A whole file.
    pub(super) fn file(file: File, length: u64, sha256: String) -> Self {
        Self {
            source: Source::File(Arc::new(file)),
            length,
            sha256,
        }
    }

    fn body(&self) -> SentBody {
        match &self.source {
            Source::Memory(bytes) => Full::from(bytes.clone())
                .map_err(|never| match never {})
                .boxed_unsync(),
            Source::File(file) => streamed(file.clone(), self.length),
        }
    }
}

fn streamed(file: Arc<File>, length: u64) -> SentBody {
    let chunks = stream::try_unfold(0, move |at| {
        let file = file.clone();
        async move {
            let size = (length - at).min(CHUNK_BYTES);
            if size == 0 {
                return Ok::<_, BoxError>(None);
            }
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; usize::try_from(size).expect("a chunk fits")];
                file.read_exact_at(&mut bytes, at).map(|()| bytes)
            });
            let bytes = Bytes::from(read.await??);
            Ok(Some((Frame::data(bytes), at + size)))
        }
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// A request.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// The key below the bucket; empty for the bucket itself.
    pub(super) key: String,
    /// Without the question mark, encoded.
    pub(super) query: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload,
    /// How long the head of the answer may take once the payload is sent.
    pub(super) limit: Duration,
}

impl Ask {
    pub(super) fn new(method: Method, key: impl Into<String>) -> Self {
        Self {
            method,
            key: key.into(),
            query: String::new(),
            headers: Vec::new(),
            payload: Payload::of(Bytes::new()),
            limit: ANSWER_LIMIT,
        }
    }

    pub(super) fn query(self, query: impl Into<String>) -> Self {
        let query = query.into();
        Self { query, ..self }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn payload(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }

    pub(super) fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may be done another time: nobody answered, or somebody who was busy.
    Passing(String),
    /// Our key is not believed, or may not do it.
    Denied(String),
    /// It will not be done, with the code that it said.
    Refused { code: String, why: String },
}

/// What asks the other store.
#[derive(Debug)]
pub(super) struct Client {
    http: Http<HttpsConnector<HttpConnector>, SentBody>,
    endpoint: Endpoint,
    bucket: String,
    region: String,
    credentials_file: PathBuf,
    credentials: Mutex<Credentials>,
    availability: Availability,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let endpoint = settings.endpoint()?;
        let trust = match (&settings.ca_file, endpoint.scheme.as_str()) {
            (Some(file), _) => trust_in(file)?,
            (None, "https") => trust_of_machine(),
            (None, _) => client_config(RootCertStore::empty()),
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(trust)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let mut builder = Http::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new());
        builder.pool_idle_timeout(IDLE_LIMIT);
        Ok(Self {
            http: builder.build(connector),
            credentials: Mutex::new(Credentials::read(&settings.credentials_file)?),
            credentials_file: settings.credentials_file.clone(),
            bucket: settings.bucket.clone(),
            region: settings.region.clone(),
            availability: Availability::default(),
            endpoint,
        })
    }

    /// Where a key is, for people.
    pub(super) fn place(&self, key: &str) -> String {
        let Endpoint {
            scheme,
            authority,
            path,
        } = &self.endpoint;
        format!("{scheme}://{authority}{path}/{}/{key}", self.bucket)
    }

    /// The bucket's name.
    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    /// One request, tried again while that may help. The head of a good answer comes back.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Response<Incoming>> {
        self.send_and(ask, async |answer| Ok(answer)).await
    }

    /// The same with the answer read whole, whatever bytes they are.
    pub(super) async fn bytes(&self, ask: &Ask) -> Result<(http::HeaderMap, Bytes)> {
        self.send_and(ask, async |answer| {
            let (head, body) = answer.into_parts();
            Ok((head.headers, collected(body).await?))
        })
        .await
    }

    /// The same for an answer that is a document, and may be an error after all.
    pub(super) async fn document(&self, ask: &Ask) -> Result<(http::HeaderMap, Bytes)> {
        self.send_and(ask, async |answer| {
            let (head, body) = answer.into_parts();
            let bytes = collected(body).await?;
            // Long work is refused with status 200, behind the spaces that keep the connection alive.
            match error_code(&bytes) {
                Some((code, why)) => Err(trouble(StatusCode::INTERNAL_SERVER_ERROR, code, why)),
                None => Ok((head.headers, bytes)),
            }
        })
        .await
    }

    /// A request whose answer counts only if `take` has taken it.
    async fn send_and<T>(
        &self,
        ask: &Ask,
        take: impl AsyncFn(Response<Incoming>) -> Result<T, Trouble>,
    ) -> Result<T> {
        let turn = self.availability.enter(Instant::now())?;
        let tries = match turn {
            Turn::Patient => TRIES,
            Turn::Probe => 1,
        };
        let mut tried = 1;
        let mut has_new_key = false;
        loop {
            let took = match self.once(ask).await {
                Ok(answer) => take(answer).await,
                Err(trouble) => Err(trouble),
            };
            match took {
                Ok(taken) => {
                    self.availability.here();
                    return Ok(taken);
                }
                Err(Trouble::Refused { code, why }) => {
                    self.availability.here();
                    return Err(self.refused(ask, &code, why));
                }
                Err(Trouble::Denied(_)) if !has_new_key && self.read_key_again() => {
                    has_new_key = true;
                }
                Err(Trouble::Passing(_)) if tried < tries => {
                    tokio::time::sleep(pause(tried)).await;
                    tried += 1;
                }
                Err(Trouble::Passing(why) | Trouble::Denied(why)) => {
                    let why = format!("{}: {why}", self.place(""));
                    self.availability.away(Instant::now(), why.clone());
                    return Err(Failure::Away(why));
                }
            }
        }
    }

    async fn once(&self, ask: &Ask) -> Result<Response<Incoming>, Trouble> {
        let request = self.signed(ask)?;
        let sending = Duration::from_secs(ask.payload.length / SLOWEST_BYTES_PER_S);
        let answer = tokio::time::timeout(ask.limit + sending, self.http.request(request)).await;
        let answer =
            answer.map_err(|_| Trouble::Passing("it does not answer in time".to_owned()))?;
        let answer = answer.map_err(|error| Trouble::Passing(daemon::chain(&error)))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        let bytes = collected(body).await.unwrap_or_default();
        let (code, why) = error_code(&bytes).unwrap_or_else(|| {
            let text = head.status.to_string();
            (text.clone(), text)
        });
        Err(trouble(head.status, code, why))
    }

    fn signed(&self, ask: &Ask) -> Result<Request<SentBody>, Trouble> {
        let wrong = |error: &dyn std::error::Error| Trouble::Denied(error.to_string());
        let query = match ask.query.as_str() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let uri = format!("{}{query}", self.place(&ask.key));
        let mut builder = Request::builder()
            .method(&ask.method)
            .uri(uri)
            .header(header::HOST, &self.endpoint.authority);
        if [Method::PUT, Method::POST].contains(&ask.method) {
            builder = builder.header(header::CONTENT_LENGTH, ask.payload.length);
        }
        for (name, value) in &ask.headers {
            builder = builder.header(*name, value);
        }
        let request = builder.body(()).map_err(|error| wrong(&error))?;
        let (mut head, ()) = request.into_parts();
        let credentials = self.key().clone();
        let key = sign::Key {
            access_key: &credentials.access_key,
            secret: credentials.secret.reveal(),
            session_token: credentials
                .session_token
                .as_ref()
                .map(|token| &**token.reveal()),
        };
        let target = Target {
            region: &self.region,
            service: "s3",
        };
        let now_ms = SystemClock::shared().now_ms();
        sign::v4_header(&mut head, key, target, &ask.payload.sha256, now_ms)
            .map_err(|error| wrong(&error))?;
        Ok(Request::from_parts(head, ask.payload.body()))
    }

    fn key(&self) -> std::sync::MutexGuard<'_, Credentials> {
        // It is replaced whole: a panic leaves nothing half-done.
        self.credentials
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file has another key than the one that was denied.
    fn read_key_again(&self) -> bool {
        match Credentials::read(&self.credentials_file) {
            Ok(read) if read != *self.key() => {
                *self.key() = read;
                true
            }
            _ => false,
        }
    }

    fn refused(&self, ask: &Ask, code: &str, why: String) -> Failure {
        use std::io::{Error, ErrorKind};
        let source = match code {
            "NoSuchKey" | "NoSuchUpload" => Error::new(ErrorKind::NotFound, why),
            "InsufficientStorage" | "QuotaExceeded" => Error::new(ErrorKind::StorageFull, why),
            _ => Error::other(format!("{code}: {why}")),
        };
        let what = format!("{} {}", ask.method, self.place(&ask.key));
        Failure::Io { what, source }
    }
}

fn pause(tried: u32) -> Duration {
    // Between half and the whole: those who failed together do not come again together.
    let whole = PAUSE * 2_u32.pow(tried - 1);
    whole.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

async fn collected(body: Incoming) -> Result<Bytes, Trouble> {
    let read = Limited::new(body, DOCUMENT_BYTES_MAX).collect();
    let late = |_| Trouble::Passing("its answer does not end".to_owned());
    let read = tokio::time::timeout(ANSWER_LIMIT, read)
        .await
        .map_err(late)?;
    let cut = |error: BoxError| Trouble::Passing(format!("its answer was cut off: {error}"));
    Ok(read.map_err(cut)?.to_bytes())
}

/// Code and message of a document that is an error.
fn error_code(bytes: &[u8]) -> Option<(String, String)> {
    let error = Element::read(bytes.trim_ascii_start(), "Error").ok()?;
    let text = |name| error.text_of(name).unwrap_or_default().to_owned();
    Some((text("Code"), text("Message")))
}

/// What a refusal means for who asked.
fn trouble(status: StatusCode, code: String, why: String) -> Trouble {
    let said = format!("{code}: {why}");
    match (status.as_u16(), code.as_str()) {
        (507, _) => Trouble::Refused {
            code: "InsufficientStorage".to_owned(),
            why,
        },
        (_, "QuotaExceeded") => Trouble::Refused { code, why },
        // A bucket that is gone takes no object with it that we should call lost.
        (401 | 403, _) | (_, "NoSuchBucket") => Trouble::Denied(said),
        (_, "RequestTimeout" | "SlowDown" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => {
            Trouble::Passing(said)
        }
        (501, _) => Trouble::Refused { code, why },
        (429 | 500.., _) => Trouble::Passing(said),
        // What has no body says it by its status.
        (404, code) if code.starts_with("404") => Trouble::Refused {
            code: "NoSuchKey".to_owned(),
            why,
        },
        _ => Trouble::Refused { code, why },
    }
}

fn trust_in(file: &std::path::Path) -> Result<ClientConfig, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("blobs.ca_file: {}: {why}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    Ok(client_config(roots))
}

fn trust_of_machine() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    // What a machine has that is no certificate is not ours to mend.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    client_config(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_passes_or_lasts_by_its_status_and_code() {
        let kind = |status: u16, code: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            match trouble(status, code.to_owned(), String::new()) {
                Trouble::Passing(_) => "passes",
                Trouble::Denied(_) => "denied",
                Trouble::Refused { .. } => "lasts",
            }
        };
        for (status, code, expected) in [
            (503, "SlowDown", "passes"),
            (500, "InternalError", "passes"),
            (429, "TooManyRequests", "passes"),
            (400, "RequestTimeout", "passes"),
            (400, "XAmzContentSHA256Mismatch", "passes"),
            (403, "InvalidAccessKeyId", "denied"),
            (404, "NoSuchBucket", "denied"),
            (404, "NoSuchKey", "lasts"),
            (404, "404 Not Found", "lasts"),
            (501, "NotImplemented", "lasts"),
            (507, "InsufficientStorage", "lasts"),
            (403, "QuotaExceeded", "lasts"),
            (400, "EntityTooLarge", "lasts"),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn an_error_behind_spaces_is_one() {
        let late = b"  \n<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>m</Message></Error>";
        assert_eq!(error_code(late).unwrap().0, "InternalError");
        assert!(error_code(b"<CompleteMultipartUploadResult/>").is_none());
        assert!(error_code(b"").is_none());
    }
}
