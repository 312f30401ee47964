//! Guests that stand still.

use control::node::Seen;

use super::{super::*, world::*};

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
