//! Every cluster has the newest wish of each of its instances.

use std::{sync::Arc, time::Duration};

use control::{Cluster, Code, node::InstanceWish};
use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use store::Error;
use tokio::task::JoinSet;
use types::{InstanceId, Zone};

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
    let (mut under_way, mut taken) = (JoinSet::new(), Vec::new());
    loop {
        while under_way.len() < UNDER_WAY_MAX
            && let Some(wish) = wishes.next()
        {
            under_way.spawn(push(cluster.clone(), wish));
        }
        match under_way.join_next().await {
            None => break,
            Some(Ok(Some(done))) => taken.push(done),
            Some(Ok(None)) => summary.count("refused", 1),
            Some(Err(panic)) => return Err(panic.into()),
        }
    }
    summary.count("taken", taken.len() as u64);
    if !taken.is_empty() {
        clc.db.write(move |tx| set_taken(tx, &taken)).await?;
    }
    Ok(())
}

async fn untaken(clc: &Clc, zone: &Zone) -> Result<Vec<InstanceWish>, Error> {
    let (zone, around) = (zone.clone(), clc.surroundings());
    clc.db.read(move |tx| wishes(tx, &around, &zone)).await
}

fn wishes(tx: &store::Tx, around: &Surroundings, zone: &Zone) -> Result<Vec<InstanceWish>, Error> {
    let mut wishes = Vec::new();
    for instance in instances::list_untaken(tx, zone)? {
        wishes.extend(wish::of_instance(tx, around, &instance)?);
    }
    Ok(wishes)
}

/// Gives one wish; the generation that the cluster has now, or nothing if it did not take it.
async fn push(cluster: Arc<dyn Cluster>, wish: InstanceWish) -> Option<(InstanceId, u64)> {
    let (instance, generation) = (wish.instance.clone(), wish.generation);
    match cluster.instance(&call("push_instances"), wish).await {
        Ok(taken) => Some((instance, taken.generation)),
        // It has something newer already, which is what we want it to have.
        Err(error) if error.code == Code::Conflict => Some((instance, generation)),
        Err(error) => {
            tracing::warn!(%instance, generation, %error, "a wish was not taken");
            None
        }
    }
}

fn set_taken(tx: &store::Tx, taken: &[(InstanceId, u64)]) -> Result<(), Error> {
    taken
        .iter()
        .try_for_each(|(instance, generation)| instances::set_taken(tx, instance, *generation))
}
