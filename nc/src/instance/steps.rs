//! The steps: a new phase, and what has to be done in it.

use super::{Action, Failed, Instance, Phase, Reboot, Stop, Wipe};

impl Instance {
    /// A life begins, or is taken up as the newest placement says.
    pub(super) fn begin(self) -> (Self, Vec<Action>) {
        let life = self.wish.epoch;
        let begun = Self {
            life,
            reason: None,
            ..self
        };
        begun.go_up(None)
    }

    /// On the way up, in the life that it has; `failed` is how it did not come up the last time.
    pub(super) fn go_up(self, failed: Option<Failed>) -> (Self, Vec<Action>) {
        let version = self.wish.spec.network_version;
        let disks = if self.has_run {
            Action::Regain
        } else {
            Action::Prepare
        };
        let phase = Phase::Preparing {
            disks: None,
            applied: 0,
            hindered: String::new(),
            failed,
        };
        (
            self.in_phase(phase),
            vec![disks, Action::AwaitNetwork(version)],
        )
    }

    pub(super) fn start_if_ready(self) -> (Self, Vec<Action>) {
        match &self.phase {
            Phase::Preparing {
                disks: Some(disks),
                applied,
                failed,
                ..
            } if *applied >= self.wish.spec.network_version => {
                let start = Action::Start(disks.clone());
                let starting = Phase::Starting {
                    ended: None,
                    failed: failed.clone(),
                };
                (self.in_phase(starting), vec![start])
            }
            _ => (self, Vec::new()),
        }
    }

    pub(super) fn ask_down(self) -> (Self, Vec<Action>) {
        (
            self.in_phase(Phase::Stopping { how: Stop::Asked }),
            vec![Action::AcpiShutdown],
        )
    }

    pub(super) fn force_down(self) -> (Self, Vec<Action>) {
        let how = Stop::Forcing { attempt: 0 };
        (
            self.in_phase(Phase::Stopping { how }),
            vec![Action::Destroy],
        )
    }

    pub(super) fn wipe(self) -> (Self, Vec<Action>) {
        self.wipe_after(0)
    }

    pub(super) fn wipe_after(self, attempt: u32) -> (Self, Vec<Action>) {
        let how = Wipe::Removing { attempt };
        (self.in_phase(Phase::Wiping { how }), vec![Action::Wipe])
    }

    pub(super) fn give_up_preparing(self) -> (Self, Vec<Action>) {
        let (next, mut actions) = if self.has_run {
            // A start that was given up before may have come to pass.
            self.force_down()
        } else {
            self.wipe()
        };
        actions.insert(0, Action::StopPreparing);
        (next, actions)
    }

    pub(super) fn reset(self, target: u32, attempt: u32) -> (Self, Vec<Action>) {
        let reboot = Reboot::Resetting { target, attempt };
        (
            self.in_phase(Phase::Running { reboot }),
            vec![Action::HardReset],
        )
    }

    /// Running and free: does the next reboot, if one is asked for, or else the next bundle.
    pub(super) fn settle(self) -> (Self, Vec<Action>) {
        let target = self.wish.reboots;
        if target <= self.reboots_done {
            let running = self.in_phase(Phase::Running {
                reboot: Reboot::None,
            });
            return running.bundle_if_asked();
        }
        let reboot = Reboot::Asked { target };
        (
            self.in_phase(Phase::Running { reboot }),
            vec![Action::AcpiReboot],
        )
    }

    pub(super) fn rebooted(self, target: u32) -> (Self, Vec<Action>) {
        Self {
            reboots_done: target,
            ..self
        }
        .settle()
    }
}
