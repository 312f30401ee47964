//! What a Cluster Controller answers to the Cloud Controller.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use types::{InstanceId, NodeId, ReservationId, network::NetworkDocument};

use crate::{
    caches::{Caches, CachesAsk, ClusterWarm, EvictAsk},
    error::CallError,
    feed::{Changes, Poll},
    node::{
        ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceReport, InstanceWish, NetworkTaken,
        NodeReport, Shape, Taken,
    },
    peer::Role,
    rpc::rpc,
};

/// How long a hold lasts unless its instances are wished for.
pub const HOLD_LEASE_MS: u64 = 60_000;
/// How long the CLC waits for a hold.
pub const HOLD_DEADLINE_MS: u64 = 2_000;

/// Asks for room for a launch. The same reservation asks again for the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAsk {
    /// The key of the hold.
    pub reservation: ReservationId,
    /// The instances that want a place, in the order of their launch index.
    pub instances: Vec<InstanceId>,
    /// How many of them must get one, or none does.
    pub min_count: u32,
    /// What each takes.
    pub shape: Shape,
}

/// Where an instance may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Which instance.
    pub instance: InstanceId,
    /// On which node.
    pub node: NodeId,
    /// The number of this placement; grows for an instance with each new one.
    pub epoch: u64,
    /// Why this node: the policy and what the others lacked.
    #[serde(default)]
    pub why: String,
}

/// Room that was found, for as long as the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// A prefix of the instances asked for, at least `min_count` of them.
    pub placements: Vec<Placement>,
    /// Why each node that was not chosen was not.
    #[serde(default)]
    pub rejected: Vec<Rejected>,
}

/// A node that was not chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Which node.
    pub node: NodeId,
    /// Why: `512 MiB asked, 256 MiB free`, `unreachable for 12 s`, ...
    pub why: String,
}

/// Gives a hold back. Unknown holds are given back already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRelease {
    /// The key of the hold.
    pub reservation: ReservationId,
}

/// The nodes of the cluster, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Grows with every change.
    pub generation: u64,
    /// Every node that has joined and was not removed.
    pub nodes: Vec<RosterNode>,
}

/// A node on the roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterNode {
    /// Which node; also the name in its certificate.
    pub node: NodeId,
    /// Where it serves [`crate::Node`].
    pub address: SocketAddr,
    /// Whether the administrator has declared it dead: the CC waits for it no longer.
    #[serde(default)]
    pub dead: bool,
}

/// How the CC sees a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// On the roster; has not answered since the CC started.
    Unknown,
    /// Answers.
    Up,
    /// Has not answered for longer than the limit. Its instances keep their records.
    Unreachable,
    /// Declared dead by the administrator.
    Dead,
}

/// What a CC says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Which node.
    pub node: NodeId,
    /// Whether it answers.
    pub reach: Reach,
    /// Why not, if not.
    #[serde(default)]
    pub why: String,
    /// What it last said of itself.
    pub report: Option<NodeReport>,
    /// What holds and placements have of it, as the scheduler counts.
    #[serde(default)]
    pub committed: Shape,
}

/// One thing that changed in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterChange {
    /// An instance, as its node last said.
    Instance(Box<InstanceReport>),
    /// A node.
    Node(Box<NodeStatus>),
}

rpc! {
    /// A Cluster Controller. Only the CLC may call it.
    trait Cluster serves Role::Cc {
        /// Finds room for a launch and keeps it for [`HOLD_LEASE_MS`]. `NoRoom` if it fits nowhere.
        hold(HoldAsk) -> Hold, by [Role::Clc];
        /// Gives the room of a hold back.
        release(HoldRelease) -> Done, by [Role::Clc];
        /// Says what an instance is to be; the CC places nothing here, the wish names the node.
        instance(InstanceWish) -> Taken, by [Role::Clc];
        /// Says which nodes there are.
        roster(Roster) -> Taken, by [Role::Clc];
        /// Says what the network is to be; relayed to every node.
        network(NetworkDocument) -> NetworkTaken, by [Role::Clc];
        /// What changed since.
        changes(Poll) -> Changes<ClusterChange>, by [Role::Clc];
        /// Reads a console.
        console_read(ConsoleRead) -> ConsoleText, by [Role::Clc];
        /// Types into a console.
        console_write(ConsoleWrite) -> Done, by [Role::Clc];
        /// What the nodes' image caches have.
        caches(CachesAsk) -> Caches, by [Role::Clc];
        /// Has nodes fetch an image.
        caches_warm(ClusterWarm) -> Caches, by [Role::Clc];
        /// Has nodes remove an image that nothing uses.
        caches_evict(EvictAsk) -> Caches, by [Role::Clc];
    }
}
