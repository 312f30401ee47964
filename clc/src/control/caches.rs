//! The nodes' image caches, for the administrator's command: each zone's Cluster Controller is asked
//! for its nodes, all at once, and one that does not answer is a line of the answer.

use std::{collections::BTreeMap, sync::Arc};

use control::{
    CallError, Cluster, Code,
    caches::{Caches, CachesAsk, ClusterWarm, EvictAsk, NodeCache, NodeWarm, WarmAsk},
    node::ImageRef,
    rpc::Call,
};
use types::{ImageId, ImageState, NodeId, Zone};

use super::internal;
use crate::{
    Clc,
    rows::{
        images,
        nodes::{self, NodeRow},
    },
};

/// What the caches have.
pub(super) async fn list(clc: &Arc<Clc>, call: &Call, ask: CachesAsk) -> Result<Caches, CallError> {
    let zones = by_zone(clc, &ask.nodes).await?;
    Ok(ask_zones(clc, call, zones, Asked::List).await)
}

/// Has nodes fetch an image. For some hours they may ask for its tickets.
pub(super) async fn warm(clc: &Arc<Clc>, call: &Call, ask: WarmAsk) -> Result<Caches, CallError> {
    let zones = by_zone(clc, &ask.nodes).await?;
    let id = ask.image.clone();
    let found = clc.db.read(move |tx| images::find(tx, &id)).await;
    let image = found
        .map_err(internal)?
        .filter(|image| image.state == ImageState::Available)
        .ok_or_else(|| CallError::not_found(&ask.image))?;
    for node in zones.values().flatten() {
        let now_ms = clc.clock.monotonic_ms();
        clc.copies.warm(&node.id, &image.id, now_ms);
    }
    let warm = NodeWarm {
        image: ImageRef {
            id: image.id,
            manifest_sha256: image.manifest_sha256,
            size_bytes: image.size_bytes,
        },
        kind: image.kind,
    };
    Ok(ask_zones(clc, call, zones, Asked::Warm(warm)).await)
}

/// Has nodes remove an image. It need not be registered any more.
pub(super) async fn evict(clc: &Arc<Clc>, call: &Call, ask: EvictAsk) -> Result<Caches, CallError> {
    let zones = by_zone(clc, &ask.nodes).await?;
    Ok(ask_zones(clc, call, zones, Asked::Evict(ask.image)).await)
}

/// What is asked of the caches.
enum Asked {
    List,
    Warm(NodeWarm),
    Evict(ImageId),
}

impl Asked {
    async fn of(
        &self,
        cluster: &dyn Cluster,
        call: &Call,
        nodes: Vec<NodeId>,
    ) -> Result<Caches, CallError> {
        match self {
            Self::List => cluster.caches(call, CachesAsk { nodes }).await,
            Self::Warm(warm) => {
                let warm = warm.clone();
                cluster.caches_warm(call, ClusterWarm { warm, nodes }).await
            }
            Self::Evict(image) => {
                let image = image.clone();
                cluster.caches_evict(call, EvictAsk { image, nodes }).await
            }
        }
    }
}

/// The nodes that are meant, by zone. Dead ones are not, unless they are named.
async fn by_zone(
    clc: &Arc<Clc>,
    named: &[NodeId],
) -> Result<BTreeMap<Zone, Vec<NodeRow>>, CallError> {
    let all = clc.db.read(nodes::list).await.map_err(internal)?;
    if let Some(unknown) = named
        .iter()
        .find(|node| !all.iter().any(|row| row.id == **node))
    {
        return Err(CallError::not_found(unknown));
    }
    let mut zones: BTreeMap<Zone, Vec<NodeRow>> = BTreeMap::new();
    for row in all {
        let is_meant = named.contains(&row.id) || (named.is_empty() && !row.dead);
        if is_meant {
            zones.entry(row.zone.clone()).or_default().push(row);
        }
    }
    Ok(zones)
}

async fn ask_zones(
    clc: &Arc<Clc>,
    call: &Call,
    zones: BTreeMap<Zone, Vec<NodeRow>>,
    ask: Asked,
) -> Caches {
    let asked = zones.into_iter().map(|(zone, rows)| {
        let ask = &ask;
        async move {
            let nodes: Vec<NodeId> = rows.into_iter().map(|row| row.id).collect();
            let answered = match clc.peers.cluster(&zone) {
                Some(cluster) => {
                    let call = Call::new(call.request_id.clone()).within_ms(call.deadline_ms);
                    ask.of(&*cluster, &call, nodes.clone()).await
                }
                None => {
                    let what = format!("no Cluster Controller of {zone} has joined");
                    Err(CallError::new(Code::NotReady, what))
                }
            };
            match answered {
                Ok(caches) => all_of(nodes, caches.nodes),
                Err(error) => nodes
                    .into_iter()
                    .map(|node| silent(node, &error.message))
                    .collect(),
            }
        }
    });
    let nodes = futures_util::future::join_all(asked).await.concat();
    Caches { nodes }
}

/// A line for each node, the ones of which the Cluster Controller says nothing included.
fn all_of(nodes: Vec<NodeId>, mut told: Vec<NodeCache>) -> Vec<NodeCache> {
    let mut line = |node: NodeId| match told.iter().position(|line| line.node == node) {
        Some(at) => told.swap_remove(at),
        None => silent(node, "its Cluster Controller does not reach it"),
    };
    nodes.into_iter().map(&mut line).collect()
}

fn silent(node: NodeId, why: &str) -> NodeCache {
    NodeCache {
        node,
        report: None,
        error: why.to_owned(),
    }
}
