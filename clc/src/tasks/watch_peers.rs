//! `/readyz` says who does not answer: each zone's cluster, and Walrus.

use std::{sync::Arc, time::Duration};

use control::{objects::AskObjectsStatus, rpc::Call};
use daemon::{
    BoxError, Context,
    ready::Condition,
    reconcile::{Reconcile, Summary},
};

use crate::{Clc, seen::Answers};

/// Asking how Walrus is takes no longer than this, or it is not well.
const STATUS_DEADLINE_MS: u64 = 2_000;

/// See the module.
pub struct WatchPeers {
    clc: Arc<Clc>,
    clusters: Condition,
    objects: Condition,
}

impl WatchPeers {
    /// Declares the conditions `clusters` and `objects`.
    pub fn new(clc: Arc<Clc>, context: &Context) -> Self {
        let (clusters, objects) = (
            context.ready.condition("clusters"),
            context.ready.condition("objects"),
        );
        Self {
            clc,
            clusters,
            objects,
        }
    }
}

impl Reconcile for WatchPeers {
    const NAME: &'static str = "watch_peers";
    const PERIOD: Duration = Duration::from_secs(2);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        self.look_at_clusters();
        self.look_at_objects().await;
        Ok(Summary::nothing())
    }
}

impl WatchPeers {
    fn look_at_clusters(&self) {
        let zones = self.clc.peers.zones();
        let silent = zones
            .iter()
            .find_map(|zone| match self.clc.seen.cluster(zone).answers {
                Answers::At(_) => None,
                answers => Some(format!(
                    "the Cluster Controller of {zone}: {}",
                    answers.word()
                )),
            });
        match silent {
            Some(why) => self.clusters.unmet(why),
            None if zones.is_empty() => self.clusters.unmet("no Cluster Controller has joined yet"),
            None => self.clusters.met(),
        }
    }

    async fn look_at_objects(&self) {
        let Some(objects) = self.clc.peers.objects() else {
            return self.objects.unmet("Walrus has not joined yet");
        };
        let call = Call::new("watch_peers").within_ms(STATUS_DEADLINE_MS);
        let now = self.clc.now();
        match objects.status(&call, AskObjectsStatus {}).await {
            Ok(status) => {
                self.objects.met();
                self.clc.seen.note_objects(|seen| {
                    seen.answers = Answers::At(now);
                    seen.status = Some(status);
                });
            }
            Err(error) => {
                self.objects.unmet(format!("Walrus: {error}"));
                self.clc.seen.note_objects(|seen| {
                    seen.answers = Answers::Not(error.to_string(), seen.answers.last());
                });
            }
        }
    }
}
