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

use crate::{cache::Cache, keepers::Keepers};

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
    /// The image cache, without which nothing is launched.
    pub cache: Cache,
    /// What `/readyz` shows of the hypervisor.
    pub ready: Condition,
    /// What `/readyz` shows of the image cache.
    pub cache_ready: Condition,
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
        show(&self.ready, self.hypervisor_fault());
        show(&self.cache_ready, self.cache.silence());
        self.keepers.site().report_node(self.report());
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
            not_ready: self.hypervisor_fault().or_else(|| self.cache.silence()),
        }
    }

    /// Why no guest can be started or looked after, if so.
    fn hypervisor_fault(&self) -> Option<String> {
        let adopting = || "still looking for the instances of an earlier life".to_owned();
        let unreachable = self.hypervisor.borrow().clone().err();
        unreachable.or_else(|| (!self.keepers.has_adopted()).then(adopting))
    }
}

fn show(condition: &Condition, fault: Option<String>) {
    match fault {
        None => condition.met(),
        Some(why) => condition.unmet(why),
    }
}

fn sum(shapes: impl Iterator<Item = Shape>) -> Shape {
    shapes.fold(Shape::default(), |sum, shape| Shape {
        vcpus: sum.vcpus.saturating_add(shape.vcpus),
        memory_mib: Mib(sum.memory_mib.0.saturating_add(shape.memory_mib.0)),
        disk_gib: Gib(sum.disk_gib.0.saturating_add(shape.disk_gib.0)),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::rig::{self, Rig};

    #[tokio::test]
    async fn a_node_whose_image_cache_is_silent_says_so_until_it_answers() {
        let rig = Rig::new();
        let node = rig.start().await;
        let cache = rig::cache_in(&rig.dir.path().join("cache"), Duration::from_millis(50));
        let (_libvirt, hypervisor) = watch::channel(Ok("libvirt 9".to_owned()));
        let mut report = ReportNode {
            keepers: node.keepers.clone(),
            hostname: "n1".to_owned(),
            underlay: Ipv4Addr::LOCALHOST,
            capacity: Shape::default(),
            hypervisor,
            cache: cache.clone(),
            ready: node.context.ready.condition("hypervisor"),
            cache_ready: node.context.ready.condition("image-cache"),
            instances: InstanceCounts::new(&node.context.metrics),
        };
        report.pass().await.unwrap();
        assert!(node.context.ready.report().ready);

        let (let_go, held) = mpsc::channel::<()>();
        let path = rig.dir.path().join("cache/file");
        let hung = cache.look(&path, move |_| Ok(held.recv().is_ok())).await;
        assert!(hung.unwrap_err().is_silence());
        report.pass().await.unwrap();
        let why = report.report().not_ready.unwrap();
        assert!(why.contains("has not answered for"), "{why}");
        assert!(!node.context.ready.report().ready);

        drop(let_go);
        let mut silent = cache.silent_since();
        silent.wait_for(Option::is_none).await.unwrap();
        report.pass().await.unwrap();
        assert_eq!(report.report().not_ready, None);
        assert!(node.context.ready.report().ready);
    }
}
