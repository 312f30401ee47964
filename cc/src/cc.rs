//! The Cluster Controller as one thing: the book under its lock, the ledger behind it, the feed in
//! front of it, and a relay for each node.
//!
//! Every change goes the same way: decide on the book, commit, apply, tell. The lock is held all
//! along, so that two launches never count the same room; the caller's deadline does not cut it,
//! so that memory and ledger never part.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use control::{
    CallError, Changes, Code, Feed, Node,
    cluster::{ClusterChange, Roster, RosterNode},
    feed::Poll,
    node::NodeChange,
};
use daemon::{BoxError, Context, ready::Condition};
use tokio::sync::{Mutex as Lock, oneshot};
use types::{InstanceId, NodeId};

use crate::{
    book::{Book, Decision, Limits},
    ledger::{Change, Ledger, LedgerError},
    metrics::Metrics,
    relay::{self, Relay, Timing},
};

/// How often leases, silence and memory are looked at: well below the shortest of their limits.
const LOOK: Duration = Duration::from_millis(500);
/// After so long without a call the CLC is out of reach: its long poll comes more often. Nobody
/// else places here, so its holds may as well wait for it, and what ended is not forgotten before it was told.
const CLC_SILENT_MS: u64 = control::POLL_WAIT_MS_MAX + 10_000;

/// The way to a node.
pub trait Dial: Send + Sync {
    /// A client for the node of that roster line.
    fn node(&self, line: &RosterNode) -> Arc<dyn Node>;
}

/// What the feed speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Node(NodeId),
    Instance(InstanceId),
}

/// A running Cluster Controller. Cheap to clone.
#[derive(Clone)]
pub struct Cc(Arc<Inner>);

struct Inner {
    book: Lock<Book>,
    ledger: Arc<dyn Ledger>,
    feed: Feed<Key, ClusterChange>,
    relays: Mutex<BTreeMap<NodeId, Relay>>,
    dial: Arc<dyn Dial>,
    timing: Timing,
    context: Context,
    metrics: Metrics,
    placing: Condition,
    clc_called_ms: AtomicU64,
}

impl Cc {
    /// Starts from what the ledger holds: the one path, after an orderly stop and after a kill.
    pub async fn start(
        context: &Context,
        limits: Limits,
        timing: Timing,
        ledger: Arc<dyn Ledger>,
        dial: Arc<dyn Dial>,
    ) -> Result<Self, LedgerError> {
        let mut saved = ledger.load().await?;
        if saved.epoch == 0 {
            // Above whatever a lost ledger handed out: placements are made slower than one a
            // millisecond.
            let epoch = u64::try_from(context.clock.now_ms()).unwrap_or(1).max(1);
            ledger.commit(&[Change::Epoch(epoch)]).await?;
            saved.epoch = epoch;
        }
        let book = Book::open(limits, saved, context.clock.monotonic_ms());
        let cc = Self(Arc::new(Inner {
            feed: Feed::new(format!("{:016x}", rand::random::<u64>())),
            book: Lock::new(book),
            ledger,
            relays: Mutex::default(),
            dial,
            timing,
            context: context.clone(),
            metrics: Metrics::new(&context.metrics),
            placing: context.ready.condition("placing"),
            clc_called_ms: AtomicU64::new(context.clock.monotonic_ms()),
        }));
        cc.take_up().await;
        cc.look_after();
        Ok(cc)
    }

    /// Fills the feed with what was last known, and calls on every node.
    async fn take_up(&self) {
        let book = self.0.book.lock().await;
        for row in book.saved().placements.values() {
            if let Some(report) = &row.report {
                let change = ClusterChange::Instance(Box::new(report.clone()));
                self.0.feed.set(Key::Instance(row.instance.clone()), change);
            }
        }
        let nodes = book.nodes().iter().map(|n| n.roster.node.clone()).collect();
        self.tell(&book, &nodes);
        if let Some(roster) = book.saved().roster.clone() {
            self.follow(&roster);
        }
    }

