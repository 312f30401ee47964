//! On the way down: the domain's end and the removal of what it had.

use super::{Action, Failed, Instance, Phase, Stop, Wipe};

impl Instance {
    pub(super) fn on_shutdown_refused(self) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Stopping { how: Stop::Asked } => self.force_down(),
            Phase::Bundling {
                task,
                down: Some(Stop::Asked),
            } => {
                let down = Some(Stop::Forcing { attempt: 0 });
                let phase = Phase::Bundling { task, down };
                (Self { phase, ..self }, vec![Action::Destroy])
            }
            Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_destroyed(self) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Stopping { .. } => self.wipe(),
            Phase::Bundling {
                ref task,
                down: Some(_),
            } => {
                let task = task.clone();
                self.make_bundle(task)
            }
            Phase::Bundling { down: None, .. }
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_destroy_failed(self, why: String) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Stopping {
                how: Stop::Forcing { attempt },
            } => {
                let how = Stop::Pausing {
                    failed: Failed {
                        attempt: attempt + 1,
                        why,
                    },
                };
                (self.in_phase(Phase::Stopping { how }), Vec::new())
            }
            Phase::Bundling {
                ref task,
                down: Some(Stop::Forcing { attempt }),
            } => {
                let task = task.clone();
                self.destroy_failed_for(task, attempt, why)
            }
            Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_wiped(self) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Wiping { .. } => self.in_phase(Phase::Terminated).live_again(),
            Phase::Bundling { .. }
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Stopping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_wipe_failed(self, why: String) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Wiping {
                how: Wipe::Removing { attempt },
            } => {
                let how = Wipe::Pausing {
                    failed: Failed {
                        attempt: attempt + 1,
                        why,
                    },
                };
                (self.in_phase(Phase::Wiping { how }), Vec::new())
            }
            Phase::Wiping {
                how: Wipe::Pausing { .. },
            }
            | Phase::Bundling { .. }
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Stopping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }
}
