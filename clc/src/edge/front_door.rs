//! S3 at the public port: a request goes to Walrus with its method, path, query and headers as they
//! came, its body as a stream, and the answer comes back the same way. Nothing is held in memory but
//! the frame in flight; the slower side sets the pace.
//!
//! Only `Connection` and what goes with it is ours, since there are two connections, and what
//! tells Walrus whom the request came from (`sigv4::vouch`): policies and access logs ask. A body whose
//! sender waits for `100 Continue` is not asked for before Walrus asks for it, so an upload that may
//! not be made costs no bytes.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use daemon::public::Agreed;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, request, uri};
use http_body_util::BodyExt;
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    ext,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use sigv4::{
    sign::Key,
    vouch::{self, Origin},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, Sleep},
};
use wire::RequestId;

use super::{Body, OwnKey, envelope::s3_failure};

/// Requests in flight to Walrus. Each may hold a file open there.
const REQUESTS_MAX: usize = 2048;
/// Walrus is on this machine or beside it.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Connections kept for the next request, and for how long: less than Walrus itself keeps them.
const IDLE_MAX: usize = 64;
const IDLE_LIMIT: Duration = Duration::from_secs(20);
/// How long a sender may send nothing in the middle of a body.
const SENDER_LIMIT: Duration = Duration::from_secs(60);
/// How long Walrus may take from the end of a body to the head of its answer: completing a large
/// multipart upload reads and writes all of it.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);
/// How long Walrus may pause in the middle of an answer: a disk that spins up.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);
/// How often sender and answer are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Headers that speak of one connection and not of the request (RFC 9110, 7.6.1).
const OF_THE_CONNECTION: [&str; 4] = ["connection", "keep-alive", "proxy-connection", "upgrade"];

/// Whom a request came from.
pub(super) struct Client {
    pub(super) origin: Origin,
    /// What its handshake agreed on.
    pub(super) tls: Option<Agreed>,
    /// What Walrus believes us by.
    pub(super) own_key: Option<OwnKey>,
    pub(super) now_ms: i64,
}

impl Client {
    /// Says so to Walrus; what a client says of itself is taken away.
    fn introduce(&self, head: &mut request::Parts) {
        head.headers.remove(vouch::HEADER);
        head.headers.remove(vouch::TLS_HEADER);
        let word = self.own_key.as_ref().and_then(|own| {
            let key = Key {
                access_key: &own.id,
                secret: own.secret.reveal(),
                session_token: None,
            };
            vouch::vouch(head, self.origin, key, self.now_ms)
        });
        let Some(word) = word else {
            return;
        };
        head.headers.insert(vouch::HEADER, word);
        let tls = self.tls.map(|agreed| agreed.to_string());
        if let Some(tls) = tls.and_then(|text| HeaderValue::try_from(text).ok()) {
            head.headers.insert(vouch::TLS_HEADER, tls);
        }
    }
}

/// The way to Walrus.
pub(super) struct FrontDoor {
    http: legacy::Client<HttpsConnector<HttpConnector>, Passing>,
    walrus: (uri::Scheme, uri::Authority),
    room: Semaphore,
}

impl FrontDoor {
    pub(super) fn new(
        walrus: (uri::Scheme, uri::Authority),
        tls: &Arc<rustls::ClientConfig>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_LIMIT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(rustls::ClientConfig::clone(tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_preserve_header_case(true)
            .build(connector);
        Self {
            http,
            walrus,
            room: Semaphore::new(REQUESTS_MAX),
        }
    }

    /// Passes a request on and its answer back.
    pub(super) async fn pass(
        &self,
        request: Request<Incoming>,
        client: &Client,
        request_id: &RequestId,
    ) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let fail = |status, code, message| s3_failure(status, code, message, &path, request_id);

        let Ok(_permit) = self.room.try_acquire() else {
            let message = "Please reduce your request rate.";
            return fail(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", message);
        };
        let Some((request, flow)) = self.prepare(request, client) else {
            return fail(
                StatusCode::BAD_REQUEST,
                "InvalidURI",
                "The request target is not a path.",
            );
        };
        match self.send(request, &flow).await {
            Ok(response) => came_back(response, flow),
            Err(NoAnswer::Stalled) => {
                let message = "Nothing of the body arrived for too long.";
                fail(StatusCode::BAD_REQUEST, "RequestTimeout", message)
            }
            Err(NoAnswer::Failed(error)) => {
                tracing::warn!(error = daemon::chain(&*error), "walrus does not answer");
                let message = "The object store does not answer. Try again.";
                fail(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "ServiceUnavailable",
                    message,
                )
            }
        }
    }

    /// The same request on its way to Walrus. `None`: its target cannot be one of ours.
    fn prepare(
        &self,
        request: Request<Incoming>,
        client: &Client,
    ) -> Option<(Request<Passing>, Arc<Flow>)> {
        let (mut head, body) = request.into_parts();
        let target = head
            .uri
            .path_and_query()
            .filter(|t| t.as_str().starts_with('/'))?
            .clone();
        head.uri = Uri::builder()
            .scheme(self.walrus.0.clone())
            .authority(self.walrus.1.clone())
            .path_and_query(target)
            .build()
            .ok()?;
        head.version = Version::HTTP_11;
        for name in OF_THE_CONNECTION {
            head.headers.remove(name);
        }
        client.introduce(&mut head);

        let waits = daemon::public::expects_continue(&head.headers);
        let flow = Flow::new(waits);
        let mut request = Request::from_parts(
            head,
            Passing {
                body,
                flow: flow.clone(),
            },
        );
        if waits {
            let flow = flow.clone();
            ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    flow.begin();
                }
            });
        }
        Some((request, flow))
    }

    async fn send(
        &self,
        request: Request<Passing>,
        flow: &Flow,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let mut answer = self.http.request(request);
        loop {
            match tokio::time::timeout(CHECK_EVERY, &mut answer).await {
                Ok(answer) => return answer.map_err(|error| NoAnswer::Failed(error.into())),
                Err(_elapsed) => flow.check()?,
            }
        }
    }
}

