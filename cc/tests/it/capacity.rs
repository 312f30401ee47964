//! Never over capacity, whatever the order of holds, releases, wishes, reports, restarts and losses
//! of the ledger.

use std::collections::{BTreeMap, BTreeSet};

use cc::{
    book::{Book, Limits, REMEMBER_MS},
    ledger::{Change, PlacementRow, Saved},
    schedule::Policy,
};
use control::{
    CallError, Changes,
    cluster::{HoldAsk, HoldRelease, Placement, Reach},
    feed::Position,
    node::{InstanceReport, InstanceWish, NodeChange, NodeReport, Seen, Shape, Wanted},
};
use proptest::prelude::*;
use testkit::samples;
use types::{InstanceId, NodeId};

const NODES: u32 = 3;
const ROOM: u32 = 3;
const LEASE_MS: u64 = 1000;

#[derive(Debug, Clone)]
enum Op {
    Hold { count: u32, min: u32 },
    HoldAgain,
    Release(usize),
    Wish(usize),
    End(usize),
    NodeTakes(u32),
    NodeEnds(u32),
    NodeReports(u32, bool),
    Pass(u64),
    Restart,
    LoseLedger,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..4_u32, 1..4_u32).prop_map(|(count, min)| Op::Hold { count, min: min.min(count) }),
        1 => Just(Op::HoldAgain),
        1 => (0..20_usize).prop_map(Op::Release),
        4 => (0..20_usize).prop_map(Op::Wish),
        2 => (0..20_usize).prop_map(Op::End),
        3 => (1..=NODES).prop_map(Op::NodeTakes),
        2 => (1..=NODES).prop_map(Op::NodeEnds),
        4 => (1..=NODES, any::<bool>()).prop_map(|(node, full)| Op::NodeReports(node, full)),
        2 => (1..2 * LEASE_MS).prop_map(Op::Pass),
        1 => Just(Op::Restart),
        1 => Just(Op::LoseLedger),
    ]
}

/// A node as it really is: its guests by instance, with their wish.
type Guests = BTreeMap<InstanceId, (InstanceWish, Seen)>;

struct World {
    book: Book,
    now: u64,
    roster_generation: u64,
    asks: Vec<HoldAsk>,
    granted: Vec<(HoldAsk, Placement)>,
    wishes: BTreeMap<InstanceId, InstanceWish>,
    nodes: BTreeMap<NodeId, Guests>,
    policy: Policy,
}

fn limits(policy: Policy) -> Limits {
    Limits {
        policy,
        lease_ms: LEASE_MS,
        unreachable_ms: 1 << 40,
        missing_ms: 1 << 40,
    }
}

impl World {
    fn new(policy: Policy) -> Self {
        let mut world = Self {
            book: Book::open(limits(policy), Saved::default(), 0),
            now: 0,
            roster_generation: 1,
            asks: Vec::new(),
            granted: Vec::new(),
            wishes: BTreeMap::new(),
            nodes: (1..=NODES)
                .map(|n| (samples::node(n), Guests::new()))
                .collect(),
            policy,
        };
        world.say_roster();
        world
    }

