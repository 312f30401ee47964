//! Listeners for clients: http and https on one port, each connection within limits.
//!
//! | module | holds |
//! |---|---|
//! | [`certificate`] | the certificate that clients see: the administrator's, or one of the cloud's authority |
//! | `patient` | a connection whose other end must take what it asked for |
//! | `spelling` | how answers spell the names of their headers |
//!
//! The first byte decides: 22 opens a TLS handshake, and no HTTP method begins with it. Limits of
//! connections hold before anything is read; at the limit new ones wait in the kernel's queue.

pub mod certificate;
mod patient;
mod spelling;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible, fmt, future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration,
};

use http::{Extensions, HeaderMap, HeaderValue, Request, Response, header};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use prometheus_client::metrics::gauge::Gauge;

use crate::{BoxError, tls::provider};
use patient::Patient;

/// The first byte of a TLS connection: a record of type handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// A handshake is two round trips; a minute's grace would hold a connection for nothing.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// After an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What is read of a request that is refused unseen.
const HEAD_DROPPED_BYTES: u64 = 128 << 10;
/// For a client that speaks http where it is switched off.
const HTTPS_ONLY: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 35\r\nConnection: close\r\n\r\nThis port is served over https only";

/// What a listener takes.
#[derive(Debug, Clone)]
pub struct Door {
    /// Whether http is spoken beside https.
    pub plain: bool,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// The limits of its connections.
    pub limits: Limits,
    /// How many connections are open.
    pub open: Gauge,
}

/// Each of them is a constant of the daemon, with its reason there.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// How long the head of a request may take, the idle time of a kept connection included.
    pub head_time: Duration,
    /// The longest head; also the size of the read buffer.
    pub head_bytes: usize,
    /// Headers of a request.
    pub headers: usize,
    /// Whether headers go on to another server, which shall see them as they were written.
    pub keep_header_case: bool,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Whether it came over https.
    pub secure: bool,
    /// What it agreed on there.
    pub tls: Option<Agreed>,
}

/// What a handshake agreed on, by the names of their registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// `TLSv1_3`
    pub version: &'static str,
    /// `TLS13_AES_256_GCM_SHA384`
    pub cipher_suite: &'static str,
}

impl Agreed {
    fn of(connection: &rustls::ServerConnection) -> Option<Self> {
        Some(Self {
            version: connection.protocol_version()?.as_str()?,
            cipher_suite: connection.negotiated_cipher_suite()?.suite().as_str()?,
        })
    }

    /// Reads what [`fmt::Display`] wrote; `None` if nothing that we speak is called so.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, suite) = text.split_once(' ')?;
        let provider = provider();
        let suites = provider.cipher_suites.iter();
        let mut spoken = suites.filter_map(|known| {
            let version = known.version().version.as_str()?;
            let cipher_suite = known.suite().as_str()?;
            Some(Self {
                version,
                cipher_suite,
            })
        });
        spoken.find(|known| known.version == version && known.cipher_suite == suite)
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.version, self.cipher_suite)
    }
}

/// Serves until told to stop, then finishes what is under way.
pub async fn serve<A, F, B>(listener: TcpListener, door: Door, stop: CancellationToken, answer: A)
where
    A: Fn(Request<Incoming>, Client) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let door = Arc::new(door);
    let spelling = Arc::new(spelling::learn().await);
    let room = Arc::new(Semaphore::new(door.limits.connections));
    let connections = TaskTracker::new();
    loop {
        let permit = room
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (door, answer, stop) = (door.clone(), answer.clone(), stop.clone());
        let spelling = spelling.clone();
        connections.spawn(async move {
            door.open.inc();
            if let Err(error) = connection(&door, stream, address, (answer, spelling), &stop).await
            {
                tracing::debug!(error, %address, "a connection ended early");
            }
            door.open.dec();
            drop(permit);
        });
    }
    connections.close();
    connections.wait().await;
}

