//! No cluster keeps room that nobody wants.

use std::{sync::Arc, time::Duration};

use control::cluster::HoldRelease;
use daemon::{
    BoxError,
    reconcile::{Reconcile, Summary},
};

use super::call;
use crate::Clc;

/// See the module.
pub struct ReleaseHolds(pub Arc<Clc>);

impl Reconcile for ReleaseHolds {
    const NAME: &'static str = "release_holds";
    const PERIOD: Duration = Duration::from_secs(1);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let clc = &self.0;
        let mut summary = Summary::nothing();
        for (zone, reservation) in clc.releases.due(clc.clock.monotonic_ms()) {
            let Some(cluster) = clc.peers.cluster(&zone) else {
                continue;
            };
            let ask = HoldRelease {
                reservation: reservation.clone(),
            };
            match cluster.release(&call(Self::NAME), ask).await {
                Ok(_) => {
                    summary.count("released", 1);
                    clc.releases.done(zone, reservation);
                }
                // The next pass asks again; in the end the lease does.
                Err(error) => {
                    summary.count("failed", 1);
                    tracing::debug!(%zone, %reservation, %error, "a hold was not released");
                }
            }
        }
        Ok(summary)
    }
}
