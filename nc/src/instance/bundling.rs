//! A bundle of a running instance's disk: the guest is shut down, its disk bundled while no one
//! writes to it, and the guest started again, whatever came of the bundle. To its user the instance
//! runs all the while, as it did in Eucalyptus.
//!
//! A task is done once: [`Instance::bundled`] remembers the last one, and is kept over a restart.

use control::node::{BundleReport, BundleSeen};
use serde::{Deserialize, Serialize};
use types::{BundleId, StateReason};

use super::{Action, Failed, Instance, Phase, Reboot, Stop, internal_error};

/// A bundle that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundled {
    /// Which task.
    pub task: BundleId,
    /// How.
    pub outcome: Outcome,
}

/// How a bundle ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Its manifest is stored.
    Complete,
    /// There is none.
    Failed(StateReason),
    /// It was given up as asked.
    Cancelled,
}

impl Instance {
    /// The task under way.
    pub fn bundling(&self) -> Option<BundleId> {
        match &self.phase {
            Phase::Bundling { task, .. } => Some(task.clone()),
            Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => None,
        }
    }

    /// What is said of the bundle that is being made, or was made last; `progress` is the bundler's.
    pub fn bundle_report(&self, is_stored: bool, percent: u8) -> Option<BundleReport> {
        let report = |task: &BundleId, seen, percent, error| BundleReport {
            task: task.clone(),
            seen,
            percent,
            error,
        };
        match (&self.phase, &self.bundled) {
            (Phase::Bundling { task, down: None }, _) => {
                let seen = if is_stored {
                    BundleSeen::Storing
                } else {
                    BundleSeen::Bundling
                };
                Some(report(task, seen, percent, None))
            }
            (Phase::Bundling { task, .. }, _) => {
                Some(report(task, BundleSeen::WaitingForShutdown, 0, None))
            }
            (_, Some(Bundled { task, outcome })) => Some(match outcome {
                Outcome::Complete => report(task, BundleSeen::Complete, 100, None),
                Outcome::Cancelled => report(task, BundleSeen::Cancelled, 0, None),
                Outcome::Failed(why) => report(task, BundleSeen::Failed, 0, Some(why.clone())),
            }),
            (_, None) => None,
        }
    }

    /// Running and free: begins the bundle that is wished for, unless it was done before.
    pub(super) fn bundle_if_asked(mut self) -> (Self, Vec<Action>) {
        let Some(wish) = self.wish.bundle.clone() else {
            return (self, Vec::new());
        };
        if self
            .bundled
            .as_ref()
            .is_some_and(|done| done.task == wish.task)
        {
            return (self, Vec::new());
        }
        if wish.cancelled {
            self.bundled = Some(Bundled {
                task: wish.task,
                outcome: Outcome::Cancelled,
            });
            return (self, Vec::new());
        }
        let phase = Phase::Bundling {
            task: wish.task,
            down: Some(Stop::Asked),
        };
        (self.in_phase(phase), vec![Action::AcpiShutdown])
    }

    /// The wish has changed in the midst of it.
    pub(super) fn bundle_as_wished(self) -> (Self, Vec<Action>) {
        let Phase::Bundling { down, .. } = self.phase.clone() else {
            return (self, Vec::new());
        };
        match (down, self.wanted_down()) {
            // The domain is on its way down: so it is, but for another end.
            (Some(how), true) => (self.in_phase(Phase::Stopping { how }), Vec::new()),
            (None, true) => {
                let (wiping, mut actions) = self.wipe();
                actions.insert(0, Action::StopBundle);
                (wiping, actions)
            }
            (None, false) if self.is_given_up() => self.end_bundle(Outcome::Cancelled),
            // Looked at again when the domain is down.
            (Some(_) | None, false) => (self, Vec::new()),
        }
    }

    /// Whether the wish says to give up the bundle under way. One that the wish does not name any
    /// more was given up for lost above.
    fn is_given_up(&self) -> bool {
        let under_way = self.bundling();
        let wished = self.wish.bundle.as_ref();
        wished.is_none_or(|wish| wish.cancelled || Some(&wish.task) != under_way.as_ref())
    }

    pub(super) fn force_down_for(self, task: BundleId, attempt: u32) -> (Self, Vec<Action>) {
        let down = Some(Stop::Forcing { attempt });
        (
            self.in_phase(Phase::Bundling { task, down }),
            vec![Action::Destroy],
        )
    }

    /// The domain is down: the disk is nobody's now.
    pub(super) fn make_bundle(self, task: BundleId) -> (Self, Vec<Action>) {
        let making = self.in_phase(Phase::Bundling {
            task: task.clone(),
            down: None,
        });
        if making.is_given_up() {
            return making.end_bundle(Outcome::Cancelled);
        }
        (making, vec![Action::Bundle(task)])
    }

    pub(super) fn on_gone_for_bundle(
        self,
        task: BundleId,
        down: Option<Stop>,
    ) -> (Self, Vec<Action>) {
        match down {
            Some(Stop::Asked | Stop::Pausing { .. }) => self.make_bundle(task),
            // The answer of the attempt under way says so too, and is waited for.
            Some(Stop::Forcing { .. }) | None => (self, Vec::new()),
        }
    }

    pub(super) fn destroy_failed_for(
        self,
        task: BundleId,
        attempt: u32,
        why: String,
    ) -> (Self, Vec<Action>) {
        let failed = Failed {
            attempt: attempt + 1,
            why,
        };
        let down = Some(Stop::Pausing { failed });
        (self.in_phase(Phase::Bundling { task, down }), Vec::new())
    }

    pub(super) fn on_bundle_ended(self, outcome: Outcome) -> (Self, Vec<Action>) {
        match self.phase {
            Phase::Bundling { down: None, .. } => self.end_bundle(outcome),
            Phase::Bundling { .. }
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_bundle_overdue(self) -> (Self, Vec<Action>) {
        let why = internal_error("the bundle was not complete in time");
        self.end_bundle(Outcome::Failed(why))
    }

    /// Remembers how it ended, and starts the guest again from its own disks. Whatever may still be
    /// at work on them is stopped first.
    fn end_bundle(mut self, outcome: Outcome) -> (Self, Vec<Action>) {
        if let Some(task) = self.bundling() {
            self.bundled = Some(Bundled { task, outcome });
        }
        // The same life goes on: it was not placed anew.
        let (begun, mut actions) = self.go_up(None);
        actions.insert(0, Action::StopBundle);
        (begun, actions)
    }

    /// The node has restarted in the midst of it.
    pub(super) fn found_bundling(self, domain_is_there: bool) -> (Self, Vec<Action>) {
        let running = self.clone().in_phase(Phase::Running {
            reboot: Reboot::None,
        });
        match (&self.wish.bundle, domain_is_there) {
            (Some(_), true) => {
                // Asked again to shut down, if it is still to be done.
                let (next, mut actions) = running.bundle_if_asked();
                actions.insert(0, Action::Plug);
                (next, actions)
            }
            (Some(wish), false) => {
                let task = wish.task.clone();
                self.make_bundle(task)
            }
            (None, true) => (running, vec![Action::Plug]),
            (None, false) => self.begin(),
        }
    }
}
