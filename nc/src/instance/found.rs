//! How an instance's life goes on in a Node Controller that has just started, from what the record
//! beside its disks says and what the hypervisor shows.

use std::sync::Arc;

use control::node::{InstanceWish, Wanted};
use serde::{Deserialize, Serialize};
use types::StateReason;

use super::{Action, Bundled, End, Instance, Phase, Reboot};

/// As much of the phase as has to survive the process: the rest is found by looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Saved {
    /// Its domain has not been seen running.
    Preparing,
    /// The same, but its guest has run before: the host rebooted, a bundle was made, or it is held.
    Returning,
    /// Its domain has been seen running.
    Running,
    /// Its domain is down, or on its way there, for its disk to be bundled.
    Bundling,
    /// On its way down, whatever is found.
    Ending,
    /// Nothing is left but the record.
    Terminated,
}

/// What the hypervisor shows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainSeen {
    /// Its domain is there.
    There,
    /// Its domain is not there.
    Absent,
    /// Its domain is not there, and the host has booted since it was.
    HostRebooted,
}

impl Instance {
    /// As much of the phase as has to survive the process.
    pub fn saved(&self) -> Saved {
        match &self.phase {
            Phase::Preparing { .. } | Phase::Starting { .. } if self.has_run => Saved::Returning,
            Phase::Held { .. } => Saved::Returning,
            Phase::Preparing { .. } | Phase::Starting { .. } => Saved::Preparing,
            Phase::Running { .. } | Phase::Paused(_) => Saved::Running,
            Phase::Bundling { .. } => Saved::Bundling,
            Phase::Stopping { .. } | Phase::Wiping { .. } => Saved::Ending,
            Phase::Terminated => Saved::Terminated,
        }
    }

    /// Takes up an instance of an earlier process.
    pub fn found(
        wish: Arc<InstanceWish>,
        life: u64,
        reboots_done: u32,
        reason: Option<StateReason>,
        bundled: Option<Bundled>,
        saved: Saved,
        seen: DomainSeen,
    ) -> (Self, Vec<Action>) {
        let phase = Phase::Terminated;
        let wanted = wish.wanted;
        let has_run = match saved {
            Saved::Returning | Saved::Running | Saved::Bundling => true,
            Saved::Preparing | Saved::Ending | Saved::Terminated => false,
        };
        let found = Self {
            wish,
            life,
            reboots_done,
            reason,
            has_run,
            bundled,
            phase,
        };
        match (saved, wanted, seen) {
            (Saved::Terminated, _, DomainSeen::Absent | DomainSeen::HostRebooted) => {
                (found, Vec::new())
            }
            (Saved::Terminated | Saved::Ending, _, _) => found.force_down(),
            (
                Saved::Preparing | Saved::Returning | Saved::Running | Saved::Bundling,
                Wanted::Terminated,
                seen,
            ) => match seen {
                DomainSeen::There => found.ask_down(),
                DomainSeen::Absent | DomainSeen::HostRebooted => found.wipe(),
            },
            (Saved::Bundling, Wanted::Running, seen) => {
                found.found_bundling(seen == DomainSeen::There)
            }
            (
                Saved::Preparing | Saved::Returning | Saved::Running,
                Wanted::Running,
                DomainSeen::There,
            ) => found.adopted(saved),
            (Saved::Preparing | Saved::Returning, Wanted::Running, DomainSeen::Absent)
            | (
                Saved::Preparing | Saved::Returning | Saved::Running,
                Wanted::Running,
                DomainSeen::HostRebooted,
            ) => found.begin(),
            (Saved::Running, Wanted::Running, DomainSeen::Absent) => found.ended(&End::Vanished),
        }
    }

    fn adopted(self, saved: Saved) -> (Self, Vec<Action>) {
        let reboots_done = match saved {
            Saved::Running => self.reboots_done,
            // Its start was the last thing that happened: that boot fulfils all before it.
            Saved::Preparing
            | Saved::Returning
            | Saved::Bundling
            | Saved::Ending
            | Saved::Terminated => self.wish.reboots,
        };
        let running = Self {
            reboots_done,
            has_run: true,
            ..self
        };
        let phase = Phase::Running {
            reboot: Reboot::None,
        };
        let (settled, mut actions) = running.in_phase(phase).settle();
        actions.insert(0, Action::Plug);
        (settled, actions)
    }
}
