//! The one macro of this crate: from a list of calls it makes the trait, its implementation on
//! [`crate::Client`], and its routes with the roles that may call each.
//!
//! Every call is `POST /v1/TRAIT/METHOD` with a JSON body. There is nothing else to it.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    CallError, Code, DEADLINE_HEADER, MESSAGE_BYTES_MAX, REQUEST_ID_HEADER, VERSION,
    VERSION_HEADER,
    peer::{Peer, Role},
};

/// How long a call may take unless its maker says otherwise.
pub const DEADLINE_MS: u64 = 10_000;
/// The longest deadline that a server grants: a long poll and its answer.
pub const DEADLINE_MS_MAX: u64 = 60_000;
/// How long a message may take to arrive: the largest at 2 MB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest message of somebody without a certificate: a token's secret and a certificate
/// request take 2 KiB.
pub const STRANGER_BYTES_MAX: usize = 64 * 1024;
/// What a poll may take beyond its wait, for the way there and back.
pub const POLL_MARGIN_MS: u64 = 5_000;

/// The circumstances of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who calls, by certificate; set by the server, and by tests that have no server between.
    pub peer: Option<Peer>,
    /// The request that the call is part of.
    pub request_id: String,
    /// How long the caller waits, in milliseconds.
    pub deadline_ms: u64,
}

impl Call {
    /// A call as part of the request of that id, with the usual deadline.
    pub fn new(request_id: impl Into<String>) -> Self {
        Self {
            peer: None,
            request_id: request_id.into(),
            deadline_ms: DEADLINE_MS,
        }
    }

    /// The same with another deadline.
    #[must_use]
    pub fn within_ms(self, deadline_ms: u64) -> Self {
        Self {
            deadline_ms,
            ..self
        }
    }

    /// A call that polls a feed and waits so long for news.
    #[must_use]
    pub fn polling_ms(self, wait_ms: u64) -> Self {
        self.within_ms(wait_ms.min(crate::POLL_WAIT_MS_MAX) + POLL_MARGIN_MS)
    }

    /// The same as that peer would make it; for tests and in-process peers.
    #[must_use]
    pub fn from_peer(self, peer: Peer) -> Self {
        Self {
            peer: Some(peer),
            ..self
        }
    }
}

