//! A world of one instance, in which every action takes its time and may fail, driven step by step.

use control::node::BundleWish;
use proptest::prelude::*;

use super::super::*;
use crate::fakes;

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) preparing: bool,
    pub(super) disks: bool,
    /// The guest has powered itself off, which is its user's word, since it last started.
    pub(super) powered_off: bool,
    pub(super) domain: bool,
    pub(super) paused: bool,
    pub(super) applied: u64,
    /// Actions that were not answered yet.
    pub(super) pending: Vec<Action>,
    pub(super) starts_in_life: u32,
    pub(super) life: u64,
}

pub(super) struct Rig {
    pub(super) instance: Instance,
    pub(super) world: World,
    /// The wait whose end was already told; it does not end twice.
    pub(super) told: Option<Wait>,
}

impl Rig {
    pub(super) fn new(wish: InstanceWish) -> Self {
        let (instance, actions) = Instance::new(Arc::new(wish));
        let life = instance.life;
        let mut rig = Self {
            instance,
            world: World {
                life,
                ..World::default()
            },
            told: None,
        };
        rig.perform(actions);
        rig
    }

    pub(super) fn on(&mut self, event: Event) {
        let (next, actions) = self.instance.clone().on(event);
        self.instance = next;
        if self.instance.life != self.world.life {
            self.world.life = self.instance.life;
            self.world.starts_in_life = 0;
        }
        if self.instance.wait() != self.told {
            self.told = None;
        }
        if matches!(self.instance.phase, Phase::Running { .. }) {
            self.world.powered_off = false;
        }
        self.perform(actions);
    }

    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.check(&action);
            match &action {
                Action::StopPreparing => {
                    self.world.preparing = false;
                    let keep = |a: &Action| {
                        !matches!(
                            a,
                            Action::Prepare | Action::Regain | Action::AwaitNetwork(_)
                        )
                    };
                    self.world.pending.retain(keep);
                    continue;
                }
                Action::StopBundle => {
                    self.world
                        .pending
                        .retain(|a| !matches!(a, Action::Bundle(_)));
                    continue;
                }
                Action::Prepare => self.world.preparing = true,
                // It starts once more from the disks that it has.
                Action::Regain => (self.world.preparing, self.world.starts_in_life) = (true, 0),
                Action::AwaitNetwork(_) => {
                    self.world
                        .pending
                        .retain(|a| !matches!(a, Action::AwaitNetwork(_)));
                }
                Action::Start(_) => self.world.starts_in_life += 1,
                Action::Plug => continue,
                Action::Resume
                | Action::AcpiReboot
                | Action::HardReset
                | Action::AcpiShutdown
                | Action::Destroy
                | Action::Bundle(_)
                | Action::Wipe => {}
            }
            self.world.pending.push(action);
        }
    }

    /// What must never be asked for.
    pub(super) fn check(&self, action: &Action) {
        let world = &self.world;
        let is_pending = |wanted: &Action| {
            world
                .pending
                .iter()
                .any(|a| std::mem::discriminant(a) == std::mem::discriminant(wanted))
        };
        match action {
            Action::AwaitNetwork(_) | Action::StopPreparing | Action::StopBundle | Action::Plug => {
            }
            // Asking the guest again is harmless, and its answer is silence.
            Action::AcpiReboot | Action::AcpiShutdown => {}
            _ => assert!(!is_pending(action), "{action:?} twice at once: {world:?}"),
        }
        match action {
            Action::Start(_) => {
                assert!(world.disks, "started without disks");
                assert!(
                    world.applied >= self.instance.wish.spec.network_version,
                    "too early"
                );
                assert_eq!(self.instance.wish.wanted, Wanted::Running);
                // A start that was given up may have come to pass: the next one finds it so.
                assert!(!world.domain || self.instance.has_run);
                assert_eq!(world.starts_in_life, 0, "started twice in one life");
            }
            Action::Wipe => {
                assert!(!world.preparing, "wiped while disks were being made");
                assert!(!world.domain, "wiped under a running guest");
                assert!(!world.pending.iter().any(|a| matches!(a, Action::Start(_))));
                assert!(!world.pending.iter().any(|a| matches!(a, Action::Bundle(_))));
                let is_users_word = self.instance.wanted_down() || world.powered_off;
                assert!(
                    !self.instance.has_run || is_users_word,
                    "wiped though it has run"
                );
            }
            Action::Prepare => {
                assert!(!world.domain && !world.disks && !self.instance.has_run);
            }
            Action::Regain => assert!(world.disks && self.instance.has_run),
            Action::Bundle(_) => assert!(!world.domain, "bundled under a running guest"),
            _ => {}
        }
    }

    pub(super) fn take(&mut self, index: usize) -> Option<Action> {
        if self.world.pending.is_empty() {
            return None;
        }
        let index = index % self.world.pending.len();
        Some(self.world.pending.remove(index))
    }

    pub(super) fn succeed(&mut self, index: usize) {
        let Some(action) = self.take(index) else {
            return;
        };
        let answer = match action {
            Action::Prepare | Action::Regain => {
                (self.world.preparing, self.world.disks) = (false, true);
                Event::DisksReady(fakes::boot_disks())
            }
            Action::AwaitNetwork(version) => {
                self.world.applied = self.world.applied.max(version);
                Event::NetworkApplied(self.world.applied)
            }
            // One that is there already stays as it is.
            Action::Start(_) if self.world.domain => Event::Started,
            Action::Start(_) => {
                (self.world.domain, self.world.paused) = (true, false);
                Event::Started
            }
            Action::Resume => {
                self.world.paused = false;
                Event::ResumeDone
            }
            // A guest that stands still hears no button, and says nothing.
            Action::AcpiReboot | Action::AcpiShutdown if self.world.paused => return,
            Action::AcpiReboot if self.world.domain => Event::GuestReset,
            Action::HardReset if self.world.domain => Event::ResetDone,
            Action::HardReset => Event::ResetFailed("no domain".into()),
            Action::AcpiShutdown if self.world.domain => {
                self.no_domain();
                self.world.powered_off |= self.instance.wanted_down();
                Event::Gone(End::PoweredOff)
            }
            Action::AcpiReboot | Action::AcpiShutdown => return,
            Action::Destroy => {
                self.no_domain();
                Event::Destroyed
            }
            Action::Wipe => {
                self.world.disks = false;
                Event::Wiped
            }
            Action::Bundle(_) => Event::BundleEnded(Outcome::Complete),
            Action::StopPreparing | Action::StopBundle | Action::Plug => {
                unreachable!("never pending")
            }
        };
        self.on(answer);
    }

    pub(super) fn fail(&mut self, index: usize) {
        let Some(action) = self.take(index) else {
            return;
        };
        let why = "broken".to_owned();
        let answer = match action {
            Action::Prepare | Action::Regain => {
                self.world.preparing = false;
                Event::DisksFailed(internal_error(&why))
            }
            // It is late, and comes when it comes.
            Action::AwaitNetwork(_) if self.instance.has_run => {
                return self.world.pending.push(action);
            }
            // Nobody answers: the wait will end.
            Action::AwaitNetwork(_) | Action::AcpiReboot | Action::AcpiShutdown => return,
            Action::Start(_) => Event::StartFailed(internal_error(&why)),
            Action::Resume => Event::ResumePutOff(why),
            Action::HardReset => Event::ResetFailed(why),
            Action::Destroy => Event::DestroyFailed(why),
            Action::Wipe => Event::WipeFailed(why),
            Action::Bundle(_) => Event::BundleEnded(Outcome::Failed(internal_error(&why))),
            Action::StopPreparing | Action::StopBundle | Action::Plug => {
                unreachable!("never pending")
            }
        };
        self.on(answer);
    }

    /// A start that timed out for us and came to pass all the same.
    pub(super) fn start_late(&mut self) {
        let start = self
            .world
            .pending
            .iter()
            .position(|a| matches!(a, Action::Start(_)));
        if let Some(index) = start {
            self.world.pending.remove(index);
            self.world.domain = true;
            self.on(Event::StartFailed(internal_error("timed out")));
        }
    }

    pub(super) fn overdue(&mut self) {
        let wait = self.instance.wait();
        if wait.is_some() && wait != self.told {
            self.told = wait;
            self.on(Event::Overdue);
        }
    }

    /// A button that was pressed is the next domain's no more.
    fn no_domain(&mut self) {
        self.world.domain = false;
        self.world
            .pending
            .retain(|a| !matches!(a, Action::AcpiReboot | Action::AcpiShutdown));
    }

    pub(super) fn domain_ends(&mut self, end: End) {
        if self.world.domain {
            self.no_domain();
            self.world.powered_off |= end == End::PoweredOff;
            self.on(Event::Gone(end));
            // What was asked of it meanwhile fails.
            let of_domain = |a: &Action| matches!(a, Action::HardReset | Action::Resume);
            while let Some(index) = self.world.pending.iter().position(of_domain) {
                self.fail(index);
            }
        }
    }

    pub(super) fn pauses(&mut self, cause: Cause) {
        if self.world.domain {
            self.world.paused = true;
            self.on(Event::Paused(cause));
        }
    }

    /// The look at all domains, which says again whatever of them is news.
    pub(super) fn look(&mut self) {
        if self.world.domain && self.world.paused {
            self.on(Event::Paused(Cause::Disk));
        } else if self.world.domain && self.instance.impaired().is_some() {
            self.on(Event::Resumed);
        }
    }

    pub(super) fn wish(&mut self, change: impl FnOnce(&mut InstanceWish)) {
        let mut wish = InstanceWish::clone(&self.instance.wish);
        wish.generation += 1;
        change(&mut wish);
        self.on(Event::Wish(Arc::new(wish)));
    }

    /// Lets everything that is under way succeed, and every wait end, until nothing happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            if !self.world.pending.is_empty() {
                self.succeed(0);
            } else if self
                .instance
                .wait()
                .is_some_and(|wait| Some(wait) != self.told)
            {
                self.overdue();
            } else {
                let before = self.instance.clone();
                self.look();
                if self.instance == before {
                    return;
                }
            }
        }
        panic!("never settles: {:?}", self.instance);
    }

    pub(super) fn assert_nothing_left(&self) {
        assert_eq!(self.instance.phase, Phase::Terminated, "{:?}", self.world);
        assert!(!self.world.domain && !self.world.disks && !self.world.preparing);
        assert!(self.world.pending.is_empty());
        assert_eq!(self.instance.wait(), None);
    }
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Succeed(usize),
    Fail(usize),
    StartLate,
    Overdue,
    PowerOff,
    Crash,
    PauseForDisk,
    PauseByHand,
    ResumeByHand,
    ResetItself,
    Reboot,
    LateWish(u64),
    NeedNewerNetwork,
    Bundle(u32),
    CancelBundle,
    ForgetBundle,
    Terminate,
    PlaceAgain,
}

