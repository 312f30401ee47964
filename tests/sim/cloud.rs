//! A cloud in one process: zones of real Cluster Controllers and fake nodes, joined by links that
//! may misbehave. Each daemon can be killed and started again on what was durable.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cc::{
    Cc, Dial,
    book::Limits,
    ledger::{Ledger, MemoryLedger},
    relay::Timing,
    schedule::Policy,
};
use control::{Cluster, Node, cluster::RosterNode};
use daemon::{Context, clock::TestClock};
use testkit::{
    faults::{Far, Links},
    node::{FakeNode, Manner},
    samples,
    seed::{self, TestRng},
};
use types::NodeId;

use crate::{front::Front, model_clc::ModelClc, mutants::Mutation, real_clc::RealClc};

/// How large a cloud is, and how its nodes behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) zones: usize,
    pub(crate) nodes_per_zone: u32,
    pub(crate) manner: Manner,
}

impl Size {
    /// Nodes that take their time and now and then fail.
    pub(crate) fn of(zones: usize, nodes_per_zone: u32, room: u32) -> Self {
        let manner = Manner {
            launch_ms: 3_000,
            end_ms: 1_000,
            failing: 10,
            ..Manner::quick(samples::smalls(room))
        };
        Self {
            zones,
            nodes_per_zone,
            manner,
        }
    }

    pub(crate) fn nodes(&self) -> u32 {
        self.zones as u32 * self.nodes_per_zone
    }
}

/// Which Cloud Controller a cloud has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The model: no disk, so everything is repeatable, and quick.
    Model,
    /// The real one, with its database.
    Real,
}

/// A zone: its nodes, and its Cluster Controller as a process that comes and goes.
pub(crate) struct Zone {
    pub(crate) name: String,
    pub(crate) nodes: Vec<FakeNode>,
    links: Links,
    policy: Policy,
    process: Arc<Mutex<Process>>,
}

struct Process {
    ledger: Arc<MemoryLedger>,
    running: Option<(Context, Cc)>,
}

/// The whole.
pub(crate) struct Cloud {
    pub(crate) clc: Arc<dyn Front>,
    pub(crate) zones: Vec<Zone>,
    pub(crate) links: Links,
}

struct ToNodes(Links, Vec<FakeNode>);

impl Dial for ToNodes {
    fn node(&self, line: &RosterNode) -> Arc<dyn Node> {
        let node = self.1.iter().find(|node| *node.id() == line.node).cloned();
        Arc::new(Far::<dyn Node>::new(
            &self.0,
            line.node.as_str(),
            move || node.clone().map(|node| Arc::new(node) as Arc<dyn Node>),
        ))
    }
}

fn lock(process: &Mutex<Process>) -> std::sync::MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cloud {
    /// A cloud of that size, everything up and told of everything.
    pub(crate) async fn start(
        size: Size,
        mutation: Mutation,
        which: Which,
        rng: &mut TestRng,
    ) -> Self {
        let links = Links::new(seed::below(rng, u64::MAX));
        let mut zones = Vec::new();
        let mut rosters = Vec::new();
        for zone in 0..size.zones as u32 {
            let numbers = zone * size.nodes_per_zone + 1..=(zone + 1) * size.nodes_per_zone;
            rosters.push(samples::roster(1, numbers.clone()));
            let manner = mutation.manner(size.manner);
            let nodes = numbers
                .map(|n| FakeNode::new(samples::node(n), manner, seed::below(rng, u64::MAX)))
                .collect();
            zones.push(Zone::new(zone, nodes, &links));
        }
        for zone in &zones {
            zone.start().await;
        }
        let clusters = zones
            .iter()
            .map(|zone| mutation.cluster(zone.cluster()))
            .collect();
        let seed = seed::below(rng, u64::MAX);
        let clc: Arc<dyn Front> = match which {
            Which::Model => Arc::new(ModelClc::new(clusters, rosters, seed)),
            Which::Real => Arc::new(RealClc::new(clusters, rosters, seed).await),
        };
        tokio::time::sleep(Duration::from_secs(5)).await;
        Self { clc, zones, links }
    }

    /// All nodes of all zones.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &FakeNode> {
        self.zones.iter().flat_map(|zone| &zone.nodes)
    }

    /// The node of that id.
    pub(crate) fn node(&self, id: &NodeId) -> Option<&FakeNode> {
        self.nodes().find(|node| node.id() == id)
    }

    /// Everything up, joined, in good weather.
    pub(crate) async fn heal(&self, dead: impl Fn(&NodeId) -> bool) {
        self.links.heal_all();
        self.links.set_weather(testkit::faults::Weather::default());
        for zone in &self.zones {
            zone.start().await;
        }
        self.nodes()
            .filter(|node| !dead(node.id()))
            .for_each(FakeNode::start);
        self.clc.start().await;
    }
}

