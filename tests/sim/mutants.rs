//! Broken parts that the campaign must find: a simulation that cannot fail shows nothing.

use std::sync::Arc;

use async_trait::async_trait;
use control::caches::{Caches, CachesAsk, ClusterWarm, EvictAsk};
use control::{
    CallError, Changes, Cluster,
    cluster::{ClusterChange, Hold, HoldAsk, HoldRelease, Roster},
    feed::Poll,
    node::{ConsoleRead, ConsoleText, ConsoleWrite, Done, InstanceWish, NetworkTaken, Taken},
    rpc::Call,
};
use testkit::node::Manner;
use types::network::NetworkDocument;

use crate::{
    campaign::{Plan, run},
    cloud::Size,
};

/// What is broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Nothing.
    #[default]
    None,
    /// Cluster Controllers forget a hold as soon as they gave it.
    ForgottenHolds,
    /// Cluster Controllers take wishes without keeping them.
    DroppedWishes,
    /// Nodes forget what has ended.
    ForgetfulNodes,
}

impl Mutation {
    /// The cluster as this mutation makes it.
    pub(crate) fn cluster(self, cluster: Arc<dyn Cluster>) -> Arc<dyn Cluster> {
        match self {
            Self::ForgottenHolds | Self::DroppedWishes => Arc::new(Mutant(cluster, self)),
            Self::None | Self::ForgetfulNodes => cluster,
        }
    }

    /// The nodes as this mutation makes them.
    pub(crate) fn manner(self, manner: Manner) -> Manner {
        Manner {
            forgetful: self == Self::ForgetfulNodes,
            ..manner
        }
    }
}

struct Mutant(Arc<dyn Cluster>, Mutation);

#[async_trait]
impl Cluster for Mutant {
    async fn hold(&self, call: &Call, ask: HoldAsk) -> Result<Hold, CallError> {
        let reservation = ask.reservation.clone();
        let hold = self.0.hold(call, ask).await?;
        if self.1 == Mutation::ForgottenHolds {
            self.0.release(call, HoldRelease { reservation }).await?;
        }
        Ok(hold)
    }

    async fn instance(&self, call: &Call, wish: InstanceWish) -> Result<Taken, CallError> {
        if self.1 == Mutation::DroppedWishes && wish.generation.is_multiple_of(2) {
            return Ok(Taken {
                generation: wish.generation,
            });
        }
        self.0.instance(call, wish).await
    }

    async fn release(&self, call: &Call, ask: HoldRelease) -> Result<Done, CallError> {
        self.0.release(call, ask).await
    }

    async fn roster(&self, call: &Call, ask: Roster) -> Result<Taken, CallError> {
        self.0.roster(call, ask).await
    }

    async fn network(&self, call: &Call, ask: NetworkDocument) -> Result<NetworkTaken, CallError> {
        self.0.network(call, ask).await
    }

    async fn changes(&self, call: &Call, ask: Poll) -> Result<Changes<ClusterChange>, CallError> {
        self.0.changes(call, ask).await
    }

    async fn console_read(&self, call: &Call, ask: ConsoleRead) -> Result<ConsoleText, CallError> {
        self.0.console_read(call, ask).await
    }

    async fn console_write(&self, call: &Call, ask: ConsoleWrite) -> Result<Done, CallError> {
        self.0.console_write(call, ask).await
    }

    async fn caches(&self, call: &Call, ask: CachesAsk) -> Result<Caches, CallError> {
        self.0.caches(call, ask).await
    }

    async fn caches_warm(&self, call: &Call, ask: ClusterWarm) -> Result<Caches, CallError> {
        self.0.caches_warm(call, ask).await
    }

    async fn caches_evict(&self, call: &Call, ask: EvictAsk) -> Result<Caches, CallError> {
        self.0.caches_evict(call, ask).await
    }
}

/// Runs campaigns with a mutation until one fails; says what it found.
fn found(mutation: Mutation) -> String {
    let seeds = 1..=10;
    let plan = |seed| Plan {
        mutation,
        ..Plan::new(seed, 200, Size::of(2, 4, 3))
    };
    let outcome = seeds.into_iter().find_map(|seed| run(plan(seed)).err());
    outcome.unwrap_or_else(|| panic!("{mutation:?} was not found in ten campaigns"))
}

#[test]
fn a_cluster_controller_that_forgets_its_holds_is_found() {
    let broken = found(Mutation::ForgottenHolds);
    assert!(broken.contains("refused"), "{broken}");
}

#[test]
fn a_cluster_controller_that_drops_wishes_is_found() {
    let broken = found(Mutation::DroppedWishes);
    assert!(
        broken.contains("shutting-down") || broken.contains("up, but"),
        "{broken}"
    );
}

#[test]
fn a_node_that_forgets_what_ended_is_found() {
    let broken = found(Mutation::ForgetfulNodes);
    let risen = broken.contains("was started") || broken.contains("is terminated and up");
    assert!(risen, "{broken}");
}