    fn commit(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.book.apply(change, self.now);
        }
    }

    fn say_roster(&mut self) {
        let roster = samples::roster(self.roster_generation, 1..=NODES);
        let changes = self.book.take_roster(roster).changes;
        self.commit(changes);
    }

    fn hold(&mut self, ask: HoldAsk) {
        if let Ok(decision) = self.book.hold(&ask) {
            self.commit(decision.changes);
            for placement in decision.answer.placements {
                self.granted.push((ask.clone(), placement));
            }
        }
    }

    fn new_hold(&mut self, count: u32, min_count: u32) {
        let serial = self.asks.len() as u32 + 1;
        let ask = HoldAsk {
            reservation: samples::reservation(serial),
            instances: (0..count)
                .map(|i| samples::instance(serial * 16 + i))
                .collect(),
            min_count,
            shape: samples::smalls(1),
        };
        self.asks.push(ask.clone());
        self.hold(ask);
    }

    /// The CLC commits a placement once and for all, then says the wish, again and again.
    fn wish(&mut self, at: usize) {
        let Some((ask, placement)) = self.granted.get(at).cloned() else {
            return;
        };
        let wish = self
            .wishes
            .entry(placement.instance.clone())
            .or_insert_with(|| {
                samples::wish(
                    placement.instance,
                    ask.reservation,
                    placement.node,
                    placement.epoch,
                )
            });
        let wish = wish.clone();
        self.say(&wish);
    }

    fn end(&mut self, at: usize) {
        let Some((_, placement)) = self.granted.get(at) else {
            return;
        };
        let Some(wish) = self.wishes.get_mut(&placement.instance) else {
            return;
        };
        if wish.wanted == Wanted::Running {
            *wish = samples::ended(wish);
        }
        let wish = wish.clone();
        self.say(&wish);
    }

    fn say(&mut self, wish: &InstanceWish) {
        if let Ok(decision) = self.book.wish(wish) {
            self.commit(decision.changes);
        }
    }

    fn node_takes(&mut self, node: &NodeId) {
        for wish in self.book.owed(node) {
            let guests = self.nodes.get_mut(node).unwrap();
            let seen = match (guests.get(&wish.instance), wish.wanted) {
                (Some((_, seen)), _) => *seen,
                (None, Wanted::Running) => Seen::Running,
                (None, Wanted::Terminated) => Seen::Terminated,
            };
            let (instance, generation) = (wish.instance.clone(), wish.generation);
            guests.insert(instance.clone(), (wish, seen));
            self.book.note_taken(node, &instance, generation);
        }
    }

    fn node_ends(&mut self, node: &NodeId) {
        let guests = self.nodes.get_mut(node).unwrap().values_mut();
        for (wish, seen) in guests {
            if wish.wanted == Wanted::Terminated {
                *seen = Seen::Terminated;
            }
        }
    }

    fn node_reports(&mut self, node: &NodeId, full: bool) {
        let said = self.what_it_says(node, full);
        let decision = self.book.decide_heard(node, &said);
        self.commit(decision.changes);
        self.book.note_heard(node, &said, self.now);
        let settled = self.book.settle();
        self.commit(settled.into_iter().collect());
    }

    fn what_it_says(&self, node: &NodeId, full: bool) -> Changes<NodeChange> {
        let first_time = self.book.nodes().get(node).is_none_or(|n| !n.heard);
        let mut items: Vec<NodeChange> = self.nodes[node]
            .values()
            .map(|(wish, seen)| NodeChange::Instance(Box::new(report(wish, *seen))))
            .collect();
        items.push(NodeChange::Node(NodeReport {
            node: node.clone(),
            hostname: "h".into(),
            underlay: [10, 0, 0, 1].into(),
            capacity: samples::smalls(ROOM),
            used: samples::smalls(self.guests_up(node)),
            hypervisor: "fake".into(),
            network_version: 0,
            network_failures: Vec::new(),
            not_ready: None,
        }));
        let position = Position {
            epoch: "e".into(),
            revision: 1,
        };
        Changes {
            position,
            full: full || first_time,
            items,
        }
    }

    fn guests_up(&self, node: &NodeId) -> u32 {
        let up = self.nodes[node]
            .values()
            .filter(|(_, seen)| *seen != Seen::Terminated);
        up.count() as u32
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Hold { count, min } => self.new_hold(*count, *min),
            Op::HoldAgain => {
                if let Some(ask) = self.asks.last().cloned() {
                    self.hold(ask);
                }
            }
            Op::Release(at) => {
                if let Some(ask) = self.asks.get(*at) {
                    let reservation = ask.reservation.clone();
                    let changes = self.book.release(&HoldRelease { reservation }).changes;
                    self.commit(changes);
                }
            }
            Op::Wish(at) => self.wish(*at),
            Op::End(at) => self.end(*at),
            Op::NodeTakes(node) => self.node_takes(&samples::node(*node)),
            Op::NodeEnds(node) => self.node_ends(&samples::node(*node)),
            Op::NodeReports(node, full) => self.node_reports(&samples::node(*node), *full),
            Op::Pass(ms) => {
                self.now += ms;
                let lapsed = self.book.lapsed(self.now);
                self.commit(lapsed);
            }
            Op::Restart => {
                let saved = self.book.saved().clone();
                self.book = Book::open(limits(self.policy), saved, self.now);
            }
            Op::LoseLedger => {
                self.book = Book::open(limits(self.policy), Saved::default(), self.now);
                self.commit(vec![Change::Epoch(1_000_000 * (self.now + 1))]);
                self.say_roster();
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let room = samples::smalls(ROOM);
        let mut places: BTreeMap<(InstanceId, u64), BTreeSet<NodeId>> = BTreeMap::new();
        for (node, guests) in &self.nodes {
            let up = self.guests_up(node);
            prop_assert!(up <= ROOM, "{up} guests really run on {node}");
            if self.book.nodes().get(node).is_some_and(|n| n.heard) {
                let committed = self.book.committed(node);
                prop_assert!(fits(committed, room), "{committed:?} promised on {node}");
            }
            for (instance, (wish, seen)) in guests {
                if *seen != Seen::Terminated {
                    let place = (instance.clone(), wish.epoch);
                    places.entry(place).or_default().insert(node.clone());
                }
            }
        }
        for (place, nodes) in places {
            prop_assert!(nodes.len() == 1, "{place:?} runs on {nodes:?}");
        }
        Ok(())
    }
}

