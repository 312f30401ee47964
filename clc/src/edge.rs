//! The public port: one listener for all services. Who asks is settled here, once, before anything
//! is routed to a handler; S3 passes through untouched to Walrus, which authenticates it itself.
//!
//! ```text
//! connection → head → route ─┬─ S3      → front door: streamed to Walrus byte for byte
//!                            └─ query   → body → claim → secret → verified → replay? → Behind::call
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`server`] | the listener and its limits, and who answers |
//! | [`route`] | which service a request is for: pure |
//! | [`query`] | one request to a query service, from body to answer |
//! | [`authenticate`] | claim → secret → verified, and what each refusal is called |
//! | [`replay`] | signatures that were used, for versions 1 and 2 and what is presigned |
//! | [`envelope`] | errors in each service's own form |
//! | [`front_door`] | the proxy to Walrus |
//! | [`metrics`] | rate, errors and duration by action |
//! | [`behind`] | what the edge asks of the cloud behind it |
//!
//! It reads no table and knows no action; it does not decide what a caller may do.

pub mod authenticate;
pub mod behind;
pub mod envelope;
pub mod front_door;
pub mod metrics;
pub mod query;
pub mod replay;
pub mod route;
pub mod server;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

pub use behind::{Asked, Behind, OwnKey};
pub use replay::Used;
pub use route::Service;
pub use server::{Settings, serve};

/// What goes out as a body: text of ours, or a stream from Walrus.
pub type Body = UnsyncBoxBody<Bytes, daemon::BoxError>;

/// A body that is in hand.
pub(crate) fn whole(body: impl Into<Bytes>) -> Body {
    Full::new(body.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
