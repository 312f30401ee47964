//! Who makes a copy of which image now, so that N nodes cost Walrus about one read.
//!
//! ```text
//! first to ask ─▶ reads the bundle; the others wait ─▶ tells the blocks
//! the others   ─▶ a chain, in the order in which they ask: each takes blocks from the one before it
//! a peer fails ─▶ another one, that the node was not told yet; the bundle only when there is none
//! ```
//!
//! For each zone and cache entry. Nothing here is durable or guards correctness: a node that waits
//! for nobody, or is told a peer that has nothing, loses time. What nodes *have* is in the rows.

use std::{
    collections::{BTreeMap, HashMap},
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
    /// What those who asked were told, until they have it or fall silent.
    askers: BTreeMap<NodeId, Asker>,
}

/// A node that asked where to take an entry from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Asker {
    /// The peers that it was told last.
    told: Vec<NodeId>,
    /// Those that failed it: they are not told it again while they are what they were then.
    failed: Vec<NodeId>,
    heard_ms: u64,
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
    /// answer; none where no node has ever told what it is. `peers_failed` says that all that the
    /// node was told last failed it.
    pub fn ask(
        &mut self,
        node: &NodeId,
        whole: Option<&[NodeId]>,
        peers_failed: bool,
        now_ms: u64,
    ) -> From {
        self.forget_silent(now_ms);
        let failed = self.failed_of(node, peers_failed, now_ms);
        let peers = whole.map(|whole| self.peers_of(node, whole, &failed));
        if let Some(peers) = peers.filter(|peers| !peers.is_empty()) {
            if self.position(node).is_none() {
                self.chain.push(Maker::now(node, now_ms));
            }
            if let Some(asker) = self.askers.get_mut(node) {
                asker.told.clone_from(&peers);
            }
            return From::Peers(peers);
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

    /// The peers that failed the node: with `peers_failed`, also those that it was told last.
    fn failed_of(&mut self, node: &NodeId, peers_failed: bool, now_ms: u64) -> Vec<NodeId> {
        let asker = self.askers.entry(node.clone()).or_default();
        asker.heard_ms = now_ms;
        if peers_failed {
            asker.failed.append(&mut asker.told);
        }
        asker.failed.clone()
    }

    /// Notes how far a node is.
    pub fn on(&mut self, node: &NodeId, event: Event, now_ms: u64) {
        match event {
            Event::Filling(percent) => {
                let makers = self.filler.iter_mut().chain(&mut self.chain);
                for maker in makers.filter(|maker| maker.node == *node) {
                    (maker.percent, maker.heard_ms) = (percent, now_ms);
                }
                if let Some(asker) = self.askers.get_mut(node) {
                    asker.heard_ms = now_ms;
                }
            }
            Event::Over => {
                self.filler.take_if(|filler| filler.node == *node);
                self.chain.retain(|maker| maker.node != *node);
                self.askers.remove(node);
                // Who left it with half of the entry may ask it again for all of it.
                for asker in self.askers.values_mut() {
                    asker.told.retain(|peer| peer != node);
                    asker.failed.retain(|peer| peer != node);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.filler.is_none() && self.chain.is_empty() && self.askers.is_empty()
    }

    fn makes(&self, node: &NodeId) -> bool {
        let mut makers = self.filler.iter().chain(&self.chain);
        makers.any(|maker| maker.node == *node)
    }

    fn position(&self, node: &NodeId) -> Option<usize> {
        self.chain.iter().position(|maker| maker.node == *node)
    }

    /// Those before it in the chain, the nearest first, and then those who have all of it: so each
    /// node is asked by one other, and nobody waits for himself in a circle. None that failed it.
    fn peers_of(&self, node: &NodeId, whole: &[NodeId], failed: &[NodeId]) -> Vec<NodeId> {
        let is_worth_asking = |peer: &&NodeId| *peer != node && !failed.contains(peer);
        let whole: Vec<&NodeId> = whole.iter().filter(is_worth_asking).collect();
        if whole.is_empty() {
            // Without anyone who has it all, a chain has no beginning.
            return Vec::new();
        }
        let position = self.position(node).unwrap_or(self.chain.len());
        let before = self.chain[..position].iter().rev().take(CHAIN_MAX);
        let before = before.map(|maker| &maker.node).filter(is_worth_asking);
        // Each begins with another one of those who have it all.
        let turn = position % whole.len();
        let whole = whole[turn..].iter().chain(&whole[..turn]).copied();
        let mut peers: Vec<NodeId> = Vec::new();
        for peer in before.chain(whole) {
            if !peers.contains(peer) && peers.len() < PEERS_MAX {
                peers.push(peer.clone());
            }
        }
        peers
    }

    fn forget_silent(&mut self, now_ms: u64) {
        let is_silent = |heard_ms: u64| now_ms.saturating_sub(heard_ms) > SILENT_MS;
        self.filler.take_if(|filler| is_silent(filler.heard_ms));
        self.chain.retain(|maker| !is_silent(maker.heard_ms));
        self.askers.retain(|_, asker| !is_silent(asker.heard_ms));
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
        spreads.retain(|_, spread| {
            spread.forget_silent(now_ms);
            !spread.is_over()
        });
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
        assert_eq!(told, From::Peers(nodes(&[2])), "not the one that failed it");
    }

    #[test]
    fn who_learns_of_a_death_after_the_next_reader_has_finished_asks_that_one() {
        let (mut spread, first) = (Spread::default(), nodes(&[1]));
        for number in [2, 3, 4] {
            spread.ask(&node(number), Some(&first), false, 0);
        }
        // 1 dies; 2 is the first to see it, reads the bundle, and is done before 3 and 4 see it.
        assert_eq!(spread.ask(&node(2), Some(&first), true, 10), From::Bundle);
        spread.on(&node(2), Event::Over, 900);
        let now = nodes(&[1, 2]);
        let told = spread.ask(&node(3), Some(&now), true, 1_000);
        assert_eq!(told, From::Peers(nodes(&[2])), "2 has all of it by now");
        let told = spread.ask(&node(4), Some(&now), true, 1_000);
        assert_eq!(told, From::Peers(nodes(&[2])), "3 failed it as well as 1");

        // 2 dies as well: nobody is left whom 3 was not told.
        assert_eq!(spread.ask(&node(3), Some(&now), true, 2_000), From::Bundle);
        assert_eq!(spread.ask(&node(4), Some(&now), true, 2_000), wait(3, 0));
        spread.on(&node(3), Event::Over, 3_000);
        let now = nodes(&[1, 2, 3]);
        let told = spread.ask(&node(4), Some(&now), false, 3_000);
        assert_eq!(told, From::Peers(nodes(&[3])));
        spread.on(&node(4), Event::Over, 4_000);
        assert!(spread.is_over(), "and nothing is remembered");
    }

    #[test]
    fn what_a_node_was_told_is_forgotten_when_it_falls_silent() {
        let (mut spread, whole) = (Spread::default(), nodes(&[1]));
        spread.ask(&node(2), Some(&whole), false, 0);
        assert_eq!(spread.ask(&node(2), Some(&whole), true, 0), From::Bundle);
        let later = SILENT_MS + 1;
        let told = spread.ask(&node(2), Some(&whole), false, later);
        assert_eq!(told, From::Peers(nodes(&[1])));
    }

    proptest::proptest! {
        /// Whatever happens, the node that asks gets an answer that it can act on, and with a peer
        /// that works it is at the bundle's end of its search after it was told each peer once.
        #[test]
        fn nobody_is_told_himself_or_the_same_failure_twice(
            steps in proptest::collection::vec((1u32..7, 0u8..4, 0u64..2_000), 1..80),
        ) {
            let (mut spread, mut whole, mut now_ms) = (Spread::default(), Vec::new(), 0);
            let mut failed: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
            let mut told: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
            for (number, what, pause_ms) in steps {
                let who = node(number);
                now_ms += pause_ms;
                if what == 3 {
                    spread.on(&who, Event::Over, now_ms);
                    if !whole.contains(&who) {
                        whole.push(who.clone());
                    }
                    failed.remove(&who);
                    told.remove(&who);
                    failed.values_mut().for_each(|peers| peers.retain(|peer| *peer != who));
                    told.values_mut().for_each(|peers| peers.retain(|peer| *peer != who));
                    continue;
                }
                let has_failed = what == 2;
                spread.forget_silent(now_ms);
                if !spread.askers.contains_key(&who) {
                    failed.remove(&who);
                    told.remove(&who);
                }
                if has_failed {
                    let last = told.remove(&who).unwrap_or_default();
                    failed.entry(who.clone()).or_default().extend(last);
                }
                let known = (!whole.is_empty()).then_some(&whole[..]);
                match spread.ask(&who, known, has_failed, now_ms) {
                    From::Peers(peers) => {
                        let left = failed.get(&who).cloned().unwrap_or_default();
                        proptest::prop_assert!(!peers.is_empty() && !peers.contains(&who));
                        proptest::prop_assert!(!peers.iter().any(|peer| left.contains(peer)));
                        proptest::prop_assert!(peers.iter().any(|peer| whole.contains(peer)));
                        told.insert(who, peers);
                    }
                    From::Wait { node, .. } => proptest::prop_assert!(node != who),
                    From::Bundle => {
                        let left = failed.get(&who).cloned().unwrap_or_default();
                        let all_failed = whole.iter().all(|peer| *peer == who || left.contains(peer));
                        proptest::prop_assert!(all_failed, "the bundle, with a peer untried");
                    }
                }
            }
        }
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