    fn look_after(&self) {
        let (cc, cancel) = (self.clone(), self.0.context.cancel.clone());
        self.0.context.spawn("look_after_limits", async move {
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return Ok::<(), BoxError>(()),
                    () = cc.0.context.clock.sleep(LOOK) => {}
                }
                if let Err(error) = cc.look().await {
                    tracing::error!(%error, "limits not looked after");
                }
            }
        });
    }

    /// Lets leases end, counts silence, notices what is lost, forgets what is over.
    async fn look(&self) -> Result<(), CallError> {
        let mut book = self.0.book.lock().await;
        let now = self.now();
        let called_ms = self.0.clc_called_ms.load(Ordering::Relaxed);
        if now.saturating_sub(called_ms) > CLC_SILENT_MS {
            book.stand_still(LOOK.as_millis() as u64);
        }
        let limit_ms = book.limits.unreachable_ms;
        let silent = book.nodes.grow_silent(now, limit_ms);
        for node in &silent {
            tracing::warn!(%node, "unreachable");
        }
        self.tell(&book, &silent.into_iter().collect());

        let mut decision = book.lost(now);
        for report in &decision.reports {
            tracing::warn!(instance = %report.instance, node = %report.node, "lost by its node");
        }
        decision.changes.extend(book.lapsed(now));
        decision.changes.extend(book.forgotten(now));
        self.carry(&mut book, decision).await?;
        self.0.metrics.count(&book);
        self.show_ready(&book);
        Ok(())
    }

    fn show_ready(&self, book: &Book) {
        match book.unsettled() {
            None => self.0.placing.met(),
            Some(why) => self.0.placing.unmet(why),
        }
    }

    /// Decides, commits, applies, tells; not cut off by the caller's going away.
    pub(crate) async fn decide<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&Book) -> Result<Decision<T>, CallError> + Send + 'static,
    ) -> Result<T, CallError> {
        let cc = self.clone();
        self.uncut(async move {
            let mut book = cc.0.book.lock().await;
            let decision = decide(&book)?;
            cc.carry(&mut book, decision).await
        })
        .await
    }

    async fn uncut<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CallError>> + Send + 'static,
    ) -> Result<T, CallError> {
        let (tell, told) = oneshot::channel();
        self.0.context.detach(async move {
            let _caller_gone = tell.send(work.await);
        });
        told.await
            .unwrap_or_else(|_| Err(CallError::new(Code::Internal, "the daemon is stopping")))
    }

    async fn carry<T>(&self, book: &mut Book, decision: Decision<T>) -> Result<T, CallError> {
        if !decision.changes.is_empty() {
            let committed = self.0.ledger.commit(&decision.changes).await;
            committed.map_err(|error| CallError::internal(&error))?;
        }
        let now = self.now();
        let mut touched = BTreeSet::new();
        let mut roster = None;
        for change in decision.changes {
            match &change {
                Change::PlacementGone(gone) => self.0.feed.forget(&Key::Instance(gone.clone())),
                Change::Roster(new) => roster = Some(new.clone()),
                _ => {}
            }
            touched.extend(book.apply(change, now));
        }
        for report in decision.reports {
            let key = Key::Instance(report.instance.clone());
            self.0
                .feed
                .set(key, ClusterChange::Instance(Box::new(report)));
        }
        self.tell(book, &touched);
        self.show_ready(book);
        if let Some(roster) = roster {
            self.follow(&roster);
        }
        Ok(decision.answer)
    }

    /// Tells the CLC how nodes look now, and their relays that there may be something to do.
    fn tell(&self, book: &Book, nodes: &BTreeSet<NodeId>) {
        let relays = self.relays();
        for node in nodes {
            let key = Key::Node(node.clone());
            match book.status(node) {
                Some(status) => self.0.feed.set(key, status),
                None => self.0.feed.forget(&key),
            }
            if let Some(relay) = relays.get(node) {
                relay.wake.wake();
            }
        }
    }

    /// Has a relay for each node that lives, and none for others.
    fn follow(&self, roster: &Roster) {
        let mut relays = self.relays();
        let alive = |node: &&RosterNode| !node.dead;
        let wanted: BTreeMap<&NodeId, &RosterNode> = roster
            .nodes
            .iter()
            .filter(alive)
            .map(|n| (&n.node, n))
            .collect();
        relays.retain(|node, relay| wanted.get(node).is_some_and(|line| **line == relay.line));
        for (node, line) in wanted {
            relays.entry(node.clone()).or_insert_with(|| {
                let client = self.0.dial.node(line);
                relay::start(self, &self.0.context, line.clone(), client, self.0.timing)
            });
        }
    }

    fn relays(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Relay>> {
        // A panic while it was held cannot have left it half-made: an entry is one insert.
        self.0.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The CLC called.
    pub(crate) fn note_call(&self) {
        self.0.clc_called_ms.store(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.context.clock.monotonic_ms()
    }

    /// Takes in what a node said. An error means that it is to be asked again.
    pub(crate) async fn heard(
        &self,
        node: &NodeId,
        said: Changes<NodeChange>,
    ) -> Result<(), CallError> {
        let (cc, node) = (self.clone(), node.clone());
        self.uncut(async move {
            let mut book = cc.0.book.lock().await;
            let decision = book.decide_heard(&node, &said);
            cc.carry(&mut book, decision).await?;
            let now = cc.now();
            book.note_heard(&node, &said, now);
            let changes = book.settle().into_iter().collect();
            let settled = Decision {
                answer: (),
                changes,
                reports: Vec::new(),
            };
            cc.carry(&mut book, settled).await?;
            cc.tell(&book, &BTreeSet::from([node]));
            Ok(())
        })
        .await
    }

    /// Looks at the book, to read or to note what is not durable.
    pub(crate) async fn with_book<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut *self.0.book.lock().await)
    }

    /// Passes on what an instance looks like, where nothing durable changed.
    pub(crate) fn show(&self, change: ClusterChange) {
        let key = match &change {
            ClusterChange::Instance(report) => Key::Instance(report.instance.clone()),
            ClusterChange::Node(status) => Key::Node(status.node.clone()),
        };
        self.0.feed.set(key, change);
    }

    /// Answers a poll of the CLC. After a start, what is not in a full list is not known yet: a
    /// CC that lost its ledger lists what its nodes have told it so far.
    pub(crate) async fn poll(&self, poll: &Poll) -> Changes<ClusterChange> {
        self.0.feed.poll(poll).await
    }

    /// The client of the node that has an instance.
    pub(crate) async fn node_of(&self, instance: &InstanceId) -> Result<Arc<dyn Node>, CallError> {
        let place = |book: &mut Book| {
            let row = book.saved().placements.get(instance);
            row.filter(|row| !row.ended).map(|row| row.node.clone())
        };
        let node = self.with_book(place).await;
        let node = node.ok_or_else(|| CallError::not_found(instance))?;
        let relays = self.relays();
        let relay = relays.get(&node);
        relay.map(|relay| relay.client.clone()).ok_or_else(|| {
            CallError::new(
                Code::Unreachable,
                format!("{node}, where {instance} is, is given up"),
            )
        })
    }

    /// The clients of those nodes, or of all that are not given up.
    pub(crate) fn clients(&self, nodes: &[NodeId]) -> Vec<(NodeId, Arc<dyn Node>)> {
        let relays = self.relays();
        let meant = relays
            .iter()
            .filter(|(node, _)| nodes.is_empty() || nodes.contains(node));
        meant
            .map(|(node, relay)| (node.clone(), relay.client.clone()))
            .collect()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}
