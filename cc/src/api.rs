//! The calls of the Cloud Controller.

use async_trait::async_trait;
use control::{
    CallError, Changes, Cluster, Code, Node,
    caches::{
        CacheReport, Caches, CachesAsk, ClusterWarm, EvictAsk, NodeCache, NodeEvict, NodeWarm,
    },
    cluster::{ClusterChange, Hold, HoldAsk, HoldRelease, Roster},
    feed::Poll,
    node::{ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceWish, NetworkTaken, Taken},
    rpc::Call,
};
use types::{NodeId, network::NetworkDocument};

use crate::Cc;

#[async_trait]
impl Cluster for Cc {
    async fn hold(&self, call: &Call, ask: HoldAsk) -> Result<Hold, CallError> {
        self.note_call();
        let reservation = ask.reservation.clone();
        let held = self.decide(move |book| book.hold(&ask)).await;
        self.metrics().held(&held);
        match &held {
            Ok(hold) => {
                let now = self.now();
                self.with_book(|book| book.prolong(&reservation, now)).await;
                let placed = hold.placements.len();
                tracing::info!(%reservation, placed, request_id = call.request_id, "held");
            }
            Err(error) => {
                tracing::info!(%reservation, %error, request_id = call.request_id, "not held");
            }
        }
        held
    }

    async fn release(&self, _: &Call, ask: HoldRelease) -> Result<Done, CallError> {
        let (reservation, now) = (ask.reservation.clone(), self.now());
        self.with_book(|book| book.note_given_back(reservation, now))
            .await;
        self.decide(move |book| Ok(book.release(&ask))).await
    }

    async fn instance(&self, call: &Call, wish: InstanceWish) -> Result<Taken, CallError> {
        self.note_call();
        let (instance, generation) = (wish.instance.clone(), wish.generation);
        let wanted = wish.wanted;
        let taken = self.decide(move |book| book.wish(&wish)).await;
        match &taken {
            Ok(_) => {
                let request_id = &call.request_id;
                tracing::info!(%instance, generation, ?wanted, request_id, "wish taken");
            }
            Err(error) => tracing::warn!(%instance, generation, %error, "wish not taken"),
        }
        taken
    }

    async fn roster(&self, _: &Call, roster: Roster) -> Result<Taken, CallError> {
        self.note_call();
        self.decide(move |book| Ok(book.take_roster(roster))).await
    }

    async fn network(
        &self,
        _: &Call,
        document: NetworkDocument,
    ) -> Result<NetworkTaken, CallError> {
        self.note_call();
        self.decide(move |book| Ok(book.take_network(document)))
            .await
    }

    async fn changes(&self, _: &Call, poll: Poll) -> Result<Changes<ClusterChange>, CallError> {
        self.note_call();
        Ok(self.poll(&poll).await)
    }

    async fn console_read(&self, call: &Call, ask: ConsoleRead) -> Result<ConsoleText, CallError> {
        let node = self.node_of(&ask.instance).await?;
        node.console_read(call, ask).await
    }

    async fn console_write(&self, call: &Call, ask: ConsoleWrite) -> Result<Done, CallError> {
        if ask.input.len() > CONSOLE_INPUT_MAX {
            let what = format!("at most {CONSOLE_INPUT_MAX} characters of base64 at once");
            return Err(CallError::new(Code::Invalid, what));
        }
        let node = self.node_of(&ask.instance).await?;
        node.console_write(call, ask).await
    }

    async fn caches(&self, call: &Call, ask: CachesAsk) -> Result<Caches, CallError> {
        Ok(self.ask_caches(call, &ask.nodes, &Asked::List).await)
    }

    async fn caches_warm(&self, call: &Call, ask: ClusterWarm) -> Result<Caches, CallError> {
        let warm = Asked::Warm(ask.warm);
        Ok(self.ask_caches(call, &ask.nodes, &warm).await)
    }

    async fn caches_evict(&self, call: &Call, ask: EvictAsk) -> Result<Caches, CallError> {
        let evict = Asked::Evict(NodeEvict { image: ask.image });
        Ok(self.ask_caches(call, &ask.nodes, &evict).await)
    }
}

/// What is asked of the nodes' caches.
enum Asked {
    List,
    Warm(NodeWarm),
    Evict(NodeEvict),
}

impl Asked {
    async fn of(&self, node: &dyn Node, call: &Call) -> Result<CacheReport, CallError> {
        match self {
            Self::List => node.cache(call, CachesAsk::default()).await,
            Self::Warm(warm) => node.cache_warm(call, warm.clone()).await,
            Self::Evict(evict) => node.cache_evict(call, evict.clone()).await,
        }
    }
}

impl Cc {
    /// Asks nodes of ours side by side; one that does not answer is one line of the answer.
    async fn ask_caches(&self, call: &Call, nodes: &[NodeId], asked: &Asked) -> Caches {
        self.note_call();
        let clients = self.clients(nodes).into_iter();
        let answers = clients.map(|(node, client)| async move {
            let (report, error) = match asked.of(&*client, call).await {
                Ok(report) => (Some(report), String::new()),
                Err(error) => (None, error.message),
            };
            NodeCache {
                node,
                report,
                error,
            }
        });
        Caches {
            nodes: futures_util::future::join_all(answers).await,
        }
    }
}

/// 4 KiB of keys in base64: more than anyone types between two calls.
const CONSOLE_INPUT_MAX: usize = 4096_usize.div_ceil(3) * 4;
