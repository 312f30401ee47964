//! Where volumes lie.
//!
//! A pool makes and removes, each idempotently: done twice is done once, and cut off anywhere it
//! leaves nothing that a second try does not finish or remove. It knows no states and no database.

use async_trait::async_trait;
use types::{Gib, VolumeId};

mod file;

pub use file::FilePool;

/// What a pool is and has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What it is: `file on xfs, clones`.
    pub kind: String,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
}

/// A pool operation that failed, in words for whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PoolError(pub String);

/// Keeps the bytes of volumes.
#[async_trait]
pub trait Pool: Send + Sync {
    /// What it has now.
    async fn facts(&self) -> Result<Facts, PoolError>;
    /// Makes a volume of zeros, on disk when it returns.
    async fn make(&self, volume: &VolumeId, size: Gib) -> Result<(), PoolError>;
    /// Removes a volume; its bytes can be read by nobody any more.
    async fn remove(&self, volume: &VolumeId) -> Result<(), PoolError>;
    /// The volumes that are whole, with the bytes that each takes.
    async fn list(&self) -> Result<Vec<(VolumeId, u64)>, PoolError>;
    /// Removes what was left half-made.
    async fn tidy(&self) -> Result<u64, PoolError>;
}
