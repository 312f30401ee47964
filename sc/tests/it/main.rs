//! Tests of the Storage Controller: through the trait on real files, killed at every step, and once
//! over mutual TLS.

mod kills;
mod over_tls;
mod rig;
mod volumes;