fn fits(a: Shape, b: Shape) -> bool {
    cc::shape::lacks(a, b).is_none()
}

fn report(wish: &InstanceWish, seen: Seen) -> InstanceReport {
    let (instance, node) = (wish.instance.clone(), wish.node.clone());
    InstanceReport::new(instance, node, wish.epoch, wish.generation, seen)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn capacity_is_never_exceeded_whatever_happens_in_whatever_order(
        round_robin in any::<bool>(),
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let policy = if round_robin { Policy::RoundRobin } else { Policy::Greedy };
        let mut world = World::new(policy);
        for node in 1..=NODES {
            world.step(&Op::NodeReports(node, true));
        }
        for op in &ops {
            world.step(op);
            world.check()?;
        }
    }
}

fn world() -> World {
    let mut world = World::new(Policy::Greedy);
    for node in 1..=NODES {
        world.step(&Op::NodeReports(node, true));
    }
    world
}

fn refusal<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    result.unwrap_err().message
}

#[test]
fn the_same_reservation_gets_the_same_answer_and_another_finds_what_is_left() {
    let mut world = world();
    world.new_hold(3, 3);
    let ask = world.asks[0].clone();
    let first = world.book.hold(&ask).unwrap();
    assert!(first.changes.is_empty(), "asking again takes no more room");
    assert_eq!(first.answer.placements.len(), 3);

    world.new_hold(3, 3);
    world.new_hold(3, 3);
    world.new_hold(1, 1);
    let full = refusal(world.book.hold(&world.asks[3]));
    assert!(full.contains("256 MiB asked, 0 MiB free"), "{full}");
}

#[test]
fn a_hold_that_nobody_wished_for_is_free_again_after_its_lease() {
    let mut world = world();
    for _ in 0..3 {
        world.new_hold(3, 3);
    }
    world.step(&Op::Wish(0));
    world.step(&Op::Pass(LEASE_MS));
    assert_eq!(world.book.committed(&samples::node(1)), samples::smalls(1));
    world.new_hold(3, 3);
    assert_eq!(world.granted.len(), 12);
}

