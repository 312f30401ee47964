//! The book: everything that a Cluster Controller knows, and the sums that it decides by.
//!
//! It has two halves. [`Saved`] is durable and is the fold of committed changes; the node table and
//! the leases are what nodes and the clock say, and are made anew at each start. Decisions look at
//! the book and answer with changes (`reserve.rs`, `placements.rs`); nothing changes the durable
//! half but [`Book::apply`], and that only after the changes were committed.
//!
//! ```text
//! committed(node) = holds not yet wished for + placements not ended + strays
//!                   + what the node uses for instances whose shape nobody has told us
//! ```

use std::collections::{BTreeMap, BTreeSet};

use control::{
    cluster::{ClusterChange, NodeStatus, Reach},
    node::{InstanceReport, Shape},
};
use types::{InstanceId, NodeId, ReservationId};

use crate::{
    ledger::{Change, PlacementRow, Saved},
    nodes::{Node, Nodes},
    schedule::Policy,
    shape,
};

/// How long what is over is remembered: far beyond any message that is still on its way.
pub const REMEMBER_MS: u64 = 60 * 60 * 1000;

/// The limits that a site may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Which nodes are filled first.
    pub policy: Policy,
    /// How long a hold lasts.
    pub lease_ms: u64,
    /// How long a node may be silent before it counts as unreachable.
    pub unreachable_ms: u64,
    /// How long a node may be without an instance that ran there before it counts as lost.
    pub missing_ms: u64,
}

/// What a decision comes to: durable changes, then what to tell.
#[derive(Debug)]
pub struct Decision<T> {
    /// The answer to whoever asked, once the changes are durable.
    pub answer: T,
    /// What must be durable first.
    pub changes: Vec<Change>,
    /// What instances look like now, for the CLC.
    pub reports: Vec<InstanceReport>,
}

impl<T> Decision<T> {
    /// An answer that changes nothing.
    pub fn unchanged(answer: T) -> Self {
        Self {
            answer,
            changes: Vec::new(),
            reports: Vec::new(),
        }
    }
}

/// Everything that a Cluster Controller knows.
#[derive(Debug)]
pub struct Book {
    /// The limits in force.
    pub limits: Limits,
    pub(crate) saved: Saved,
    pub(crate) nodes: Nodes,
    /// When each hold ends; monotonic milliseconds.
    pub(crate) leases: BTreeMap<ReservationId, u64>,
    /// Holds that were given back, until a question for them cannot be under way any more.
    pub(crate) given_back: BTreeMap<ReservationId, u64>,
    /// When each ended placement is forgotten.
    pub(crate) forget_at: BTreeMap<InstanceId, u64>,
    /// The node that the last round ended with.
    pub(crate) last_used: Option<NodeId>,
    /// The instances with a placement row on each node.
    placed: BTreeMap<NodeId, BTreeSet<InstanceId>>,
}

impl Book {
    /// The book as it is after a start: what was saved, and nothing of the nodes yet.
    pub fn open(limits: Limits, saved: Saved, now: u64) -> Self {
        let mut book = Self {
            limits,
            saved: Saved::default(),
            nodes: Nodes::default(),
            leases: BTreeMap::new(),
            given_back: BTreeMap::new(),
            forget_at: BTreeMap::new(),
            last_used: None,
            placed: BTreeMap::new(),
        };
        for change in steps(saved) {
            book.apply(change, now);
        }
        book
    }

    /// Takes in a committed change. Says which nodes' sums it touches.
    pub fn apply(&mut self, change: Change, now: u64) -> BTreeSet<NodeId> {
        let mut touched = BTreeSet::new();
        match &change {
            Change::Hold(row) => {
                self.leases
                    .insert(row.reservation.clone(), now + self.limits.lease_ms);
                self.last_used = row.placements.last().map(|p| p.node.clone());
                touched.extend(row.placements.iter().map(|p| p.node.clone()));
            }
            Change::HoldGone(reservation) => {
                self.leases.remove(reservation);
                let row = self.saved.holds.get(reservation);
                touched.extend(
                    row.iter()
                        .flat_map(|r| &r.placements)
                        .map(|p| p.node.clone()),
                );
            }
            Change::Placement(row) => touched.extend(self.place(row, now)),
            Change::PlacementGone(instance) => touched.extend(self.unplace(instance)),
            Change::Roster(roster) => {
                touched.extend(self.nodes.iter().map(|n| n.roster.node.clone()));
                self.nodes.follow(roster, now);
                touched.extend(roster.nodes.iter().map(|n| n.node.clone()));
            }
            Change::Network(_) => touched.extend(self.nodes.iter().map(|n| n.roster.node.clone())),
            Change::Settled | Change::Epoch(_) => {}
        }
        self.saved.apply(change);
        touched
    }

    fn place(&mut self, row: &PlacementRow, now: u64) -> BTreeSet<NodeId> {
        let mut touched = BTreeSet::from([row.node.clone()]);
        if let Some(old) = self.saved.placements.get(&row.instance)
            && old.node != row.node
        {
            touched.insert(old.node.clone());
            if let Some(placed) = self.placed.get_mut(&old.node) {
                placed.remove(&old.instance);
            }
            // Until its old node says that it is gone, it takes room there.
            if let Some(node) = self.nodes.get_mut(&old.node).filter(|_| !old.ended) {
                node.strays.insert(old.instance.clone());
            }
        }
        let placed = self.placed.entry(row.node.clone()).or_default();
        placed.insert(row.instance.clone());
        if row.ended {
            let at = now + REMEMBER_MS;
            self.forget_at.entry(row.instance.clone()).or_insert(at);
        } else {
            self.forget_at.remove(&row.instance);
        }
        touched
    }

