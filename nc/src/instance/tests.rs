//! A world of one instance, in which every action takes its time and may fail, driven at random.

use control::node::{BundleSeen, BundleWish, Seen};
use proptest::prelude::*;

use super::*;
use crate::fakes;

/// What there really is of the instance, as the machine cannot see it.
#[derive(Debug, Default)]
struct World {
    preparing: bool,
    disks: bool,
    /// A bundle has ended, so that the guest starts once more from the disks that it has.
    restarts: bool,
    domain: bool,
    paused: bool,
    applied: u64,
    /// Actions that were not answered yet.
    pending: Vec<Action>,
    starts_in_life: u32,
    life: u64,
}

struct Rig {
    instance: Instance,
    world: World,
    /// The wait whose end was already told; it does not end twice.
    told: Option<Wait>,
}

impl Rig {
    fn new(wish: InstanceWish) -> Self {
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

    fn on(&mut self, event: Event) {
        let (next, actions) = self.instance.clone().on(event);
        self.instance = next;
        if self.instance.life != self.world.life {
            self.world.life = self.instance.life;
            self.world.starts_in_life = 0;
        }
        if self.instance.wait() != self.told {
            self.told = None;
        }
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.check(&action);
            match &action {
                Action::StopPreparing => {
                    self.world.preparing = false;
                    let keep = |a: &Action| !matches!(a, Action::Prepare | Action::AwaitNetwork(_));
                    self.world.pending.retain(keep);
                    continue;
                }
                Action::StopBundle => {
                    (self.world.restarts, self.world.starts_in_life) = (true, 0);
                    self.world
                        .pending
                        .retain(|a| !matches!(a, Action::Bundle(_)));
                    continue;
                }
                Action::Prepare => (self.world.preparing, self.world.restarts) = (true, false),
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
    fn check(&self, action: &Action) {
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
                assert!(!world.domain);
                assert_eq!(world.starts_in_life, 0, "started twice in one life");
            }
            Action::Wipe => {
                assert!(!world.preparing, "wiped while disks were being made");
                assert!(!world.domain, "wiped under a running guest");
                assert!(!world.pending.iter().any(|a| matches!(a, Action::Start(_))));
                assert!(!world.pending.iter().any(|a| matches!(a, Action::Bundle(_))));
            }
            Action::Prepare => assert!(!world.domain && (!world.disks || world.restarts)),
            Action::Bundle(_) => assert!(!world.domain, "bundled under a running guest"),
            _ => {}
        }
    }

    fn take(&mut self, index: usize) -> Option<Action> {
        if self.world.pending.is_empty() {
            return None;
        }
        let index = index % self.world.pending.len();
        Some(self.world.pending.remove(index))
    }

    fn succeed(&mut self, index: usize) {
        let Some(action) = self.take(index) else {
            return;
        };
        let answer = match action {
            Action::Prepare => {
                (self.world.preparing, self.world.disks) = (false, true);
                Event::DisksReady(fakes::boot_disks())
            }
            Action::AwaitNetwork(version) => {
                self.world.applied = self.world.applied.max(version);
                Event::NetworkApplied(self.world.applied)
            }
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
                self.world.domain = false;
                Event::Gone(End::PoweredOff)
            }
            Action::AcpiReboot | Action::AcpiShutdown => return,
            Action::Destroy => {
                self.world.domain = false;
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

    fn fail(&mut self, index: usize) {
        let Some(action) = self.take(index) else {
            return;
        };
        let why = "broken".to_owned();
        let answer = match action {
            Action::Prepare => {
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
    fn start_late(&mut self) {
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

    fn overdue(&mut self) {
        let wait = self.instance.wait();
        if wait.is_some() && wait != self.told {
            self.told = wait;
            self.on(Event::Overdue);
        }
    }

    fn domain_ends(&mut self, end: End) {
        if self.world.domain {
            self.world.domain = false;
            self.on(Event::Gone(end));
        }
    }

    fn pauses(&mut self, cause: Cause) {
        if self.world.domain {
            self.world.paused = true;
            self.on(Event::Paused(cause));
        }
    }

    /// The look at all domains, which says again whatever of them is news.
    fn look(&mut self) {
        if self.world.domain && self.world.paused {
            self.on(Event::Paused(Cause::Disk));
        } else if self.world.domain && self.instance.impaired().is_some() {
            self.on(Event::Resumed);
        }
    }

    fn wish(&mut self, change: impl FnOnce(&mut InstanceWish)) {
        let mut wish = InstanceWish::clone(&self.instance.wish);
        wish.generation += 1;
        change(&mut wish);
        self.on(Event::Wish(Arc::new(wish)));
    }

    /// Lets everything that is under way succeed, and every wait end, until nothing happens.
    fn settle(&mut self) {
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

    fn assert_nothing_left(&self) {
        assert_eq!(self.instance.phase, Phase::Terminated, "{:?}", self.world);
        assert!(!self.world.domain && !self.world.disks && !self.world.preparing);
        assert!(self.world.pending.is_empty());
        assert_eq!(self.instance.wait(), None);
    }
}

#[derive(Debug, Clone)]
enum Step {
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

fn bundle(task: u32) -> Option<BundleWish> {
    Some(BundleWish {
        task: format!("bun-{task:08x}").parse().unwrap(),
        cancelled: false,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
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

fn take_step(rig: &mut Rig, step: Step) {
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

proptest! {
    #[test]
    fn whatever_happened_a_termination_leaves_nothing(steps in steps()) {
        let mut rig = Rig::new(fakes::wish(1));
        for step in steps {
            take_step(&mut rig, step);
        }
        rig.wish(|wish| wish.wanted = Wanted::Terminated);
        rig.settle();
        rig.assert_nothing_left();
    }

    #[test]
    fn left_alone_it_comes_to_run_or_to_an_end(steps in steps()) {
        let mut rig = Rig::new(fakes::wish(1));
        for step in steps {
            take_step(&mut rig, step);
        }
        rig.settle();
        match &rig.instance.phase {
            Phase::Terminated => rig.assert_nothing_left(),
            Phase::Running { reboot: Reboot::None } => {
                prop_assert!(rig.world.domain && rig.world.disks && !rig.world.paused);
                prop_assert_eq!(rig.instance.reboots_done, rig.instance.wish.reboots);
            }
            stuck => prop_assert!(false, "stuck in {stuck:?}"),
        }
    }

    #[test]
    fn an_instance_found_in_any_state_comes_to_run_or_to_an_end(
        saved in prop_oneof![
            Just(Saved::Preparing), Just(Saved::Returning), Just(Saved::Running), Just(Saved::Bundling),
            Just(Saved::Ending), Just(Saved::Terminated)
        ],
        seen in prop_oneof![
            Just(DomainSeen::There), Just(DomainSeen::Absent), Just(DomainSeen::HostRebooted)
        ],
        down in any::<bool>(),
        reboots in 0u32..2,
    ) {
        let mut wish = fakes::wish(1);
        wish.reboots = reboots;
        if down {
            wish.wanted = Wanted::Terminated;
        }
        let there = seen == DomainSeen::There;
        let (instance, actions) =
            Instance::found(Arc::new(wish), 1, 0, None, None, saved, seen);
        let world = World { domain: there, disks: there, life: instance.life, ..World::default() };
        let mut rig = Rig { instance, world, told: None };
        rig.perform(actions);
        rig.settle();
        match &rig.instance.phase {
            Phase::Terminated => rig.assert_nothing_left(),
            Phase::Running { reboot: Reboot::None } => prop_assert!(!down && rig.world.domain),
            stuck => prop_assert!(false, "stuck in {stuck:?}"),
        }
    }
}

#[test]
fn a_bundle_shuts_the_guest_down_once_and_starts_it_again_whatever_comes_of_it() {
    for fails in [false, true] {
        let mut rig = running();
        rig.wish(|wish| wish.bundle = bundle(1));
        assert_eq!(rig.instance.wait(), Some(Wait::ShutdownGrace));
        let report = rig.instance.bundle_report(false, 0).unwrap();
        assert_eq!(report.seen, BundleSeen::WaitingForShutdown);
        rig.succeed(0);
        assert!(matches!(rig.world.pending[..], [Action::Bundle(_)]));
        assert_eq!(rig.instance.seen(), Seen::Running, "as its user sees it");
        let report = rig.instance.bundle_report(true, 70).unwrap();
        assert_eq!((report.seen, report.percent), (BundleSeen::Storing, 70));
        if fails {
            rig.fail(0);
        }
        rig.settle();
        assert!(matches!(rig.instance.phase, Phase::Running { .. }));
        let seen = rig.instance.bundle_report(false, 0).unwrap().seen;
        let ended = if fails {
            BundleSeen::Failed
        } else {
            BundleSeen::Complete
        };
        assert_eq!(seen, ended);
        // Said again, before above has heard of it: nothing happens.
        rig.wish(|wish| wish.reboots = 0);
        assert!(rig.world.pending.is_empty());
        rig.wish(|wish| wish.bundle = bundle(2));
        assert_eq!(
            rig.world.pending,
            [Action::AcpiShutdown],
            "another task is another bundle"
        );
    }
}

#[test]
fn a_guest_that_ignores_the_request_is_ended_for_its_bundle() {
    let mut rig = running();
    rig.wish(|wish| wish.bundle = bundle(1));
    rig.fail(0);
    rig.overdue();
    assert_eq!(rig.world.pending, [Action::Destroy]);
    rig.fail(0);
    assert!(rig.instance.stage("").contains("broken"));
    rig.overdue();
    rig.succeed(0);
    assert!(matches!(rig.world.pending[..], [Action::Bundle(_)]));
}

#[test]
fn a_bundle_given_up_at_any_time_leaves_a_guest_that_runs() {
    for steps in 0..2 {
        let mut rig = running();
        rig.wish(|wish| wish.bundle = bundle(1));
        for _ in 0..steps {
            rig.succeed(0);
        }
        rig.wish(|wish| wish.bundle.as_mut().unwrap().cancelled = true);
        rig.settle();
        assert!(matches!(rig.instance.phase, Phase::Running { .. }) && rig.world.domain);
        let report = rig.instance.bundle_report(false, 0).unwrap();
        assert_eq!(report.seen, BundleSeen::Cancelled, "after {steps} steps");
    }
}

#[test]
fn a_node_that_died_in_the_midst_of_a_bundle_goes_on_with_it_once() {
    for (seen, wait) in [
        (DomainSeen::Absent, Wait::Bundle),
        (DomainSeen::HostRebooted, Wait::Bundle),
        (DomainSeen::There, Wait::ShutdownGrace),
    ] {
        let mut wish = fakes::wish(1);
        wish.bundle = bundle(1);
        let (saved, wish) = (Saved::Bundling, Arc::new(wish));
        let (found, _) = Instance::found(wish.clone(), 1, 0, None, None, saved, seen);
        assert_eq!(found.wait(), Some(wait));
        let done = Some(Bundled {
            task: bundle(1).unwrap().task,
            outcome: Outcome::Complete,
        });
        let (found, _) = Instance::found(wish, 1, 0, None, done, Saved::Running, DomainSeen::There);
        assert!(found.wait().is_none(), "it was done before");
    }
}

#[test]
fn what_a_guest_wrote_is_not_given_up_for_lateness_but_at_its_users_word() {
    let found_after_reboot = |saved| {
        let seen = DomainSeen::HostRebooted;
        Instance::found(Arc::new(fakes::wish(1)), 1, 0, None, None, saved, seen).0
    };
    let waits = |instance: &Instance, wait| {
        assert_eq!(instance.wait(), Some(wait));
        assert_eq!(
            instance.clone().on(Event::Overdue),
            (instance.clone(), Vec::new())
        );
        assert_eq!(
            instance.saved(),
            Saved::Returning,
            "the next process waits too"
        );
    };
    for saved in [Saved::Running, Saved::Returning] {
        let found = found_after_reboot(saved);
        waits(&found, Wait::Disks);
        let (ready, _) = found.on(Event::DisksReady(fakes::boot_disks()));
        waits(&ready, Wait::Network);
        let mut wish = InstanceWish::clone(&ready.wish);
        (wish.generation, wish.wanted) = (wish.generation + 1, Wanted::Terminated);
        let (_, actions) = ready.clone().on(Event::Wish(Arc::new(wish)));
        assert_eq!(actions, [Action::StopPreparing, Action::Wipe]);
        let (starts, _) = ready.on(Event::NetworkApplied(u64::MAX));
        assert!(matches!(starts.phase, Phase::Starting { .. }));
    }
    let (late, _) = found_after_reboot(Saved::Preparing).on(Event::Overdue);
    assert!(
        matches!(late.phase, Phase::Wiping { .. }),
        "it has never run"
    );
}

#[test]
fn a_new_life_has_not_run() {
    let mut rig = running();
    assert!(rig.instance.has_run);
    rig.wish(|wish| wish.wanted = Wanted::Terminated);
    rig.settle();
    rig.wish(|wish| {
        wish.epoch += 1;
        wish.wanted = Wanted::Running;
    });
    assert!(!rig.instance.has_run);
    rig.overdue();
    assert!(matches!(rig.instance.phase, Phase::Wiping { .. }));
}

fn running() -> Rig {
    let mut rig = Rig::new(fakes::wish(1));
    rig.settle();
    assert!(matches!(rig.instance.phase, Phase::Running { .. }));
    rig
}

#[test]
fn a_failed_disk_is_the_reason_that_the_user_reads() {
    let mut rig = Rig::new(fakes::wish(1));
    let why = StateReason::new("Client.InvalidImage", "part 3 is corrupt");
    rig.world.preparing = false;
    rig.world
        .pending
        .retain(|action| *action != Action::Prepare);
    rig.on(Event::DisksFailed(why.clone()));
    rig.settle();
    rig.assert_nothing_left();
    assert_eq!(rig.instance.reason, Some(why));
}

#[test]
fn a_network_that_never_comes_ends_the_launch_with_its_version_in_the_reason() {
    let mut wish = fakes::wish(1);
    wish.spec.network_version = 7;
    let mut rig = Rig::new(wish);
    rig.succeed(0);
    assert_eq!(rig.instance.wait(), Some(Wait::Network));
    assert_eq!(rig.instance.stage(""), "waiting for network version 7");
    rig.overdue();
    rig.settle();
    assert!(rig.instance.reason.unwrap().message.contains("version 7"));
}

#[test]
fn a_guest_that_powers_itself_off_is_terminated_with_ec2s_words() {
    let mut rig = running();
    rig.domain_ends(End::PoweredOff);
    rig.settle();
    rig.assert_nothing_left();
    assert_eq!(
        rig.instance.reason.unwrap().code,
        "Client.InstanceInitiatedShutdown"
    );
}

#[test]
fn a_guest_that_ends_before_its_start_was_answered_is_not_taken_for_running() {
    let mut rig = Rig::new(fakes::wish(1));
    while !matches!(rig.instance.phase, Phase::Starting { .. }) {
        rig.succeed(0);
    }
    rig.on(Event::Gone(End::PoweredOff));
    assert!(matches!(rig.instance.phase, Phase::Starting { .. }));
    rig.settle();
    rig.assert_nothing_left();
}

#[test]
fn a_guest_that_ignores_the_reboot_is_reset_hard_and_counted_once() {
    let mut rig = running();
    rig.wish(|wish| wish.reboots = 1);
    rig.fail(0);
    assert_eq!(rig.instance.wait(), Some(Wait::RebootGrace { target: 1 }));
    rig.overdue();
    assert_eq!(rig.world.pending, [Action::HardReset]);
    rig.on(Event::GuestReset);
    assert_eq!(rig.instance.reboots_done, 0);
    rig.succeed(0);
    assert_eq!(rig.instance.reboots_done, 1);
    rig.settle();
    assert_eq!(rig.instance.reboots_done, 1);
}

#[test]
fn a_domain_that_cannot_be_ended_is_shown_with_the_reason_until_it_can() {
    let mut rig = running();
    rig.wish(|wish| wish.wanted = Wanted::Terminated);
    rig.fail(0);
    rig.overdue();
    for _ in 0..3 {
        rig.fail(0);
        assert!(rig.instance.stage("").contains("broken"));
        rig.overdue();
    }
    rig.settle();
    rig.assert_nothing_left();
    assert_eq!(rig.instance.reason, None, "it was asked for");
}

#[test]
fn an_unknown_instance_that_is_to_be_gone_is_made_sure_to_be_gone() {
    let mut wish = fakes::wish(1);
    wish.wanted = Wanted::Terminated;
    let mut rig = Rig::new(wish);
    assert_eq!(rig.world.pending, [Action::Destroy]);
    rig.settle();
    rig.assert_nothing_left();
}

#[test]
fn a_guest_that_stands_still_for_its_disk_is_resumed_when_there_is_room_and_shown_until_it_goes_on()
{
    let mut rig = running();
    rig.pauses(Cause::Disk);
    assert_eq!(rig.instance.seen(), Seen::Running, "it is not gone");
    assert!(rig.instance.impaired().is_some());
    for _ in 0..3 {
        assert_eq!(rig.instance.wait(), Some(Wait::Room));
        rig.overdue();
        assert_eq!(rig.world.pending, [Action::Resume]);
        rig.fail(0);
        assert!(rig.instance.stage("").contains("broken"));
    }
    rig.overdue();
    rig.succeed(0);
    assert!(rig.instance.impaired().is_some(), "not believed yet");

    // The disk is full again before it was: it was never shown as well.
    rig.pauses(Cause::Disk);
    assert_eq!(rig.instance.wait(), Some(Wait::Room));
    rig.overdue();
    rig.succeed(0);
    assert_eq!(rig.instance.wait(), Some(Wait::Proof));
    rig.overdue();
    assert_eq!(rig.instance.impaired(), None);
    assert_eq!(rig.instance.stage(""), "");
}

#[test]
fn an_answer_that_comes_after_the_next_pause_does_not_make_it_well() {
    let mut rig = running();
    rig.pauses(Cause::Disk);
    rig.overdue();
    rig.on(Event::Resumed);
    rig.pauses(Cause::Disk);
    rig.on(Event::ResumeDone);
    assert_eq!(rig.instance.wait(), Some(Wait::Room));
}

#[test]
fn what_was_paused_by_hand_is_left_to_that_hand_and_can_be_ended() {
    let mut rig = running();
    rig.pauses(Cause::Other("by hand".into()));
    assert_eq!(
        (rig.instance.wait(), &rig.world.pending[..]),
        (None, &[][..])
    );
    rig.wish(|wish| wish.reboots = 1);
    assert!(rig.world.pending.is_empty(), "the reboot waits");
    rig.world.paused = false;
    rig.on(Event::Resumed);
    assert_eq!(rig.world.pending, [Action::AcpiReboot]);

    let mut rig = running();
    rig.pauses(Cause::Other("by hand".into()));
    rig.wish(|wish| wish.wanted = Wanted::Terminated);
    assert_eq!(
        rig.world.pending,
        [Action::Destroy],
        "it hears no power button"
    );
    rig.settle();
    rig.assert_nothing_left();
}
