//! The serving end: a listener that knows its peers by their certificates.

use std::{sync::Arc, time::Duration};

use axum::Router;
use daemon::tls::Peer;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{MESSAGE_BYTES_MAX, rpc::ConnectedPeer};

/// Connections at once: eight from each of a hundred nodes, and room.
const CONNECTIONS_MAX: usize = 1024;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the head of a request may take, the idle time of a kept connection not counted.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after a failed accept (out of descriptors) the next is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the routes until told to stop, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    routes: Router,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let routes = routes.layer(axum::extract::DefaultBodyLimit::max(MESSAGE_BYTES_MAX));
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, permit) = accepted;
        let (acceptor, routes, stop) = (acceptor.clone(), routes.clone(), stop.clone());
        connections.spawn(async move {
            serve_connection(stream, &acceptor, routes, &stop).await;
            drop(permit);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> (TcpStream, tokio::sync::OwnedSemaphorePermit) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            unreachable!("the semaphore is never closed")
        };
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    routes: Router,
    stop: &CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let from = stream.peer_addr().ok();
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(?from, %error, "a TLS handshake failed"),
        Err(_) => return tracing::info!(?from, "a TLS handshake took too long"),
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let peer = match certificate.map(Peer::of_certificate).transpose() {
        Ok(peer) => peer,
        Err(error) => return tracing::warn!(?from, %error, "a certificate of nobody we know"),
    };
    let routes = routes.layer(axum::Extension(ConnectedPeer(peer)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(?from, %error, "a connection ended");
    }
}
