//! The machine in a world that fails as it likes: random sequences first, then what has a name.

use proptest::prelude::*;

use super::*;
use crate::fakes;
use world::*;

mod bundling;
mod held;
mod paused;
mod world;

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
        let has_run = matches!(saved, Saved::Returning | Saved::Running | Saved::Bundling);
        let world = World {
            domain: there,
            disks: there || has_run,
            life: instance.life,
            ..World::default()
        };
        let mut rig = Rig { instance, world, told: None };
        rig.perform(actions);
        rig.settle();
        match &rig.instance.phase {
            Phase::Terminated => {
                prop_assert!(down || !has_run);
                rig.assert_nothing_left();
            }
            Phase::Running { reboot: Reboot::None } => prop_assert!(!down && rig.world.domain),
            stuck => prop_assert!(false, "stuck in {stuck:?}"),
        }
    }
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