enum NoAnswer {
    Stalled,
    Failed(daemon::BoxError),
}

fn came_back(mut response: Response<Incoming>, flow: Arc<Flow>) -> Response<Body> {
    for name in OF_THE_CONNECTION {
        response.headers_mut().remove(name);
    }
    *response.version_mut() = Version::HTTP_11;
    response.map(|body| Returning::new(body, flow).boxed_unsync())
}

/// How far a body has come.
#[derive(Debug)]
struct Flow(Mutex<Progress>);

#[derive(Debug)]
struct Progress {
    may_begin: bool,
    /// Walrus has answered without ever asking for the body.
    is_unwanted: bool,
    ended: bool,
    moved_at: Instant,
    waker: Option<Waker>,
}

impl Flow {
    fn new(waits: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Progress {
            may_begin: !waits,
            is_unwanted: false,
            ended: false,
            moved_at: Instant::now(),
            waker: None,
        })))
    }

    fn with<T>(&self, change: impl FnOnce(&mut Progress) -> T) -> T {
        change(
            &mut self
                .0
                .lock()
                .expect("no one panics while holding this lock"),
        )
    }

    /// Walrus wants the body.
    fn begin(&self) {
        let waker = self.with(|progress| {
            progress.may_begin = true;
            progress.moved_at = Instant::now();
            progress.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The answer is complete; if the body was not asked for, it never will be.
    fn end(&self) {
        let waker = self.with(|progress| {
            progress.is_unwanted = !progress.may_begin;
            progress.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn check(&self) -> Result<(), NoAnswer> {
        let (ended, idle) = self.with(|progress| (progress.ended, progress.moved_at.elapsed()));
        match ended {
            true if idle > ANSWER_LIMIT => Err(NoAnswer::Failed("no answer in time".into())),
            false if idle > SENDER_LIMIT => Err(NoAnswer::Stalled),
            _ => Ok(()),
        }
    }
}

/// A body on its way to Walrus.
struct Passing {
    body: Incoming,
    flow: Arc<Flow>,
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = daemon::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, daemon::BoxError>>> {
        let (may_begin, is_unwanted) = self.flow.with(|progress| {
            if !progress.may_begin {
                progress.waker = Some(cx.waker().clone());
            }
            (progress.may_begin, progress.is_unwanted)
        });
        if is_unwanted {
            // Ends the connection to Walrus, which waits for a body that nobody will send, and with
            // it the sender's.
            return Poll::Ready(Some(Err("the body was not asked for".into())));
        }
        if !may_begin {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = &polled {
            let ended = frame.is_none() || self.body.is_end_stream();
            self.flow.with(|progress| {
                progress.moved_at = Instant::now();
                progress.ended |= ended;
            });
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        let ended = self.body.is_end_stream();
        if ended {
            self.flow.with(|progress| progress.ended = true);
        }
        ended
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer on its way back.
struct Returning {
    body: Incoming,
    flow: Arc<Flow>,
    limit: Pin<Box<Sleep>>,
}

impl Returning {
    fn new(body: Incoming, flow: Arc<Flow>) -> Self {
        Self {
            body,
            flow,
            limit: Box::pin(tokio::time::sleep(PAUSE_LIMIT)),
        }
    }
}

impl HttpBody for Returning {
    type Data = Bytes;
    type Error = daemon::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, daemon::BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_ready() {
            self.limit.as_mut().reset(Instant::now() + PAUSE_LIMIT);
            return polled.map_err(Into::into);
        }
        ready!(self.limit.as_mut().poll(cx));
        Poll::Ready(Some(
            Err("walrus stopped in the middle of an answer".into()),
        ))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        self.flow.end();
    }
}

#[cfg(test)]
mod tests {
    use types::Secret;

    use super::*;

    #[test]
    fn walrus_is_told_what_a_clients_handshake_agreed_on_and_never_by_the_client() {
        let agreed = "TLSv1_3 TLS13_AES_256_GCM_SHA384";
        for tls in [Agreed::parse(agreed), None] {
            let client = Client {
                origin: Origin {
                    address: [192, 0, 2, 3].into(),
                    secure: tls.is_some(),
                },
                tls,
                own_key: Some(OwnKey {
                    id: "AKIDSYSTEM".to_owned(),
                    secret: Secret::new("of the cloud".to_owned()),
                }),
                now_ms: 0,
            };
            let request = Request::get("/b/k").header(vouch::TLS_HEADER, "forged");
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            client.introduce(&mut head);
            let told = head.headers.get(vouch::TLS_HEADER);
            assert_eq!(told.is_some(), tls.is_some());
            assert!(told.is_none_or(|told| told == agreed));
            assert!(head.headers.contains_key(vouch::HEADER));
        }
    }
}
