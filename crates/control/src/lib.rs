//! The internal APIs: five traits, their messages, and how they travel.
//!
//! | module | holds |
//! |---|---|
//! | [`cloud`] | [`Cloud`], served by the CLC: joining, identity, image tickets, the administrator |
//! | [`cluster`] | [`Cluster`], served by a CC: holds, wishes, the roster, changes |
//! | [`node`] | [`Node`], served by an NC: wishes, the network document, changes, consoles |
//! | [`storage`] | [`Storage`], served by an SC: volumes, changes |
//! | [`objects`] | [`Objects`], served by Walrus: reading objects in somebody's name |
//! | [`caches`] | the nodes' image caches: who has what |
//! | [`blocks`] | a block of a cache entry, from node to node: the one call that is not JSON |
//! | [`feed`] | changes after a revision, by long poll |
//! | [`error`] | what a call can answer instead |
//! | [`rpc`] | the one macro: a trait, its client, its routes and who may call them |
//! | [`join`], [`newcomer`] | a one-time token in, a certificate out; the host looked at before and after |
//! | [`member`] | a daemon that has joined: who it is, and its listener |
//! | [`client`], [`server`] | JSON over HTTP over mutual TLS |
//! | [`join`] | becoming part of a cloud by a token, and renewing the certificate |
//!
//! Rules. A call is idempotent and says the whole wish, with a generation; an older generation
//! changes nothing. Messages only ever gain optional fields: unknown ones are ignored, missing ones
//! default, and `golden/vN` keeps each version's. The caller is who its certificate says; an account
//! inside a message is data. Fakes implement the same traits.

pub mod blocks;
pub mod caches;
pub mod client;
pub mod cloud;
pub mod cluster;
pub mod error;
pub mod feed;
pub mod join;
pub mod member;
pub mod newcomer;
pub mod node;
pub mod objects;
pub mod peer;
pub mod rpc;
pub mod server;
pub mod storage;
pub mod timeline;

pub use client::Client;
pub use cloud::Cloud;
pub use cluster::Cluster;
pub use error::{CallError, Code};
pub use feed::{Changes, Feed, Position};
pub use member::Member;
pub use node::Node;
pub use objects::Objects;
pub use peer::{Peer, Role};
pub use storage::Storage;

/// The version of the messages, sent with every call. A server takes this one and the one before.
pub const VERSION: u32 = 1;

/// The header that carries [`VERSION`].
pub const VERSION_HEADER: &str = "control-version";
/// The header that carries the id of the request that a call is part of.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// The header that carries how many milliseconds the caller will wait.
pub const DEADLINE_HEADER: &str = "x-deadline-ms";

/// The longest that a long poll waits: below the idle limits of everything between.
pub const POLL_WAIT_MS_MAX: u64 = 20_000;
/// The largest message: a full list of ten thousand instances is about 10 MB.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
