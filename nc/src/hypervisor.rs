//! The hypervisor as a role: starts, ends and lists domains, and says when one changes.
//!
//! Every call answers within its own limit, whatever the hypervisor does, and may be made again:
//! starting what runs and ending what is gone are both success.

pub mod fake;
pub mod libvirt;

use async_trait::async_trait;
use tokio::sync::mpsc;
use types::{InstanceId, NodeId};

use crate::{
    domain::Domain,
    instance::{Cause, End},
};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The hypervisor cannot be reached now.
    #[error("the hypervisor cannot be reached: {0}")]
    Unreachable(String),
    /// No answer within the limit. The call may still come to pass.
    #[error("{doing}: no answer of the hypervisor in {seconds} s")]
    TimedOut {
        /// What was asked.
        doing: String,
        /// The limit.
        seconds: u64,
    },
    /// There is no such domain.
    #[error("there is no domain {0}")]
    NoDomain(InstanceId),
    /// The hypervisor refused.
    #[error("{doing}: {why}")]
    Refused {
        /// What was asked.
        doing: String,
        /// In its words.
        why: String,
    },
}

/// A domain that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name, which is an instance's id for ours.
    pub name: String,
    /// Whose mark it bears; none was not made by a node controller.
    pub mark: Option<Mark>,
    /// Why it stands still; none if it runs.
    pub paused: Option<Cause>,
}

impl Found {
    /// The instance, if the domain is one that this node made.
    pub fn ours(&self, node: &NodeId) -> Option<InstanceId> {
        let marked = self.mark.as_ref().is_some_and(|mark| mark.node == *node);
        marked.then(|| self.name.parse().ok()).flatten()
    }
}

/// The mark that we leave in a domain's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The node that made it.
    pub node: NodeId,
    /// The placement that it was made for.
    pub epoch: u64,
}

/// Something that happened unasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// A domain of that name ended.
    Gone(String, End),
    /// A domain of that name went through a reset.
    Reset(String),
    /// A domain of that name runs.
    Running(String),
    /// A domain of that name stands still.
    Paused(String, Cause),
    /// A domain of that name goes on.
    Resumed(String),
    /// The hypervisor can be reached, for the first time or again: what happened between is unknown.
    Connected,
    /// The hypervisor cannot be reached.
    Lost(String),
}

/// Where events come out. Some may be lost: [`Happened::Connected`] says when to look at all.
pub type Events = mpsc::Receiver<Happened>;

/// Events that wait to be taken: a node full of guests all ending at once, twice over.
pub const EVENTS_MAX: usize = 4096;

/// Runs domains.
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Starts a domain and returns when it runs. One of that name that runs already is it.
    async fn start(&self, domain: &Domain) -> Result<(), Error>;

    /// Ends a domain. None there is success.
    async fn destroy(&self, instance: &InstanceId) -> Result<(), Error>;

    /// Presses the power button. The guest does what it likes.
    async fn shutdown(&self, instance: &InstanceId) -> Result<(), Error>;

    /// Presses the power button so that the domain starts again when the guest is down.
    async fn reboot(&self, instance: &InstanceId) -> Result<(), Error>;

    /// Lets a domain that stands still go on. One that runs does already.
    async fn resume(&self, instance: &InstanceId) -> Result<(), Error>;

    /// Presses the reset button.
    async fn reset(&self, instance: &InstanceId) -> Result<(), Error>;

    /// All active domains, ours or not.
    async fn list(&self) -> Result<Vec<Found>, Error>;

    /// Types into the serial console.
    async fn type_in(&self, instance: &InstanceId, bytes: &[u8]) -> Result<(), Error>;

    /// Names and versions, `libvirt 9.0.0, QEMU 7.2.15`; why not, while it cannot be reached.
    async fn version(&self) -> Result<String, Error>;
}
