//! The life of one instance on this node, as a pure machine: (state, event) → (state, actions).
//! It owns every decision about an instance and does nothing itself; [`crate::keeper`] performs the
//! actions and brings back their answers as events.
//!
//! ```text
//!                   disks made, network applied           started
//!   wish ─▶ Preparing ─────────────────────────▶ Starting ───────▶ Running ⟲ reboot
//!               │ failed, late,                     │ failed, or       │   ▲   │ powered off
//!               │ wanted down                       │ wanted down      │   └───┼─▶ Paused
//!               │                                   │           wanted │       │   (goes where
//!               │                                   ▼             down │       │   Running does)
//!               │                                Stopping ◀────────────┘       │
//!               ▼                                   │ no domain is left        │
//!             Wiping ◀──────────────────────────────┴──────────────────────────┘
//!               │ nothing is left
//!               ▼
//!           Terminated ─▶ Preparing   (only for a placement with a higher epoch)
//!
//!   Running ── a bundle is asked for ─▶ Bundling ── made, failed or given up ─▶ Preparing
//!
//!   once it has run:
//!   Preparing, Starting: failed; Running: crashed ─▶ Held ── after a pause ─▶ Preparing
//! ```
//!
//! Two promises make it total. Every action is answered by exactly one event, within the limit of
//! whoever performs it. Every state that waits for something else has a [`Wait`], whose end is the
//! event [`Event::Overdue`]. What fails on the way up ends what has never run, in Terminated with a
//! reason; what fails on the way down is tried again, since a guest that may still run is not gone.
//!
//! What a guest wrote is on its disks and nowhere else. So nothing that befalls one that has run has
//! them wiped, neither a failure nor lateness: it is held and tried again, with the reason shown, until it
//! runs or its user says that it may go, by a termination or by powering it off from within.

mod bundling;
mod down;
mod found;
mod held;
mod paused;
mod running;
mod shown;
mod steps;
#[cfg(test)]
mod tests;
mod up;
mod wait;

use std::sync::Arc;

use control::node::{InstanceWish, Wanted};
use types::{BundleId, StateReason};

use crate::needs::BootDisks;

pub use bundling::{Bundled, Outcome};
pub use found::{DomainSeen, Saved};
pub use paused::{Cause, Paused, Resume};
pub use wait::Wait;

/// One instance: what it is to be and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The newest wish.
    pub wish: Arc<InstanceWish>,
    /// The epoch of the placement that this life began with.
    pub life: u64,
    /// How many of the asked-for reboots were done.
    pub reboots_done: u32,
    /// Why it went down, if nobody asked for it.
    pub reason: Option<StateReason>,
    /// Whether its guest has run in this life, so that its disks hold what is nowhere else.
    pub has_run: bool,
    /// The bundle that was made of it last, and how that ended.
    pub bundled: Option<Bundled>,
    /// Where it is.
    pub phase: Phase,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Disks are being made and the network is waited for, both at once.
    Preparing {
        /// The disks, once they are made.
        disks: Option<BootDisks>,
        /// The newest network version that is known to be applied.
        applied: u64,
        /// What keeps the network from being so; nothing where only time does.
        hindered: String,
        /// How the last attempt failed, of a guest that is to run again.
        failed: Option<Failed>,
    },
    /// The hypervisor was asked to start it.
    Starting {
        /// It ended before the hypervisor's answer came.
        ended: Option<End>,
        /// How the last attempt failed, of a guest that is to run again.
        failed: Option<Failed>,
    },
    /// Its guest has run and could not be had to run again; the next attempt follows after a pause. A
    /// start that was given up may still have come to pass.
    Held {
        /// What failed.
        failed: Failed,
    },
    /// The domain runs.
    Running {
        /// The reboot under way.
        reboot: Reboot,
    },
    /// The domain is there and stands still.
    Paused(Paused),
    /// The domain is down, or on its way there, for its disk to be bundled.
    Bundling {
        /// Which task.
        task: BundleId,
        /// How the domain is brought down; none once it is.
        down: Option<Stop>,
    },
    /// The domain is being brought down.
    Stopping {
        /// By which means.
        how: Stop,
    },
    /// Disks and traces are being removed.
    Wiping {
        /// Under way, or between two attempts.
        how: Wipe,
    },
    /// Nothing of it is left.
    Terminated,
}

/// A reboot, from being asked for to being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reboot {
    /// None is under way.
    None,
    /// The guest was asked by ACPI; its reset makes the count `target`.
    Asked {
        /// The count of reboots that this one fulfils.
        target: u32,
    },
    /// The domain is being reset hard.
    Resetting {
        /// The count of reboots that this one fulfils.
        target: u32,
        /// Resets that failed before.
        attempt: u32,
    },
    /// A hard reset failed; the next one follows after a pause.
    Pausing {
        /// The count of reboots that this one fulfils.
        target: u32,
        /// What failed.
        failed: Failed,
    },
}

