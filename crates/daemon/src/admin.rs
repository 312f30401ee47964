//! The plain HTTP listener for whoever runs the machine: `/healthz`, `/readyz`, `/metrics`,
//! `/tasks`. It shows and changes nothing, and belongs on an address that only operators reach.

use axum::{Json, Router, extract::State, http::StatusCode, http::header, routing::get};
use tokio::net::TcpListener;

use crate::{BoxError, Context, metrics, ready::Report, reconcile::Status};

/// The routes, for the listener and for tests.
pub fn router(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/tasks", get(tasks))
        .with_state(context)
}

/// Serves until the daemon stops.
pub async fn serve(context: Context, listener: TcpListener) -> Result<(), BoxError> {
    let stopping = context.cancel.clone().cancelled_owned();
    axum::serve(listener, router(context))
        .with_graceful_shutdown(stopping)
        .await?;
    Ok(())
}

async fn readyz(State(context): State<Context>) -> (StatusCode, Json<Report>) {
    let report = context.ready.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report))
}

async fn metrics_text(
    State(context): State<Context>,
) -> ([(header::HeaderName, &'static str); 1], String) {
    (
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        context.metrics.encode(),
    )
}

async fn tasks(
    State(context): State<Context>,
) -> Json<std::collections::BTreeMap<&'static str, Status>> {
    Json(context.board.statuses())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_living_daemon_that_is_not_ready_says_both() {
        let context = Context::new("test", "0", "/nonexistent");
        let peer = context.ready.condition("peer");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(context.clone(), listener));

        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        peer.unmet("no answer from 10.0.0.1");
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("no answer from 10.0.0.1"), "{answer}");
        peer.met();
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").await.contains("# EOF"));
        assert!(get(address, "/tasks").await.ends_with("{}"));
    }
}
