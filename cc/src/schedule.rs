//! Where a launch goes: pure. Nodes and an ask go in; a node for each instance comes out, or why
//! not, node by node.
//!
//! It keeps nothing: what is free is counted by the caller (`book.rs`), and so is the place where
//! the last round ended. Policies are Eucalyptus's: greedy fills the first node before the next,
//! round-robin goes on after the node that was used last.

use control::{cluster::Rejected, node::Shape};
use serde::{Deserialize, Serialize};
use types::NodeId;

use crate::shape;

/// How many refusals an answer carries: enough for a rack, little enough for a message.
pub const REJECTED_MAX: usize = 64;

/// Which of the nodes that have room is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The first in the order of their ids: keeps nodes empty for large instances.
    #[default]
    Greedy,
    /// The next after the one used last: spreads load.
    RoundRobin,
}

/// A node as the scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which node.
    pub node: NodeId,
    /// What it has left, or why it takes nothing.
    pub free: Result<Shape, String>,
}

/// What is to be placed: between `min_count` and `count` instances of one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// At most so many.
    pub count: usize,
    /// At least so many, or none.
    pub min_count: usize,
    /// Each takes this.
    pub shape: Shape,
}

/// Where instances go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// A node for each instance, in their order, with the reason.
    pub chosen: Vec<(NodeId, String)>,
    /// The nodes that got none, and why.
    pub rejected: Vec<Rejected>,
}

/// Finds room. `last` is the node that was used last. Fails with why each node was not chosen.
pub fn plan(
    policy: Policy,
    last: Option<&NodeId>,
    mut candidates: Vec<Candidate>,
    ask: Ask,
) -> Result<Plan, Vec<Rejected>> {
    candidates.sort_by(|a, b| a.node.cmp(&b.node));
    let mut next = match policy {
        Policy::Greedy => 0,
        Policy::RoundRobin => first_after(&candidates, last),
    };
    let mut chosen = Vec::new();
    while chosen.len() < ask.count {
        let Some(at) = first_fit(&candidates, next, ask.shape) else {
            break;
        };
        take(&mut candidates[at], ask.shape);
        chosen.push((
            candidates[at].node.clone(),
            reason(policy, candidates.len()),
        ));
        next = match policy {
            Policy::Greedy => at,
            Policy::RoundRobin => at + 1,
        };
    }

    let rejected = rejections(&candidates, &chosen, ask.shape);
    if chosen.is_empty() || chosen.len() < ask.min_count {
        return Err(rejected);
    }
    Ok(Plan { chosen, rejected })
}

fn first_after(candidates: &[Candidate], last: Option<&NodeId>) -> usize {
    last.map_or(0, |last| candidates.partition_point(|c| c.node <= *last))
}

/// The first node with room, from `start` on and round to it again.
fn first_fit(candidates: &[Candidate], start: usize, ask: Shape) -> Option<usize> {
    let count = candidates.len();
    (0..count)
        .map(|step| (start + step) % count)
        .find(|&at| refusal(&candidates[at], ask).is_none())
}

fn take(candidate: &mut Candidate, ask: Shape) {
    if let Ok(free) = &mut candidate.free {
        *free = shape::less(*free, ask);
    }
}

fn refusal(candidate: &Candidate, ask: Shape) -> Option<String> {
    match &candidate.free {
        Ok(free) => shape::lacks(ask, *free),
        Err(why) => Some(why.clone()),
    }
}

fn reason(policy: Policy, nodes: usize) -> String {
    match policy {
        Policy::Greedy => format!("greedy: the first of {nodes} nodes with room"),
        Policy::RoundRobin => format!("round-robin: the next of {nodes} nodes with room"),
    }
}

fn rejections(candidates: &[Candidate], chosen: &[(NodeId, String)], ask: Shape) -> Vec<Rejected> {
    candidates
        .iter()
        .filter(|c| chosen.iter().all(|(node, _)| *node != c.node))
        .take(REJECTED_MAX)
        .map(|c| Rejected {
            node: c.node.clone(),
            why: refusal(c, ask).unwrap_or_else(|| "has room, was not needed".to_owned()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use types::{Gib, Mib};

    use super::*;

    fn node(number: u32) -> NodeId {
        format!("node-{number:08x}").parse().unwrap()
    }

    fn small() -> Shape {
        Shape {
            vcpus: 1,
            memory_mib: Mib(256),
            disk_gib: Gib(5),
        }
    }

    /// Nodes that each have room for so many small instances.
    fn with_room(rooms: &[u32]) -> Vec<Candidate> {
        let free = |n: u32| Shape {
            vcpus: n,
            memory_mib: Mib(256 * n),
            disk_gib: Gib(5 * n),
        };
        (1..)
            .zip(rooms)
            .map(|(i, &n)| Candidate {
                node: node(i),
                free: Ok(free(n)),
            })
            .collect()
    }

    fn check(
        policy: Policy,
        last: Option<u32>,
        rooms: &[u32],
        ask: (usize, usize),
        expect: &[u32],
    ) {
        let ask = Ask {
            count: ask.0,
            min_count: ask.1,
            shape: small(),
        };
        let planned = plan(policy, last.map(node).as_ref(), with_room(rooms), ask);
        let chosen: Vec<NodeId> = planned
            .map(|plan| plan.chosen.into_iter().map(|(node, _)| node).collect())
            .unwrap_or_default();
        let expect: Vec<NodeId> = expect.iter().copied().map(node).collect();
        assert_eq!(chosen, expect);
    }

    #[test]
    fn greedy_fills_the_first_node_before_the_next() {
        check(Policy::Greedy, None, &[2, 2, 2], (3, 3), &[1, 1, 2]);
        check(Policy::Greedy, Some(2), &[2, 2, 2], (1, 1), &[1]);
        check(Policy::Greedy, None, &[0, 0, 1], (1, 1), &[3]);
    }

    #[test]
    fn round_robin_goes_on_after_the_node_used_last() {
        check(Policy::RoundRobin, None, &[2, 2, 2], (4, 4), &[1, 2, 3, 1]);
        check(Policy::RoundRobin, Some(1), &[2, 2, 2], (2, 2), &[2, 3]);
        check(Policy::RoundRobin, Some(3), &[2, 2, 2], (1, 1), &[1]);
        check(Policy::RoundRobin, Some(1), &[3, 0, 0], (2, 2), &[1, 1]);
    }

    #[test]
    fn fewer_than_the_minimum_is_none() {
        check(Policy::Greedy, None, &[1, 1], (3, 2), &[1, 2]);
        check(Policy::Greedy, None, &[1, 1], (3, 3), &[]);
        check(Policy::Greedy, None, &[], (1, 1), &[]);
    }

    #[test]
    fn every_node_that_was_not_chosen_says_why() {
        let mut nodes = with_room(&[0, 1, 1]);
        nodes.push(Candidate {
            node: node(9),
            free: Err("declared dead".into()),
        });
        let ask = Ask {
            count: 1,
            min_count: 1,
            shape: small(),
        };
        let plan = plan(Policy::Greedy, None, nodes, ask).unwrap();
        let why: Vec<&str> = plan.rejected.iter().map(|r| r.why.as_str()).collect();
        assert_eq!(
            why,
            [
                "1 vCPUs asked, 0 free, 256 MiB asked, 0 MiB free, 5 GiB of disk asked, 0 GiB free",
                "has room, was not needed",
                "declared dead"
            ]
        );
    }
}
