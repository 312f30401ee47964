//! The rows say what clusters and stores last said, at once: a long poll to each.
//!
//! A reconciler that starts one follower per peer as peers join; the followers are keepers that live
//! as long as the daemon. A peer that comes back in another life is told everything again.

use std::{collections::HashSet, sync::Arc, time::Duration};

use control::{
    CallError, Changes, POLL_WAIT_MS_MAX, Position, cluster::ClusterChange, feed::Poll, rpc::Call,
    storage::StorageChange,
};
use daemon::{
    BoxError, Context, chain,
    reconcile::{Reconcile, Summary},
};
use types::Zone;

use super::{observe, wake_pushers};
use crate::{Clc, seen::Answers};

/// Between polls of a peer that does not answer: short, for its return should be seen at once, and
/// cheap, for a refused connection costs nothing.
const RETRY: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Cluster,
    Storage,
}

/// See the module.
pub struct Follow {
    clc: Arc<Clc>,
    context: Context,
    followed: HashSet<(Kind, Zone)>,
}

impl Follow {
    /// Follows nobody yet.
    pub fn new(clc: Arc<Clc>, context: Context) -> Self {
        Self {
            clc,
            context,
            followed: HashSet::new(),
        }
    }

    fn start(&mut self, kind: Kind, zone: Zone) -> u64 {
        if !self.followed.insert((kind, zone.clone())) {
            return 0;
        }
        let (clc, cancel) = (self.clc.clone(), self.context.cancel.clone());
        self.context.spawn("follow", async move {
            let following = async {
                match kind {
                    Kind::Cluster => follow_cluster(&clc, &zone).await,
                    Kind::Storage => follow_storage(&clc, &zone).await,
                }
            };
            // Cut off anywhere: what was not committed is said again to our next life.
            tokio::select! { () = cancel.cancelled() => {}, () = following => {} }
            Ok::<(), BoxError>(())
        });
        1
    }
}

impl Reconcile for Follow {
    const NAME: &'static str = "follow";
    const PERIOD: Duration = Duration::from_secs(5);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        for zone in self.clc.peers.zones() {
            summary.count("started", self.start(Kind::Cluster, zone));
        }
        for zone in self.clc.peers.storage_zones() {
            summary.count("started", self.start(Kind::Storage, zone));
        }
        Ok(summary)
    }
}

fn poll(after: &Option<Position>) -> (Call, Poll) {
    let wait_ms = POLL_WAIT_MS_MAX;
    (
        Call::new("follow").polling_ms(wait_ms),
        Poll {
            after: after.clone(),
            wait_ms,
        },
    )
}

async fn follow_cluster(clc: &Arc<Clc>, zone: &Zone) {
    let mut after = None;
    loop {
        let (call, poll) = poll(&after);
        let Some(cluster) = clc.peers.cluster(zone) else {
            return;
        };
        let outcome = match cluster.changes(&call, poll).await {
            Ok(changes) => take_cluster(clc, zone, changes).await,
            Err(error) => Err(Silent::Peer(error)),
        };
        match outcome {
            Ok(position) => after = Some(position),
            Err(silent) => {
                let why = silent.why();
                clc.seen.note_cluster(zone, |seen| {
                    note_silence(&mut seen.answers, &why);
                    seen.answering_since = None;
                });
                clc.clock.sleep(RETRY).await;
            }
        }
    }
}

async fn follow_storage(clc: &Arc<Clc>, zone: &Zone) {
    let mut after = None;
    loop {
        let (call, poll) = poll(&after);
        let Some(storage) = clc.peers.storage(zone) else {
            return;
        };
        let outcome = match storage.changes(&call, poll).await {
            Ok(changes) => take_storage(clc, zone, changes).await,
            Err(error) => Err(Silent::Peer(error)),
        };
        match outcome {
            Ok(position) => after = Some(position),
            Err(silent) => {
                let why = silent.why();
                clc.seen
                    .note_storage(zone, |seen| note_silence(&mut seen.answers, &why));
                clc.clock.sleep(RETRY).await;
            }
        }
    }
}

/// Why there is no news.
enum Silent {
    Peer(CallError),
    Ours(store::Error),
}

impl Silent {
    fn why(&self) -> String {
        match self {
            Self::Peer(error) => error.to_string(),
            Self::Ours(error) => format!("its news could not be written: {}", chain(error)),
        }
    }
}

fn note_silence(answers: &mut Answers, why: &str) {
    if !matches!(answers, Answers::Not(..)) {
        tracing::warn!(why, "a peer does not answer");
    }
    *answers = Answers::Not(why.to_owned(), answers.last());
}

/// Writes what a cluster said, and only then moves on: news that were not written are asked again.
async fn take_cluster(
    clc: &Arc<Clc>,
    zone: &Zone,
    changes: Changes<ClusterChange>,
) -> Result<Position, Silent> {
    let Changes {
        position,
        full,
        items,
    } = changes;
    let now = clc.now();
    let observed = if full || !items.is_empty() {
        let zone = zone.clone();
        let written = clc
            .db
            .write(move |tx| observe::cluster(tx, &zone, full, items, now))
            .await;
        written.map_err(Silent::Ours)?
    } else {
        observe::Observed::default()
    };
    let mut was_silent = full;
    clc.seen.note_cluster(zone, |seen| {
        was_silent |= !matches!(seen.answers, Answers::At(_));
        seen.answers = Answers::At(now);
        if was_silent {
            seen.answering_since = Some(now);
        }
        seen.lives += u64::from(full);
        if full {
            seen.nodes.clear();
        }
        for node in observed.nodes {
            seen.nodes.insert(node.node.clone(), node);
        }
    });
    if was_silent {
        wake_pushers(clc);
        clc.wakes.peers.wake();
    }
    if observed.network_changed {
        clc.wakes.network.wake();
    }
    if observed.wishes_changed {
        clc.wakes.instances.wake();
    }
    Ok(position)
}

async fn take_storage(
    clc: &Arc<Clc>,
    zone: &Zone,
    changes: Changes<StorageChange>,
) -> Result<Position, Silent> {
    let Changes {
        position,
        full,
        items,
    } = changes;
    let now = clc.now();
    let mut pool = None;
    if full || !items.is_empty() {
        let zone = zone.clone();
        let written = clc
            .db
            .write(move |tx| observe::storage(tx, &zone, full, items, now))
            .await;
        pool = written.map_err(Silent::Ours)?;
    }
    let mut was_silent = full;
    clc.seen.note_storage(zone, |seen| {
        was_silent |= !matches!(seen.answers, Answers::At(_));
        seen.answers = Answers::At(now);
        seen.pool = pool.or(seen.pool.take());
    });
    if was_silent {
        clc.wakes.volumes.wake();
    }
    Ok(position)
}
