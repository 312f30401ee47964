//! Tests of the Cluster Controller: its decisions at random, its ledger, its life with a fleet of
//! fake nodes, and once over mutual TLS.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod capacity;
mod fleet;
mod ledger;
mod over_tls;
mod schema;
