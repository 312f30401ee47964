//! While the domain stands still. QEMU stops a guest whose disk cannot be read or written, as on a
//! full host, with its request kept: once resumed it asks again, and the guest has noticed nothing.
//!
//! ```text
//!            pause for the disk                overdue           done          overdue
//! Running ─────────────────────▶ Waiting ───────────▶ Resuming ───────▶ Proving ───────▶ Running
//!                                   ▲                     │ put off          │ paused again
//!                                   └─────────────────────┴──────────────────┘
//! ```
//!
//! What somebody paused by hand is for that hand to resume: an administrator may have reasons. A
//! reboot that is asked for meanwhile follows when the guest runs.

use super::{Action, Instance, Phase, Reboot, Stop};

/// Why a domain stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Its disk could not be read or written.
    Disk,
    /// Something that is not ours to undo, in words.
    Other(String),
}

/// A domain that stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paused {
    /// For its disk: resumed by us.
    ForDisk(Resume),
    /// For something that is not ours to undo.
    NotOurs(String),
}

/// A resumption, from being waited for to being believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// The next attempt comes after a while.
    Waiting {
        /// Why the last one was put off; nothing before the first.
        why: String,
    },
    /// An attempt is under way.
    Resuming {
        /// Why it came to stand still before the answer did.
        again: Option<Cause>,
    },
    /// It goes on, and is believed when it still does after a while: a guest that stops at once
    /// again is not shown as well in between.
    Proving,
}

impl Instance {
    pub(super) fn on_paused(self, cause: Cause) -> (Self, Vec<Action>) {
        match &self.phase {
            // A paused guest never answers the power button.
            Phase::Stopping { how: Stop::Asked } => self.force_down(),
            Phase::Bundling {
                task,
                down: Some(Stop::Asked),
            } => {
                let task = task.clone();
                self.force_down_for(task, 0)
            }
            Phase::Running {
                reboot: Reboot::None | Reboot::Asked { .. } | Reboot::Pausing { .. },
            } => self.pause(cause),
            Phase::Paused(Paused::ForDisk(Resume::Proving) | Paused::NotOurs(_)) => {
                self.pause(cause)
            }
            Phase::Paused(Paused::ForDisk(Resume::Waiting { .. })) => match cause {
                Cause::Disk => (self, Vec::new()),
                Cause::Other(_) => self.pause(cause),
            },
            // Its answer is on the way, and to be waited for.
            Phase::Paused(Paused::ForDisk(Resume::Resuming { .. })) => {
                let again = Some(cause);
                let resuming = Paused::ForDisk(Resume::Resuming { again });
                (self.in_phase(Phase::Paused(resuming)), Vec::new())
            }
            // What has an answer to come is looked at when it has come, and the pause is seen again
            // by the next look at all domains.
            Phase::Running {
                reboot: Reboot::Resetting { .. },
            }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Preparing { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping {
                how: Stop::Forcing { .. } | Stop::Pausing { .. },
            }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    fn pause(self, cause: Cause) -> (Self, Vec<Action>) {
        let paused = match cause {
            Cause::Disk => Paused::ForDisk(Resume::Waiting { why: String::new() }),
            Cause::Other(what) => Paused::NotOurs(what),
        };
        (self.in_phase(Phase::Paused(paused)), Vec::new())
    }

    pub(super) fn on_resumed(self) -> (Self, Vec<Action>) {
        match &self.phase {
            Phase::Paused(Paused::NotOurs(_)) => self.settle(),
            Phase::Paused(Paused::ForDisk(Resume::Waiting { .. } | Resume::Proving)) => {
                self.prove()
            }
            Phase::Paused(Paused::ForDisk(Resume::Resuming { .. })) => (self, Vec::new()),
            Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_resume_done(self) -> (Self, Vec<Action>) {
        match &self.phase {
            Phase::Paused(Paused::ForDisk(Resume::Resuming { again })) => match again.clone() {
                Some(cause) => self.pause(cause),
                None => self.prove(),
            },
            Phase::Paused(_)
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    pub(super) fn on_resume_put_off(self, why: String) -> (Self, Vec<Action>) {
        match self.phase.clone() {
            Phase::Paused(Paused::ForDisk(Resume::Resuming { again })) => {
                let paused = match again {
                    Some(Cause::Other(what)) => Paused::NotOurs(what),
                    Some(Cause::Disk) | None => Paused::ForDisk(Resume::Waiting { why }),
                };
                (self.in_phase(Phase::Paused(paused)), Vec::new())
            }
            Phase::Paused(_)
            | Phase::Preparing { .. }
            | Phase::Starting { .. }
            | Phase::Held { .. }
            | Phase::Running { .. }
            | Phase::Bundling { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. }
            | Phase::Terminated => (self, Vec::new()),
        }
    }

    fn prove(self) -> (Self, Vec<Action>) {
        let proving = Paused::ForDisk(Resume::Proving);
        (self.in_phase(Phase::Paused(proving)), Vec::new())
    }

    pub(super) fn resume(self) -> (Self, Vec<Action>) {
        let resuming = Paused::ForDisk(Resume::Resuming { again: None });
        (self.in_phase(Phase::Paused(resuming)), vec![Action::Resume])
    }
}

impl Paused {
    /// What people read.
    pub(super) fn stage(&self) -> String {
        match self {
            Self::NotOurs(what) => format!("paused: {what}"),
            Self::ForDisk(Resume::Waiting { why }) if why.is_empty() => {
                format!("{FOR_DISK}; resumed in a moment")
            }
            Self::ForDisk(Resume::Waiting { why }) => format!("{FOR_DISK}: {why}"),
            Self::ForDisk(Resume::Resuming { .. } | Resume::Proving) => {
                format!("{FOR_DISK}; being resumed")
            }
        }
    }
}

const FOR_DISK: &str = "paused: its disk on the host could not be read or written";
