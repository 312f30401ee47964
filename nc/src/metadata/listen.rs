//! Listens in each VPC's namespace. The socket is made by a thread that enters the namespace, and
//! stays of it; everything after that is ordinary.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener, TcpStream as StdStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use daemon::{BoxError, Context};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use net::{names::METADATA, namespace};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::VpcId;

use super::{
    Service,
    request::{self, Answer},
};
use crate::{network::Place, signs::Sign};

const PORT: u16 = 80;
/// Connections at a time in one VPC: a guest has a handful.
const CONNECTIONS_MAX: usize = 256;
/// How long a guest may take to send a request, idle time before it included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// Request line and headers at most: the least that hyper takes, and ten times what any client sends.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Between two attempts at a socket that could not be made, and two looks at whether the namespaces
/// are still those that we listen in.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// After a connection that could not be taken.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);
/// A token does not leave the guest: whoever forwards the packet drops it.
const TOKEN_HOPS: u32 = 1;
const ORDINARY_HOPS: u32 = 64;

/// The listeners, by VPC and by the namespace's identity: one made anew needs a new socket.
type Listeners = BTreeMap<(Place, u64), DropGuard>;

/// Listens wherever there is a place, until the daemon stops.
pub(super) fn start(
    context: &Context,
    mut places: watch::Receiver<Arc<Vec<Place>>>,
    service: Arc<Service>,
) {
    let here = context.clone();
    context.spawn("serve_metadata", async move {
        let mut listeners = Listeners::new();
        loop {
            let wanted = places.borrow_and_update().clone();
            follow(&mut listeners, &wanted, &here, &service).await;
            tokio::select! {
                () = here.cancel.cancelled() => return Ok::<(), BoxError>(()),
                // The other end lives as long as the node's network does.
                _ = places.changed() => {}
                () = here.clock.sleep(LOOK_PERIOD) => {}
            }
        }
    });
}

/// Ends the listeners that are no longer wanted and starts those that are missing.
async fn follow(
    listeners: &mut Listeners,
    places: &[Place],
    context: &Context,
    service: &Arc<Service>,
) {
    let wanted: Vec<(Place, u64)> = places
        .iter()
        .filter_map(|place| Some((place.clone(), identity(place)?)))
        .collect();
    listeners.retain(|key, _| wanted.contains(key));
    for key in wanted {
        if listeners.contains_key(&key) {
            continue;
        }
        match bind(&key.0).await {
            Ok(listener) => {
                let cancel = context.cancel.child_token();
                let vpc = key.0.vpc.clone();
                context.detach(accept(
                    listener,
                    vpc,
                    service.clone(),
                    context.clone(),
                    cancel.clone(),
                ));
                listeners.insert(key, cancel.drop_guard());
            }
            Err(error) => {
                tracing::warn!(vpc = %key.0.vpc, %error, "cannot serve metadata yet");
            }
        }
    }
}

fn identity(place: &Place) -> Option<u64> {
    std::fs::metadata(namespace::path(&place.namespace))
        .ok()
        .map(|found| found.ino())
}

async fn bind(place: &Place) -> io::Result<TcpListener> {
    let make = || {
        let listener = StdListener::bind((METADATA, PORT))?;
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    };
    TcpListener::from_std(namespace::within(&place.namespace, make).await??)
}

async fn accept(
    listener: TcpListener,
    vpc: VpcId,
    service: Arc<Service>,
    context: Context,
    cancel: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (Ok((stream, peer)), Ok(permit)) = (accepted, room.clone().try_acquire_owned()) else {
            // No room, or no descriptor: the guest tries again, and we do not spin.
            context.clock.sleep(REFUSED_PAUSE).await;
            continue;
        };
        let connection = serve(stream, peer, vpc.clone(), service.clone());
        let cancel = cancel.clone();
        context.detach(async move {
            let _permit = permit;
            tokio::select! {
                () = cancel.cancelled() => {}
                _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection) => {}
            }
        });
    }
}

/// One connection. What goes wrong on it is the guest's affair.
async fn serve(stream: TcpStream, peer: SocketAddr, vpc: VpcId, service: Arc<Service>) {
    let Ok(hops) = stream.as_fd().try_clone_to_owned().map(Hops::new) else {
        return;
    };
    let answer = |request: Request<Incoming>| {
        let answer = service.answer(&vpc, peer, &request);
        hops.allow(if answer.token_ttl_s.is_some() {
            TOKEN_HOPS
        } else {
            ORDINARY_HOPS
        });
        std::future::ready(response(answer))
    };
    let _ended = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await;
}

/// The socket again, for how far its packets may go.
struct Hops(StdStream);

impl Hops {
    fn new(socket: OwnedFd) -> Self {
        Self(StdStream::from(socket))
    }

    fn allow(&self, hops: u32) {
        // A socket that does not take it is a closed one.
        let _ = self.0.set_ttl(hops);
    }
}

impl Service {
    fn answer(&self, vpc: &VpcId, peer: SocketAddr, request: &Request<Incoming>) -> Answer {
        let IpAddr::V4(address) = peer.ip() else {
            return Answer::plain(StatusCode::NOT_FOUND);
        };
        let now_ms = self.clock.monotonic_ms();
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if !limit.admit(vpc, address, now_ms) {
            return Answer::plain(StatusCode::SERVICE_UNAVAILABLE);
        }
        drop(limit);
        let Some(wish) = self.residents.at(vpc, address) else {
            return Answer::plain(StatusCode::NOT_FOUND);
        };
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        let answer = request::answer(&wish, &self.key, self.clock.now_ms(), method, path, headers);
        if answer.status == StatusCode::OK {
            self.signs.saw(&wish.instance, Sign::Metadata);
        }
        answer
    }
}

fn response(answer: Answer) -> Result<Response<Full<Bytes>>, http::Error> {
    let ttl = answer.token_ttl_s.map(|ttl_s| ttl_s.to_string());
    let mut response = Response::builder()
        .status(answer.status)
        .header(header::CONTENT_TYPE, answer.kind)
        .header(header::SERVER, "EC2ws");
    if let Some(ttl) = ttl {
        response = response.header("x-aws-ec2-metadata-token-ttl-seconds", ttl);
    }
    response.body(Full::new(Bytes::from(answer.body)))
}
