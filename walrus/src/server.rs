//! The S3 listener: connections, their limits, and nothing of S3.

use std::{net::IpAddr, sync::Arc, time::Duration};

use daemon::BoxError;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{api::Api, patience::Patient};

/// Connections at once: each may hold two pieces of half a megabyte.
const CONNECTIONS_MAX: usize = 512;
/// How long the head of a request may take, the idle time of a kept connection included. Longer
/// than the front door keeps its idle connections, so that it never uses one that we just closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// The largest head: SigV4 headers and 2 KiB of metadata are far below.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// How long after a failed accept (out of descriptors) the next is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let permit = permits.clone().acquire_owned().await?;
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (api, stop) = (api.clone(), stop.clone());
                connections.spawn(async move {
                    serve_connection(stream, peer.ip(), api, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn serve_connection(stream: TcpStream, peer: IpAddr, api: Arc<Api>, stop: CancellationToken) {
    // Without it a small answer on a kept connection waits 40 ms for the client's delayed ACK.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let api = api.clone();
        async move {
            let (parts, body) = request.into_parts();
            let request_id = request_id(&parts);
            Ok::<_, std::convert::Infallible>(api.serve(parts, body, peer, &request_id).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX.max(512 << 10))
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The id that the front door gave the request, or one of our own.
fn request_id(parts: &http::request::Parts) -> String {
    let given = parts
        .headers
        .get("x-request-id")
        .and_then(|id| id.to_str().ok());
    let plain =
        |id: &&str| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match given.filter(plain) {
        Some(id) => id.to_owned(),
        None => hex::encode_upper(rand::random::<[u8; 8]>()),
    }
}
