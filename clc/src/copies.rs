//! Who makes a copy of which image now, so that N nodes cost Walrus about one read.
//!
//! ```text
//! first to ask ─▶ reads the bundle; the others wait ─▶ tells the blocks
//! the others   ─▶ a chain, in the order in which they ask: each takes blocks from the one before it
//! ```
//!
//! For each zone and cache entry. Nothing here is durable or guards correctness: a node that waits
//! for nobody, or is told a peer that has nothing, loses time. What nodes *have* is in the rows.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use control::caches::Copied;
use types::{ImageId, NodeId, Zone};

/// A node that makes a copy says so every five seconds; after this it is waited for no longer.
const SILENT_MS: u64 = 30_000;
/// When a waiting node asks again: launches are watched by people.
pub const AGAIN_MS: u64 = 500;
/// Peers that a node is told: enough to lose some.
const PEERS_MAX: usize = 8;
/// Of those, the ones that are still fetching themselves.
const CHAIN_MAX: usize = 4;
/// How long the administrator's wish to have an image somewhere lets a node ask for it.
const WARM_MS: u64 = 6 * 60 * 60 * 1000;

/// The copies that are being made. In memory: a CLC that restarts has one bundle read twice.
#[derive(Debug, Default)]
pub struct Copies {
    spreads: Mutex<HashMap<(Zone, String), Spread>>,
    warmed: Mutex<HashMap<(NodeId, ImageId), u64>>,
}

/// Where a node is to take an entry from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// From the bundle.
    Bundle,
    /// From that node, when it has read the bundle.
    Wait {
        /// Which.
        node: NodeId,
        /// How far it is.
        percent: u8,
    },
    /// From these, the best first.
    Peers(Vec<NodeId>),
}

/// What happens to a spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The node is still at it.
    Filling(u8),
    /// It has the entry, or has given it up.
    Over,
}

/// One entry on its way to the nodes of a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// Who reads the bundle.
    filler: Option<Maker>,
    /// Who takes it from others, in the order of asking.
    chain: Vec<Maker>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Maker {
    node: NodeId,
    percent: u8,
    heard_ms: u64,
}

impl Maker {
    fn now(node: &NodeId, now_ms: u64) -> Self {
        Self {
            node: node.clone(),
            percent: 0,
            heard_ms: now_ms,
        }
    }
}

impl Spread {
    /// Answers a node that asks where to take the entry from. `whole` are the nodes that have it and
    /// answer; none where no node has ever told what it is.
    pub fn ask(
        &mut self,
        node: &NodeId,
        whole: Option<&[NodeId]>,
        peers_failed: bool,
        now_ms: u64,
    ) -> From {
        self.forget_silent(now_ms);
        if let (Some(whole), false) = (whole, peers_failed) {
            let peers = self.peers_of(node, whole);
            if !peers.is_empty() {
                if self.position(node).is_none() {
                    self.chain.push(Maker::now(node, now_ms));
                }
                return From::Peers(peers);
            }
        }
        self.chain.retain(|maker| maker.node != *node);
        match &self.filler {
            Some(filler) if filler.node != *node => From::Wait {
                node: filler.node.clone(),
                percent: filler.percent,
            },
            _ => {
                self.filler = Some(Maker::now(node, now_ms));
                From::Bundle
            }
        }
    }

    /// Notes how far a node is.
    pub fn on(&mut self, node: &NodeId, event: Event, now_ms: u64) {
        match event {
            Event::Filling(percent) => {
                let makers = self.filler.iter_mut().chain(&mut self.chain);
                for maker in makers.filter(|maker| maker.node == *node) {
                    (maker.percent, maker.heard_ms) = (percent, now_ms);
                }
            }
            Event::Over => {
                self.filler.take_if(|filler| filler.node == *node);
                self.chain.retain(|maker| maker.node != *node);
            }
        }
    }

    fn is_over(&self) -> bool {
        self.filler.is_none() && self.chain.is_empty()
    }

