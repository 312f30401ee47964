//! A guest that has run and does not, though nobody asked for that: its disks cannot be had, it cannot
//! be started, or its virtual machine ended under it. What it wrote is kept, and it is tried again.
//!
//! The pauses grow with each attempt, up to a limit ([`crate::site::Site::limit`]): a store that is
//! away or a disk that is full is found mended soon enough, and a damaged image is not fetched all
//! day long. A start ends the count.

use types::StateReason;

use super::{Action, End, Failed, Instance, Phase, internal_error};

impl Instance {
    pub(super) fn hold(self, reason: &StateReason) -> (Self, Vec<Action>) {
        let attempt = self.failed().map_or(0, |failed| failed.attempt) + 1;
        let why = without_code(reason).to_owned();
        let failed = Failed { attempt, why };
        (self.in_phase(Phase::Held { failed }), Vec::new())
    }

    /// It ended, and nobody outside had asked it to: a guest that powers itself off is its user's word.
    pub(super) fn ended(self, end: &End) -> (Self, Vec<Action>) {
        match end {
            End::PoweredOff => self.because(end.reason()).wipe(),
            End::Crashed(_) | End::Vanished => self.hold(&end.reason()),
        }
    }

    pub(super) fn try_to_return(self) -> (Self, Vec<Action>) {
        let failed = self.failed().cloned();
        self.go_up(failed)
    }

    /// The last attempt that failed; none while none has.
    pub(super) fn failed(&self) -> Option<&Failed> {
        match &self.phase {
            Phase::Held { failed } => Some(failed),
            Phase::Preparing { failed, .. } | Phase::Starting { failed, .. } => failed.as_ref(),
            Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => None,
        }
    }
}

impl Failed {
    /// What people read of a guest that is held, also while the next attempt is under way.
    pub(super) fn held(&self) -> StateReason {
        internal_error(&self.held_stage())
    }

    pub(super) fn held_stage(&self) -> String {
        let Self { attempt, why } = self;
        format!("not running, its disks are kept: {why}; tried again, {attempt} times so far")
    }
}

/// A reason's words without its code, which stands before them.
fn without_code(reason: &StateReason) -> &str {
    let message = reason.message.strip_prefix(&reason.code);
    message.map_or(&reason.message, |rest| rest.trim_start_matches([':', ' ']))
}
