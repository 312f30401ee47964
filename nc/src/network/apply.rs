//! Makes the held document so. A pass looks at the host as it is, so the periodic one also repairs
//! what somebody else has broken.

use std::{sync::Arc, time::Duration};

use daemon::{
    BoxError,
    ready::Condition,
    reconcile::{Reconcile, Summary},
};
use net::{Applied, Desired};

use super::{Network, Place};

/// Applies the held document.
pub(super) struct ApplyNetwork {
    network: Arc<Network>,
    ready: Condition,
    noted: u64,
}

impl ApplyNetwork {
    pub(super) fn new(network: Arc<Network>, ready: Condition) -> Self {
        Self {
            network,
            ready,
            noted: 0,
        }
    }

    /// Problems are the CLC's to solve: said once for each version.
    fn note_problems(&mut self, applied: &Applied) {
        if applied.version == self.noted {
            return;
        }
        self.noted = applied.version;
        for problem in &applied.problems {
            let (vpc, what) = (&problem.vpc, &problem.what);
            tracing::error!(%vpc, what, version = applied.version, "left out of the network");
        }
    }
}

impl Reconcile for ApplyNetwork {
    const NAME: &'static str = "apply_network";
    /// Damage from outside is repaired within a minute.
    const PERIOD: Duration = Duration::from_secs(60);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let Some(document) = self.network.held.document() else {
            // Nobody has said yet what the network is to be. What is there stays as it is.
            self.ready.met();
            return Ok(Summary::nothing());
        };
        let desired = net::compile(&document, &self.network.node);
        let applied = self.network.applier.apply(&desired).await;

        self.note_problems(&applied);
        publish(&self.network, &desired, &applied);
        match complaint(&applied) {
            None => self.ready.met(),
            Some(why) => {
                self.ready.unmet(&why);
                return Err(why.into());
            }
        }
        let mut summary = Summary::nothing();
        summary.count("changes", applied.changes as u64);
        Ok(summary)
    }
}

/// A VPC is served, and its guests may start, as soon as its own part is so and the node's.
fn publish(network: &Network, desired: &Desired, applied: &Applied) {
    let served = desired.vpcs.iter().filter(|vpc| applied.serves(&vpc.vpc));
    let places: Vec<Place> = served
        .map(|vpc| Place {
            vpc: vpc.vpc.clone(),
            namespace: vpc.namespace.clone(),
        })
        .collect();
    network.places.send_if_modified(|old| {
        let changed = **old != places;
        *old = Arc::new(places);
        changed
    });
    network.applied.send_if_modified(|old| {
        let now = old.after(applied);
        let changed = **old != now;
        *old = Arc::new(now);
        changed
    });
}

fn complaint(applied: &Applied) -> Option<String> {
    let first = applied.failures.first()?;
    let whose = first
        .vpc
        .as_ref()
        .map_or_else(|| "the node".to_owned(), ToString::to_string);
    let more = match applied.failures.len() {
        1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    };
    Some(format!(
        "network version {} at {whose}: {}{more}",
        applied.version, first.why
    ))
}
