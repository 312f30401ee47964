//! Every cluster has the newest network document.

use std::{collections::HashMap, sync::Arc, time::Duration};

use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};
use types::Zone;

use super::{answering_clusters, call};
use crate::{Clc, network::document, rows::network};

/// See the module.
pub struct PublishNetwork {
    clc: Arc<Clc>,
    /// The version that each cluster has, in which of its lives.
    told: HashMap<Zone, (u64, u64)>,
}

impl PublishNetwork {
    /// Has told nobody yet.
    pub fn new(clc: Arc<Clc>) -> Self {
        Self {
            clc,
            told: HashMap::new(),
        }
    }
}

impl Reconcile for PublishNetwork {
    const NAME: &'static str = "publish_network";
    const PERIOD: Duration = Duration::from_secs(1);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let mut summary = Summary::nothing();
        for zone in answering_clusters(&self.clc) {
            self.publish(zone, &mut summary).await?;
        }
        Ok(summary)
    }
}

impl PublishNetwork {
    async fn publish(&mut self, zone: Zone, summary: &mut Summary) -> Result<(), BoxError> {
        let Some(cluster) = self.clc.peers.cluster(&zone) else {
            return Ok(());
        };
        let life = self.clc.seen.cluster(&zone).lives;
        let asked = zone.clone();
        let version = self
            .clc
            .db
            .read(move |tx| network::version(tx, &asked))
            .await?;
        if self.told.get(&zone) == Some(&(version, life)) {
            return Ok(());
        }
        let (of_zone, config) = (zone.clone(), self.clc.config.clone());
        let domain = self.clc.config.domain(&self.clc.region);
        let document = self
            .clc
            .db
            .read(move |tx| document(tx, &of_zone, &config, &domain))
            .await?;
        let version = document.version;
        match cluster.network(&call(Self::NAME), document).await {
            Ok(_) => {
                summary.count("published", 1);
                tracing::debug!(%zone, version, "network published");
                self.told.insert(zone, (version, life));
            }
            Err(error) => {
                summary.count("failed", 1);
                tracing::warn!(%zone, version, %error, "the network document was not taken");
            }
        }
        Ok(())
    }
}
