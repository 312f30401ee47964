//! Says what the node is and has, whenever that changes.

use std::{net::Ipv4Addr, time::Duration};

use control::node::{NodeReport, Seen, Shape};
use daemon::{
    BoxError,
    metrics::Metrics,
    ready::Condition,
    reconcile::{Reconcile, Summary},
};
use prometheus_client::metrics::{family::Family, gauge::Gauge};
use tokio::sync::watch;
use types::{Gib, Mib};

use crate::keepers::Keepers;

/// The reconciler.
pub struct ReportNode {
    /// The keepers, whose instances take from the node.
    pub keepers: Keepers,
    /// The host's name.
    pub hostname: String,
    /// The node's address for vxlan.
    pub underlay: Ipv4Addr,
    /// What it may give in all.
    pub capacity: Shape,
    /// The hypervisor's versions, or why it cannot be reached.
    pub hypervisor: watch::Receiver<Result<String, String>>,
    /// What `/readyz` shows.
    pub ready: Condition,
    /// What `/metrics` shows.
    pub instances: InstanceCounts,
}

/// How many instances are in each state.
#[derive(Debug, Clone)]
pub struct InstanceCounts(Family<Vec<(&'static str, &'static str)>, Gauge>);

impl InstanceCounts {
    /// Counts that `/metrics` shows.
    pub fn new(metrics: &Metrics) -> Self {
        let counts = Family::default();
        let help = "Instances on this node by state";
        metrics.register(|registry| registry.register("instances", help, counts.clone()));
        Self(counts)
    }

    fn set(&self, seen: impl Iterator<Item = Seen>) {
        let mut counts = [0_i64; 4];
        for seen in seen {
            counts[seen as usize] += 1;
        }
        for (word, count) in SEEN_WORDS.into_iter().zip(counts) {
            self.0.get_or_create(&vec![("state", word)]).set(count);
        }
    }
}

/// In the order of [`Seen`].
const SEEN_WORDS: [&str; 4] = ["pending", "running", "shutting-down", "terminated"];

impl Reconcile for ReportNode {
    const NAME: &'static str = "report_node";
    const PERIOD: Duration = Duration::from_secs(5);

    async fn pass(&mut self) -> Result<Summary, BoxError> {
        let report = self.report();
        match &report.not_ready {
            None => self.ready.met(),
            Some(why) => self.ready.unmet(why.clone()),
        }
        self.keepers.site().report_node(report);
        let reports = self.keepers.reports();
        self.instances
            .set(reports.values().map(|report| report.seen));
        Ok(Summary::nothing())
    }
}

impl ReportNode {
    fn report(&self) -> NodeReport {
        let site = self.keepers.site();
        let hypervisor = self.hypervisor.borrow().clone();
        let network = site.networks.applied().borrow().clone();
        let adopting = "still looking for the instances of an earlier life".to_owned();
        NodeReport {
            node: site.node.clone(),
            hostname: self.hostname.clone(),
            underlay: self.underlay,
            capacity: self.capacity,
            used: sum(site.residents.all().iter().map(|wish| wish.spec.shape)),
            hypervisor: format!(
                "{}, {}",
                site.host.accel.as_str(),
                hypervisor.as_deref().unwrap_or("version unknown")
            ),
            network_version: network.version,
            network_failures: network.failures(),
            not_ready: hypervisor
                .err()
                .or((!self.keepers.has_adopted()).then_some(adopting)),
        }
    }
}

fn sum(shapes: impl Iterator<Item = Shape>) -> Shape {
    shapes.fold(Shape::default(), |sum, shape| Shape {
        vcpus: sum.vcpus.saturating_add(shape.vcpus),
        memory_mib: Mib(sum.memory_mib.0.saturating_add(shape.memory_mib.0)),
        disk_gib: Gib(sum.disk_gib.0.saturating_add(shape.disk_gib.0)),
    })
}
