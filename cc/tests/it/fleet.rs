//! A Cluster Controller and its fake nodes, through the trait, on a paused clock.

use std::{sync::Arc, time::Duration};

use cc::{
    Cc, Dial,
    book::Limits,
    ledger::{Crash, Ledger, MemoryLedger},
    relay::Timing,
    schedule::Policy,
};
use control::{
    CallError, Cluster, Code, Node,
    cluster::{ClusterChange, Hold, HoldAsk, HoldRelease, Reach, RosterNode},
    feed::{Poll, Position},
    node::{InstanceWish, Seen},
    rpc::Call,
};
use daemon::{Context, clock::TestClock};
use testkit::{
    node::{FakeNode, Manner},
    samples,
};

struct Rig {
    nodes: Vec<FakeNode>,
    ledger: Arc<MemoryLedger>,
    context: Context,
    cc: Cc,
}

struct ToFleet(Vec<FakeNode>);

impl Dial for ToFleet {
    fn node(&self, line: &RosterNode) -> Arc<dyn Node> {
        let node = self.0.iter().find(|node| *node.id() == line.node);
        Arc::new(node.expect("the roster names fake nodes only").clone())
    }
}

fn limits() -> Limits {
    Limits {
        policy: Policy::RoundRobin,
        lease_ms: 60_000,
        unreachable_ms: 15_000,
        missing_ms: 60_000,
    }
}

async fn started(nodes: &[FakeNode], ledger: Arc<MemoryLedger>) -> (Context, Cc) {
    let context = Context::new("cc", "0", "/nonexistent").with_clock(TestClock::at(1_000_000));
    let dial = Arc::new(ToFleet(nodes.to_vec()));
    let cc = Cc::start(&context, limits(), Timing::default(), ledger, dial).await;
    (context, cc.unwrap())
}

fn call() -> Call {
    Call::new("test")
}

async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

impl Rig {
    async fn new(nodes: u32, room: u32) -> Self {
        let nodes: Vec<FakeNode> = (1..=nodes)
            .map(|n| {
                FakeNode::new(
                    samples::node(n),
                    Manner::quick(samples::smalls(room)),
                    n.into(),
                )
            })
            .collect();
        let ledger = Arc::new(MemoryLedger::default());
        let (context, cc) = started(&nodes, ledger.clone()).await;
        let rig = Self {
            nodes,
            ledger,
            context,
            cc,
        };
        rig.say_roster().await;
        pass(100).await;
        rig
    }

    async fn say_roster(&self) {
        let roster = samples::roster(1, 1..=self.nodes.len() as u32);
        self.cc.roster(&call(), roster).await.unwrap();
    }

    /// Kills the daemon where it is and starts it on what was durable.
    async fn restart(&mut self) {
        self.context.cancel.cancel();
        self.ledger = self.ledger.next_life();
        (self.context, self.cc) = started(&self.nodes, self.ledger.clone()).await;
    }

    async fn hold(&self, reservation: u32, count: u32) -> Result<Hold, CallError> {
        let ask = HoldAsk {
            reservation: samples::reservation(reservation),
            instances: (0..count)
                .map(|i| samples::instance(reservation * 16 + i))
                .collect(),
            min_count: count,
            shape: samples::smalls(1),
        };
        self.cc.hold(&call(), ask).await
    }

    /// Holds and wishes; the wishes that were taken.
    async fn launch(&self, reservation: u32, count: u32) -> Vec<InstanceWish> {
        let hold = self.hold(reservation, count).await.unwrap();
        let mut wishes = Vec::new();
        for place in hold.placements {
            let reservation = samples::reservation(reservation);
            let wish = samples::wish(place.instance, reservation, place.node, place.epoch);
            self.cc.instance(&call(), wish.clone()).await.unwrap();
            wishes.push(wish);
        }
        wishes
    }

    async fn all(&self) -> Vec<ClusterChange> {
        let changes = self
            .cc
            .changes(
                &call(),
                Poll {
                    after: None,
                    wait_ms: 10_000,
                },
            )
            .await;
        changes.unwrap().items
    }

    async fn seen(&self, wish: &InstanceWish) -> Option<Seen> {
        let all = self.all().await;
        all.iter().find_map(|change| match change {
            ClusterChange::Instance(report) if report.instance == wish.instance => {
                Some(report.seen)
            }
            ClusterChange::Instance(_) | ClusterChange::Node(_) => None,
        })
    }

    async fn reach(&self, node: u32) -> Option<Reach> {
        let all = self.all().await;
        all.iter().find_map(|change| match change {
            ClusterChange::Node(status) if status.node == samples::node(node) => Some(status.reach),
            ClusterChange::Node(_) | ClusterChange::Instance(_) => None,
        })
    }

