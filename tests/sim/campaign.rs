//! Random things happen to a cloud, one after another, and after each the invariants hold.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cc::ledger::Crash;
use control::CallError;
use testkit::{
    faults::Weather,
    node::FakeNode,
    seed::{self, TestRng, Told, below, one_of},
};
use tokio::task::JoinSet;
use types::{InstanceId, InstanceState};

use crate::{
    cloud::{Cloud, Size, Which},
    invariants::{Outside, always, quiet},
    mutants::Mutation,
};

/// How long everything gets to come to rest: longer than every limit that ends something.
const REST: Duration = Duration::from_secs(8 * 60);
/// A client's patience: it asks again with the same token so often.
const ATTEMPTS: u32 = 5;

/// One campaign.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) size: Size,
    pub(crate) mutation: Mutation,
    pub(crate) clc: Which,
}

impl Plan {
    /// A campaign on a sound cloud.
    pub(crate) fn new(seed: u64, steps: u64, size: Size) -> Self {
        Self {
            seed,
            steps,
            size,
            mutation: Mutation::None,
            clc: Which::Model,
        }
    }
}

/// What a campaign came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) launched: usize,
    pub(crate) ended: usize,
    pub(crate) done: BTreeMap<&'static str, u64>,
}

/// Runs a campaign to its end; the first broken invariant, with the step, if one breaks.
pub(crate) fn run(plan: Plan) -> Result<Tally, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    runtime.block_on(async {
        let mut rng = seed::rng(plan.seed);
        let cloud = Cloud::start(plan.size, plan.mutation, plan.clc, &mut rng).await;
        Campaign {
            cloud: Arc::new(cloud),
            rng,
            outside: Outside::default(),
            clients: JoinSet::new(),
            tally: Tally::default(),
        }
        .run(plan.steps)
        .await
    })
}

type Answer = (String, Result<Vec<InstanceId>, CallError>);

struct Campaign {
    cloud: Arc<Cloud>,
    rng: TestRng,
    outside: Outside,
    clients: JoinSet<Answer>,
    tally: Tally,
}

impl Campaign {
    async fn run(mut self, steps: u64) -> Result<Tally, String> {
        for step in 0..steps {
            let what = self.step(step).await;
            *self.tally.done.entry(what).or_default() += 1;
            self.hear_answers()?;
            always(&self.cloud, &mut self.outside)
                .await
                .map_err(|broken| format!("step {step} ({what}): {broken}"))?;
        }
        self.rest().await?;
        let rows = self.cloud.clc.rows().await;
        self.tally.launched = rows.len();
        self.tally.ended = rows
            .values()
            .filter(|r| r.state == InstanceState::Terminated)
            .count();
        Ok(self.tally)
    }

    /// Everything comes back; then everything must have arrived somewhere.
    async fn rest(&mut self) -> Result<(), String> {
        self.cloud
            .heal(|node| self.outside.dead.contains(node))
            .await;
        for zone in &self.cloud.zones {
            zone.ledger().crash_after(u64::MAX, Crash::Before);
        }
        tokio::time::sleep(REST).await;
        while self
            .clients
            .join_next()
            .await
            .is_some_and(|answer| answer.is_ok_and(|answer| self.note(answer).is_ok()))
        {}
        quiet(&self.cloud, &mut self.outside)
            .await
            .map_err(|broken| format!("at rest: {broken}"))
    }

    /// Takes in what clients were answered: the same token, the same answer.
    fn hear_answers(&mut self) -> Result<(), String> {
        while let Some(answer) = self.clients.try_join_next() {
            self.note(answer.map_err(|panic| panic.to_string())?)?;
        }
        Ok(())
    }

    fn note(&mut self, (token, answer): Answer) -> Result<(), String> {
        let Ok(launched) = answer else { return Ok(()) };
        match self.outside.answered.get(&token) {
            Some(before) if *before != launched => {
                Err(format!("I7 {token} led to {before:?} and {launched:?}"))
            }
            Some(_) => Ok(()),
            None => {
                self.outside.answered.insert(token, launched);
                Ok(())
            }
        }
    }

