//! What makes intent true, and observation known. A file per sentence:
//!
//! | task | what becomes true |
//! |---|---|
//! | [`push_instances`] | every cluster has the newest wish of each of its instances |
//! | [`push_volumes`] | every store has the newest wish of each of its volumes |
//! | [`keep_images`] | copies of images have parts of their own; deregistered images go when unused |
//! | [`push_roster`] | every cluster knows its nodes |
//! | [`publish_network`] | every cluster has the newest network document |
//! | [`release_holds`] | no cluster keeps room that nobody wants |
//! | [`follow`] | the rows say what clusters and stores last said, at once |
//! | [`watch_peers`] | `/readyz` says who does not answer |
//! | [`expire`] | what is gone is forgotten; what waits too long is given up |
//!
//! A task asks nobody who is known not to answer: following finds that out, and wakes the others
//! when it changes.

pub mod expire;
pub mod follow;
pub mod keep_images;
mod observe;
pub mod publish_network;
pub mod push_instances;
pub mod push_roster;
pub mod push_volumes;
pub mod release_holds;
pub mod watch_peers;

use std::sync::Arc;

use control::rpc::Call;
use daemon::Context;
use types::Zone;

use crate::{Clc, seen::Answers};

/// A cluster that has not taken a wish within this is not going to; the next pass asks again.
const PUSH_DEADLINE_MS: u64 = 5_000;

/// Starts all tasks.
pub fn start(clc: &Arc<Clc>, context: &Context) {
    let wakes = &clc.wakes;
    context.reconcile(
        push_instances::PushInstances(clc.clone()),
        wakes.instances.clone(),
    );
    context.reconcile(
        push_volumes::PushVolumes(clc.clone()),
        wakes.volumes.clone(),
    );
    context.reconcile(
        keep_images::KeepImages::new(clc.clone()),
        wakes.images.clone(),
    );
    context.reconcile(
        push_roster::PushRoster::new(clc.clone()),
        wakes.roster.clone(),
    );
    context.reconcile(
        publish_network::PublishNetwork::new(clc.clone()),
        wakes.network.clone(),
    );
    context.reconcile(
        watch_peers::WatchPeers::new(clc.clone(), context),
        wakes.peers.clone(),
    );
    context.reconcile(expire::Expire::new(clc.clone()), wakes.expire.clone());
    context.reconcile(
        release_holds::ReleaseHolds(clc.clone()),
        wakes.releases.clone(),
    );
    context.reconcile(
        follow::Follow::new(clc.clone(), context.clone()),
        wakes.followers.clone(),
    );
}

/// Wakes everything that tells a peer something: it joined, moved, or came back.
fn wake_pushers(clc: &Clc) {
    clc.wakes.roster.wake();
    clc.wakes.network.wake();
    clc.wakes.instances.wake();
    clc.wakes.volumes.wake();
}

fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

fn call(task: &'static str) -> Call {
    Call::new(task).within_ms(PUSH_DEADLINE_MS)
}

/// The zones whose cluster is not known to be silent.
fn answering_clusters(clc: &Clc) -> Vec<Zone> {
    let silent = |zone: &Zone| matches!(clc.seen.cluster(zone).answers, Answers::Not(..));
    clc.peers
        .zones()
        .into_iter()
        .filter(|zone| !silent(zone))
        .collect()
}
