//! Every cluster has the newest wish of each of its instances.

use std::{sync::Arc, time::Duration};

use control::{
    CallError, Cluster, Code,
    node::{InstanceWish, Wanted},
};
use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use store::{Error, Tx};
use tokio::task::JoinSet;
use types::{InstanceId, InstanceState, StateReason, Timestamp, Zone};

use super::{answering_clusters, call};
use crate::{
    Clc,
    rows::instances,
    wish::{self, Surroundings},
};

/// Wishes under way at once to one cluster: enough to fill the way there, few enough to be polite.
const UNDER_WAY_MAX: usize = 16;

/// See the module.
pub struct PushInstances(pub Arc<Clc>);

impl Reconcile for PushInstances {
    const NAME: &'static str = "push_instances";
    const PERIOD: Duration = Duration::from_secs(1);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        for zone in answering_clusters(&self.0) {
            push_zone(&self.0, &zone, &mut summary).await?;
        }
        Ok(summary)
    }
}

async fn push_zone(clc: &Clc, zone: &Zone, summary: &mut Summary) -> Result<(), BoxError> {
    let Some(cluster) = clc.peers.cluster(zone) else {
        return Ok(());
    };
    let mut wishes = untaken(clc, zone).await?.into_iter();
    let (mut under_way, mut outcomes) = (JoinSet::new(), Vec::new());
    loop {
        while under_way.len() < UNDER_WAY_MAX
            && let Some(wish) = wishes.next()
        {
            under_way.spawn(push(cluster.clone(), wish));
        }
        match under_way.join_next().await {
            None => break,
            Some(outcome) => outcomes.push(outcome?),
        }
    }
    if outcomes.is_empty() {
        return Ok(());
    }
    for (_, outcome) in &outcomes {
        summary.count(outcome.word(), 1);
    }
    let now = clc.now();
    // A refusal that changes nothing waits for the period like any other.
    if clc.db.write(move |tx| write(tx, &outcomes, now)).await? {
        clc.wakes.instances.wake();
    }
    Ok(())
}

async fn untaken(clc: &Clc, zone: &Zone) -> Result<Vec<InstanceWish>, Error> {
    let (zone, around) = (zone.clone(), clc.surroundings());
    clc.db.read(move |tx| wishes(tx, &around, &zone)).await
}

fn wishes(tx: &Tx, around: &Surroundings, zone: &Zone) -> Result<Vec<InstanceWish>, Error> {
    let mut wishes = Vec::new();
    for instance in instances::list_untaken(tx, zone)? {
        wishes.extend(wish::of_instance(tx, around, &instance)?);
    }
    Ok(wishes)
}

/// What a cluster answered to a wish.
#[derive(Debug)]
enum Outcome {
    /// It has this generation, or a newer one.
    Taken(u64),
    /// It will not have it, and asking again changes nothing.
    Refused(CallError),
    /// It could not answer; the next pass asks again.
    Failed,
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Taken(_) => "taken",
            Self::Refused(_) => "refused",
            Self::Failed => "failed",
        }
    }
}

async fn push(cluster: Arc<dyn Cluster>, wish: InstanceWish) -> (InstanceId, Outcome) {
    let (instance, generation) = (wish.instance.clone(), wish.generation);
    let outcome = match cluster.instance(&call("push_instances"), wish).await {
        Ok(taken) => Outcome::Taken(taken.generation),
        Err(error) => {
            tracing::warn!(%instance, generation, %error, "a wish was not taken");
            match error.code {
                Code::Conflict | Code::NoRoom => Outcome::Refused(error),
                Code::Unreachable
                | Code::Deadline
                | Code::Forbidden
                | Code::NotFound
                | Code::Invalid
                | Code::NotReady
                | Code::Internal => Outcome::Failed,
            }
        }
    };
    (instance, outcome)
}

/// Writes what became of wishes. Says whether one of them led to a newer wish.
fn write(tx: &Tx, outcomes: &[(InstanceId, Outcome)], now: Timestamp) -> Result<bool, Error> {
    let mut is_newer = false;
    for (instance, outcome) in outcomes {
        match outcome {
            Outcome::Taken(generation) => instances::set_taken(tx, instance, *generation)?,
            Outcome::Refused(error) => is_newer |= end_refused(tx, instance, error, now)?,
            Outcome::Failed => {}
        }
    }
    Ok(is_newer)
}

/// A launch that its cluster will not have (its hold ran out before the wish came, and the room is
/// gone) ends. One that a node has spoken of lives, and is left alone, unless the cluster has no
/// room for it: that it says only of what its node, which it has heard, does not have any more.
fn end_refused(tx: &Tx, id: &InstanceId, error: &CallError, now: Timestamp) -> Result<bool, Error> {
    let Some(instance) = instances::load(tx, id)? else {
        return Ok(false);
    };
    let is_unborn = instance.state == InstanceState::Pending && instances::seen(tx, id)?.is_none();
    let is_lost = error.code == Code::NoRoom && !is_unborn;
    if instance.wanted == Wanted::Terminated || !(is_unborn || is_lost) {
        return Ok(false);
    }
    let code = if is_lost {
        "Server.InternalError"
    } else {
        "Server.InsufficientInstanceCapacity"
    };
    let reason = StateReason::new(code, format!("{code}: {error}"));
    instances::want_terminated(tx, id, &reason, "", now)?;
    Ok(true)
}
