//! Links that misbehave: a call may be lost on its way there or back, come late, come twice, or
//! meet a partition. What was delivered is carried out even if nobody waits for the answer any
//! more, as over a real network.

use std::{
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use control::caches::{CacheReport, Caches, CachesAsk, ClusterWarm, EvictAsk, NodeEvict, NodeWarm};
use control::{
    CallError, Changes, Cluster, Code, Node,
    cluster::{ClusterChange, Hold, HoldAsk, HoldRelease, Roster},
    feed::Poll,
    node::{
        ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceWish, NetworkTaken, NodeChange, Taken,
    },
    rpc::Call,
};
use types::network::NetworkDocument;

use crate::seed::{self, TestRng};

/// A second delivery comes later than the first by up to so many delays: the first may be history.
const LATE_TIMES: u32 = 60;

/// How badly links behave, in events per thousand calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weather {
    /// Requests that never arrive.
    pub requests_lost: u32,
    /// Answers that never arrive.
    pub answers_lost: u32,
    /// Requests that are delivered twice.
    pub doubled: u32,
    /// The longest delay each way.
    pub delay_ms: u64,
}

/// All links of a simulated cloud. Cheap to clone.
#[derive(Clone)]
pub struct Links(Arc<Mutex<State>>);

struct State {
    rng: TestRng,
    weather: Weather,
    cut: BTreeSet<String>,
}

/// What happens to one call.
struct Fate {
    lost: bool,
    answer_lost: bool,
    doubled_after: Option<Duration>,
    there: Duration,
    back: Duration,
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send>>;

impl Links {
    /// Links in good weather.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: seed::rng(seed),
            weather: Weather::default(),
            cut: BTreeSet::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the weather for all calls from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.state().weather = weather;
    }

    /// Cuts whatever has this name off.
    pub fn cut(&self, name: &str) {
        self.state().cut.insert(name.to_owned());
    }

    /// Joins it again.
    pub fn heal(&self, name: &str) {
        self.state().cut.remove(name);
    }

    /// Joins everything again.
    pub fn heal_all(&self) {
        self.state().cut.clear();
    }

    /// What is cut off.
    pub fn cuts(&self) -> Vec<String> {
        self.state().cut.iter().cloned().collect()
    }

    fn is_cut(&self, name: &str) -> bool {
        self.state().cut.contains(name)
    }

    fn fate(&self) -> Fate {
        let mut state = self.state();
        let weather = state.weather;
        let rng = &mut state.rng;
        let delay =
            |rng: &mut TestRng| Duration::from_millis(seed::below(rng, weather.delay_ms + 1));
        Fate {
            lost: seed::per_mille(rng, weather.requests_lost),
            answer_lost: seed::per_mille(rng, weather.answers_lost),
            doubled_after: seed::per_mille(rng, weather.doubled).then(|| LATE_TIMES * delay(rng)),
            there: delay(rng),
            back: delay(rng),
        }
    }

    /// Carries one call to what has this name, or does not.
    async fn carry<T: Send + 'static>(
        &self,
        name: &str,
        call: &Call,
        deliver: impl Fn() -> Answer<T> + Send + Sync + 'static,
    ) -> Result<T, CallError> {
        let limit = Duration::from_millis(call.deadline_ms);
        let fate = self.fate();
        let travel = async {
            tokio::time::sleep(fate.there).await;
            if fate.lost || self.is_cut(name) {
                return std::future::pending().await;
            }
            let answer = tokio::spawn(deliver());
            if let Some(after) = fate.doubled_after {
                let again = async move {
                    tokio::time::sleep(after).await;
                    let _nobody_waits = deliver().await;
                };
                tokio::spawn(again);
            }
            let answer = answer
                .await
                .unwrap_or_else(|_| Err(CallError::new(Code::Unreachable, "the peer died")));
            tokio::time::sleep(fate.back).await;
            if fate.answer_lost || self.is_cut(name) {
                return std::future::pending().await;
            }
            answer
        };
        tokio::time::timeout(limit, travel)
            .await
            .unwrap_or_else(|_| {
                Err(CallError::new(
                    Code::Deadline,
                    format!("no answer from {name}"),
                ))
            })
    }
}

/// A peer over such a link. The peer is looked up at each delivery: it may be down, or another
/// life of the same daemon.
pub struct Far<T: ?Sized> {
    links: Links,
    name: String,
    find: Arc<dyn Fn() -> Option<Arc<T>> + Send + Sync>,
}

impl<T: ?Sized> Far<T> {
    /// The peer of that name, found by `find` when a call reaches it.
    pub fn new(
        links: &Links,
        name: impl Into<String>,
        find: impl Fn() -> Option<Arc<T>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            links: links.clone(),
            name: name.into(),
            find: Arc::new(find),
        }
    }
}

fn down<T>() -> Result<T, CallError> {
    Err(CallError::new(Code::Unreachable, "connection refused"))
}

/// Each method: clone what is said for each delivery, find the peer, call it.
macro_rules! over_link {
    ($Trait:ident { $($method:ident($ask:ty) -> $answer:ty;)* }) => {
        #[async_trait]
        impl $Trait for Far<dyn $Trait> {
            $(
                async fn $method(&self, call: &Call, ask: $ask) -> Result<$answer, CallError> {
                    let (find, sent) = (self.find.clone(), call.clone());
                    let deliver = move || -> Answer<$answer> {
                        let (find, sent, ask) = (find.clone(), sent.clone(), ask.clone());
                        Box::pin(async move {
                            match find() {
                                Some(peer) => peer.$method(&sent, ask).await,
                                None => down(),
                            }
                        })
                    };
                    self.links.carry(&self.name, call, deliver).await
                }
            )*
        }
    };
}

over_link! { Node {
    instance(InstanceWish) -> Taken;
    network(NetworkDocument) -> NetworkTaken;
    changes(Poll) -> Changes<NodeChange>;
    console_read(ConsoleRead) -> ConsoleText;
    console_write(ConsoleWrite) -> Done;
    cache(CachesAsk) -> CacheReport;
    cache_warm(NodeWarm) -> CacheReport;
    cache_evict(NodeEvict) -> CacheReport;
} }

over_link! { Cluster {
    hold(HoldAsk) -> Hold;
    release(HoldRelease) -> Done;
    instance(InstanceWish) -> Taken;
    roster(Roster) -> Taken;
    network(NetworkDocument) -> NetworkTaken;
    changes(Poll) -> Changes<ClusterChange>;
    console_read(ConsoleRead) -> ConsoleText;
    console_write(ConsoleWrite) -> Done;
    caches(CachesAsk) -> Caches;
    caches_warm(ClusterWarm) -> Caches;
    caches_evict(EvictAsk) -> Caches;
} }
