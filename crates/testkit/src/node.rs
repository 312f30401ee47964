//! A Node Controller that behaves, without libvirt: it takes wishes, starts and ends guests after a
//! while, reports through a feed, keeps what it took when it is killed, and adopts it when it is
//! started again. Guests live on while it is down.
//!
//! It also watches: whatever must never happen on a node (more guests than room, a guest of an
//! older placement, a guest that rises again) is written down and stays so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use control::caches::{CacheReport, CachesAsk, NodeEvict, NodeWarm};
use control::{
    CallError, Changes, Code, Feed, Node,
    feed::Poll,
    node::{
        ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceReport, InstanceWish, NetworkTaken,
        NodeChange, NodeReport, Seen, Shape, Taken, Wanted,
    },
    rpc::Call,
};
use tokio_util::sync::CancellationToken;
use types::{InstanceId, NodeId, StateReason, Timestamp, network::NetworkDocument};

use crate::seed::{self, TestRng};

/// How a fake node takes its time, and how often it fails.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// What it may give.
    pub capacity: Shape,
    /// How long a launch takes at most.
    pub launch_ms: u64,
    /// How long an end takes at most.
    pub end_ms: u64,
    /// How many launches in a thousand fail.
    pub failing: u32,
    /// Forgets what has ended: a defect, for tests of the tests.
    pub forgetful: bool,
}

/// A guest whose domain is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestUp {
    /// Which instance.
    pub instance: InstanceId,
    /// Of which placement.
    pub epoch: u64,
    /// Its private address.
    pub address: std::net::Ipv4Addr,
}

impl Manner {
    /// A node of that capacity that is quick and does not fail.
    pub fn quick(capacity: Shape) -> Self {
        Self {
            capacity,
            launch_ms: 20,
            end_ms: 10,
            failing: 0,
            forgetful: false,
        }
    }
}

/// A fake node. Cheap to clone; clones are the same node.
#[derive(Clone)]
pub struct FakeNode(Arc<Inner>);

struct Inner {
    id: NodeId,
    manner: Manner,
    state: Mutex<State>,
}

/// What survives its Node Controller: guests, what was taken, and what was seen to go wrong.
struct State {
    rng: TestRng,
    guests: BTreeMap<InstanceId, Guest>,
    wrongs: Vec<String>,
    starts: BTreeMap<(InstanceId, u64), u64>,
    lives: u64,
    life: Option<Arc<Life>>,
}

#[derive(Debug, Clone)]
struct Guest {
    wish: InstanceWish,
    seen: Seen,
    acted: u64,
    reboots: u32,
    reason: Option<StateReason>,
    /// Whether its domain is there: takes room.
    up: bool,
}