/// How a domain is brought down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The guest was asked by ACPI and has a grace.
    Asked,
    /// The domain is being destroyed.
    Forcing {
        /// Attempts that failed before.
        attempt: u32,
    },
    /// An attempt failed; the next one follows after a pause.
    Pausing {
        /// What failed.
        failed: Failed,
    },
}

/// How disks and traces are being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wipe {
    /// An attempt is under way.
    Removing {
        /// Attempts that failed before.
        attempt: u32,
    },
    /// An attempt failed; the next one follows after a pause.
    Pausing {
        /// What failed.
        failed: Failed,
    },
}

/// An attempt that failed, for people and for the count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// How many have failed so far.
    pub attempt: u32,
    /// Why the last one did.
    pub why: String,
}

/// How a domain ended that nobody had asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The guest powered itself off.
    PoweredOff,
    /// QEMU ended, or was ended, from outside.
    Crashed(String),
    /// It is not there any more and nobody saw it go.
    Vanished,
}

impl End {
    /// What the user reads.
    pub fn reason(&self) -> StateReason {
        match self {
            Self::PoweredOff => StateReason::new(
                "Client.InstanceInitiatedShutdown",
                "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
            ),
            Self::Crashed(why) => internal_error(&format!("the virtual machine ended: {why}")),
            Self::Vanished => internal_error("the virtual machine ended while nobody watched"),
        }
    }
}

/// A reason that is no fault of the user.
pub fn internal_error(why: &str) -> StateReason {
    StateReason::new(
        "Server.InternalError",
        format!("Server.InternalError: {why}"),
    )
}

/// What happens to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody says what it is to be.
    Wish(Arc<InstanceWish>),
    /// Answers [`Action::Prepare`] and [`Action::Regain`].
    DisksReady(BootDisks),
    /// Answers [`Action::Prepare`] and [`Action::Regain`].
    DisksFailed(StateReason),
    /// Answers [`Action::AwaitNetwork`].
    NetworkApplied(u64),
    /// Said before that answer, as often as it changes: why it does not come; nothing if only time is
    /// wanting.
    NetworkHindered(String),
    /// Answers [`Action::Start`].
    Started,
    /// Answers [`Action::Start`]; the domain may be there all the same.
    StartFailed(StateReason),
    /// The domain ended.
    Gone(End),
    /// The domain was found, or said to be, paused.
    Paused(Cause),
    /// The domain was found, or said to be, going on.
    Resumed,
    /// Answers [`Action::Resume`].
    ResumeDone,
    /// Answers [`Action::Resume`]: it was not tried, or in vain.
    ResumePutOff(String),
    /// The guest went through a reset.
    GuestReset,
    /// Answers [`Action::AcpiReboot`] if the guest could not even be asked.
    RebootRefused,
    /// Answers [`Action::HardReset`].
    ResetDone,
    /// Answers [`Action::HardReset`].
    ResetFailed(String),
    /// Answers [`Action::AcpiShutdown`] if the guest could not even be asked.
    ShutdownRefused,
    /// Answers [`Action::Destroy`]: there is no domain.
    Destroyed,
    /// Answers [`Action::Destroy`].
    DestroyFailed(String),
    /// Answers [`Action::Bundle`].
    BundleEnded(Outcome),
    /// Answers [`Action::Wipe`].
    Wiped,
    /// Answers [`Action::Wipe`].
    WipeFailed(String),
    /// The [`Wait`] of the state is over.
    Overdue,
}

/// What the keeper is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the disks.
    Prepare,
    /// Have the disks of a guest that has run, and what they stand on; none are made.
    Regain,
    /// Stop making the disks and waiting for the network; no answer.
    StopPreparing,
    /// Wait for this version of the network document to be applied.
    AwaitNetwork(u64),
    /// Start the domain from these disks.
    Start(BootDisks),
    /// See to the tap of a domain that has come to run; no answer.
    Plug,
    /// Let the domain go on, if its disk has room again.
    Resume,
    /// Ask the guest to reboot.
    AcpiReboot,
    /// Reset the domain.
    HardReset,
    /// Ask the guest to shut down.
    AcpiShutdown,
    /// End the domain; none there is success.
    Destroy,
    /// Make this bundle of the root disk; there is no domain.
    Bundle(BundleId),
    /// Stop making the bundle; no answer.
    StopBundle,
    /// Remove disks, tap and console.
    Wipe,
}

