//! The image caches of the nodes: what the administrator asks of them, and how nodes find out from
//! the Cloud Controller who else has an entry.
//!
//! | from | to | says |
//! |---|---|---|
//! | administrator → CLC → CC → NC | [`CachesAsk`], [`WarmAsk`], [`EvictAsk`] | list, warm, evict |
//! | NC → CLC | [`CopyReport`] | how far its copy of an entry is |
//! | CLC → NC, in a ticket | [`Blocks`], [`CopyPeer`], [`FilledBy`] | who has it, and what it must be |

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use types::{ImageId, ImageKind, NodeId, Timestamp};

use crate::node::ImageRef;

/// What a whole entry of a cache is, block by block. Blocks of zeros have no digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// The size of a block; the last one may be shorter.
    pub block_bytes: u64,
    /// The size of the file.
    pub file_bytes: u64,
    /// The runs of blocks that are not all zeros: the first's number, and how many.
    pub runs: Vec<(u64, u64)>,
    /// The SHA-256 of each of those, in order, one after the other, in base64.
    pub sha256: String,
}

/// A node of the same cluster that has an entry, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyPeer {
    /// Which node; also the name in its certificate.
    pub node: NodeId,
    /// Where it serves.
    pub address: SocketAddr,
}

/// The node that reads the bundle now: whoever else needs the image waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilledBy {
    /// Which node.
    pub node: NodeId,
    /// How far it is.
    pub percent: u8,
    /// When to ask again.
    pub again_ms: u64,
}

/// How far a node's copy of an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyReport {
    /// Of which image.
    pub image: ImageId,
    /// The entry's name: image, digest of the manifest, recipe and form.
    pub entry: String,
    /// How far.
    pub copy: Copied,
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copied {
    /// Being made, from the bundle or from peers. Said every few seconds.
    Filling {
        /// How far.
        percent: u8,
    },
    /// Whole.
    Whole {
        /// What it is; none where it was made from blocks that the CLC told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blocks: Option<Blocks>,
    },
    /// Evicted, or given up.
    Gone,
}

/// Asks what the caches have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachesAsk {
    /// Of which nodes; none is all.
    #[serde(default)]
    pub nodes: Vec<NodeId>,
}

/// Has nodes fetch an image before anybody launches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmAsk {
    /// Which image.
    pub image: ImageId,
    /// On which nodes; none is all.
    #[serde(default)]
    pub nodes: Vec<NodeId>,
}

/// Removes an image from caches, where nothing uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvictAsk {
    /// Which image.
    pub image: ImageId,
    /// On which nodes; none is all.
    #[serde(default)]
    pub nodes: Vec<NodeId>,
}

/// [`WarmAsk`] as the CLC passes it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterWarm {
    /// What to fetch.
    pub warm: NodeWarm,
    /// On which nodes; none is all.
    #[serde(default)]
    pub nodes: Vec<NodeId>,
}

/// What a node is to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWarm {
    /// Which image.
    pub image: ImageRef,
    /// What it is.
    pub kind: ImageKind,
}

/// What a node is to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEvict {
    /// Which image.
    pub image: ImageId,
}

/// The caches of nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caches {
    /// One for each node that was asked.
    pub nodes: Vec<NodeCache>,
}

/// The cache of a node, or why it did not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCache {
    /// Which node.
    pub node: NodeId,
    /// What it has.
    pub report: Option<CacheReport>,
    /// Why it did not say, or what it could not do.
    #[serde(default)]
    pub error: String,
}

/// What a cache has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheReport {
    /// How much entries may take together.
    pub limit_bytes: u64,
    /// How much they take.
    pub used_bytes: u64,
    /// What its file system has free.
    pub free_bytes: u64,
    /// The whole entries, then those on their way.
    pub entries: Vec<CachedEntry>,
}

/// An entry of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedEntry {
    /// Of which image.
    pub image: ImageId,
    /// Its whole name.
    pub entry: String,
    /// What it takes on disk; of one on its way, so far.
    pub bytes: u64,
    /// When it was last used, by the file system's clock.
    #[serde(default)]
    pub used_at: Option<Timestamp>,
    /// How many instances stand on it, of all nodes that share the cache.
    #[serde(default)]
    pub uses: u32,
    /// How far it is, while it is on its way.
    #[serde(default)]
    pub percent: Option<u8>,
    /// What is being done for it, or why it could not be had.
    #[serde(default)]
    pub doing: String,
    /// Whether it was tried and could not be had.
    #[serde(default)]
    pub failed: bool,
}
