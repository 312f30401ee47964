//! The calling end: JSON over HTTP/1.1 over mutual TLS, to one daemon.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use daemon::tls::{Peer, Role};
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    CallError, Code, DEADLINE_HEADER, MESSAGE_BYTES_MAX, REQUEST_ID_HEADER, VERSION,
    VERSION_HEADER, rpc::Call,
};

/// How long a connection may take to be made: hosts of a lab answer in a millisecond or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that are kept open to one daemon: a poll, a console, and calls.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Calls one daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http<HttpsConnector<HttpConnector>, Full<Bytes>>,
    address: SocketAddr,
}

impl Client {
    /// Calls the daemon at that address, which must prove to be of that role, and if a name is
    /// given to be that very one.
    pub fn new(
        tls: &Arc<rustls::ClientConfig>,
        address: SocketAddr,
        role: Role,
        name: Option<&str>,
    ) -> Self {
        let proven = name.map_or_else(|| Peer::role_name(role), |name| Peer::own_name(role, name));
        Self::to_name(tls, address, &proven)
    }

    /// Calls the daemon at that address, which must have a certificate for that name.
    pub fn to_name(tls: &Arc<rustls::ClientConfig>, address: SocketAddr, name: &str) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let resolver = match rustls_pki_types::ServerName::try_from(name.to_owned()) {
            Ok(name) => hyper_rustls::FixedServerNameResolver::new(name),
            // Fails each connection with a name that no certificate can have.
            Err(_) => hyper_rustls::FixedServerNameResolver::new(
                rustls_pki_types::ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
            ),
        };
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(rustls::ClientConfig::clone(tls))
            .https_only()
            .with_server_name_resolver(resolver)
            .enable_http1()
            .wrap_connector(tcp);
        let http = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(https);
        Self { http, address }
    }

    /// Where the daemon is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn call<A, B>(&self, path: &str, call: &Call, ask: &A) -> Result<B, CallError>
    where
        A: Serialize + Sync,
        B: DeserializeOwned,
    {
        let body = serde_json::to_vec(ask).map_err(|error| CallError::internal(&error))?;
        let request = self.request(Method::POST, path, call, body)?;
        let limit = Duration::from_millis(call.deadline_ms);
        tokio::time::timeout(limit, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(self.late(path, call)))
    }

    /// Gets bytes, `bytes_max` at most.
    pub(crate) async fn get(
        &self,
        path: &str,
        call: &Call,
        bytes_max: usize,
    ) -> Result<Bytes, CallError> {
        let request = self.request(Method::GET, path, call, Vec::new())?;
        let limit = Duration::from_millis(call.deadline_ms);
        let exchange = async {
            let (status, body) = self.transfer(request, bytes_max).await?;
            match status.is_success() {
                true => Ok(body),
                false => Err(self.refusal(status, &body)),
            }
        };
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or_else(|_| Err(self.late(path, call)))
    }

    fn late(&self, path: &str, call: &Call) -> CallError {
        let what = format!(
            "{} did not answer {path} in {} ms",
            self.address, call.deadline_ms
        );
        CallError::new(Code::Deadline, what)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        call: &Call,
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let uri: Uri = format!("https://{}{path}", self.address)
            .parse()
            .map_err(|error: http::uri::InvalidUri| CallError::internal(&error))?;
        Request::builder()
            .method(method)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(VERSION_HEADER, VERSION)
            .header(REQUEST_ID_HEADER, &call.request_id)
            .header(DEADLINE_HEADER, call.deadline_ms)
            .body(Full::from(body))
            .map_err(|error| CallError::internal(&error))
    }

    async fn exchange<B: DeserializeOwned>(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<B, CallError> {
        let (status, body) = self.transfer(request, MESSAGE_BYTES_MAX).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                CallError::new(
                    Code::Internal,
                    format!("unreadable answer of {}: {error}", self.address),
                )
            });
        }
        Err(self.refusal(status, &body))
    }

    async fn transfer(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let unreachable = |error: &(dyn std::error::Error + 'static)| {
            let cause = CallError::internal(error).message;
            CallError::new(Code::Unreachable, format!("{}: {cause}", self.address))
        };
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| unreachable(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), bytes_max);
        let body = body
            .collect()
            .await
            .map_err(|error| unreachable(error.as_ref()))?;
        Ok((status, body.to_bytes()))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> CallError {
        serde_json::from_slice(body).unwrap_or_else(|_| {
            CallError::new(
                Code::Internal,
                format!("{} answered HTTP {status}", self.address),
            )
        })
    }
}