impl Instance {
    /// An instance that this node hears of for the first time.
    pub fn new(wish: Arc<InstanceWish>) -> (Self, Vec<Action>) {
        let instance = Self::at(wish, Phase::Terminated);
        match instance.wish.wanted {
            Wanted::Running => instance.begin(),
            // Whatever may be there of it from a life that we lost, it goes.
            Wanted::Terminated => instance.force_down(),
        }
    }

    fn at(wish: Arc<InstanceWish>, phase: Phase) -> Self {
        Self {
            life: wish.epoch,
            wish,
            reboots_done: 0,
            reason: None,
            has_run: false,
            bundled: None,
            phase,
        }
    }

    /// What happens next. The only way in which an instance changes.
    pub fn on(self, event: Event) -> (Self, Vec<Action>) {
        match event {
            Event::Wish(wish) => self.on_wish(wish),
            Event::DisksReady(disks) => self.on_disks(disks),
            Event::DisksFailed(reason) => self.on_disks_failed(reason),
            Event::NetworkApplied(version) => self.on_network(version),
            Event::NetworkHindered(why) => self.on_network_hindered(why),
            Event::Started => self.on_started(),
            Event::StartFailed(reason) => self.on_start_failed(reason),
            Event::Gone(end) => self.on_gone(end),
            Event::Paused(cause) => self.on_paused(cause),
            Event::Resumed => self.on_resumed(),
            Event::ResumeDone => self.on_resume_done(),
            Event::ResumePutOff(why) => self.on_resume_put_off(why),
            Event::GuestReset => self.on_guest_reset(),
            Event::ResetDone => self.on_reset_done(),
            Event::RebootRefused => self.on_reboot_refused(),
            Event::ResetFailed(why) => self.on_reset_failed(why),
            Event::ShutdownRefused => self.on_shutdown_refused(),
            Event::Destroyed => self.on_destroyed(),
            Event::DestroyFailed(why) => self.on_destroy_failed(why),
            Event::BundleEnded(outcome) => self.on_bundle_ended(outcome),
            Event::Wiped => self.on_wiped(),
            Event::WipeFailed(why) => self.on_wipe_failed(why),
            Event::Overdue => self.on_overdue(),
        }
    }

    /// Whether a wish says something newer than what is known.
    pub fn is_news(&self, wish: &InstanceWish) -> bool {
        (wish.epoch, wish.generation) > (self.wish.epoch, self.wish.generation)
    }

    fn wanted_down(&self) -> bool {
        self.wish.wanted == Wanted::Terminated
    }

    fn in_phase(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    fn because(mut self, reason: StateReason) -> Self {
        // The first cause is the one that explains; later ones follow from it.
        self.reason.get_or_insert(reason);
        self
    }

    // Events that any state may meet; the others are in `up`, `running` and `down`.

    fn on_wish(mut self, wish: Arc<InstanceWish>) -> (Self, Vec<Action>) {
        if !self.is_news(&wish) {
            return (self, Vec::new());
        }
        let (awaited, reboots) = (self.wish.spec.network_version, self.wish.reboots);
        self.wish = wish;
        match &self.phase {
            Phase::Preparing { .. } if self.wanted_down() => self.give_up_preparing(),
            Phase::Preparing { .. } => {
                let version = self.wish.spec.network_version;
                let (next, mut actions) = self.start_if_ready();
                if actions.is_empty() && version != awaited {
                    actions.push(Action::AwaitNetwork(version));
                }
                (next, actions)
            }
            Phase::Running { .. } if self.wanted_down() => self.ask_down(),
            // It cannot hear the power button.
            Phase::Paused(_) if self.wanted_down() => self.force_down(),
            // Its domain may be there.
            Phase::Held { .. } if self.wanted_down() => self.force_down(),
            // Whoever asks for a reboot has perhaps mended what was wrong.
            Phase::Held { .. } if self.wish.reboots > reboots => self.try_to_return(),
            Phase::Running {
                reboot: Reboot::None,
            } => self.settle(),
            Phase::Terminated => self.live_again(),
            Phase::Bundling { .. } => self.bundle_as_wished(),
            // Looked at again when the answer or the grace that is waited for has come.
            Phase::Starting { .. }
            | Phase::Running { .. }
            | Phase::Paused(_)
            | Phase::Held { .. }
            | Phase::Stopping { .. }
            | Phase::Wiping { .. } => (self, Vec::new()),
        }
    }

    /// A placement that is newer than the life that ended begins another one.
    fn live_again(self) -> (Self, Vec<Action>) {
        if self.wanted_down() || self.wish.epoch <= self.life {
            return (self, Vec::new());
        }
        let anew = Self {
            has_run: false,
            ..self
        };
        anew.begin()
    }
}
