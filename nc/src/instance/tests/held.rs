//! A guest that has run: nothing that befalls it has its disks wiped.

use control::node::Seen;

use super::{super::*, world::*};
use crate::fakes;

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
        assert_eq!(actions, [Action::StopPreparing, Action::Destroy]);
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

/// One that is on its way up again, after a reboot of its host.
fn returning() -> Rig {
    let (saved, seen) = (Saved::Returning, DomainSeen::HostRebooted);
    let wish = Arc::new(fakes::wish(1));
    let (instance, actions) = Instance::found(wish, 1, 0, None, None, saved, seen);
    let world = World {
        disks: true,
        life: instance.life,
        ..World::default()
    };
    let mut rig = Rig {
        instance,
        world,
        told: None,
    };
    rig.perform(actions);
    rig
}

fn assert_held(rig: &Rig, attempt: u32, why: &str) {
    assert_eq!(rig.instance.wait(), Some(Wait::Return { attempt }));
    assert_eq!(rig.instance.seen(), Seen::Pending);
    assert_eq!(rig.instance.saved(), Saved::Returning);
    assert_eq!(rig.instance.reason, None, "it has not gone down");
    let shown = rig.instance.impaired().unwrap();
    assert_eq!(shown.code, "Server.InternalError");
    assert!(shown.message.contains(why), "{}", shown.message);
    assert!(rig.world.disks && rig.world.pending.is_empty());
}

#[test]
fn disks_that_cannot_be_had_again_and_starts_that_fail_are_tried_again_until_it_runs() {
    let mut rig = returning();
    for attempt in 1..=3 {
        assert!(matches!(rig.world.pending[0], Action::Regain));
        rig.fail(0);
        assert_held(&rig, attempt, "broken");
        rig.overdue();
        assert!(rig.instance.impaired().is_some(), "shown until it runs");
    }
    for attempt in 4..=6 {
        while !matches!(rig.world.pending[..], [Action::Start(_)]) {
            rig.succeed(0);
        }
        rig.fail(0);
        assert_held(&rig, attempt, "broken");
        rig.overdue();
    }
    rig.settle();
    assert!(matches!(rig.instance.phase, Phase::Running { .. }));
    assert_eq!(rig.instance.impaired(), None);

    rig.domain_ends(End::Crashed("signal 9".into()));
    assert_held(&rig, 1, "signal 9");
}

#[test]
fn a_start_that_was_given_up_and_came_to_pass_is_found_by_the_next_and_ended_with_it() {
    for (terminated, while_tried_again) in [(false, false), (true, false), (true, true)] {
        let mut rig = returning();
        rig.succeed(0);
        rig.succeed(0);
        rig.start_late();
        assert!(rig.world.domain);
        assert_held(&rig, 1, "timed out");
        if while_tried_again {
            rig.overdue();
        }
        if terminated {
            rig.wish(|wish| wish.wanted = Wanted::Terminated);
            assert_eq!(rig.world.pending, [Action::Destroy]);
            rig.settle();
            rig.assert_nothing_left();
            assert_eq!(rig.instance.reason, None, "it was asked for");
        } else {
            rig.settle();
            assert!(matches!(rig.instance.phase, Phase::Running { .. }));
        }
    }
}

#[test]
fn a_machine_that_ended_under_its_guest_starts_again_and_one_that_its_guest_powered_off_does_not() {
    for end in [End::Crashed("signal 9".into()), End::Vanished] {
        let mut rig = running();
        rig.domain_ends(end);
        rig.settle();
        assert!(matches!(rig.instance.phase, Phase::Running { .. }));
        assert_eq!(rig.instance.reason, None);
    }
    // The look at all domains came first, and then its last word.
    let mut rig = running();
    rig.world.domain = false;
    rig.on(Event::Gone(End::Vanished));
    rig.world.powered_off = true;
    rig.on(Event::Gone(End::PoweredOff));
    rig.settle();
    rig.assert_nothing_left();
    let reason = rig.instance.reason.unwrap();
    assert_eq!(reason.code, "Client.InstanceInitiatedShutdown");
}

#[test]
fn a_guest_that_ends_before_its_second_start_was_answered_is_tried_again_unless_it_powered_off() {
    for (end, returns) in [
        (End::Crashed("signal 9".into()), true),
        (End::PoweredOff, false),
    ] {
        let mut rig = returning();
        rig.succeed(0);
        rig.succeed(0);
        rig.world.powered_off = !returns;
        rig.on(Event::Gone(end));
        rig.on(Event::Started);
        let is_held = matches!(rig.instance.phase, Phase::Held { .. });
        assert_eq!(is_held, returns, "{:?}", rig.instance.phase);
    }
}

#[test]
fn a_reboot_that_is_asked_for_tries_at_once() {
    let mut rig = returning();
    rig.fail(0);
    rig.wish(|wish| wish.spec.metadata.launch_index = 0);
    assert_held(&rig, 1, "broken");
    rig.wish(|wish| wish.reboots += 1);
    assert!(matches!(rig.world.pending[0], Action::Regain));
    rig.settle();
    assert_eq!(rig.instance.reboots_done, 1, "its start was the reboot");
}
