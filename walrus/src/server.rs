//! The S3 listener: its limits, and nothing of S3.

use std::{sync::Arc, time::Duration};

use daemon::{
    BoxError,
    public::{self, Door, Limits},
};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::Api;

/// Connections at once. One that waits holds some 16 KiB; what bodies hold has a bound of its own
/// (`lanes`).
const CONNECTIONS_MAX: usize = 16_384;
/// Descriptors that are not for connections: segments, files, the index, the other listeners.
const OTHER_FILES: usize = 1024;
/// How long the head of a request may take, the idle time of a kept connection included. Longer
/// than the front door keeps its idle connections, so that it never uses one that we just closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read at once of a body, and the largest head: SigV4 headers and 2 KiB of metadata are far
/// below.
const READ_BYTES: usize = 128 << 10;
/// SDKs send some twenty; 2 KiB of metadata may be some more.
const HEADERS_MAX: usize = 128;

/// Serves until told to stop, then finishes what is under way.
pub async fn serve(
    listener: TcpListener,
    api: Arc<Api>,
    plain: bool,
    tls: Option<Arc<ServerConfig>>,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let door = Door {
        plain,
        tls,
        limits: Limits {
            connections: connections_max(),
            head_time: HEADER_TIMEOUT,
            head_bytes: READ_BYTES,
            headers: HEADERS_MAX,
            keep_header_case: false,
        },
        open: api.metrics.connections().clone(),
    };
    public::serve(listener, door, stop, move |request, client| {
        let api = api.clone();
        // In a box: a connection that waits would hold the room of a whole request.
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let request_id = request_id(&parts);
            api.serve(parts, body, client, &request_id).await
        })
    })
    .await;
    Ok(())
}

/// As many as there may be open files, once the limit of the process is as high as it may be.
fn connections_max() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let most = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| {
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        Ok(usize::try_from(most).unwrap_or(usize::MAX))
    });
    let files = most.unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        2 * OTHER_FILES
    });
    files
        .saturating_sub(OTHER_FILES)
        .clamp(OTHER_FILES / 2, CONNECTIONS_MAX)
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
