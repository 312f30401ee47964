//! On the way up: disks, network, start.

use types::StateReason;

use super::{Action, End, Instance, Phase, Reboot};
use crate::needs::BootDisks;

impl Instance {
    pub(super) fn on_disks(self, made: BootDisks) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Preparing {
                applied,
                ref hindered,
                ref failed,
                ..
            } => {
                let (hindered, failed) = (hindered.clone(), failed.clone());
                let disks = Some(made);
                let preparing = Phase::Preparing {
                    disks,
                    applied,
                    hindered,
                    failed,
                };
                self.in_phase(preparing).start_if_ready()
            }
            Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_disks_failed(self, reason: StateReason) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Preparing { .. } if self.has_run => {
                let (held, mut actions) = self.hold(&reason);
                actions.push(Action::StopPreparing);
                (held, actions)
            }
            Phase::Preparing { .. } => self.because(reason).give_up_preparing(),
            Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_network(mut self, version: u64) -> (Self, Vec<Action>) {
        match &mut self.phase {
            Phase::Preparing { applied, .. } => {
                *applied = version.max(*applied);
                self.start_if_ready()
            }
            Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_network_hindered(mut self, why: String) -> (Self, Vec<Action>) {
        match &mut self.phase {
            Phase::Preparing { hindered, .. } => *hindered = why,
            Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => {}
        }
        (self, Vec::new())
    }

    pub(super) fn on_started(self) -> (Self, Vec<Action>) {
        match &self.phase {
            Phase::Starting {
                ended: Some(end), ..
            } => {
                let reason = end.reason();
                self.did_not_start(reason)
            }
            Phase::Starting { ended: None, .. } if self.wanted_down() => self.force_down(),
            Phase::Starting { ended: None, .. } => {
                // A fresh boot fulfils every reboot that was asked for before it.
                let reboots_done = self.wish.reboots;
                let running = Self {
                    reboots_done,
                    has_run: true,
                    ..self
                };
                let phase = Phase::Running {
                    reboot: Reboot::None,
                };
                let (next, mut actions) = running.in_phase(phase).bundle_if_asked();
                actions.insert(0, Action::Plug);
                (next, actions)
            }
            Phase::Preparing { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_start_failed(self, reason: StateReason) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Starting { .. } => self.did_not_start(reason),
            Phase::Preparing { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    /// The domain may be there all the same.
    fn did_not_start(self, reason: StateReason) -> (Self, Vec<Action>) {
        match &self.phase {
            Phase::Starting {
                ended: Some(end @ End::PoweredOff),
                ..
            } => {
                let reason = end.reason();
                self.because(reason).force_down()
            }
            _ if self.wanted_down() => self.force_down(),
            _ if self.has_run => self.hold(&reason),
            _ => self.because(reason).force_down(),
        }
    }
}