    fn makes(&self, node: &NodeId) -> bool {
        let mut makers = self.filler.iter().chain(&self.chain);
        makers.any(|maker| maker.node == *node)
    }

    fn position(&self, node: &NodeId) -> Option<usize> {
        self.chain.iter().position(|maker| maker.node == *node)
    }

    /// Those before it in the chain, the nearest first, and then those who have all of it: so each
    /// node is asked by one other, and nobody waits for himself in a circle.
    fn peers_of(&self, node: &NodeId, whole: &[NodeId]) -> Vec<NodeId> {
        if whole.iter().all(|peer| peer == node) {
            // Without anyone who has it all, a chain has no beginning.
            return Vec::new();
        }
        let position = self.position(node).unwrap_or(self.chain.len());
        let before = self.chain[..position].iter().rev().take(CHAIN_MAX);
        let before = before.map(|maker| &maker.node);
        // Each begins with another one of those who have it all.
        let turn = position % whole.len().max(1);
        let whole = whole[turn..].iter().chain(&whole[..turn]);
        let mut peers: Vec<NodeId> = Vec::new();
        for peer in before.chain(whole) {
            if peer != node && !peers.contains(peer) && peers.len() < PEERS_MAX {
                peers.push(peer.clone());
            }
        }
        peers
    }

    fn forget_silent(&mut self, now_ms: u64) {
        let silent = |maker: &Maker| now_ms.saturating_sub(maker.heard_ms) > SILENT_MS;
        self.filler.take_if(|filler| silent(filler));
        self.chain.retain(|maker| !silent(maker));
    }
}

impl Copies {
    /// As [`Spread::ask`].
    pub fn ask(
        &self,
        (zone, entry): (&Zone, &str),
        node: &NodeId,
        whole: Option<&[NodeId]>,
        peers_failed: bool,
        now_ms: u64,
    ) -> From {
        let mut spreads = self.spreads();
        let spread = spreads.entry((zone.clone(), entry.to_owned())).or_default();
        spread.ask(node, whole, peers_failed, now_ms)
    }

    /// Whether the node is known to make the entry.
    pub fn makes(&self, (zone, entry): (&Zone, &str), node: &NodeId) -> bool {
        let key = (zone.clone(), entry.to_owned());
        let spreads = self.spreads();
        spreads.get(&key).is_some_and(|spread| spread.makes(node))
    }

    /// Takes in how far a node is.
    pub fn on(&self, (zone, entry): (&Zone, &str), node: &NodeId, copy: &Copied, now_ms: u64) {
        let mut spreads = self.spreads();
        let key = (zone.clone(), entry.to_owned());
        let Some(spread) = spreads.get_mut(&key) else {
            return;
        };
        let event = match copy {
            Copied::Filling { percent } => Event::Filling((*percent).min(100)),
            Copied::Whole { .. } | Copied::Gone => Event::Over,
        };
        spread.on(node, event, now_ms);
        if spread.is_over() {
            spreads.remove(&key);
        }
    }

    /// The administrator wants the image on that node.
    pub fn warm(&self, node: &NodeId, image: &ImageId, now_ms: u64) {
        let mut warmed = self.warmed();
        warmed.retain(|_, until_ms| *until_ms > now_ms);
        warmed.insert((node.clone(), image.clone()), now_ms + WARM_MS);
    }

    /// Whether he does.
    pub fn is_warmed(&self, node: &NodeId, image: &ImageId, now_ms: u64) -> bool {
        let until_ms = self.warmed().get(&(node.clone(), image.clone())).copied();
        until_ms.is_some_and(|until_ms| until_ms > now_ms)
    }

