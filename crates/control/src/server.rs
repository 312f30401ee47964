//! The serving end: a listener that knows its peers by their certificates.
//!
//! Who has no certificate yet may connect, for `join`. Such strangers have a few connections of their
//! own, for a short while: whatever they do, the cloud's daemons have theirs.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{Router, extract::Request, middleware::Next};
use daemon::tls::Peer;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::rpc::ConnectedPeer;

/// Connections of daemons at once: eight from each of a hundred nodes, and room.
const MEMBERS_MAX: usize = 1024;
/// Connections without a certificate at once: hosts join one after the other.
pub const STRANGERS_MAX: usize = 16;
/// Handshakes at once: a cloud whose daemons all come back together.
const HANDSHAKES_MAX: usize = 256;
/// How long a stranger may stay: a join takes a second, and a slow disk's flush.
pub const STRANGER_STAY: Duration = Duration::from_secs(20);
/// Calls at once in one stranger's connection.
const STRANGER_STREAMS_MAX: u32 = 1;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the head of a request may take, the idle time of a kept connection not counted.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may rest: longer than our clients keep one (90 s), who thus close first.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often an HTTP/2 peer must show that it is there, and how soon.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what is under way in a resting connection may take to end: an answer that nobody reads.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long after a failed accept (out of descriptors) the next is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections of each kind there may be.
struct Room {
    handshakes: Arc<Semaphore>,
    members: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Room {
    fn new() -> Arc<Self> {
        let permits = |number| Arc::new(Semaphore::new(number));
        Arc::new(Self {
            handshakes: permits(HANDSHAKES_MAX),
            members: permits(MEMBERS_MAX),
            strangers: permits(STRANGERS_MAX),
        })
    }

    /// A place for this peer: a member waits for one, a stranger may come again.
    async fn admit(&self, peer: Option<&Peer>) -> Option<OwnedSemaphorePermit> {
        match peer {
            Some(_) => Some(permit(&self.members).await),
            None => self.strangers.clone().try_acquire_owned().ok(),
        }
    }
}

async fn permit(of: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = of.clone().acquire_owned().await;
    permit.expect("the semaphores are never closed")
}

/// Serves the routes until told to stop, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    routes: Router,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let room = Room::new();
    let connections = TaskTracker::new();
    loop {
        let (stream, arriving) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &room) => accepted,
        };
        let (acceptor, room) = (acceptor.clone(), room.clone());
        let (routes, stop) = (routes.clone(), stop.clone());
        connections.spawn(async move {
            let Some((stream, peer)) = shake_hands(stream, &acceptor).await else {
                return;
            };
            let place = room.admit(peer.as_ref()).await;
            drop(arriving);
            match (place, peer) {
                (None, _) => tracing::info!("too many connections without a certificate"),
                (Some(_place), Some(peer)) => serve_member(stream, peer, routes, &stop).await,
                (Some(_place), None) => serve_stranger(stream, routes, &stop).await,
            }
        });
    }
    connections.close();
    connections.wait().await;
}

async fn accept(listener: &TcpListener, room: &Room) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let arriving = permit(&room.handshakes).await;
        match listener.accept().await {
            Ok((stream, _)) => return (stream, arriving),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who is at the other end; none is somebody without a certificate.
async fn shake_hands(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
) -> Option<(TlsStream<TcpStream>, Option<Peer>)> {
    let _ = stream.set_nodelay(true);
    let from = stream.peer_addr().ok();
    let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(?from, %error, "a TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::info!(?from, "a TLS handshake took too long");
            return None;
        }
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    match certificate.map(Peer::of_certificate).transpose() {
        Ok(peer) => Some((stream, peer)),
        Err(error) => {
            tracing::warn!(?from, %error, "a certificate of nobody we know");
            None
        }
    }
}

async fn serve_member(
    stream: TlsStream<TcpStream>,
    peer: Peer,
    routes: Router,
    stop: &CancellationToken,
) {
    let builder = builder();
    serve_connection(stream, &builder, Some(peer), routes, stop).await;
}

/// A stranger is served for a while, whatever it does.
async fn serve_stranger(stream: TlsStream<TcpStream>, routes: Router, stop: &CancellationToken) {
    let mut builder = builder();
    builder.http2().max_concurrent_streams(STRANGER_STREAMS_MAX);
    let serving = serve_connection(stream, &builder, None, routes, stop);
    if timeout(STRANGER_STAY, serving).await.is_err() {
        tracing::info!("a connection without a certificate stayed too long");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

async fn serve_connection(
    stream: TlsStream<TcpStream>,
    builder: &auto::Builder<TokioExecutor>,
    peer: Option<Peer>,
    routes: Router,
    stop: &CancellationToken,
) {
    let (routes, resting) = watched(routes.layer(axum::Extension(ConnectedPeer(peer))));
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = resting => {
            connection.as_mut().graceful_shutdown();
            timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The same routes, and what ends once nothing has been asked of them for [`IDLE_TIMEOUT`].
fn watched(routes: Router) -> (Router, impl Future<Output = ()>) {
    let (busy, mut seen) = watch::channel(0_usize);
    let busy = Arc::new(busy);
    let counts = busy.clone();
    let routes = routes.layer(axum::middleware::from_fn(
        move |request: Request, next: Next| {
            let call = UnderWay::begin(counts.clone());
            async move {
                let answer = next.run(request).await;
                drop(call);
                answer
            }
        },
    ));
    let resting = async move {
        // Held, so that only a call or the time wakes us.
        let _busy = busy;
        while timeout(IDLE_TIMEOUT, seen.changed()).await.is_ok() || *seen.borrow() > 0 {}
    };
    (routes, resting)
}

/// A call, counted for as long as it lives; one that is cut off is over, too.
struct UnderWay(Arc<watch::Sender<usize>>);

impl UnderWay {
    fn begin(calls: Arc<watch::Sender<usize>>) -> Self {
        calls.send_modify(|number| *number += 1);
        Self(calls)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|number| *number -= 1);
    }
}
