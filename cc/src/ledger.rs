//! What a Cluster Controller must not forget, as whole records, and the changes of it.
//!
//! Every decision is a list of [`Change`]s. They are committed together, then applied to the copy
//! in memory: [`Saved`] is the fold of all changes, so that start-up, recovery and the fake are one
//! function. All of it can be rebuilt from the CLC and the nodes, but for the promise of a hold;
//! a ledger that is new says so ([`Saved::settled`]) and nothing is placed until it knows again.

use std::collections::BTreeMap;

use async_trait::async_trait;
use control::{
    cluster::{Placement, Rejected, Roster},
    node::{InstanceReport, InstanceWish, Seen, Shape, Wanted},
};
use serde::{Deserialize, Serialize};
use types::{InstanceId, NodeId, ReservationId, network::NetworkDocument};

mod memory;
mod sqlite;

pub use memory::{Crash, MemoryLedger};
pub use sqlite::{MIGRATIONS, SqliteLedger};

/// A hold as it was answered. Its lease is on the monotonic clock and starts anew with the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// Its key.
    pub reservation: ReservationId,
    /// What each instance takes.
    pub shape: Shape,
    /// Where its instances may go.
    pub placements: Vec<Placement>,
    /// Why not elsewhere.
    pub rejected: Vec<Rejected>,
}

/// An instance that has a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRow {
    /// Which instance.
    pub instance: InstanceId,
    /// On which node.
    pub node: NodeId,
    /// The number of the placement.
    pub epoch: u64,
    /// What it is to be. None: a node reported it to a CC that had lost its ledger.
    pub wish: Option<InstanceWish>,
    /// What its node last said that matters: progress alone is not worth a write.
    pub report: Option<InstanceReport>,
    /// Whether it may take room on the node. Not if the first that was heard of it is its end.
    pub takes_room: bool,
    /// Nothing of it is left on the node. Kept for a while, so that a late message revives nothing.
    pub ended: bool,
}

impl PlacementRow {
    /// The generation of its wish; 0 if there is none.
    pub fn generation(&self) -> u64 {
        self.wish.as_ref().map_or(0, |wish| wish.generation)
    }

    /// What it takes, if known.
    pub fn shape(&self) -> Option<Shape> {
        self.wish.as_ref().map(|wish| wish.spec.shape)
    }

    /// Whether it is wished away.
    pub fn is_to_end(&self) -> bool {
        let wanted = self.wish.as_ref().map(|wish| wish.wanted);
        wanted == Some(Wanted::Terminated)
    }

    /// Whether its node has said that it ran, or has left that behind.
    pub fn has_run(&self) -> bool {
        self.report
            .as_ref()
            .is_some_and(|r| r.seen != Seen::Pending)
    }
}

/// One durable step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A hold was given.
    Hold(HoldRow),
    /// A hold was given back, or its lease is over.
    HoldGone(ReservationId),
    /// An instance has a place, or its record changed.
    Placement(Box<PlacementRow>),
    /// The record of an instance that ended is dropped.
    PlacementGone(InstanceId),
    /// The nodes that there are.
    Roster(Roster),
    /// The network that is to be.
    Network(Box<NetworkDocument>),
    /// Every node on the roster has reported once (or is dead) since the ledger was new.
    Settled,
    /// The number of the newest placement ever made.
    Epoch(u64),
}

/// Everything that was committed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Holds by their key.
    pub holds: BTreeMap<ReservationId, HoldRow>,
    /// Placements by instance.
    pub placements: BTreeMap<InstanceId, PlacementRow>,
    /// The nodes, once the CLC has said which.
    pub roster: Option<Roster>,
    /// The network, once the CLC has said it.
    pub network: Option<NetworkDocument>,
    /// Whether what runs on the nodes is known.
    pub settled: bool,
    /// The number of the newest placement.
    pub epoch: u64,
}

impl Saved {
    /// Takes one change in.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Hold(row) => {
                self.holds.insert(row.reservation.clone(), row);
            }
            Change::HoldGone(reservation) => {
                self.holds.remove(&reservation);
            }
            Change::Placement(row) => {
                self.placements.insert(row.instance.clone(), *row);
            }
            Change::PlacementGone(instance) => {
                self.placements.remove(&instance);
            }
            Change::Roster(roster) => self.roster = Some(roster),
            Change::Network(document) => self.network = Some(*document),
            Change::Settled => self.settled = true,
            // Never back: several may stand in one list.
            Change::Epoch(epoch) => self.epoch = self.epoch.max(epoch),
        }
    }
}

/// A commit or a load that failed.
#[derive(Debug, thiserror::Error)]
#[error("the ledger: {0}")]
pub struct LedgerError(pub String);

/// Where changes become durable: all of a list or none of it.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Everything that was ever committed.
    async fn load(&self) -> Result<Saved, LedgerError>;
    /// Makes changes durable. After an error they may or may not be.
    async fn commit(&self, changes: &[Change]) -> Result<(), LedgerError>;
}