/// For clients of such listeners: whom they trust is theirs to say.
pub fn client_config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn connection<A, F, B>(
    door: &Door,
    stream: TcpStream,
    address: SocketAddr,
    answers: (A, Arc<Extensions>),
    stop: &CancellationToken,
) -> Result<(), String>
where
    A: Fn(Request<Incoming>, Client) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    // Header and body go out in two writes; with Nagle's algorithm the second waits 40 ms.
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let secure = tokio::select! {
        first = first_byte(&stream, door.limits.head_time) => first? == HANDSHAKE,
        () = stop.cancelled() => return Ok(()),
    };
    let client = Client {
        address,
        secure,
        tls: None,
    };
    let stream = Patient::new(stream);
    match &door.tls {
        Some(tls) if secure => {
            let accepting = TlsAcceptor::from(tls.clone()).accept(stream);
            let accepted = timeout(HANDSHAKE_LIMIT, accepting)
                .await
                .map_err(|_| "the handshake took too long".to_owned())?;
            let stream = accepted.map_err(|error| format!("the handshake failed: {error}"))?;
            let tls = Agreed::of(stream.get_ref().1);
            let client = Client { tls, ..client };
            requests(door, stream, client, answers, stop).await
        }
        _ if door.plain => requests(door, stream, client, answers, stop).await,
        _ => refuse_plain(stream)
            .await
            .map_err(|error| error.to_string()),
    }
}

/// Says that only https is spoken here. What the client sends is taken, a head at most: to close on
/// unread bytes would reset the connection before it has read why.
async fn refuse_plain(mut stream: Patient) -> std::io::Result<()> {
    stream.write_all(HTTPS_ONLY).await?;
    stream.shutdown().await?;
    let (mut rest, mut nowhere) = (stream.take(HEAD_DROPPED_BYTES), tokio::io::sink());
    let _ = timeout(HANDSHAKE_LIMIT, tokio::io::copy(&mut rest, &mut nowhere)).await;
    Ok(())
}

/// The first byte of a connection, which stays to be read.
async fn first_byte(stream: &TcpStream, limit: Duration) -> Result<u8, String> {
    let mut byte = [0];
    match timeout(limit, stream.peek(&mut byte)).await {
        Ok(Ok(1)) => Ok(byte[0]),
        Ok(Ok(_)) => Err("it closed without a word".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it never spoke".to_owned()),
    }
}

/// Whether `Expect: 100-continue` was sent.
pub fn expects_continue(headers: &HeaderMap) -> bool {
    let expected = headers.get(header::EXPECT);
    expected.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether a client waits for `100 Continue` before it sends its body (RFC 9110, 10.1.1).
struct Waits {
    /// It asked to.
    for_continue: bool,
    /// There is no body to go on with, so that none is ever sent.
    for_nothing: bool,
}

impl Waits {
    fn of(request: &Request<Incoming>) -> Self {
        Self {
            for_continue: expects_continue(request.headers()),
            for_nothing: request.body().is_end_stream(),
        }
    }

    /// Ends the connection with an answer that came instead of `100 Continue`. Clients may withhold
    /// the body then, or not, so that nobody knows what comes next; and botocore takes the status of
    /// such an answer for that of the next one on the same connection.
    fn answered<B>(&self, mut response: Response<B>) -> Response<B> {
        if self.for_continue && (self.for_nothing || !response.status().is_success()) {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        response
    }
}

async fn requests<A, F, B>(
    door: &Door,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    client: Client,
    (answer, spelling): (A, Arc<Extensions>),
    stop: &CancellationToken,
) -> Result<(), String>
where
    A: Fn(Request<Incoming>, Client) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let waits = Waits::of(&request);
        let (answered, spelling) = (answer(request, client), spelling.clone());
        // A connection keeps room for the future of its requests while it says nothing: of ten
        // thousand, room for a pointer each.
        Box::pin(async move {
            let mut response = waits.answered(answered.await);
            let spelling = Extensions::clone(&spelling);
            response.extensions_mut().extend(spelling);
            Ok::<_, Infallible>(response)
        })
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(door.limits.head_time)
        .max_buf_size(door.limits.head_bytes)
        .max_headers(door.limits.headers)
        .preserve_header_case(door.limits.keep_header_case)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    outcome.map_err(|error| crate::chain(&error))
}
