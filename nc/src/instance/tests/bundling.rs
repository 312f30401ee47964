//! Bundles of a running instance's disk.

use control::node::{BundleSeen, Seen};

use super::{super::*, world::*};
use crate::fakes;

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
