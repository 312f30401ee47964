//! Who is calling: what the peer's certificate says, and nothing else.

pub use daemon::tls::{Peer, Role};