    fn spreads(&self) -> MutexGuard<'_, HashMap<(Zone, String), Spread>> {
        self.spreads.lock().expect("no one panics holding it")
    }

    fn warmed(&self) -> MutexGuard<'_, HashMap<(NodeId, ImageId), u64>> {
        self.warmed.lock().expect("no one panics holding it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32) -> NodeId {
        format!("node-{number:08x}").parse().unwrap()
    }

    fn nodes(numbers: &[u32]) -> Vec<NodeId> {
        numbers.iter().map(|number| node(*number)).collect()
    }

    fn wait(number: u32, percent: u8) -> From {
        From::Wait {
            node: node(number),
            percent,
        }
    }

    #[test]
    fn of_those_who_ask_at_once_one_reads_the_bundle_and_the_rest_form_a_chain_behind_it() {
        let mut spread = Spread::default();
        assert_eq!(spread.ask(&node(1), None, false, 0), From::Bundle);
        assert_eq!(spread.ask(&node(2), None, false, 0), wait(1, 0));
        spread.on(&node(1), Event::Filling(40), 5_000);
        assert_eq!(spread.ask(&node(3), None, false, 5_000), wait(1, 40));
        assert_eq!(spread.ask(&node(1), None, false, 5_000), From::Bundle);

        spread.on(&node(1), Event::Over, 9_000);
        let whole = nodes(&[1]);
        for (asks, told) in [
            (2, &[1][..]),
            (3, &[2, 1]),
            (4, &[3, 2, 1]),
            (2, &[1]),
            (3, &[2, 1]),
        ] {
            let peers = spread.ask(&node(asks), Some(&whole), false, 9_000);
            assert_eq!(peers, From::Peers(nodes(told)), "{asks}");
        }
        for number in [2, 3, 4] {
            spread.on(&node(number), Event::Over, 9_500);
        }
        assert!(spread.is_over());
    }

    #[test]
    fn whoever_falls_silent_is_waited_for_no_longer() {
        let mut spread = Spread::default();
        spread.ask(&node(1), None, false, 0);
        assert_eq!(spread.ask(&node(2), None, false, SILENT_MS), wait(1, 0));
        let after = SILENT_MS + 1;
        assert_eq!(spread.ask(&node(2), None, false, after), From::Bundle);
        assert_eq!(spread.ask(&node(1), None, false, after), wait(2, 0));
    }

    #[test]
    fn those_whose_peers_failed_read_the_bundle_one_at_a_time() {
        let (mut spread, whole) = (Spread::default(), nodes(&[1]));
        for number in [2, 3] {
            spread.ask(&node(number), Some(&whole), false, 0);
        }
        assert_eq!(spread.ask(&node(2), Some(&whole), true, 0), From::Bundle);
        assert_eq!(spread.ask(&node(3), Some(&whole), true, 0), wait(2, 0));
        spread.on(&node(2), Event::Over, 1);
        let now = nodes(&[1, 2]);
        let told = spread.ask(&node(3), Some(&now), false, 1);
        assert_eq!(told, From::Peers(nodes(&[1, 2])));
    }

    #[test]
    fn many_who_have_it_share_the_asking_and_nobody_asks_himself() {
        let (mut spread, whole) = (Spread::default(), nodes(&[1, 2, 3]));
        let told = spread.ask(&node(2), Some(&whole), false, 0);
        assert_eq!(told, From::Peers(nodes(&[1, 3])));
        let told = spread.ask(&node(7), Some(&whole), false, 0);
        assert_eq!(told, From::Peers(nodes(&[2, 3, 1])));
        assert_eq!(
            Spread::default().ask(&node(1), Some(&nodes(&[1])), false, 0),
            From::Bundle,
            "it is asking because it has it no longer"
        );
        assert_eq!(
            Spread::default().ask(&node(1), Some(&[]), false, 0),
            From::Bundle
        );
    }

    #[test]
    fn the_administrators_wish_holds_for_a_while_and_for_that_image() {
        let (copies, image) = (Copies::default(), "emi-12345678".parse().unwrap());
        copies.warm(&node(1), &image, 0);
        assert!(copies.is_warmed(&node(1), &image, WARM_MS - 1));
        assert!(!copies.is_warmed(&node(1), &image, WARM_MS));
        assert!(!copies.is_warmed(&node(2), &image, 0));
    }
}