    fn guests(&self) -> usize {
        self.nodes.iter().map(|node| node.guests().len()).sum()
    }
}

#[tokio::test(start_paused = true)]
async fn a_launch_runs_on_the_node_that_was_held_and_its_end_frees_the_room() {
    let rig = Rig::new(2, 1).await;
    let wishes = rig.launch(1, 2).await;
    pass(100).await;
    for wish in &wishes {
        assert_eq!(rig.seen(wish).await, Some(Seen::Running));
    }
    assert_eq!(rig.hold(2, 1).await.unwrap_err().code, Code::NoRoom);

    rig.cc
        .instance(&call(), samples::ended(&wishes[0]))
        .await
        .unwrap();
    pass(100).await;
    assert_eq!(rig.seen(&wishes[0]).await, Some(Seen::Terminated));
    assert_eq!(
        rig.hold(2, 1).await.unwrap().placements[0].node,
        wishes[0].node
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_on_a_node_reaches_a_waiting_poll_in_the_same_millisecond() {
    let rig = Rig::new(1, 1).await;
    let wish = rig.launch(1, 1).await.remove(0);
    pass(100).await;
    let poll = Poll {
        after: None,
        wait_ms: 0,
    };
    let position: Position = rig.cc.changes(&call(), poll).await.unwrap().position;

    let before = tokio::time::Instant::now();
    rig.nodes[0].power_off(&wish.instance);
    let poll = Poll {
        after: Some(position),
        wait_ms: 10_000,
    };
    let news = rig.cc.changes(&call(), poll).await.unwrap();
    assert!(news.items.iter().any(|change| matches!(change,
        ClusterChange::Instance(report) if report.seen == Seen::Terminated)));
    assert!(
        before.elapsed() <= Duration::from_millis(2),
        "{:?}",
        before.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_becomes_unreachable_and_nothing_of_it_is_given_up() {
    let rig = Rig::new(2, 1).await;
    let wishes = rig.launch(1, 2).await;
    pass(100).await;
    rig.nodes[0].kill();
    pass(20_000).await;
    assert_eq!(rig.reach(1).await, Some(Reach::Unreachable));
    pass(3_600_000).await;
    for wish in &wishes {
        assert_eq!(rig.seen(wish).await, Some(Seen::Running));
    }
    rig.nodes[0].start();
    pass(5_000).await;
    assert_eq!(rig.reach(1).await, Some(Reach::Up));
    assert_eq!(rig.nodes[0].starts(), 1, "its guest was not started again");
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_its_node_lost_is_reported_gone_and_not_made_again() {
    let rig = Rig::new(1, 1).await;
    let wish = rig.launch(1, 1).await.remove(0);
    pass(100).await;
    rig.nodes[0].lose_everything();
    rig.nodes[0].start();
    pass(30_000).await;
    assert_eq!(rig.seen(&wish).await, Some(Seen::Running), "not yet");
    pass(60_000).await;
    assert_eq!(rig.seen(&wish).await, Some(Seen::Terminated));
    assert_eq!((rig.guests(), rig.nodes[0].starts()), (0, 0));
    assert!(rig.hold(2, 1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_commit_loses_no_answered_launch_and_starts_nothing_twice() {
    for commits in 0..12 {
        for crash in [Crash::Before, Crash::After] {
            let mut rig = Rig::new(2, 2).await;
            rig.ledger.crash_after(commits, crash);
            let mut placed = None;
            for _ in 0..3 {
                if placed.is_none() {
                    placed = rig.hold(1, 3).await.ok();
                }
                for place in placed.iter().flat_map(|hold| &hold.placements) {
                    let (instance, node) = (place.instance.clone(), place.node.clone());
                    let wish = samples::wish(instance, samples::reservation(1), node, place.epoch);
                    // Said again and again until it is taken, as the CLC does.
                    let _later = rig.cc.instance(&call(), wish).await;
                }
                pass(200).await;
                if rig.ledger.is_dead() {
                    rig.restart().await;
                    pass(200).await;
                }
            }
            rig.ledger.crash_after(u64::MAX, crash);
            let at = format!("killed {crash:?} commit {commits}");
            assert_eq!(rig.guests(), 3, "{at}");
            assert_eq!(
                rig.nodes.iter().map(FakeNode::starts).sum::<u64>(),
                3,
                "{at}"
            );
            assert_eq!(rig.hold(2, 2).await.unwrap_err().code, Code::NoRoom, "{at}");
            assert!(rig.hold(3, 1).await.is_ok(), "{at}");
            assert!(
                rig.nodes.iter().all(|node| node.wrongs().is_empty()),
                "{at}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn after_its_ledger_was_lost_it_answers_not_ready_until_it_knows_its_nodes() {
    let mut rig = Rig::new(2, 1).await;
    rig.launch(1, 1).await;
    pass(100).await;
    rig.nodes[1].kill();
    rig.ledger.lose();
    rig.restart().await;
    let no_roster = rig.hold(2, 1).await.unwrap_err();
    assert_eq!(no_roster.code, Code::NotReady);
    rig.say_roster().await;
    pass(1_000).await;
    let waiting = rig.hold(2, 1).await.unwrap_err();
    assert!(
        waiting.message.contains(samples::node(2).as_str()),
        "{waiting}"
    );
    rig.nodes[1].start();
    pass(5_000).await;
    assert_eq!(rig.hold(2, 1).await.unwrap().placements.len(), 1);
    assert_eq!(rig.hold(3, 1).await.unwrap_err().code, Code::NoRoom);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_comes_back_gets_the_newest_network_before_its_wishes() {
    let rig = Rig::new(1, 1).await;
    rig.nodes[0].kill();
    for version in [1, 2] {
        let document = types::network::NetworkDocument {
            version,
            ..Default::default()
        };
        assert_eq!(
            rig.cc.network(&call(), document).await.unwrap().version,
            version
        );
    }
    let old = types::network::NetworkDocument {
        version: 1,
        ..Default::default()
    };
    assert_eq!(rig.cc.network(&call(), old).await.unwrap().version, 2);
    rig.nodes[0].start();
    pass(5_000).await;
    let all = rig.all().await;
    let applied = all.iter().find_map(|change| match change {
        ClusterChange::Node(status) => Some(status.report.as_ref()?.network_version),
        ClusterChange::Instance(_) => None,
    });
    assert_eq!(applied, Some(2));
}

#[tokio::test(start_paused = true)]
async fn what_is_wished_away_on_a_dead_node_has_ended_and_stays_so_if_it_comes_back() {
    let rig = Rig::new(2, 1).await;
    let wishes = rig.launch(1, 2).await;
    pass(100).await;
    rig.nodes[0].kill();
    let mut roster = samples::roster(2, 1..=2);
    roster.nodes[0].dead = true;
    rig.cc.roster(&call(), roster).await.unwrap();
    assert_eq!(rig.reach(1).await, Some(Reach::Dead));
    let on_dead = wishes.iter().find(|w| w.node == samples::node(1)).unwrap();
    assert_eq!(
        rig.seen(on_dead).await,
        Some(Seen::Running),
        "its record is the CLC's to change"
    );
    rig.cc
        .instance(&call(), samples::ended(on_dead))
        .await
        .unwrap();
    assert_eq!(rig.seen(on_dead).await, Some(Seen::Terminated));
    let ledger: &dyn Ledger = &*rig.ledger;
    assert!(ledger.load().await.unwrap().placements[&on_dead.instance].ended);

    // It was not dead after all: what everybody was told has ended, ends.
    rig.nodes[0].start();
    let roster = samples::roster(3, 1..=2);
    rig.cc.roster(&call(), roster).await.unwrap();
    pass(5_000).await;
    assert_eq!(rig.reach(1).await, Some(Reach::Up));
    assert_eq!(rig.nodes[0].guests(), []);
    assert_eq!(rig.seen(on_dead).await, Some(Seen::Terminated));
}

#[tokio::test(start_paused = true)]
async fn a_hold_waits_for_a_clc_that_is_out_of_reach_and_not_for_one_that_is_there() {
    let rig = Rig::new(1, 1).await;
    let held = rig.hold(1, 1).await.unwrap().placements.remove(0);
    pass(3_600_000).await;
    let wish = samples::wish(
        held.instance,
        samples::reservation(1),
        held.node,
        held.epoch,
    );
    assert_eq!(
        rig.hold(2, 1).await.unwrap_err().code,
        Code::NoRoom,
        "it is still kept"
    );
    rig.cc.instance(&call(), wish.clone()).await.unwrap();
    rig.cc
        .instance(&call(), samples::ended(&wish))
        .await
        .unwrap();
    pass(1_000).await;

    rig.hold(3, 1).await.unwrap();
    for _ in 0..70 {
        rig.all().await;
        pass(1_000).await;
    }
    assert!(
        rig.hold(4, 1).await.is_ok(),
        "nobody wished in a minute of being there"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_was_given_back_is_not_given_out_by_its_own_late_question() {
    let rig = Rig::new(1, 1).await;
    let give_back = async || {
        let reservation = samples::reservation(1);
        let ask = HoldRelease { reservation };
        rig.cc.release(&call(), ask).await.unwrap();
    };
    give_back().await;
    assert_eq!(rig.hold(1, 1).await.unwrap_err().code, Code::Conflict);
    rig.hold(2, 1).await.unwrap();
    // Given back twice, it is still that one only.
    give_back().await;
    assert_eq!(rig.hold(3, 1).await.unwrap_err().code, Code::NoRoom);
}
