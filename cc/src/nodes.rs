//! The node table: what each node last said, whether it answers, and what it has taken.
//!
//! Nothing here is durable: a node says it all again when it is asked. Silence changes how a node
//! is seen and never what runs on it.
//!
//! ```text
//! Unknown ──answer──▶ Up ──silence──▶ Unreachable ──answer──▶ Up
//!    └────silence──────────────────────────▲
//! any ──the administrator says so──▶ Dead ──and takes it back──▶ Unknown
//! ```

use std::collections::{BTreeMap, BTreeSet};

use control::{
    cluster::{Reach, Roster, RosterNode},
    node::NodeReport,
};
use types::{InstanceId, NodeId};

/// What happens to a node's reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It answered.
    Answered,
    /// It has not answered for the whole limit.
    Silent,
    /// The administrator declared it dead.
    DeclaredDead,
    /// The administrator took that back.
    Revived,
}

/// How a node is seen after an event.
pub fn on(reach: Reach, event: Event) -> Reach {
    match (reach, event) {
        (_, Event::DeclaredDead) => Reach::Dead,
        (Reach::Dead, Event::Revived) => Reach::Unknown,
        (Reach::Dead, Event::Answered | Event::Silent) => Reach::Dead,
        (Reach::Unknown | Reach::Up | Reach::Unreachable, Event::Answered) => Reach::Up,
        (Reach::Unknown | Reach::Up | Reach::Unreachable, Event::Silent) => Reach::Unreachable,
        (Reach::Unknown | Reach::Up | Reach::Unreachable, Event::Revived) => reach,
    }
}

/// A node on the roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its line on the roster.
    pub roster: RosterNode,
    /// Whether it answers.
    pub reach: Reach,
    /// Why not.
    pub why: String,
    /// When it last answered, or when we began to ask; monotonic milliseconds.
    pub answered_ms: u64,
    /// Why the last call failed.
    pub last_error: Option<String>,
    /// What it last said of itself.
    pub report: Option<NodeReport>,
    /// Whether it has said all that it has since we started.
    pub heard: bool,
    /// The instances that it last said it has.
    pub present: BTreeSet<InstanceId>,
    /// Of those, the ones whose placement is elsewhere, or is over.
    pub strays: BTreeSet<InstanceId>,
    /// Instances that ran here and that it no longer has, with when that was noticed.
    pub missing: BTreeMap<InstanceId, u64>,
    /// The generations that it has taken.
    pub taken: BTreeMap<InstanceId, u64>,
    /// The network document that it has taken.
    pub network_taken: u64,
    /// Why it refused a wish, for those that it refused for good.
    pub refused: BTreeMap<InstanceId, (u64, String)>,
}

impl Node {
    fn new(roster: RosterNode, now: u64) -> Self {
        let reach = if roster.dead {
            Reach::Dead
        } else {
            Reach::Unknown
        };
        Self {
            roster,
            reach,
            why: why_unless_up(reach, None),
            answered_ms: now,
            last_error: None,
            report: None,
            heard: false,
            present: BTreeSet::new(),
            strays: BTreeSet::new(),
            missing: BTreeMap::new(),
            taken: BTreeMap::new(),
            network_taken: 0,
            refused: BTreeMap::new(),
        }
    }

    /// Whether what it has is known, or does not matter any more.
    pub fn is_settled(&self) -> bool {
        self.heard || self.reach == Reach::Dead
    }

    fn turn(&mut self, event: Event) -> bool {
        let before = self.reach;
        self.reach = on(before, event);
        if self.reach != before {
            self.why = why_unless_up(self.reach, self.last_error.as_deref());
        }
        self.reach != before
    }
}

fn why_unless_up(reach: Reach, error: Option<&str>) -> String {
    match (reach, error) {
        (Reach::Up, _) => String::new(),
        (Reach::Unknown, _) => "has not answered since the Cluster Controller started".to_owned(),
        (Reach::Unreachable, None) => "does not answer".to_owned(),
        (Reach::Unreachable, Some(error)) => format!("does not answer: {error}"),
        (Reach::Dead, _) => "was declared dead".to_owned(),
    }
}

/// All nodes on the roster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes(BTreeMap<NodeId, Node>);

impl Nodes {
    /// A node, if it is on the roster.
    pub fn get(&self, node: &NodeId) -> Option<&Node> {
        self.0.get(node)
    }