    /// One thing happens, then some time passes.
    async fn step(&mut self, step: u64) -> &'static str {
        let what = match below(&mut self.rng, 100) {
            0..30 => self.launch(step),
            30..50 => self.terminate().await,
            50..53 => self.reboot().await,
            53..57 => self.power_off(),
            57..62 => self.kill_node(),
            62..70 => self.start_node(),
            70..74 => self.kill_cc(),
            74..82 => self.start_ccs().await,
            82..84 => self.restart_clc(),
            84..88 => self.cut(),
            88..94 => self.heal(),
            94..97 => self.change_weather(),
            97 => self.lose_ledger(),
            98 => self.lose_node(),
            _ => self.declare_dead().await,
        };
        let pause_ms = match below(&mut self.rng, 10) {
            0 => below(&mut self.rng, 90_000),
            1..=4 => below(&mut self.rng, 3_000),
            _ => below(&mut self.rng, 100),
        };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        what
    }

    fn launch(&mut self, step: u64) -> &'static str {
        let count = 1 + below(&mut self.rng, 4) as u32;
        let min = 1 + below(&mut self.rng, count.into()) as u32;
        let twins = 1 + below(&mut self.rng, 8) / 7;
        for _ in 0..twins {
            let (cloud, token) = (self.cloud.clone(), format!("token-{step}"));
            self.clients.spawn(async move {
                let answer = ask(&cloud, &token, count, min).await;
                (token, answer)
            });
        }
        "launch"
    }

    async fn some_instance(&mut self) -> Option<InstanceId> {
        let rows = self.cloud.clc.rows().await;
        let alive = rows
            .iter()
            .filter(|(_, row)| row.state != InstanceState::Terminated);
        let alive: Vec<InstanceId> = alive.map(|(instance, _)| instance.clone()).collect();
        one_of(&mut self.rng, &alive).cloned()
    }

    async fn terminate(&mut self) -> &'static str {
        if let Some(instance) = self.some_instance().await {
            // Down, it refuses; a client would ask again.
            let _down = self.cloud.clc.terminate(&instance).await;
        }
        "terminate"
    }

    async fn reboot(&mut self) -> &'static str {
        if let Some(instance) = self.some_instance().await {
            self.cloud.clc.reboot(&instance).await;
        }
        "reboot"
    }

    fn some_node(&mut self, fits: impl Fn(&FakeNode) -> bool) -> Option<FakeNode> {
        let outside = &self.outside;
        let nodes = self
            .cloud
            .nodes()
            .filter(|node| !outside.dead.contains(node.id()));
        let nodes: Vec<FakeNode> = nodes.filter(|node| fits(node)).cloned().collect();
        one_of(&mut self.rng, &nodes).cloned()
    }

    fn power_off(&mut self) -> &'static str {
        if let Some(node) = self.some_node(|node| !node.guests().is_empty())
            && let Some(guest) = one_of(&mut self.rng, &node.guests())
        {
            node.power_off(&guest.instance);
        }
        "power off"
    }

    fn kill_node(&mut self) -> &'static str {
        if let Some(node) = self.some_node(FakeNode::is_up) {
            node.kill();
        }
        "kill node"
    }

    fn start_node(&mut self) -> &'static str {
        if let Some(node) = self.some_node(|node| !node.is_up()) {
            node.start();
        }
        "start node"
    }

    /// Now, or at one of its next commits, before or after it.
    fn kill_cc(&mut self) -> &'static str {
        let at = below(&mut self.rng, self.cloud.zones.len() as u64) as usize;
        let zone = &self.cloud.zones[at];
        match below(&mut self.rng, 3) {
            0 => zone.kill(),
            1 => zone
                .ledger()
                .crash_after(below(&mut self.rng, 5), Crash::Before),
            _ => zone
                .ledger()
                .crash_after(below(&mut self.rng, 5), Crash::After),
        }
        "kill cc"
    }

    async fn start_ccs(&mut self) -> &'static str {
        for zone in self.cloud.zones.iter().filter(|zone| !zone.is_up()) {
            zone.start().await;
        }
        "start ccs"
    }

    fn restart_clc(&mut self) -> &'static str {
        if self.cloud.clc.is_up() {
            self.cloud.clc.kill();
            let clc = self.cloud.clc.clone();
            let down = Duration::from_millis(below(&mut self.rng, 20_000));
            tokio::spawn(async move {
                tokio::time::sleep(down).await;
                clc.start().await;
            });
        }
        "restart clc"
    }

    fn cut(&mut self) -> &'static str {
        let ccs = self.cloud.zones.iter().map(|zone| zone.name.clone());
        let nodes = self.cloud.nodes().map(|node| node.id().to_string());
        let names: Vec<String> = match below(&mut self.rng, 3) {
            0 => ccs.collect(),
            _ => nodes.collect(),
        };
        if let Some(name) = one_of(&mut self.rng, &names) {
            self.cloud.links.cut(name);
        }
        "cut"
    }

    fn heal(&mut self) -> &'static str {
        if let Some(name) = one_of(&mut self.rng, &self.cloud.links.cuts()) {
            self.cloud.links.heal(name);
        }
        "heal"
    }

    fn change_weather(&mut self) -> &'static str {
        let storm = Weather {
            requests_lost: 100,
            answers_lost: 100,
            doubled: 200,
            delay_ms: 800,
        };
        let rain = Weather {
            requests_lost: 10,
            answers_lost: 10,
            doubled: 50,
            delay_ms: 50,
        };
        let weather = [Weather::default(), rain, rain, storm];
        let next = one_of(&mut self.rng, &weather).copied().unwrap_or_default();
        self.cloud.links.set_weather(next);
        "weather"
    }

    fn lose_ledger(&mut self) -> &'static str {
        let at = below(&mut self.rng, self.cloud.zones.len() as u64) as usize;
        self.cloud.zones[at].lose_ledger();
        self.outside.forgot.insert(at);
        "lose ledger"
    }

    fn lose_node(&mut self) -> &'static str {
        if let Some(node) = self.some_node(|_| true) {
            node.lose_everything();
            self.outside.lost.insert(node.id().clone());
        }
        "lose node"
    }

    /// The host is off for good; the administrator says so. Only a few, or nothing is left.
    async fn declare_dead(&mut self) -> &'static str {
        let zone = below(&mut self.rng, self.cloud.zones.len() as u64) as usize;
        let nodes = &self.cloud.zones[zone].nodes;
        let dead = nodes
            .iter()
            .filter(|node| self.outside.dead.contains(node.id()))
            .count();
        if dead * 4 < nodes.len()
            && let Some(node) = one_of(&mut self.rng, nodes)
        {
            node.lose_everything();
            self.outside.dead.insert(node.id().clone());
            self.cloud.clc.declare_dead(zone, node.id()).await;
        }
        "declare dead"
    }
}