pub(super) fn bundle(task: u32) -> Option<BundleWish> {
    Some(BundleWish {
        task: format!("bun-{task:08x}").parse().unwrap(),
        cancelled: false,
    })
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0usize..4).prop_map(Step::Succeed),
        2 => (0usize..4).prop_map(Step::Fail),
        1 => Just(Step::StartLate),
        2 => Just(Step::Overdue),
        1 => Just(Step::PowerOff),
        1 => Just(Step::Crash),
        2 => Just(Step::PauseForDisk),
        1 => Just(Step::PauseByHand),
        1 => Just(Step::ResumeByHand),
        1 => Just(Step::ResetItself),
        2 => Just(Step::Reboot),
        1 => (0u64..3).prop_map(Step::LateWish),
        1 => Just(Step::NeedNewerNetwork),
        2 => (0u32..3).prop_map(Step::Bundle),
        1 => Just(Step::CancelBundle),
        1 => Just(Step::ForgetBundle),
        1 => Just(Step::Terminate),
        1 => Just(Step::PlaceAgain),
    ];
    proptest::collection::vec(step, 0..60)
}

pub(super) fn take_step(rig: &mut Rig, step: Step) {
    match step {
        Step::Succeed(index) => rig.succeed(index),
        Step::Fail(index) => rig.fail(index),
        Step::StartLate => rig.start_late(),
        Step::Overdue => rig.overdue(),
        Step::PowerOff => rig.domain_ends(End::PoweredOff),
        Step::Crash => rig.domain_ends(End::Crashed("signal 9".into())),
        Step::PauseForDisk => rig.pauses(Cause::Disk),
        Step::PauseByHand => rig.pauses(Cause::Other("by hand".into())),
        Step::ResumeByHand if rig.world.domain => {
            rig.world.paused = false;
            rig.on(Event::Resumed);
        }
        Step::ResumeByHand => {}
        Step::ResetItself if rig.world.domain && !rig.world.paused => rig.on(Event::GuestReset),
        Step::ResetItself => {}
        Step::Reboot => rig.wish(|wish| wish.reboots += 1),
        Step::LateWish(back) => {
            let before = rig.instance.clone();
            let mut late = InstanceWish::clone(&before.wish);
            late.generation = late.generation.saturating_sub(back);
            late.wanted = Wanted::Terminated;
            rig.on(Event::Wish(Arc::new(late)));
            assert_eq!(rig.instance, before, "a late wish changes nothing");
        }
        Step::NeedNewerNetwork => rig.wish(|wish| wish.spec.network_version += 1),
        Step::Bundle(task) => rig.wish(|wish| wish.bundle = bundle(task)),
        Step::CancelBundle => rig.wish(|wish| {
            if let Some(bundle) = &mut wish.bundle {
                bundle.cancelled = true;
            }
        }),
        Step::ForgetBundle => rig.wish(|wish| wish.bundle = None),
        Step::Terminate => rig.wish(|wish| wish.wanted = Wanted::Terminated),
        Step::PlaceAgain if rig.instance.phase == Phase::Terminated => rig.wish(|wish| {
            wish.epoch += 1;
            wish.wanted = Wanted::Running;
        }),
        Step::PlaceAgain => {}
    }
}

pub(super) fn running() -> Rig {
    let mut rig = Rig::new(fakes::wish(1));
    rig.settle();
    assert!(matches!(rig.instance.phase, Phase::Running { .. }));
    rig
}
