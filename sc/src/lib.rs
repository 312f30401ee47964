//! The Storage Controller: volumes as sparse files, made and removed as the CLC wishes.
//!
//! | module | owns |
//! |---|---|
//! | [`volume`] | the life of a volume: pure |
//! | [`pool`] | where the bytes are: a trait, and files in a folder |
//! | [`rows`] | the records: SQL |
//! | `sc` | the running thing: wishes in, reports out, a reconciler between |
//! | [`config`], `metrics`, [`run`] | what an operator sees |
//!
//! It knows no accounts, quotas or attachments. A file's name comes from its volume's id alone.

pub mod config;
mod metrics;
pub mod pool;
pub mod rows;
pub mod run;
mod sc;
pub mod volume;

pub use sc::Sc;