    /// A node to note something about.
    pub fn get_mut(&mut self, node: &NodeId) -> Option<&mut Node> {
        self.0.get_mut(node)
    }

    /// All nodes, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.0.values()
    }

    /// Takes a new roster: who is new is unknown, who is off it is forgotten.
    pub fn follow(&mut self, roster: &Roster, now: u64) {
        let listed: BTreeSet<&NodeId> = roster.nodes.iter().map(|n| &n.node).collect();
        self.0.retain(|node, _| listed.contains(node));
        for line in &roster.nodes {
            let node = self
                .0
                .entry(line.node.clone())
                .or_insert_with(|| Node::new(line.clone(), now));
            node.roster = line.clone();
            if line.dead {
                node.turn(Event::DeclaredDead);
            } else if node.turn(Event::Revived) {
                // Whatever it said before it was given up is old.
                *node = Node::new(line.clone(), now);
            }
        }
    }

    /// A node answered. Says whether that changed how it is seen.
    pub fn answered(&mut self, node: &NodeId, now: u64) -> bool {
        let Some(node) = self.0.get_mut(node) else {
            return false;
        };
        (node.answered_ms, node.last_error) = (now, None);
        node.turn(Event::Answered)
    }

    /// A call to a node failed. Not a change yet: only time makes it one.
    pub fn failed(&mut self, node: &NodeId, error: String) {
        if let Some(node) = self.0.get_mut(node) {
            node.last_error = Some(error);
        }
    }

    /// Turns those unreachable that have been silent for the limit; says which.
    pub fn grow_silent(&mut self, now: u64, limit_ms: u64) -> Vec<NodeId> {
        let silent = |node: &&mut Node| now.saturating_sub(node.answered_ms) >= limit_ms;
        self.0
            .values_mut()
            .filter(silent)
            .filter_map(|node| node.turn(Event::Silent).then(|| node.roster.node.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        format!("node-{number:08x}").parse().unwrap()
    }

    fn roster(nodes: &[(u32, bool)]) -> Roster {
        let line = |&(number, dead): &(u32, bool)| RosterNode {
            node: node(number),
            address: ([10, 0, 0, 1], 8775).into(),
            dead,
        };
        Roster {
            generation: 1,
            nodes: nodes.iter().map(line).collect(),
        }
    }

    fn reach(nodes: &Nodes, number: u32) -> Option<Reach> {
        nodes.get(&node(number)).map(|n| n.reach)
    }

    #[test]
    fn silence_makes_a_node_unreachable_and_an_answer_brings_it_back() {
        let mut nodes = Nodes::default();
        nodes.follow(&roster(&[(1, false)]), 0);
        assert_eq!(reach(&nodes, 1), Some(Reach::Unknown));
        assert!(nodes.answered(&node(1), 5));
        nodes.failed(&node(1), "connection refused".into());
        assert_eq!(nodes.grow_silent(14, 10), []);
        assert_eq!(nodes.grow_silent(15, 10), [node(1)]);
        assert_eq!(reach(&nodes, 1), Some(Reach::Unreachable));
        assert!(
            nodes
                .get(&node(1))
                .unwrap()
                .why
                .contains("connection refused")
        );
        assert!(nodes.answered(&node(1), 16));
        assert_eq!(reach(&nodes, 1), Some(Reach::Up));
    }

    #[test]
    fn the_dead_stay_dead_until_the_roster_says_otherwise() {
        let mut nodes = Nodes::default();
        nodes.follow(&roster(&[(1, true), (2, false)]), 0);
        assert!(!nodes.answered(&node(1), 1));
        assert_eq!(nodes.grow_silent(100, 10), [node(2)]);
        assert_eq!(reach(&nodes, 1), Some(Reach::Dead));
        nodes.follow(&roster(&[(1, false)]), 101);
        assert_eq!(reach(&nodes, 1), Some(Reach::Unknown));
        assert_eq!(reach(&nodes, 2), None);
    }

    #[test]
    fn every_reach_has_an_answer_to_every_event() {
        let reaches = [Reach::Unknown, Reach::Up, Reach::Unreachable, Reach::Dead];
        for reach in reaches {
            assert_eq!(on(reach, Event::DeclaredDead), Reach::Dead);
            let revived = if reach == Reach::Dead {
                Reach::Unknown
            } else {
                reach
            };
            assert_eq!(on(reach, Event::Revived), revived);
        }
    }
}
