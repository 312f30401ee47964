//! What tests of several crates share: daemons that behave without their tools, a network that
//! misbehaves on purpose, certificates, and samples.
//!
//! | module | holds |
//! |---|---|
//! | [`seed`] | one seed for everything random in a test, printed when it fails |
//! | [`node`] | a Node Controller that behaves, without libvirt; hundreds fit into a test |
//! | [`faults`] | links that drop, delay, duplicate and part |
//! | [`fuse`] | a file system as clusters have them: no mmap, no holes, no locks |
//! | [`tls`] | a cloud's certificates in a temporary folder |
//! | [`ports`] | addresses for daemons that are told where to listen |
//! | [`samples`] | wishes, rosters, shapes |
//! | [`schema`] | that released migrations stay as they were, and what they make |
//!
//! Only tests use this crate. Fakes implement the traits of `control` and keep its laws: what a
//! daemon has answered for is still there after it was killed.

pub mod faults;
pub mod fuse;
pub mod node;
pub mod ports;
pub mod samples;
pub mod schema;
pub mod seed;
pub mod tls;
