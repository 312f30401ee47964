//! The listener and its connections. Each limit is a constant with its reason; at the limit of
//! connections new ones wait in the kernel's queue.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tracing::Instrument;
use wire::RequestId;

use super::{
    Behind, Body, envelope,
    front_door::{self, FrontDoor},
    metrics::Metrics,
    query::{self, Named},
    replay::Replays,
    route::{self, Route},
    stall::Stalling,
};

/// Open connections: one descriptor each, two for S3; systemd gives us 65,536.
const CONNECTIONS_MAX: usize = 8192;
/// A head arrives in one packet; this is also how long an idle connection is kept.
const HEADER_LIMIT: Duration = Duration::from_secs(60);
/// The longest head: a GET with a thousand ids is 40 KiB.
const HEAD_MAX_BYTES: usize = 128 * 1024;
/// S3 user metadata comes as headers, 2 KiB of it at most.
const HEADERS_MAX: usize = 128;
/// After an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the edge is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where Walrus serves S3: host and port.
    pub walrus: http::uri::Authority,
    /// Whether signature versions 1 and 2 are spoken.
    pub version_2: bool,
}

/// The edge while it runs.
pub(super) struct Edge<B> {
    pub(super) behind: Arc<B>,
    pub(super) settings: Settings,
    pub(super) context: daemon::Context,
    pub(super) replays: Replays,
    pub(super) metrics: Metrics,
    pub(super) front_door: FrontDoor,
    /// Room for bodies that are more than a usual form.
    pub(super) large_bodies: Semaphore,
}

/// Listens, and serves until the context is cancelled. Gives the address, whose port is the chosen
/// one where the settings said 0.
pub async fn serve<B: Behind>(
    context: &daemon::Context,
    behind: Arc<B>,
    settings: Settings,
) -> Result<SocketAddr, daemon::BoxError> {
    let replays = Replays::of(behind.kept_signatures().await?);
    let listener = TcpListener::bind(settings.listen).await?;
    let address = listener.local_addr()?;
    let edge = Arc::new(Edge {
        behind,
        front_door: FrontDoor::new(settings.walrus.clone()),
        large_bodies: Semaphore::new(query::LARGE_BODIES_MAX),
        settings,
        context: context.clone(),
        replays,
        metrics: Metrics::new(&context.metrics),
    });
    context.spawn("edge", accept(edge, listener));
    Ok(address)
}

async fn accept<B: Behind>(edge: Arc<Edge<B>>, listener: TcpListener) -> Result<(), Infallible> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let cancel = edge.context.cancel.clone();
    loop {
        let permit = room
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (of, open) = (edge.clone(), edge.metrics.connection());
        edge.context.detach(async move {
            connection(of, stream, peer.ip()).await;
            drop((permit, open));
        });
    }
}

async fn connection<B: Behind>(edge: Arc<Edge<B>>, stream: TcpStream, source: IpAddr) {
    // Header and body go out in two writes; with Nagle's algorithm the second waits 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let cancel = edge.context.cancel.clone();
    let service = service_fn(move |request| {
        let edge = edge.clone();
        async move { Ok::<_, Infallible>(respond(&edge, request, source).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS_MAX)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(Stalling::new(stream)), service);
    let mut serving = pin!(serving);

    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = cancel.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, %source, "a connection ended early");
    }
}

async fn respond<B: Behind>(
    edge: &Arc<Edge<B>>,
    request: Request<Incoming>,
    source: IpAddr,
) -> Response<Body> {
    let request_id = RequestId::mint(&mut rand::rng());
    let uri = request.uri();
    let query = uri.query().unwrap_or("");
    let route = route::choose(request.method(), uri.path(), query, request.headers());

    let span = tracing::info_span!("request", %request_id, %source);
    let began = tokio::time::Instant::now();
    let mut named = Named::default();
    let response = answer(edge, route, request, source, &request_id, &mut named)
        .instrument(span.clone())
        .await;

    let action = if named.action.is_empty() {
        "unknown"
    } else {
        &named.action
    };
    let (status, seconds) = (response.status().as_u16(), began.elapsed().as_secs_f64());
    edge.metrics
        .answered(named.service, action, status, seconds);
    span.in_scope(|| tracing::debug!(service = named.service, action, status, seconds, "answered"));
    response
}

async fn answer<B: Behind>(
    edge: &Arc<Edge<B>>,
    route: Route,
    request: Request<Incoming>,
    source: IpAddr,
    request_id: &RequestId,
    named: &mut Named,
) -> Response<Body> {
    match route {
        Route::Query(service) => {
            query::answer(edge, service, request, source, request_id, named).await
        }
        Route::NotServed(name) => {
            named.service = name;
            envelope::not_served(name, request_id)
        }
        Route::S3 => {
            named.service = "s3";
            named.action = method_label(request.method());
            let client = front_door::Client {
                address: source,
                own_key: edge.behind.own_key(),
                now_ms: edge.context.clock.now_ms(),
            };
            edge.front_door.pass(request, &client, request_id).await
        }
    }
}

/// The method if it is one of S3's: labels come from a closed list.
fn method_label(method: &http::Method) -> String {
    let known = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"];
    known
        .into_iter()
        .find(|name| *name == method.as_str())
        .unwrap_or("other")
        .to_owned()
}
