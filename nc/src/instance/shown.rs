//! How an instance's state is shown to those above: one of four words, and a stage in plain words.

use control::node::Seen;
use types::StateReason;

use super::{Failed, Instance, Phase, Reboot, Stop, Wipe, internal_error};

impl Instance {
    /// The word that goes up.
    pub fn seen(&self) -> Seen {
        match &self.phase {
            Phase::Preparing { .. } | Phase::Starting { .. } | Phase::Held { .. } => Seen::Pending,
            Phase::Running { .. } | Phase::Paused(_) | Phase::Bundling { .. } => Seen::Running,
            Phase::Stopping { .. } | Phase::Wiping { .. } => Seen::ShuttingDown,
            Phase::Terminated => Seen::Terminated,
        }
    }

    /// What it is doing; `progress` is what the disk maker says of itself. Nothing if it rests.
    pub fn stage(&self, progress: &str) -> String {
        match &self.phase {
            Phase::Preparing { disks: None, .. } if progress.is_empty() => {
                "preparing the disks".to_owned()
            }
            Phase::Preparing { disks: None, .. } => progress.to_owned(),
            Phase::Preparing { hindered, .. } => {
                let version = self.wish.spec.network_version;
                with_why(format!("waiting for network version {version}"), hindered)
            }
            Phase::Starting { .. } => "starting".to_owned(),
            Phase::Held { failed } => failed.held_stage(),
            Phase::Running { reboot } => reboot.stage(),
            Phase::Paused(paused) => paused.stage(),
            Phase::Bundling { down: None, .. } if progress.is_empty() => "bundling".to_owned(),
            Phase::Bundling { down: None, .. } => progress.to_owned(),
            Phase::Bundling {
                down: Some(how), ..
            } => format!("to be bundled: {}", how.stage()),
            Phase::Stopping { how } => how.stage(),
            Phase::Wiping { how } => how.stage(),
            Phase::Terminated => String::new(),
        }
    }
}

impl Instance {
    /// Why it is of no use though it has come to run before; none while all is well.
    pub fn impaired(&self) -> Option<StateReason> {
        match &self.phase {
            Phase::Paused(paused) => Some(internal_error(&paused.stage())),
            Phase::Preparing { .. } | Phase::Starting { .. } | Phase::Held { .. } => {
                self.failed().map(Failed::held)
            }
            Phase::Running { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => None,
        }
    }
}

impl Reboot {
    fn stage(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Asked { .. } => "rebooting: the guest was asked".to_owned(),
            Self::Resetting { .. } => "rebooting: hard reset".to_owned(),
            Self::Pausing { failed, .. } => failed.stage("rebooting: hard reset"),
        }
    }
}

impl Stop {
    fn stage(&self) -> String {
        match self {
            Self::Asked => "shutting down: the guest was asked".to_owned(),
            Self::Forcing { .. } => "ending the domain".to_owned(),
            Self::Pausing { failed } => failed.stage("ending the domain"),
        }
    }
}

impl Wipe {
    fn stage(&self) -> String {
        match self {
            Self::Removing { .. } => "removing the disks".to_owned(),
            Self::Pausing { failed } => failed.stage("removing the disks"),
        }
    }
}

impl Failed {
    fn stage(&self, doing: &str) -> String {
        format!(
            "{doing}: failed {} times, trying again: {}",
            self.attempt, self.why
        )
    }
}

/// What is done, and what hinders it, if anything does.
pub(super) fn with_why(what: String, why: &str) -> String {
    if why.is_empty() {
        return what;
    }
    format!("{what}: {why}")
}
