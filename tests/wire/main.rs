//! Requests as old and new clients send them, byte for byte, against a cloud controller in its own
//! right: its database, its edge, its handlers; no cluster and no object store behind it.
//!
//! What a row expects is what the client reads: an element without which it fails, the namespace by
//! which it finds anything at all.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, and says where"
)]

mod cloud;
mod euca2ools;
mod hybridfox;