#[test]
fn while_the_clc_is_silent_no_lease_runs_and_no_end_is_forgotten() {
    let mut world = world();
    world.new_hold(1, 1);
    world.new_hold(1, 1);
    world.step(&Op::Wish(0));
    let row = world.book.saved().placements.values().next().unwrap();
    let ended = PlacementRow {
        ended: true,
        ..row.clone()
    };
    world.commit(vec![Change::Placement(Box::new(ended))]);

    world.book.stand_still(REMEMBER_MS);
    let until = world.now + REMEMBER_MS;
    assert!(world.book.lapsed(until).is_empty());
    assert!(world.book.forgotten(until).is_empty());
    assert!(!world.book.lapsed(until + LEASE_MS).is_empty());
    assert_eq!(world.book.forgotten(until + REMEMBER_MS).len(), 1);
}

#[test]
fn a_wish_that_comes_after_its_lease_finds_room_or_is_told_so() {
    let mut world = world();
    world.new_hold(3, 3);
    world.step(&Op::Pass(LEASE_MS));
    world.new_hold(2, 2);
    let (ask, late) = world.granted[0].clone();
    let wish = |p: Placement| samples::wish(p.instance, ask.reservation.clone(), p.node, p.epoch);
    assert!(world.book.wish(&wish(late)).is_ok());
    world.step(&Op::Wish(0));
    let (_, later) = world.granted[1].clone();
    let why = refusal(world.book.wish(&wish(later)));
    assert!(why.contains("the hold of i-"), "{why}");
}

#[test]
fn a_new_ledger_places_nothing_until_every_node_has_spoken_or_is_dead() {
    let mut world = world();
    world.new_hold(1, 1);
    world.step(&Op::LoseLedger);
    world.step(&Op::NodeReports(1, true));
    world.step(&Op::NodeReports(2, true));
    let why = refusal(world.book.hold(&world.asks[0]));
    assert!(why.contains("node-00000003"), "{why}");

    let mut roster = samples::roster(2, 1..=NODES);
    roster.nodes[2].dead = true;
    let changes = world.book.take_roster(roster).changes;
    world.commit(changes);
    assert!(world.book.hold(&world.asks[0]).is_ok());
    let dead = world.book.nodes().get(&samples::node(3)).unwrap().reach;
    assert_eq!(dead, Reach::Dead);
}

#[test]
fn what_a_new_ledger_finds_on_a_node_counts_by_what_the_node_uses() {
    let mut world = world();
    world.new_hold(3, 3);
    for at in 0..3 {
        world.step(&Op::Wish(at));
    }
    world.step(&Op::NodeTakes(1));
    world.step(&Op::LoseLedger);
    for node in 1..=NODES {
        world.step(&Op::NodeReports(node, true));
    }
    assert_eq!(world.book.committed(&samples::node(1)), samples::smalls(3));
    world.step(&Op::Wish(0));
    assert_eq!(world.book.committed(&samples::node(1)), samples::smalls(3));
}

#[test]
fn a_terminated_instance_does_not_rise_by_a_late_wish() {
    let mut world = world();
    world.new_hold(1, 1);
    world.step(&Op::Wish(0));
    let first = world.wishes.values().next().unwrap().clone();
    world.step(&Op::NodeTakes(1));
    world.step(&Op::End(0));
    world.step(&Op::NodeTakes(1));
    world.step(&Op::NodeEnds(1));
    world.step(&Op::NodeReports(1, false));
    assert_eq!(world.book.committed(&samples::node(1)), samples::smalls(0));

    let late = world.book.wish(&first).unwrap();
    assert!(late.changes.is_empty());
    assert_eq!(late.answer.generation, 2);
    world.step(&Op::Pass(LEASE_MS));
    assert!(world.book.hold(&world.asks[0]).is_err());
    world.step(&Op::Restart);
    world.step(&Op::NodeReports(1, true));
    assert_eq!(world.book.owed(&samples::node(1)), []);
}
