//! Tests of the Cluster Controller: its decisions at random, its ledger, its life with a fleet of
//! fake nodes, and once over mutual TLS.

mod capacity;
mod fleet;
mod ledger;
mod over_tls;
