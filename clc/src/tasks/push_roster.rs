//! Every cluster knows its nodes.

use std::{collections::HashMap, sync::Arc, time::Duration};

use control::cluster::{Roster, RosterNode};
use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use store::{Error, Tx};
use types::Zone;

use super::{answering_clusters, call};
use crate::{Clc, rows::nodes};

/// See the module.
pub struct PushRoster {
    clc: Arc<Clc>,
    /// What each cluster has, in which of its lives.
    told: HashMap<Zone, (u64, u64)>,
}

impl PushRoster {
    /// Has told nobody yet.
    pub fn new(clc: Arc<Clc>) -> Self {
        Self {
            clc,
            told: HashMap::new(),
        }
    }
}

impl Reconcile for PushRoster {
    const NAME: &'static str = "push_roster";
    const PERIOD: Duration = Duration::from_secs(2);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        for zone in answering_clusters(&self.clc) {
            self.tell(zone, &mut summary).await?;
        }
        Ok(summary)
    }
}

impl PushRoster {
    async fn tell(&mut self, zone: Zone, summary: &mut Summary) -> Result<(), BoxError> {
        let Some(cluster) = self.clc.peers.cluster(&zone) else {
            return Ok(());
        };
        let life = self.clc.seen.cluster(&zone).lives;
        let of_zone = zone.clone();
        let roster = self.clc.db.read(move |tx| roster(tx, &of_zone)).await?;
        let newest = (roster.generation, life);
        if self.told.get(&zone) == Some(&newest) {
            return Ok(());
        }
        match cluster.roster(&call(Self::NAME), roster).await {
            Ok(_) => {
                summary.count("told", 1);
                self.told.insert(zone, newest);
            }
            Err(error) => {
                summary.count("failed", 1);
                tracing::warn!(%zone, %error, "the roster was not taken");
            }
        }
        Ok(())
    }
}

fn roster(tx: &Tx, zone: &Zone) -> Result<Roster, Error> {
    let nodes = nodes::of_zone(tx, zone)?
        .into_iter()
        .map(|node| RosterNode {
            node: node.id,
            address: node.address,
            dead: node.dead,
        });
    Ok(Roster {
        generation: nodes::roster_generation(tx, zone)?,
        nodes: nodes.collect(),
    })
}
