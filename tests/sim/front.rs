//! A Cloud Controller as a campaign sees it: what clients and administrators ask, and its records.
//! The real one and the model stand behind it.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use async_trait::async_trait;
use control::CallError;
use types::{InstanceId, InstanceState, NodeId};

/// Why an instance is to end, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its user said so.
    Asked,
    /// Its node reported it.
    Reported(String),
    /// Its cluster refused its wish, so long after the hold.
    Refused(String, Duration),
    /// It was pending for too long.
    TooLong,
    /// Its node was declared dead.
    NodeDead,
}

/// An instance in the records.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) zone: usize,
    pub(crate) node: NodeId,
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    /// Its address, for as long as it is its.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) state: InstanceState,
    /// How long it has been in that state.
    pub(crate) age: Duration,
    pub(crate) why: Option<Why>,
}

/// A Cloud Controller that comes and goes.
#[async_trait]
pub(crate) trait Front: Send + Sync {
    /// Starts it, if it is down.
    async fn start(&self);
    /// Kills it. What is durable stays.
    fn kill(&self);
    /// Whether it runs.
    fn is_up(&self) -> bool;
    /// RunInstances: the answer is a promise.
    async fn run(&self, token: &str, count: u32, min: u32) -> Result<Vec<InstanceId>, CallError>;
    /// TerminateInstances.
    async fn terminate(&self, instance: &InstanceId) -> Result<(), CallError>;
    /// RebootInstances.
    async fn reboot(&self, instance: &InstanceId);
    /// The administrator declares a node dead.
    async fn declare_dead(&self, zone: usize, node: &NodeId);
    /// All instances that are still shown.
    async fn rows(&self) -> BTreeMap<InstanceId, Row>;
    /// What its own verification finds broken, if it has one.
    async fn verify(&self) -> Vec<String> {
        Vec::new()
    }
}