/// Who may make a call.
#[derive(Debug, Clone, Copy)]
pub enum Callers {
    /// Any holder of a certificate with one of these roles.
    Roles(&'static [Role]),
    /// Whoever reaches the listener; the call authenticates itself.
    Anyone,
}

impl Callers {
    pub(crate) fn admit(self, peer: Option<&Peer>) -> Result<(), CallError> {
        match (self, peer) {
            (Self::Anyone, _) => Ok(()),
            (Self::Roles(roles), Some(peer)) if roles.contains(&peer.role) => Ok(()),
            (Self::Roles(_), Some(peer)) => Err(CallError::new(
                Code::Forbidden,
                format!("a {} may not make this call", peer.role),
            )),
            (Self::Roles(_), None) => Err(CallError::new(
                Code::Forbidden,
                "this call needs a certificate of the cloud",
            )),
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn check_version(headers: &HeaderMap) -> Result<(), CallError> {
    let version = number(headers, VERSION_HEADER).unwrap_or(0);
    if version == u64::from(VERSION) || version + 1 == u64::from(VERSION) {
        return Ok(());
    }
    Err(CallError::new(
        Code::Invalid,
        format!(
            "the caller speaks control version {version}, this daemon {VERSION}: upgrade the older"
        ),
    ))
}

fn call_of(headers: &HeaderMap, peer: Option<Peer>) -> Call {
    let request_id = headers
        .get(REQUEST_ID_HEADER)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("-");
    let deadline_ms = number(headers, DEADLINE_HEADER)
        .unwrap_or(DEADLINE_MS)
        .min(DEADLINE_MS_MAX);
    Call {
        peer,
        request_id: request_id.to_owned(),
        deadline_ms,
    }
}

/// Serves one call: who, which version, what, then the handler within the deadline. Who calls is
/// judged by the head alone: of somebody who may not, no byte of a message is kept.
#[doc(hidden)]
pub async fn answer<A, B, F>(
    callers: Callers,
    peer: Option<Peer>,
    request: Request,
    handler: impl FnOnce(Call, A) -> F,
) -> Response
where
    A: DeserializeOwned,
    B: Serialize,
    F: Future<Output = Result<B, CallError>>,
{
    let outcome = async {
        callers.admit(peer.as_ref())?;
        let (head, body) = request.into_parts();
        check_version(&head.headers)?;
        let bytes_max = match peer {
            Some(_) => MESSAGE_BYTES_MAX,
            None => STRANGER_BYTES_MAX,
        };
        let body = message(body, bytes_max).await?;
        let ask = serde_json::from_slice(&body).map_err(|error| {
            CallError::new(Code::Invalid, format!("unreadable message: {error}"))
        })?;
        let call = call_of(&head.headers, peer);
        let limit = Duration::from_millis(call.deadline_ms);
        tokio::time::timeout(limit, handler(call, ask))
            .await
            .unwrap_or_else(|_| {
                Err(CallError::new(
                    Code::Deadline,
                    "not done before the deadline",
                ))
            })
    };
    match outcome.await {
        Ok(answer) => json(StatusCode::OK, &answer),
        Err(error) => json(
            StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            &error,
        ),
    }
}

async fn message(body: Body, bytes_max: usize) -> Result<Bytes, CallError> {
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(CallError::new(
            Code::Invalid,
            format!("the message broke off, or is longer than {bytes_max} bytes: {error}"),
        )),
        Err(_) => Err(CallError::new(
            Code::Deadline,
            format!("the message took longer than {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

fn json(status: StatusCode, message: &impl Serialize) -> Response {
    match serde_json::to_vec(message) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The peer of a connection, as the server found it in the certificate.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct ConnectedPeer(pub Option<Peer>);

/// What `routes` shares between handlers.
#[doc(hidden)]
pub type Shared<T> = Arc<T>;

macro_rules! callers {
    (anyone) => {
        crate::rpc::Callers::Anyone
    };
    ([$($role:expr),*]) => {
        crate::rpc::Callers::Roles(&[$($role),*])
    };
}

macro_rules! rpc {
    (
        $(#[$doc:meta])*
        trait $Trait:ident serves $role:path {
            $($(#[$method_doc:meta])* $method:ident($ask:ty) -> $answer:ty, by $callers:tt;)*
        }
    ) => {
        $(#[$doc])*
        #[async_trait::async_trait]
        pub trait $Trait: Send + Sync {
            $(
                $(#[$method_doc])*
                async fn $method(&self, call: &crate::rpc::Call, ask: $ask) -> Result<$answer, CallError>;
            )*
        }

        /// The role whose daemons serve this.
        pub const SERVED_BY: Role = $role;

        /// The calls, their paths and who may make them.
        pub const CALLS: &[(&str, crate::rpc::Callers)] = &[
            $((
                concat!("/v1/", stringify!($Trait), "/", stringify!($method)),
                crate::rpc::callers!($callers),
            ),)*
        ];

        #[async_trait::async_trait]
        impl $Trait for crate::Client {
            $(
                async fn $method(&self, call: &crate::rpc::Call, ask: $ask) -> Result<$answer, CallError> {
                    self.call(concat!("/v1/", stringify!($Trait), "/", stringify!($method)), call, &ask).await
                }
            )*
        }

        /// The routes of a daemon that serves this.
        pub fn routes<T: $Trait + ?Sized + 'static>(service: std::sync::Arc<T>) -> axum::Router {
            let router = axum::Router::new();
            $(
                let router = router.route(
                    concat!("/v1/", stringify!($Trait), "/", stringify!($method)),
                    axum::routing::post({
                        let service = service.clone();
                        move |
                            axum::Extension(peer): axum::Extension<crate::rpc::ConnectedPeer>,
                            request: axum::extract::Request,
                        | async move {
                            crate::rpc::answer(
                                crate::rpc::callers!($callers),
                                peer.0,
                                request,
                                move |call, ask| async move { service.$method(&call, ask).await },
                            )
                            .await
                        }
                    }),
                );
            )*
            router
        }
    };
}

pub(crate) use {callers, rpc};
