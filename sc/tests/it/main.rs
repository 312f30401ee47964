//! Tests of the Storage Controller: through the trait on real files, killed at every step, and once
//! over mutual TLS.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod kills;
mod over_tls;
mod rig;
mod schema;
mod volumes;
