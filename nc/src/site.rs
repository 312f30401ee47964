//! What all keepers of a node share: its parts, its limits, and the feed that they report to.

use std::{path::PathBuf, sync::Arc, time::Duration};

use control::{
    Feed,
    node::{InstanceReport, NodeChange, NodeReport},
};
use daemon::{clock::SharedClock, reconcile::Wake};
use types::{InstanceId, NodeId};

use crate::{
    config::Limits,
    domain::Host,
    hypervisor::Hypervisor,
    instance::Wait,
    needs::{Bundles, Disks, Networks},
    residents::Residents,
};

/// The client's permission to store a bundle holds for a day at most.
const BUNDLE_LIMIT_S: u64 = 24 * 60 * 60;

/// What a change on the node is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The node itself.
    Node,
    /// An instance.
    Instance(InstanceId),
}

/// A guest whose disk is still full asks for it again within milliseconds of being resumed.
const PROOF_S: u64 = 2;

/// What was mended is found within two minutes; what never will be costs a fetch of its image in each.
const RETURN_PAUSE_MAX_S: u64 = 120;

/// Twice as long after each failure, up to a limit.
fn return_pause_s(first_s: u64, attempt: u32) -> u64 {
    let doubled = first_s.saturating_mul(1 << attempt.saturating_sub(1).min(32));
    doubled.min(RETURN_PAUSE_MAX_S.max(first_s))
}

/// The surroundings of every keeper.
pub struct Site {
    /// Which node this is.
    pub node: NodeId,
    /// Where each instance has its folder.
    pub instances: PathBuf,
    /// What is the same for all domains.
    pub host: Host,
    /// Which boot of the host this is.
    pub boot_id: String,
    /// How long things may take.
    pub limits: Limits,
    /// The time.
    pub clock: SharedClock,
    /// Runs domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Makes disks.
    pub disks: Arc<dyn Disks>,
    /// Makes bundles of them.
    pub bundles: Arc<dyn Bundles>,
    /// Keeps the network.
    pub networks: Arc<dyn Networks>,
    /// Who lives here.
    pub residents: Residents,
    /// Wakes whoever reports on the node as a whole.
    pub changed: Wake,
    feed: Feed<Subject, NodeChange>,
}

/// The parts that a node is made of.
pub struct Parts {
    /// Runs domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// Makes disks.
    pub disks: Arc<dyn Disks>,
    /// Makes bundles of them.
    pub bundles: Arc<dyn Bundles>,
    /// Keeps the network.
    pub networks: Arc<dyn Networks>,
    /// Who lives here.
    pub residents: Residents,
    /// The time.
    pub clock: SharedClock,
}

impl Site {
    /// Puts the parts together. The feed's epoch is new with each.
    pub fn new(
        instances: PathBuf,
        host: Host,
        boot_id: String,
        limits: Limits,
        parts: Parts,
    ) -> Arc<Self> {
        let epoch = format!("{:016x}", rand::random::<u64>());
        Arc::new(Self {
            node: host.node.clone(),
            instances,
            host,
            boot_id,
            limits,
            clock: parts.clock,
            hypervisor: parts.hypervisor,
            disks: parts.disks,
            bundles: parts.bundles,
            networks: parts.networks,
            residents: parts.residents,
            changed: Wake::new(),
            feed: Feed::new(epoch),
        })
    }

    /// What happens on the node, for the Cluster Controller.
    pub fn feed(&self) -> &Feed<Subject, NodeChange> {
        &self.feed
    }

    /// Reports on an instance.
    pub fn report(&self, report: InstanceReport) {
        let subject = Subject::Instance(report.instance.clone());
        self.feed
            .set(subject, NodeChange::Instance(Box::new(report)));
    }

    /// Reports on the node.
    pub fn report_node(&self, report: NodeReport) {
        self.feed.set(Subject::Node, NodeChange::Node(report));
    }

    /// Stops reporting on an instance.
    pub fn forget(&self, instance: &InstanceId) {
        self.feed.forget(&Subject::Instance(instance.clone()));
    }

    /// How long a wait may last.
    pub fn limit(&self, wait: Wait) -> Duration {
        let limits = &self.limits;
        Duration::from_secs(match wait {
            Wait::Disks => limits.disks_s,
            Wait::Network => limits.network_s,
            Wait::RebootGrace { .. } => limits.reboot_grace_s,
            Wait::ShutdownGrace => limits.shutdown_grace_s,
            Wait::Room => limits.resume_s,
            Wait::Proof => PROOF_S,
            Wait::Bundle => BUNDLE_LIMIT_S,
            Wait::Return { attempt } => return_pause_s(limits.retry_s, attempt),
            Wait::Pause { .. } => limits.retry_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_never_shorter_than_the_first() {
        let pauses: Vec<u64> = (1..=8).map(|n| return_pause_s(3, n)).collect();
        assert_eq!(pauses, [3, 6, 12, 24, 48, 96, 120, 120]);
        assert_eq!(return_pause_s(3, u32::MAX), 120);
        assert_eq!(return_pause_s(600, 1), 600);
        assert_eq!(return_pause_s(0, 9), 0);
    }
}