/// One run of the Node Controller.
struct Life {
    feed: Feed<String, NodeChange>,
    network: Mutex<u64>,
    over: CancellationToken,
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeNode {
    /// A node, started.
    pub fn new(id: NodeId, manner: Manner, seed: u64) -> Self {
        let state = State {
            rng: seed::rng(seed),
            guests: BTreeMap::new(),
            wrongs: Vec::new(),
            starts: BTreeMap::new(),
            lives: 0,
            life: None,
        };
        let node = Self(Arc::new(Inner {
            id,
            manner,
            state: Mutex::new(state),
        }));
        node.start();
        node
    }

    /// Which node it is.
    pub fn id(&self) -> &NodeId {
        &self.0.id
    }

    /// Starts the Node Controller, if it is down; it adopts what is there.
    pub fn start(&self) {
        let mut state = self.state();
        if state.life.is_some() {
            return;
        }
        state.lives += 1;
        let life = Arc::new(Life {
            feed: Feed::new(format!("{}-{}", self.0.id, state.lives)),
            network: Mutex::new(0),
            over: CancellationToken::new(),
        });
        for (instance, guest) in &state.guests {
            life.feed
                .set(instance.to_string(), self.report_of(instance, guest));
        }
        state.life = Some(life);
        let unfinished: Vec<InstanceId> = state.guests.keys().cloned().collect();
        self.tell_node(&state);
        for instance in unfinished {
            self.go_on(&mut state, instance);
        }
    }

    /// Kills the Node Controller. Guests go on.
    pub fn kill(&self) {
        if let Some(life) = self.state().life.take() {
            life.over.cancel();
        }
    }

    /// Loses the node's disks: its guests are gone, and it knows of none.
    pub fn lose_everything(&self) {
        self.kill();
        let mut state = self.state();
        state.guests.clear();
        state.starts.clear();
    }

    /// A guest powers itself off.
    pub fn power_off(&self, instance: &InstanceId) {
        let mut state = self.state();
        if let Some(guest) = state
            .guests
            .get_mut(instance)
            .filter(|g| g.seen == Seen::Running)
        {
            let reason = StateReason::new("Client.InstanceInitiatedShutdown", "powered off");
            end(guest, Some(reason));
            self.tell(&state, instance);
        }
    }

    /// Whether the Node Controller runs.
    pub fn is_up(&self) -> bool {
        self.state().life.is_some()
    }

    /// The guests whose domains are there, with the placement that they are of.
    pub fn guests(&self) -> Vec<GuestUp> {
        let state = self.state();
        let up = state.guests.iter().filter(|(_, guest)| guest.up);
        up.map(|(instance, guest)| GuestUp {
            instance: instance.clone(),
            epoch: guest.wish.epoch,
            address: guest.wish.spec.interface.private_address,
        })
        .collect()
    }

    /// What its guests take.
    pub fn used(&self) -> Shape {
        used(&self.state())
    }

    /// What it may give.
    pub fn capacity(&self) -> Shape {
        self.0.manner.capacity
    }

    /// How many guests were ever started.
    pub fn starts(&self) -> u64 {
        self.state().starts.values().sum()
    }

    /// What happened here that must never happen.
    pub fn wrongs(&self) -> Vec<String> {
        self.state().wrongs.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    fn life(&self) -> Result<Arc<Life>, CallError> {
        let life = self.state().life.clone();
        life.ok_or_else(|| CallError::new(Code::Unreachable, format!("{} is down", self.0.id)))
    }

    fn report_of(&self, instance: &InstanceId, guest: &Guest) -> NodeChange {
        let (instance, node, epoch) = (instance.clone(), self.0.id.clone(), guest.wish.epoch);
        NodeChange::Instance(Box::new(InstanceReport {
            reason: guest.reason.clone(),
            reboots: guest.reboots,
            ..InstanceReport::new(instance, node, epoch, guest.acted, guest.seen)
        }))
    }

    fn tell(&self, state: &State, instance: &InstanceId) {
        if let (Some(life), Some(guest)) = (&state.life, state.guests.get(instance)) {
            life.feed
                .set(instance.to_string(), self.report_of(instance, guest));
        }
        self.tell_node(state);
    }

    fn tell_node(&self, state: &State) {
        let Some(life) = &state.life else { return };
        let report = NodeReport {
            node: self.0.id.clone(),
            hostname: self.0.id.to_string(),
            underlay: std::net::Ipv4Addr::LOCALHOST,
            capacity: self.0.manner.capacity,
            used: used(state),
            hypervisor: "fake".to_owned(),
            network_version: *lock(&life.network),
            network_failures: Vec::new(),
            not_ready: None,
        };
        life.feed.set("node".to_owned(), NodeChange::Node(report));
    }

    /// Takes a wish, durably.
    fn take(&self, wish: InstanceWish) -> Result<Taken, CallError> {
        let mut state = self.state();
        let instance = wish.instance.clone();
        if wish.node != self.0.id {
            return Err(CallError::new(Code::Invalid, "a wish for another node"));
        }
        if let Some(guest) = state.guests.get_mut(&instance) {
            if guest.wish.generation >= wish.generation {
                return Ok(Taken {
                    generation: guest.wish.generation,
                });
            }
            let (old, new) = (guest.wish.epoch, wish.epoch);
            if new < old {
                return Err(CallError::new(Code::Conflict, "an older placement"));
            }
            let anew = new > old && wish.wanted == Wanted::Running;
            guest.wish = wish;
            if anew && guest.seen == Seen::Terminated {
                // Placed here again: a new life under a new epoch.
                (guest.seen, guest.reason, guest.up) = (Seen::Pending, None, true);
                state.note_start(&instance, new);
            }
        } else {
            let runs = wish.wanted == Wanted::Running;
            let guest = Guest {
                seen: if runs {
                    Seen::Pending
                } else {
                    Seen::Terminated
                },
                acted: 0,
                reboots: 0,
                reason: None,
                up: runs,
                wish,
            };
            let epoch = guest.wish.epoch;
            state.guests.insert(instance.clone(), guest);
            if runs {
                state.note_start(&instance, epoch);
            }
        }
        let generation = state.guests[&instance].wish.generation;
        self.watch_room(&mut state);
        self.go_on(&mut state, instance);
        Ok(Taken { generation })
    }

    fn watch_room(&self, state: &mut State) {
        let (used, has) = (used(state), self.0.manner.capacity);
        let over = used.vcpus > has.vcpus
            || used.memory_mib > has.memory_mib
            || used.disk_gib > has.disk_gib;
        if over {
            state
                .wrongs
                .push(format!("{} uses {used:?} of {has:?}", self.0.id));
        }
    }

    /// Does the next step of a guest, after a while.
    fn go_on(&self, state: &mut State, instance: InstanceId) {
        let (Some(life), Some(guest)) = (state.life.clone(), state.guests.get_mut(&instance))
        else {
            return;
        };
        let limit_ms = match (guest.wish.wanted, guest.seen) {
            (Wanted::Running, Seen::Pending) => self.0.manner.launch_ms,
            (Wanted::Terminated, Seen::Pending | Seen::Running | Seen::ShuttingDown) => {
                guest.seen = Seen::ShuttingDown;
                self.0.manner.end_ms
            }
            (Wanted::Running, Seen::Running) => 0,
            (Wanted::Running, Seen::ShuttingDown | Seen::Terminated)
            | (Wanted::Terminated, Seen::Terminated) => {
                guest.acted = guest.wish.generation;
                return self.tell(state, &instance);
            }
        };
        self.tell(state, &instance);
        let after = Duration::from_millis(seed::below(&mut state.rng, limit_ms + 1));
        let fails = seed::per_mille(&mut state.rng, self.0.manner.failing);
        let node = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = life.over.cancelled() => {}
                () = node.finish(&life, &instance, after, fails) => {}
            }
        });
    }

    async fn finish(&self, life: &Life, instance: &InstanceId, after: Duration, fails: bool) {
        tokio::time::sleep(after).await;
        self.wait_for_network(life, instance).await;
        let mut state = self.state();
        if life.over.is_cancelled() {
            return;
        }
        let Some(guest) = state.guests.get_mut(instance) else {
            return;
        };
        match (guest.wish.wanted, guest.seen) {
            (Wanted::Running, Seen::Pending) if fails => {
                let reason = StateReason::new("Server.InternalError", "the launch failed");
                end(guest, Some(reason));
            }
            (Wanted::Running, Seen::Pending | Seen::Running) => guest.seen = Seen::Running,
            (Wanted::Terminated, Seen::ShuttingDown) => end(guest, None),
            (Wanted::Running, Seen::ShuttingDown | Seen::Terminated)
            | (Wanted::Terminated, Seen::Pending | Seen::Running | Seen::Terminated) => {}
        }
        guest.acted = guest.wish.generation;
        guest.reboots = guest.wish.reboots;
        let is_over = guest.seen == Seen::Terminated;
        self.tell(&state, instance);
        if is_over && self.0.manner.forgetful {
            state.guests.remove(instance);
        }
    }

    async fn wait_for_network(&self, life: &Life, instance: &InstanceId) {
        loop {
            let needed = {
                let state = self.state();
                let guest = state.guests.get(instance);
                guest
                    .filter(|g| g.wish.wanted == Wanted::Running)
                    .map_or(0, |g| g.wish.spec.network_version)
            };
            if *lock(&life.network) >= needed {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl State {
    /// A guest is started once in its placement, whatever is said how often.
    fn note_start(&mut self, instance: &InstanceId, epoch: u64) {
        let starts = self.starts.entry((instance.clone(), epoch)).or_default();
        *starts += 1;
        if *starts > 1 {
            self.wrongs.push(format!(
                "{instance} was started {starts} times at epoch {epoch}"
            ));
        }
    }
}

fn end(guest: &mut Guest, reason: Option<StateReason>) {
    (guest.seen, guest.up) = (Seen::Terminated, false);
    guest.reason = guest.reason.take().or(reason);
}

fn used(state: &State) -> Shape {
    let up = state.guests.values().filter(|guest| guest.up);
    up.map(|guest| guest.wish.spec.shape)
        .fold(Shape::default(), |sum, one| Shape {
            vcpus: sum.vcpus + one.vcpus,
            memory_mib: types::Mib(sum.memory_mib.0 + one.memory_mib.0),
            disk_gib: types::Gib(sum.disk_gib.0 + one.disk_gib.0),
        })
}

#[async_trait]
impl Node for FakeNode {
    async fn instance(&self, _: &Call, wish: InstanceWish) -> Result<Taken, CallError> {
        self.life()?;
        self.take(wish)
    }

    async fn network(
        &self,
        _: &Call,
        document: NetworkDocument,
    ) -> Result<NetworkTaken, CallError> {
        let life = self.life()?;
        let version = {
            let mut applied = lock(&life.network);
            *applied = (*applied).max(document.version);
            *applied
        };
        self.tell_node(&self.state());
        Ok(NetworkTaken { version })
    }

    async fn changes(&self, _: &Call, poll: Poll) -> Result<Changes<NodeChange>, CallError> {
        let life = self.life()?;
        tokio::select! {
            () = life.over.cancelled() => {
                Err(CallError::new(Code::Unreachable, format!("{} was killed", self.0.id)))
            }
            changes = life.feed.poll(&poll) => Ok(changes),
        }
    }

    async fn console_read(&self, _: &Call, ask: ConsoleRead) -> Result<ConsoleText, CallError> {
        self.life()?;
        Ok(ConsoleText {
            from: ask.from.unwrap_or(0),
            output: String::new(),
            updated_at: Timestamp(0),
        })
    }

    async fn console_write(&self, _: &Call, _: ConsoleWrite) -> Result<Done, CallError> {
        self.life()?;
        Ok(Done {})
    }

    async fn cache(&self, _: &Call, _: CachesAsk) -> Result<CacheReport, CallError> {
        self.life()?;
        Ok(CacheReport::default())
    }

    async fn cache_warm(&self, _: &Call, _: NodeWarm) -> Result<CacheReport, CallError> {
        self.life()?;
        Ok(CacheReport::default())
    }

    async fn cache_evict(&self, _: &Call, _: NodeEvict) -> Result<CacheReport, CallError> {
        self.life()?;
        Ok(CacheReport::default())
    }
}
