//! While the domain runs: its end, and reboots.

use super::{Action, End, Failed, Instance, Phase, Reboot, Stop};

impl Instance {
    pub(super) fn on_gone(self, end: End) -> (Self, Vec<Action>) {
        match &self.phase {
            Phase::Starting { failed, .. } => {
                let (ended, failed) = (Some(end), failed.clone());
                (self.in_phase(Phase::Starting { ended, failed }), Vec::new())
            }
            Phase::Bundling { task, down } => {
                let (task, down) = (task.clone(), down.clone());
                self.on_gone_for_bundle(task, down)
            }
            Phase::Running { .. } | Phase::Paused(_) if self.wanted_down() => self.wipe(),
            Phase::Running { .. } | Phase::Paused(_) => self.ended(&end),
            // Whoever looked at all domains was faster than its last word.
            Phase::Held { .. } if end == End::PoweredOff => self.ended(&end),
            Phase::Stopping {
                how: Stop::Asked | Stop::Pausing { .. },
            } => self.wipe(),
            // The answer of the attempt under way says so too, and is waited for.
            Phase::Stopping {
                how: Stop::Forcing { .. },
            }
            | Phase::Held { .. }
            | Phase::Preparing { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_guest_reset(self) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Running {
                reboot: Reboot::Asked { target } | Reboot::Pausing { target, .. },
            } => self.rebooted(target),
            // A guest may reset itself as it likes, and a reset of ours has its own answer.
            Phase::Running {
                reboot: Reboot::None | Reboot::Resetting { .. },
            }
            | Phase::Paused(_)
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_reset_done(self) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Running {
                reboot: Reboot::Resetting { target, .. },
            } => self.rebooted(target),
            Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_reboot_refused(self) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Running {
                reboot: Reboot::Asked { target },
            } => self.reset(target, 0),
            Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_reset_failed(self, why: String) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Running {
                reboot: Reboot::Resetting { target, attempt },
            } => {
                let failed = Failed {
                    attempt: attempt + 1,
                    why,
                };
                let reboot = Reboot::Pausing { target, failed };
                (self.in_phase(Phase::Running { reboot }), Vec::new())
            }
            Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }
}
