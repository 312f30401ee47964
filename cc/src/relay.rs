//! A relay: the task that keeps one node and the book in step.
//!
//! It listens by long poll and passes on what it hears at once; it pushes each wish whose
//! generation the node has not taken, and the newest network document before them. A failed push
//! is tried again with growing pauses; what is owed is asked of the book each time, so an older
//! wish is never sent after a newer one is known.

use std::{sync::Arc, time::Duration};

use control::{
    CallError, Node,
    cluster::{ClusterChange, RosterNode},
    feed::{Poll, Position},
    node::InstanceWish,
    rpc::Call,
};
use daemon::{Context, reconcile::Wake};
use futures_util::{StreamExt, stream};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::{NodeId, network::NetworkDocument};

use crate::Cc;

/// Wishes on their way to one node at once: its disks and libvirt take no more to advantage.
const PUSHES_AT_ONCE: usize = 8;

/// How patient a relay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long a poll waits for news: an answer at least this often says that the node is there.
    pub poll_wait_ms: u64,
    /// How long a push may take.
    pub push_deadline_ms: u64,
    /// The first pause after a failure.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            poll_wait_ms: 5_000,
            push_deadline_ms: control::rpc::DEADLINE_MS,
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
        }
    }
}

/// A running relay; dropping it stops it.
pub(crate) struct Relay {
    /// The roster line that it serves.
    pub line: RosterNode,
    /// The way to the node.
    pub client: Arc<dyn Node>,
    /// Says that there may be something to push.
    pub wake: Wake,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Side {
    cc: Cc,
    node: NodeId,
    client: Arc<dyn Node>,
    context: Context,
    timing: Timing,
    wake: Wake,
}

/// Starts the relay of a node.
pub(crate) fn start(
    cc: &Cc,
    context: &Context,
    line: RosterNode,
    client: Arc<dyn Node>,
    timing: Timing,
) -> Relay {
    let stop = context.cancel.child_token();
    let side = Side {
        cc: cc.clone(),
        node: line.node.clone(),
        client: client.clone(),
        context: context.clone(),
        timing,
        wake: Wake::new(),
    };
    let wake = side.wake.clone();
    until(context, &stop, side.clone().listen());
    until(context, &stop, side.push());
    Relay {
        line,
        client,
        wake,
        _stop: stop.drop_guard(),
    }
}

fn until(
    context: &Context,
    stop: &CancellationToken,
    work: impl Future<Output = ()> + Send + 'static,
) {
    let stop = stop.clone();
    context.detach(async move {
        tokio::select! { () = stop.cancelled() => {}, () = work => {} }
    });
}

/// Pauses that double with each failure in a row.
struct Pause {
    next: Duration,
    timing: Timing,
}

impl Pause {
    fn new(timing: Timing) -> Self {
        Self {
            next: timing.pause_min,
            timing,
        }
    }

    fn reset(&mut self) {
        self.next = self.timing.pause_min;
    }

    async fn pass(&mut self, context: &Context) {
        context.clock.sleep(self.next).await;
        self.next = (self.next * 2).min(self.timing.pause_max);
    }
}

impl Side {
    fn call(&self, what: &str) -> Call {
        Call::new(format!("{what}-{}", self.node))
    }

    async fn listen(self) {
        let mut after: Option<Position> = None;
        let mut pause = Pause::new(self.timing);
        loop {
            match self.ask(after.clone()).await {
                Ok(position) => {
                    after = Some(position);
                    pause.reset();
                }
                Err(error) => {
                    tracing::debug!(node = %self.node, %error, "no news");
                    let failed = |book: &mut crate::book::Book| {
                        book.nodes.failed(&self.node, error.message.clone());
                    };
                    self.cc.with_book(failed).await;
                    pause.pass(&self.context).await;
                }
            }
        }
    }

    async fn ask(&self, after: Option<Position>) -> Result<Position, CallError> {
        let wait_ms = self.timing.poll_wait_ms;
        let call = self.call("listen").polling_ms(wait_ms);
        let said = self.client.changes(&call, Poll { after, wait_ms }).await?;
        let position = said.position.clone();
        self.cc.heard(&self.node, said).await?;
        Ok(position)
    }

    async fn push(self) {
        let mut pause = Pause::new(self.timing);
        loop {
            let (document, wishes) = self.owed().await;
            if document.is_none() && wishes.is_empty() {
                pause.reset();
                self.wake.woken().await;
                continue;
            }
            let network_failed = match document {
                Some(document) => !self.push_network(document).await,
                None => false,
            };
            let failures = stream::iter(wishes)
                .map(|wish| self.push_wish(wish))
                .buffer_unordered(PUSHES_AT_ONCE)
                .filter(|passed| std::future::ready(!passed))
                .count()
                .await;
            if network_failed || failures > 0 {
                pause.pass(&self.context).await;
            } else {
                pause.reset();
            }
        }
    }

    async fn owed(&self) -> (Option<NetworkDocument>, Vec<InstanceWish>) {
        self.cc
            .with_book(|book| (book.owed_network(&self.node), book.owed(&self.node)))
            .await
    }

    /// Says whether it passed.
    async fn push_network(&self, document: NetworkDocument) -> bool {
        let call = self.call("network").within_ms(self.timing.push_deadline_ms);
        match self.client.network(&call, document).await {
            Ok(taken) => {
                let note =
                    |book: &mut crate::book::Book| book.note_network(&self.node, taken.version);
                self.cc.with_book(note).await;
                true
            }
            Err(error) => {
                tracing::debug!(node = %self.node, %error, "network document not taken");
                false
            }
        }
    }

    /// Says whether it passed, or was refused for good.
    async fn push_wish(&self, wish: InstanceWish) -> bool {
        let (instance, generation) = (wish.instance.clone(), wish.generation);
        let call = self.call("wish").within_ms(self.timing.push_deadline_ms);
        match self.client.instance(&call, wish).await {
            Ok(taken) => {
                let generation = taken.generation.max(generation);
                let note = |book: &mut crate::book::Book| {
                    book.note_taken(&self.node, &instance, generation);
                };
                self.cc.with_book(note).await;
                true
            }
            Err(error) if error.code.may_pass() => {
                tracing::debug!(node = %self.node, %instance, %error, "wish not taken");
                false
            }
            Err(error) => {
                tracing::warn!(node = %self.node, %instance, %error, "wish refused");
                let note = |book: &mut crate::book::Book| {
                    book.refused(&self.node, &instance, generation, &error)
                };
                if let Some(report) = self.cc.with_book(note).await {
                    self.cc.show(ClusterChange::Instance(Box::new(report)));
                }
                true
            }
        }
    }
}
