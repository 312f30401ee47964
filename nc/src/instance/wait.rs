//! What a state waits for, and what its end in vain amounts to.

use super::{
    Action, Instance, Paused, Phase, Reboot, Resume, Stop, Wipe, internal_error, shown::with_why,
};

/// What a state waits for, so long and no longer. The same value is the same waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The disks.
    Disks,
    /// The network, the disks being ready.
    Network,
    /// The guest, to reboot.
    RebootGrace {
        /// Which reboot.
        target: u32,
    },
    /// The host's disk, to have room again for a guest that stands still for want of it.
    Room,
    /// The guest that was resumed, to stop at once again.
    Proof,
    /// The guest, to shut down.
    ShutdownGrace,
    /// The bundle of its disk.
    Bundle,
    /// A while, before the next attempt to have a guest run that has run before.
    Return {
        /// After how many failures.
        attempt: u32,
    },
    /// A while, before the next attempt.
    Pause {
        /// After how many failures.
        attempt: u32,
    },
}

impl Instance {
    /// What it waits for, beside the answers of actions under way.
    pub fn wait(&self) -> Option<Wait> {
        match &self.phase {
            Phase::Preparing { disks: None, .. } => Some(Wait::Disks),
            Phase::Preparing { disks: Some(_), .. } => Some(Wait::Network),
            Phase::Running {
                reboot: Reboot::Asked { target },
            } => Some(Wait::RebootGrace { target: *target }),
            Phase::Paused(Paused::ForDisk(Resume::Waiting { .. })) => Some(Wait::Room),
            Phase::Paused(Paused::ForDisk(Resume::Proving)) => Some(Wait::Proof),
            Phase::Stopping { how: Stop::Asked }
            | Phase::Bundling {
                down: Some(Stop::Asked),
                ..
            } => Some(Wait::ShutdownGrace),
            Phase::Bundling { down: None, .. } => Some(Wait::Bundle),
            Phase::Held { failed } => Some(Wait::Return {
                attempt: failed.attempt,
            }),
            Phase::Running {
                reboot: Reboot::Pausing { failed, .. },
            }
            | Phase::Stopping {
                how: Stop::Pausing { failed },
            }
            | Phase::Bundling {
                down: Some(Stop::Pausing { failed }),
                ..
            }
            | Phase::Wiping {
                how: Wipe::Pausing { failed },
            } => Some(Wait::Pause {
                attempt: failed.attempt,
            }),
            Phase::Starting { .. }
            | Phase::Running {
                reboot: Reboot::None | Reboot::Resetting { .. },
            }
            | Phase::Paused(Paused::ForDisk(Resume::Resuming { .. }) | Paused::NotOurs(_))
            | Phase::Stopping {
                how: Stop::Forcing { .. },
            }
            | Phase::Bundling {
                down: Some(Stop::Forcing { .. }),
                ..
            }
            | Phase::Wiping {
                how: Wipe::Removing { .. },
            }
            | Phase::Terminated => None,
        }
    }

    pub(super) fn on_overdue(self) -> (Self, Vec<Action>) {
        match self.wait() {
            None => (self, Vec::new()),
            // The answers may still come, however late.
            Some(Wait::Disks | Wait::Network) if self.has_run => (self, Vec::new()),
            Some(Wait::Disks) => self
                .because(internal_error("the disks were not ready in time"))
                .give_up_preparing(),
            Some(Wait::Network) => {
                let why = self.network_was_late();
                self.because(internal_error(&why)).give_up_preparing()
            }
            Some(Wait::RebootGrace { target }) => self.reset(target, 0),
            Some(Wait::Room) => self.resume(),
            Some(Wait::Proof) => self.settle(),
            Some(Wait::ShutdownGrace) => match self.bundling() {
                Some(task) => self.force_down_for(task, 0),
                None => self.force_down(),
            },
            Some(Wait::Bundle) => self.on_bundle_overdue(),
            Some(Wait::Return { .. }) => self.try_to_return(),
            Some(Wait::Pause { attempt }) => self.try_again(attempt),
        }
    }

    fn network_was_late(&self) -> String {
        let version = self.wish.spec.network_version;
        let late = format!("network version {version} was not applied in time");
        match &self.phase {
            Phase::Preparing { hindered, .. } => with_why(late, hindered),
            Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => late,
        }
    }

    fn try_again(self, attempt: u32) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Running {
                reboot: Reboot::Pausing { target, .. },
            } => self.reset(target, attempt),
            Phase::Stopping { .. } => {
                let how = Stop::Forcing { attempt };
                (
                    self.in_phase(Phase::Stopping { how }),
                    vec![Action::Destroy],
                )
            }
            Phase::Wiping { .. } => self.wipe_after(attempt),
            Phase::Bundling { ref task, .. } => {
                let task = task.clone();
                self.force_down_for(task, attempt)
            }
            Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }
}