/// A client: asks again with the same token while it makes sense.
async fn ask(
    cloud: &Cloud,
    token: &str,
    count: u32,
    min: u32,
) -> Result<Vec<InstanceId>, CallError> {
    let mut answer = cloud.clc.run(token, count, min).await;
    for _ in 1..ATTEMPTS {
        match &answer {
            Ok(_) => break,
            Err(error) if error.code == control::Code::NoRoom => break,
            Err(_) => tokio::time::sleep(Duration::from_secs(2)).await,
        }
        answer = cloud.clc.run(token, count, min).await;
    }
    answer
}

/// Runs a campaign that must hold, with the seed and length of the environment if they are given.
fn check(seed: u64, steps: u64, size: Size) {
    check_plan(Plan::new(seed, steps, size));
}

/// The same with the real Cloud Controller.
fn check_real(seed: u64, steps: u64, size: Size) {
    check_plan(Plan {
        clc: Which::Real,
        ..Plan::new(seed, steps, size)
    });
}

fn check_plan(plan: Plan) {
    let size = plan.size;
    let (seed, steps) = (plan.seed, plan.steps);
    let seed = seed::asked().unwrap_or(seed);
    let steps = seed::steps(steps);
    let _told = Told { seed, steps };
    let started = std::time::Instant::now();
    match run(Plan {
        seed,
        steps,
        ..plan
    }) {
        Ok(tally) => println!(
            "seed {seed}, {} nodes, {steps} steps in {:?}: {tally:?}",
            size.nodes(),
            started.elapsed()
        ),
        Err(broken) => panic!("seed {seed}: {broken}"),
    }
}

#[test]
fn a_hundred_nodes_in_four_zones_survive_what_comes() {
    check(1, 400, Size::of(4, 32, 4));
}

#[test]
fn a_crowded_cloud_never_gives_room_twice() {
    for seed in 10..16 {
        check(seed, 300, Size::of(2, 5, 2));
    }
}

#[test]
fn a_thousand_nodes_survive_too() {
    check(3, 60, Size::of(4, 250, 4));
}

#[test]
fn the_real_cloud_controller_keeps_the_same_promises() {
    check_real(20, 150, Size::of(2, 8, 3));
}

/// The long way, in parts that each end within minutes: `MALLEE_LONG=1`.
fn check_if_long(seeds: std::ops::Range<u64>, plan: Plan) {
    #[allow(clippy::disallowed_methods)] // a test has no configuration to read
    let is_asked = std::env::var("MALLEE_LONG").is_ok();
    if !is_asked {
        return println!("SKIPPED: the long simulation runs with MALLEE_LONG=1");
    }
    for seed in seeds {
        check_plan(Plan { seed, ..plan });
    }
}

#[test]
fn long_two_thousand_steps_among_a_hundred_nodes() {
    check_if_long(100..102, Plan::new(0, 2_000, Size::of(4, 25, 4)));
}

#[test]
fn long_two_thousand_steps_among_a_hundred_nodes_with_other_seeds() {
    check_if_long(102..104, Plan::new(0, 2_000, Size::of(4, 25, 4)));
}

#[test]
fn long_a_thousand_steps_in_fifty_crowded_clouds() {
    check_if_long(200..250, Plan::new(0, 1_000, Size::of(2, 4, 2)));
}

#[test]
fn long_the_real_cloud_controller_on_many_seeds() {
    let plan = Plan {
        clc: Which::Real,
        ..Plan::new(0, 400, Size::of(2, 8, 3))
    };
    check_if_long(300..304, plan);
}
