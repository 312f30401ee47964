//! The one call that is not JSON: a block of a cache entry, from one node to another of its cluster.
//!
//! `GET /v1/blocks/ENTRY/NUMBER`. Only a Node Controller of the same zone may make it, and it is all
//! that one Node Controller may ask of another. What the bytes mean is the cache's business.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Extension, Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;

use crate::{
    CallError, Client, Code,
    peer::Role,
    rpc::{Call, Callers, ConnectedPeer},
};

/// Has blocks.
#[async_trait]
pub trait Blockwise: Send + Sync + 'static {
    /// A block of an entry, packed. `NotFound` if there is no such entry; `NotReady` if this block
    /// of it has not come yet.
    async fn block(&self, entry: &str, number: u64) -> Result<Bytes, CallError>;
}

#[derive(Clone)]
struct Serving {
    zone: Option<String>,
    source: Arc<dyn Blockwise>,
}

/// The routes of a node of that zone.
pub fn routes(zone: Option<String>, source: Arc<dyn Blockwise>) -> Router {
    let serving = Serving { zone, source };
    Router::new()
        .route("/v1/blocks/{entry}/{number}", get(answer))
        .with_state(serving)
}

async fn answer(
    State(serving): State<Serving>,
    Extension(peer): Extension<ConnectedPeer>,
    Path((entry, number)): Path<(String, u64)>,
) -> Response {
    let admitted = admit(&serving, &peer);
    let found = match admitted {
        Ok(()) => serving.source.block(&entry, number).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(bytes) => {
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            (kind, bytes).into_response()
        }
        Err(error) => {
            let status = StatusCode::from_u16(error.code.status());
            let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, axum::Json(error)).into_response()
        }
    }
}

fn admit(serving: &Serving, ConnectedPeer(peer): &ConnectedPeer) -> Result<(), CallError> {
    Callers::Roles(&[Role::Nc]).admit(peer.as_ref())?;
    if peer.as_ref().and_then(|peer| peer.zone.as_ref()) != serving.zone.as_ref() {
        let what = "a node of another zone may not read here";
        return Err(CallError::new(Code::Forbidden, what));
    }
    Ok(())
}

impl Client {
    /// Reads a block of an entry from a node: `bytes_max` at most.
    pub async fn block(
        &self,
        call: &Call,
        entry: &str,
        number: u64,
        bytes_max: usize,
    ) -> Result<Bytes, CallError> {
        self.get(&format!("/v1/blocks/{entry}/{number}"), call, bytes_max)
            .await
    }
}
