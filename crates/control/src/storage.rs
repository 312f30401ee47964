//! What a Storage Controller answers to the Cloud Controller.

use serde::{Deserialize, Serialize};
use types::{Gib, SnapshotId, VolumeId};

use crate::{
    error::CallError,
    feed::{Changes, Poll},
    node::Taken,
    peer::Role,
    rpc::rpc,
};

/// What a volume is to be. Said whole, each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeWish {
    /// Which volume.
    pub volume: VolumeId,
    /// Grows with every change of the wish.
    pub generation: u64,
    /// Whether it is to be.
    pub wanted: VolumeWanted,
    /// Its size in GiB.
    pub size_gib: Gib,
    /// What it is a copy of.
    #[serde(default)]
    pub snapshot: Option<SnapshotId>,
}

/// Whether a volume is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeWanted {
    /// Made, and kept.
    Present,
    /// Removed, its space given back.
    Absent,
}

/// What a volume is seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeSeen {
    /// Being made.
    Creating,
    /// There.
    Available,
    /// Being removed.
    Deleting,
    /// Gone.
    Deleted,
    /// Could not be made; the reason says why.
    Error,
}

/// What an SC says of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeReport {
    /// Which volume.
    pub volume: VolumeId,
    /// The generation of the wish that it has acted on.
    pub generation: u64,
    /// What it sees.
    pub seen: VolumeSeen,
    /// Bytes really taken.
    #[serde(default)]
    pub allocated_bytes: u64,
    /// Why, if something is wrong.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What an SC says of its pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolReport {
    /// What it is: `file on xfs`, with whether it clones.
    pub kind: String,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Sum of the sizes of all volumes: more than `total_bytes` if sparse files promise too much.
    pub provisioned_bytes: u64,
    /// Why it cannot take volumes now, if so.
    #[serde(default)]
    pub not_ready: Option<String>,
}

/// One thing that changed at a Storage Controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageChange {
    /// A volume.
    Volume(VolumeReport),
    /// The pool.
    Pool(PoolReport),
}

rpc! {
    /// A Storage Controller. Only the CLC may call it.
    trait Storage serves Role::Sc {
        /// Says what a volume is to be. `NoRoom` if the pool is full.
        volume(VolumeWish) -> Taken, by [Role::Clc];
        /// What changed since.
        changes(Poll) -> Changes<StorageChange>, by [Role::Clc];
    }
}
