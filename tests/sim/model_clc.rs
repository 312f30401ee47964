//! The Cloud Controller's side of the laws, without EC2: intent and ClientToken in one step after
//! the hold, ids and addresses minted here, wishes said whole until taken, states by what is
//! reported and never by silence.
//!
//! What is durable survives [`ModelClc::kill`]; a step is one lock, as a transaction is.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use control::{
    CallError, Changes, Cluster, Code,
    cluster::{
        ClusterChange, HOLD_DEADLINE_MS, HOLD_LEASE_MS, Hold, HoldAsk, HoldRelease, Reach, Roster,
    },
    feed::{Poll, Position},
    node::{InstanceReport, InstanceWish, Seen, Wanted},
    rpc::Call,
};
use testkit::{
    samples,
    seed::{self, TestRng},
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::{InstanceId, InstanceState, NodeId, ReservationId, network::NetworkDocument};

use crate::front::{Front, Row, Why};

/// How long an instance may be pending before it is given up, with a reason.
pub(crate) const PENDING_LIMIT: Duration = Duration::from_secs(5 * 60);
/// What of a lease is kept for the commit.
const LEASE_MARGIN_MS: u64 = 5_000;
/// How often what is not taken is said again.
const PUSH_PERIOD: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(200);

/// An instance, wanted and seen.
#[derive(Debug, Clone)]
struct Record {
    zone: usize,
    wish: InstanceWish,
    state: InstanceState,
    why: Option<Why>,
    since: Instant,
    held: Instant,
    taken: u64,
}

impl Record {
    fn row(&self) -> Row {
        let alive = self.state != InstanceState::Terminated;
        Row {
            zone: self.zone,
            node: self.wish.node.clone(),
            epoch: self.wish.epoch,
            generation: self.wish.generation,
            address: alive.then_some(self.wish.spec.interface.private_address),
            state: self.state,
            age: self.since.elapsed(),
            why: self.why.clone(),
        }
    }
}

#[derive(Default)]
struct Durable {
    rows: BTreeMap<InstanceId, Record>,
    tokens: BTreeMap<String, ReservationId>,
    launched: BTreeMap<ReservationId, Vec<InstanceId>>,
    rosters: Vec<Roster>,
    networks: Vec<u64>,
    addresses: BTreeSet<Ipv4Addr>,
}

/// A model of the Cloud Controller. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(crate) struct ModelClc(Arc<Inner>);

struct Inner {
    clusters: Vec<Arc<dyn Cluster>>,
    durable: Mutex<Durable>,
    rng: Mutex<TestRng>,
    life: Mutex<Option<Life>>,
}

struct Life {
    wakes: Vec<Arc<Notify>>,
    over: CancellationToken,
    _end: DropGuard,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn call(what: &str) -> Call {
    Call::new(what)
}

fn down() -> CallError {
    CallError::new(Code::Unreachable, "the Cloud Controller is down")
}

impl ModelClc {
    /// A model over these clusters, started.
    pub(crate) fn new(clusters: Vec<Arc<dyn Cluster>>, rosters: Vec<Roster>, seed: u64) -> Self {
        let durable = Durable {
            networks: vec![1; clusters.len()],
            addresses: (10..10_000_u32).map(address).collect(),
            rosters,
            ..Durable::default()
        };
        let clc = Self(Arc::new(Inner {
            clusters,
            durable: Mutex::new(durable),
            rng: Mutex::new(seed::rng(seed)),
            life: Mutex::new(None),
        }));
        clc.begin();
        clc
    }

    fn begin(&self) {
        let mut life = lock(&self.0.life);
        if life.is_some() {
            return;
        }
        let over = CancellationToken::new();
        let wakes: Vec<Arc<Notify>> = self.0.clusters.iter().map(|_| Arc::default()).collect();
        for (zone, wake) in wakes.iter().enumerate() {
            let lives = Arc::new(Mutex::new(0));
            self.spawn(
                &over,
                self.clone().follow(zone, lives.clone(), wake.clone()),
            );
            self.spawn(&over, self.clone().push(zone, lives, wake.clone()));
        }
        *life = Some(Life {
            wakes,
            _end: over.clone().drop_guard(),
            over,
        });
    }

    fn spawn(&self, over: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        let over = over.clone();
        tokio::spawn(async move {
            tokio::select! { biased; () = over.cancelled() => {}, () = work => {} }
        });
    }

    fn durable(&self) -> MutexGuard<'_, Durable> {
        lock(&self.0.durable)
    }

    fn wake(&self, zone: usize) {
        if let Some(life) = &*lock(&self.0.life) {
            life.wakes[zone].notify_one();
        }
    }

    async fn launch(
        &self,
        token: &str,
        count: u32,
        min: u32,
    ) -> Result<Vec<InstanceId>, CallError> {
        if let Some(known) = self.launched_by(token) {
            return Ok(known);
        }
        let (zone, ask) = {
            let mut rng = lock(&self.0.rng);
            let zone = seed::below(&mut *rng, self.0.clusters.len() as u64) as usize;
            let ask = HoldAsk {
                reservation: ReservationId::mint(&mut *rng),
                instances: (0..count).map(|_| InstanceId::mint(&mut *rng)).collect(),
                min_count: min,
                shape: samples::smalls(1),
            };
            (zone, ask)
        };
        let asked = Instant::now();
        let hold = call("hold").within_ms(HOLD_DEADLINE_MS);
        let held = self.0.clusters[zone].hold(&hold, ask.clone()).await;
        let in_time = asked.elapsed() < Duration::from_millis(HOLD_LEASE_MS - LEASE_MARGIN_MS);
        match held {
            Ok(hold) if in_time => {
                match self.commit(token, zone, (&ask.reservation, asked), hold) {
                    Ok(launched) => {
                        self.wake(zone);
                        Ok(launched)
                    }
                    Err(first) => {
                        self.give_back(zone, &ask.reservation).await;
                        Ok(first)
                    }
                }
            }
            Ok(_) => Err(CallError::new(Code::Deadline, "the hold came too late")),
            Err(error) => {
                self.give_back(zone, &ask.reservation).await;
                Err(error)
            }
        }
    }

    async fn give_back(&self, zone: usize, reservation: &ReservationId) {
        let release = HoldRelease {
            reservation: reservation.clone(),
        };
        // If this is lost, the lease ends it.
        let _lease_ends_it = self.0.clusters[zone]
            .release(&call("release"), release)
            .await;
    }

    fn launched_by(&self, token: &str) -> Option<Vec<InstanceId>> {
        let durable = self.durable();
        let reservation = durable.tokens.get(token)?;
        durable.launched.get(reservation).cloned()
    }

    /// One transaction: token, instances, addresses. Fails with what the token led to before.
    fn commit(
        &self,
        token: &str,
        zone: usize,
        (reservation, asked): (&ReservationId, Instant),
        hold: Hold,
    ) -> Result<Vec<InstanceId>, Vec<InstanceId>> {
        let mut durable = self.durable();
        if let Some(first) = durable.tokens.get(token) {
            return Err(durable.launched[first].clone());
        }
        durable.networks[zone] += 1;
        let mut launched = Vec::new();
        for place in hold.placements {
            let Some(address) = durable.addresses.pop_first() else {
                break;
            };
            let instance = place.instance.clone();
            let mut wish = samples::wish(
                instance.clone(),
                reservation.clone(),
                place.node,
                place.epoch,
            );
            wish.spec.interface.private_address = address;
            wish.spec.network_version = durable.networks[zone];
            let row = Record {
                zone,
                wish,
                state: InstanceState::Pending,
                why: None,
                held: asked,
                since: Instant::now(),
                taken: 0,
            };
            durable.rows.insert(instance.clone(), row);
            launched.push(instance);
        }
        durable.tokens.insert(token.to_owned(), reservation.clone());
        durable
            .launched
            .insert(reservation.clone(), launched.clone());
        Ok(launched)
    }

    fn want_end(&self, instance: &InstanceId, why: Why) -> Option<usize> {
        let mut durable = self.durable();
        let row = durable.rows.get_mut(instance)?;
        if row.wish.wanted == Wanted::Terminated || row.state == InstanceState::Terminated {
            return None;
        }
        row.wish = samples::ended(&row.wish);
        row.why.get_or_insert(why);
        (row.state, row.since) = (InstanceState::ShuttingDown, Instant::now());
        Some(row.zone)
    }

    async fn follow(self, zone: usize, lives: Arc<Mutex<u64>>, wake: Arc<Notify>) {
        let mut after: Option<Position> = None;
        loop {
            let poll = Poll {
                after: after.clone(),
                wait_ms: 5_000,
            };
            let asked = call("follow").polling_ms(5_000);
            match self.0.clusters[zone].changes(&asked, poll).await {
                Ok(Changes {
                    position,
                    full,
                    items,
                }) => {
                    if full {
                        *lock(&lives) += 1;
                        self.forget_taken(zone);
                        wake.notify_one();
                    }
                    items.into_iter().for_each(|item| self.observe(zone, item));
                    after = Some(position);
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    fn forget_taken(&self, zone: usize) {
        let mut durable = self.durable();
        durable
            .rows
            .values_mut()
            .filter(|row| row.zone == zone)
            .for_each(|row| row.taken = 0);
    }

    fn observe(&self, zone: usize, change: ClusterChange) {
        match change {
            ClusterChange::Instance(report) => self.observe_instance(&report),
            ClusterChange::Node(status) if status.reach == Reach::Dead => {
                let on_it: Vec<InstanceId> = self
                    .durable()
                    .rows
                    .iter()
                    .filter(|(_, row)| row.wish.node == status.node)
                    .map(|(instance, _)| instance.clone())
                    .collect();
                for instance in on_it {
                    self.want_end(&instance, Why::NodeDead);
                }
                self.wake(zone);
            }
            ClusterChange::Node(_) => {}
        }
    }

    fn observe_instance(&self, report: &InstanceReport) {
        let mut durable = self.durable();
        let Some(row) = durable.rows.get_mut(&report.instance) else {
            return;
        };
        let ours = row.wish.node == report.node && row.wish.epoch == report.epoch;
        let next = match (row.state, report.seen) {
            (InstanceState::Pending, Seen::Running) => InstanceState::Running,
            (
                InstanceState::Pending | InstanceState::Running | InstanceState::ShuttingDown,
                Seen::Terminated,
            ) => InstanceState::Terminated,
            (state, _) => state,
        };
        if !ours || next == row.state {
            return;
        }
        (row.state, row.since) = (next, Instant::now());
        if next == InstanceState::Terminated {
            let reason = report
                .reason
                .as_ref()
                .map_or_else(String::new, |r| r.message.clone());
            row.why.get_or_insert(Why::Reported(reason));
            let address = row.wish.spec.interface.private_address;
            durable.addresses.insert(address);
        }
    }

    async fn push(self, zone: usize, lives: Arc<Mutex<u64>>, wake: Arc<Notify>) {
        let mut told = (0, 0);
        let mut network = (0, 0);
        loop {
            let life = *lock(&lives);
            if life > 0 {
                self.push_roster(zone, life, &mut told).await;
                self.push_network(zone, life, &mut network).await;
                for wish in self.untaken(zone) {
                    self.push_wish(zone, wish).await;
                }
                self.give_up(zone);
            }
            let _period = tokio::time::timeout(PUSH_PERIOD, wake.notified()).await;
        }
    }

    async fn push_roster(&self, zone: usize, life: u64, told: &mut (u64, u64)) {
        let roster = self.durable().rosters[zone].clone();
        let newest = (roster.generation, life);
        if *told != newest
            && self.0.clusters[zone]
                .roster(&call("roster"), roster)
                .await
                .is_ok()
        {
            *told = newest;
        }
    }

    async fn push_network(&self, zone: usize, life: u64, told: &mut (u64, u64)) {
        let version = self.durable().networks[zone];
        let document = NetworkDocument {
            version,
            ..NetworkDocument::default()
        };
        let cluster = &self.0.clusters[zone];
        if *told != (version, life) && cluster.network(&call("network"), document).await.is_ok() {
            *told = (version, life);
        }
    }

    fn untaken(&self, zone: usize) -> Vec<InstanceWish> {
        let durable = self.durable();
        let rows = durable.rows.values().filter(|row| row.zone == zone);
        rows.filter(|row| row.taken < row.wish.generation)
            .filter(|row| row.state != InstanceState::Terminated)
            .map(|row| row.wish.clone())
            .collect()
    }

    async fn push_wish(&self, zone: usize, wish: InstanceWish) {
        let (instance, wanted) = (wish.instance.clone(), wish.wanted);
        match self.0.clusters[zone].instance(&call("wish"), wish).await {
            Ok(taken) => {
                if let Some(row) = self.durable().rows.get_mut(&instance) {
                    row.taken = row.taken.max(taken.generation);
                }
            }
            Err(error)
                if matches!(error.code, Code::NoRoom | Code::Conflict)
                    && wanted == Wanted::Running =>
            {
                let held = self
                    .durable()
                    .rows
                    .get(&instance)
                    .map(|row| row.held.elapsed());
                let after = held.unwrap_or_default();
                self.want_end(&instance, Why::Refused(error.message, after));
            }
            Err(_) => {}
        }
    }

    /// The exit of what has been pending for too long.
    fn give_up(&self, zone: usize) {
        let late: Vec<InstanceId> = self
            .durable()
            .rows
            .iter()
            .filter(|(_, row)| row.zone == zone && row.state == InstanceState::Pending)
            .filter(|(_, row)| row.since.elapsed() > PENDING_LIMIT)
            .map(|(instance, _)| instance.clone())
            .collect();
        for instance in late {
            self.want_end(&instance, Why::TooLong);
        }
    }
}

#[async_trait]
impl Front for ModelClc {
    async fn start(&self) {
        self.begin();
    }

    fn kill(&self) {
        *lock(&self.0.life) = None;
    }

    fn is_up(&self) -> bool {
        lock(&self.0.life).is_some()
    }

    /// Cut off by a kill, like any handler.
    async fn run(&self, token: &str, count: u32, min: u32) -> Result<Vec<InstanceId>, CallError> {
        let life = lock(&self.0.life).as_ref().map(|life| life.over.clone());
        let over = life.ok_or_else(down)?;
        tokio::select! {
            biased;
            () = over.cancelled() => Err(down()),
            launched = self.launch(token, count, min) => launched,
        }
    }

    async fn terminate(&self, instance: &InstanceId) -> Result<(), CallError> {
        if !self.is_up() {
            return Err(down());
        }
        if let Some(zone) = self.want_end(instance, Why::Asked) {
            self.wake(zone);
        }
        Ok(())
    }

    async fn reboot(&self, instance: &InstanceId) {
        if let Some(row) = self.durable().rows.get_mut(instance)
            && row.state == InstanceState::Running
        {
            row.wish.generation += 1;
            row.wish.reboots += 1;
        }
    }

    async fn declare_dead(&self, zone: usize, node: &NodeId) {
        let mut durable = self.durable();
        let roster = &mut durable.rosters[zone];
        roster.generation += 1;
        for line in roster.nodes.iter_mut().filter(|line| line.node == *node) {
            line.dead = true;
        }
        drop(durable);
        self.wake(zone);
    }

    async fn rows(&self) -> BTreeMap<InstanceId, Row> {
        let durable = self.durable();
        let rows = durable.rows.iter();
        rows.map(|(instance, record)| (instance.clone(), record.row()))
            .collect()
    }
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 31, 0, 0)) + number)
}
