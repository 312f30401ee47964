//! The listener, its limits, and which part of the edge answers a request.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use daemon::public::{self, Client, Door, Limits};
use http::{Request, Response};
use hyper::body::Incoming;
use sigv4::vouch::Origin;
use tokio::{net::TcpListener, sync::Semaphore};
use tracing::Instrument;
use wire::RequestId;

use super::{
    Behind, Body, envelope,
    front_door::{self, FrontDoor},
    metrics::Metrics,
    query::{self, Named},
    replay::Replays,
    route::{self, Route},
};

/// Open connections: one descriptor each, two for S3; systemd gives us 65,536.
const CONNECTIONS_MAX: usize = 8192;
/// A head arrives in one packet; this is also how long an idle connection is kept.
const HEADER_LIMIT: Duration = Duration::from_secs(60);
/// The longest head: a GET with a thousand ids is 40 KiB.
const HEAD_MAX_BYTES: usize = 128 * 1024;
/// S3 user metadata comes as headers, 2 KiB of it at most.
const HEADERS_MAX: usize = 128;
/// What the edge is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether http is spoken beside https.
    pub plain: bool,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where Walrus serves S3: scheme, host and port.
    pub walrus: (http::uri::Scheme, http::uri::Authority),
    /// For an https Walrus, which must be of this cloud.
    pub walrus_tls: Arc<rustls::ClientConfig>,
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
        front_door: FrontDoor::new(settings.walrus.clone(), &settings.walrus_tls),
        large_bodies: Semaphore::new(query::LARGE_BODIES_MAX),
        settings,
        context: context.clone(),
        replays,
        metrics: Metrics::new(&context.metrics),
    });
    let door = Door {
        plain: edge.settings.plain,
        tls: edge.settings.tls.clone(),
        limits: Limits {
            connections: CONNECTIONS_MAX,
            head_time: HEADER_LIMIT,
            head_bytes: HEAD_MAX_BYTES,
            headers: HEADERS_MAX,
            keep_header_case: true,
        },
        open: edge.metrics.connections().clone(),
    };
    let serving = public::serve(
        listener,
        door,
        context.cancel.clone(),
        move |ask, client| {
            let edge = edge.clone();
            async move { respond(&edge, ask, client).await }
        },
    );
    context.spawn("edge", async move {
        serving.await;
        Ok::<_, Infallible>(())
    });
    Ok(address)
}

async fn respond<B: Behind>(
    edge: &Arc<Edge<B>>,
    request: Request<Incoming>,
    client: Client,
) -> Response<Body> {
    let request_id = RequestId::mint(&mut rand::rng());
    let uri = request.uri();
    let query = uri.query().unwrap_or("");
    let route = route::choose(request.method(), uri.path(), query, request.headers());

    let source = client.address.ip();
    let span = tracing::info_span!("request", %request_id, %source);
    let began = tokio::time::Instant::now();
    let mut named = Named::default();
    let response = answer(edge, route, request, client, &request_id, &mut named)
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
    client: Client,
    request_id: &RequestId,
    named: &mut Named,
) -> Response<Body> {
    match route {
        Route::Query(service) => {
            query::answer(edge, service, request, client, request_id, named).await
        }
        Route::NotServed(name) => {
            named.service = name;
            envelope::not_served(name, request_id)
        }
        Route::S3 => {
            named.service = "s3";
            named.action = method_label(request.method());
            let client = front_door::Client {
                origin: Origin {
                    address: client.address.ip().to_canonical(),
                    secure: client.secure,
                },
                tls: client.tls,
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