impl Zone {
    fn new(number: u32, nodes: Vec<FakeNode>, links: &Links) -> Self {
        let process = Process {
            ledger: Arc::default(),
            running: None,
        };
        Self {
            name: format!("cc-{number}"),
            nodes,
            links: links.clone(),
            policy: if number.is_multiple_of(2) {
                Policy::Greedy
            } else {
                Policy::RoundRobin
            },
            process: Arc::new(Mutex::new(process)),
        }
    }

    /// The Cluster Controller as the CLC reaches it.
    fn cluster(&self) -> Arc<dyn Cluster> {
        let process = self.process.clone();
        Arc::new(Far::<dyn Cluster>::new(
            &self.links,
            self.name.clone(),
            move || {
                let running = lock(&process).running.as_ref().map(|(_, cc)| cc.clone());
                running.map(|cc| Arc::new(cc) as Arc<dyn Cluster>)
            },
        ))
    }

    /// Starts the Cluster Controller if it is down, or dead at a commit.
    pub(crate) async fn start(&self) {
        let ledger = {
            let mut process = lock(&self.process);
            if process.running.is_some() && !process.ledger.is_dead() {
                return;
            }
            end(&mut process);
            process.ledger.clone()
        };
        let limits = Limits {
            policy: self.policy,
            lease_ms: control::cluster::HOLD_LEASE_MS,
            unreachable_ms: 15_000,
            missing_ms: 60_000,
        };
        let context = Context::new("cc", "0", "/nonexistent").with_clock(TestClock::at(now_ms()));
        let dial = Arc::new(ToNodes(self.links.clone(), self.nodes.clone()));
        let durable: Arc<dyn Ledger> = ledger;
        let cc = Cc::start(&context, limits, Timing::default(), durable, dial).await;
        let cc = cc.expect("a ledger in memory loads");
        lock(&self.process).running = Some((context, cc));
    }

    /// Kills the Cluster Controller where it is.
    pub(crate) fn kill(&self) {
        end(&mut lock(&self.process));
    }

    /// Kills it and takes its disk.
    pub(crate) fn lose_ledger(&self) {
        let mut process = lock(&self.process);
        end(&mut process);
        process.ledger.lose();
    }

    /// The ledger of its present life.
    pub(crate) fn ledger(&self) -> Arc<MemoryLedger> {
        lock(&self.process).ledger.clone()
    }

    /// Whether it runs, as far as a ledger lets it.
    pub(crate) fn is_up(&self) -> bool {
        let process = lock(&self.process);
        process.running.is_some() && !process.ledger.is_dead()
    }
}

fn end(process: &mut Process) {
    if let Some((context, _)) = process.running.take() {
        context.cancel.cancel();
    }
    process.ledger = process.ledger.next_life();
}

/// The wall clock of a simulation: later lives begin later.
fn now_ms() -> i64 {
    static START: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(tokio::time::Instant::now);
    1_800_000_000_000 + i64::try_from(start.elapsed().as_millis()).unwrap_or(0)
}
