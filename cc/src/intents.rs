//! What the CLC says of the whole cluster: which nodes there are, and what the network is to be.

use control::{
    cluster::Roster,
    node::{NetworkTaken, Taken},
};
use types::{NodeId, network::NetworkDocument};

use crate::{
    book::{Book, Decision},
    ledger::Change,
};

impl Book {
    /// Takes a roster that is newer than ours.
    pub fn take_roster(&self, roster: Roster) -> Decision<Taken> {
        let known = self.saved.roster.as_ref();
        if let Some(known) = known.filter(|known| known.generation >= roster.generation) {
            return Decision::unchanged(Taken {
                generation: known.generation,
            });
        }
        let answer = Taken {
            generation: roster.generation,
        };
        let mut changes = vec![Change::Roster(roster.clone())];
        if !self.saved.settled && roster.nodes.iter().all(|line| self.is_known(line)) {
            changes.push(Change::Settled);
        }
        let ends = self.ends_without_a_node(&roster);
        let reports = ends.iter().filter_map(|row| row.report.clone()).collect();
        changes.extend(ends.into_iter().map(|row| Change::Placement(Box::new(row))));
        Decision {
            answer,
            changes,
            reports,
        }
    }

    fn is_known(&self, line: &control::cluster::RosterNode) -> bool {
        line.dead || self.nodes.get(&line.node).is_some_and(|node| node.heard)
    }

    /// Takes a network document that is newer than ours.
    pub fn take_network(&self, document: NetworkDocument) -> Decision<NetworkTaken> {
        let known = self.saved.network.as_ref().map_or(0, |known| known.version);
        if known >= document.version {
            return Decision::unchanged(NetworkTaken { version: known });
        }
        Decision {
            answer: NetworkTaken {
                version: document.version,
            },
            changes: vec![Change::Network(Box::new(document))],
            reports: Vec::new(),
        }
    }

    /// The network document, if the node has not taken it.
    pub fn owed_network(&self, node: &NodeId) -> Option<NetworkDocument> {
        let taken = self.nodes.get(node)?.network_taken;
        let newest = self.saved.network.as_ref()?;
        (newest.version > taken).then(|| newest.clone())
    }
}