    fn unplace(&mut self, instance: &InstanceId) -> Option<NodeId> {
        self.forget_at.remove(instance);
        let node = self.saved.placements.get(instance)?.node.clone();
        if let Some(placed) = self.placed.get_mut(&node) {
            placed.remove(instance);
        }
        Some(node)
    }

    /// What is durable.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// The node table.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The rows of the instances placed on a node, ended ones included.
    pub fn placed_on<'a>(&'a self, node: &NodeId) -> impl Iterator<Item = &'a PlacementRow> {
        let placed = self.placed.get(node).into_iter().flatten();
        placed.filter_map(|instance| self.saved.placements.get(instance))
    }

    /// The part of a hold that its instances have not yet turned into placements.
    pub(crate) fn is_open(&self, instance: &InstanceId, epoch: u64) -> bool {
        let row = self.saved.placements.get(instance);
        row.is_none_or(|row| row.epoch < epoch)
    }

    /// What holds, placements and strays have of a node.
    pub fn committed(&self, node: &NodeId) -> Shape {
        let held = self.saved.holds.values().flat_map(|row| {
            let here = row.placements.iter().filter(|p| p.node == *node);
            here.filter(|p| self.is_open(&p.instance, p.epoch))
                .map(|_| row.shape)
        });
        let placed = self
            .placed_on(node)
            .filter(|row| row.takes_room && !row.ended)
            .filter_map(PlacementRow::shape);
        let entry = self.nodes.get(node);
        let stray = entry
            .into_iter()
            .flat_map(|n| &n.strays)
            .filter_map(|instance| self.saved.placements.get(instance)?.shape());
        let told = shape::sum(held.chain(placed).chain(stray));
        shape::plus(told, entry.map_or_else(Shape::default, |n| self.untold(n)))
    }

    /// What a node uses for instances of which it alone knows the shape: those that a CC finds
    /// there after it lost its ledger, until the CLC says their wishes again.
    fn untold(&self, node: &Node) -> Shape {
        let row = |instance| self.saved.placements.get(instance);
        let shape_of = |instance| row(instance).and_then(PlacementRow::shape);
        let used = node.report.as_ref().map(|report| report.used);
        match used {
            Some(used) if node.present.iter().any(|i| shape_of(i).is_none()) => {
                shape::less(used, shape::sum(node.present.iter().filter_map(shape_of)))
            }
            Some(_) | None => Shape::default(),
        }
    }

    /// What a node has left, whatever its state; none if it has not said how much it has.
    pub fn room(&self, node: &NodeId) -> Option<Shape> {
        let entry = self.nodes.get(node).filter(|n| n.heard)?;
        let capacity = entry.report.as_ref()?.capacity;
        Some(shape::less(capacity, self.committed(node)))
    }

    /// What a node has for new instances, or why it takes none.
    pub fn free(&self, node: &Node) -> Result<Shape, String> {
        match (node.reach, &node.report) {
            (Reach::Unknown | Reach::Unreachable | Reach::Dead, _) => Err(node.why.clone()),
            (Reach::Up, Some(report)) if node.heard => match &report.not_ready {
                Some(why) => Err(format!("is not ready: {why}")),
                None => self
                    .room(&node.roster.node)
                    .ok_or_else(|| "has not said what it has".to_owned()),
            },
            (Reach::Up, _) => Err("has not said what it has".to_owned()),
        }
    }

    /// A node as the CLC is told of it.
    pub fn status(&self, node: &NodeId) -> Option<ClusterChange> {
        let entry = self.nodes.get(node)?;
        Some(ClusterChange::Node(Box::new(NodeStatus {
            node: node.clone(),
            reach: entry.reach,
            why: entry.why.clone(),
            report: entry.report.clone(),
            committed: self.committed(node),
        })))
    }

    /// Why nothing can be placed yet; none if it can.
    pub fn unsettled(&self) -> Option<String> {
        if self.saved.settled {
            return None;
        }
        if self.saved.roster.is_none() {
            return Some(
                "waiting for the Cloud Controller to say which nodes there are".to_owned(),
            );
        }
        let waiting: Vec<&str> = self
            .nodes
            .iter()
            .filter(|node| !node.is_settled())
            .map(|node| node.roster.node.as_str())
            .collect();
        Some(format!(
            "its ledger is new: waiting for {} to report or be declared dead",
            waiting.join(", ")
        ))
    }

    /// Whether the wait of a new ledger is over now.
    pub(crate) fn settles(&self) -> bool {
        let waited = self.saved.roster.is_some() && self.nodes.iter().all(Node::is_settled);
        waited && !self.saved.settled
    }
}

/// The changes that lead to a saved state.
fn steps(saved: Saved) -> Vec<Change> {
    let placements = saved.placements.into_values().map(Box::new);
    let mut steps = vec![Change::Epoch(saved.epoch)];
    steps.extend(saved.settled.then_some(Change::Settled));
    steps.extend(saved.roster.map(Change::Roster));
    steps.extend(saved.network.map(|n| Change::Network(Box::new(n))));
    steps.extend(placements.map(Change::Placement));
    steps.extend(saved.holds.into_values().map(Change::Hold));
    steps
}
