//! Keepers on a node of fakes, with time standing still unless something waits for it.

use std::time::Duration;

use control::node::{BundleReport, BundleSeen, BundleWish, Seen};
use types::StateReason;

use super::*;
use crate::{
    fakes,
    instance::{Cause, End},
    rig::{Process, Rig, newer, pause, steps, terminated},
    site::Subject,
};

#[tokio::test(start_paused = true)]
async fn a_wish_becomes_a_running_guest_with_every_step_in_its_timeline() {
    let rig = Rig::new();
    *rig.disks.takes.lock().unwrap() = Duration::from_secs(4);
    let node = rig.start().await;
    let wish = fakes::wish(1);
    let report = node.run(&wish).await;

    let mut launch = steps(&report);
    // The image and the network are waited for both at once.
    launch[1..3].sort_unstable();
    assert_eq!(
        launch,
        ["received", "image", "network", "disk", "started", "running"]
    );
    let image = report
        .timeline
        .iter()
        .find(|moment| moment.step == "image")
        .unwrap();
    assert_eq!(
        image.detail,
        format!("fetching {}, 50 %", wish.spec.image.id)
    );
    assert!(report.timeline[5].elapsed_ms >= 4_400);
    assert_eq!(
        (report.generation, report.epoch, report.stage.as_str()),
        (1, 1, "")
    );
    assert_eq!(node.residents.all().len(), 1);

    node.signs.saw(&wish.instance, Sign::Metadata);
    node.signs.saw(&wish.instance, Sign::Metadata);
    std::fs::write(rig.dir.path().join("i-00000001/console.log"), "Linux").unwrap();
    pause(100).await;
    let later = node.keepers.get(&wish.instance).unwrap().report();
    assert_eq!(steps(&later)[6..], ["metadata", "console"]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_shown_as_it_comes_and_a_change_within_50_ms() {
    let rig = Rig::new();
    *rig.disks.takes.lock().unwrap() = Duration::from_secs(4);
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.wish(&wish).await;
    pause(2_050).await;
    let report = node.keepers.get(&wish.instance).unwrap().report();
    assert_eq!((report.seen, report.percent), (Seen::Pending, Some(50)));

    node.until(&wish.instance, Seen::Running).await;
    rig.hypervisor.end(&wish.instance, End::PoweredOff);
    pause(50).await;
    let report = node.keepers.get(&wish.instance).unwrap().report();
    assert_ne!(report.seen, Seen::Running);
    let change = node
        .keepers
        .site()
        .feed()
        .get(&Subject::Instance(wish.instance))
        .unwrap();
    assert_eq!(
        change,
        control::node::NodeChange::Instance(Box::new(report))
    );
}

/// The wish that a bundle be made of it.
fn bundled(wish: &InstanceWish) -> InstanceWish {
    InstanceWish {
        bundle: Some(BundleWish {
            task: "bun-00000001".parse().unwrap(),
            cancelled: false,
        }),
        ..newer(wish)
    }
}

async fn bundle_is(node: &Process, wish: &InstanceWish, seen: BundleSeen) -> BundleReport {
    let mut reports = node.keepers.get(&wish.instance).unwrap().reports();
    let is = |report: &InstanceReport| report.bundle.as_ref().is_some_and(|told| told.seen == seen);
    let reached = tokio::time::timeout(Duration::from_secs(600), reports.wait_for(is)).await;
    let report = reached
        .unwrap_or_else(|_| panic!("never {seen:?}"))
        .unwrap();
    report.bundle.clone().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_bundle_is_told_of_step_by_step_and_the_guest_runs_again() {
    let rig = Rig::new();
    *rig.bundles.takes.lock().unwrap() = Duration::from_secs(20);
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    node.wish(&bundled(&wish)).await;
    bundle_is(&node, &wish, BundleSeen::WaitingForShutdown).await;
    assert_eq!(
        bundle_is(&node, &wish, BundleSeen::Bundling).await.percent,
        50
    );
    assert!(
        rig.hypervisor.domains().is_empty(),
        "nobody writes to the disk"
    );
    let report = node.keepers.get(&wish.instance).unwrap().report();
    assert_eq!((report.seen, report.percent), (Seen::Running, Some(50)));
    bundle_is(&node, &wish, BundleSeen::Storing).await;
    bundle_is(&node, &wish, BundleSeen::Complete).await;
    node.until(&wish.instance, Seen::Running).await;
    pause(5_000).await;
    assert_eq!(
        (rig.hypervisor.domains().len(), rig.hypervisor.starts()),
        (1, 2)
    );
    let report = node.keepers.get(&wish.instance).unwrap().report();
    assert!(steps(&report).contains(&"bundled"));
    node.terminate(&bundled(&wish)).await;
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_dies_in_the_midst_of_a_bundle_goes_on_with_it_and_makes_it_once() {
    let rig = Rig::new();
    *rig.bundles.takes.lock().unwrap() = Duration::from_secs(20);
    let wish = fakes::wish(1);
    let node = rig.start().await;
    node.run(&wish).await;
    node.wish(&bundled(&wish)).await;
    bundle_is(&node, &wish, BundleSeen::Bundling).await;
    node.stop().await;

    let node = rig.start().await;
    bundle_is(&node, &wish, BundleSeen::Complete).await;
    pause(5_000).await;
    assert_eq!(rig.bundles.begun().len(), 2, "begun again");
    assert_eq!(rig.hypervisor.domains().len(), 1, "and the guest after it");
    node.stop().await;

    let node = rig.start().await;
    bundle_is(&node, &wish, BundleSeen::Complete).await;
    node.wish(&newer(&bundled(&wish))).await;
    pause(5_000).await;
    assert_eq!(
        rig.bundles.begun().len(),
        2,
        "once complete, it is not made again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_termination_in_the_midst_of_a_bundle_leaves_nothing() {
    for after_ms in [0, 100, 3_000, 15_000] {
        let rig = Rig::new();
        *rig.bundles.takes.lock().unwrap() = Duration::from_secs(10);
        let node = rig.start().await;
        let wish = fakes::wish(1);
        node.run(&wish).await;
        node.wish(&bundled(&wish)).await;
        pause(after_ms).await;
        node.terminate(&bundled(&wish)).await;
        rig.assert_nothing_left(&wish.instance);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_before_the_network_that_it_needs_is_applied() {
    let rig = Rig::new();
    let node = rig.start().await;
    let mut wish = fakes::wish(1);
    wish.spec.network_version = 7;
    node.wish(&wish).await;
    pause(5_000).await;
    rig.networks.apply(6);
    pause(5_000).await;
    assert_eq!(rig.hypervisor.starts(), 0);
    let report = node.keepers.get(&wish.instance).unwrap().report();
    assert_eq!(report.stage, "waiting for network version 7");
    rig.networks.apply(8);
    node.until(&wish.instance, Seen::Running).await;
    assert_eq!(rig.hypervisor.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_vpc_that_cannot_be_applied_keeps_its_own_guests_waiting_with_the_reason_and_no_others() {
    let rig = Rig::new();
    let node = rig.start().await;
    let (broken, well) = (fakes::wish(1), fakes::wish(2));
    let mut well = well;
    well.spec.interface.vpc = "vpc-00000002".parse().unwrap();
    let vpc = &broken.spec.interface.vpc;
    rig.networks.fail_vpc(vpc, "address already in use");
    node.wish(&broken).await;
    node.run(&well).await;
    pause(60_000).await;
    let report = node.keepers.get(&broken.instance).unwrap().report();
    assert_eq!(
        report.stage,
        "waiting for network version 1: address already in use"
    );

    // Mended in time it starts; if not, its user reads why.
    rig.networks.apply(2);
    node.until(&broken.instance, Seen::Running).await;
    let late = fakes::wish(3);
    rig.networks.fail_vpc(vpc, "address already in use");
    node.wish(&late).await;
    let reason = node.until(&late.instance, Seen::Terminated).await.reason;
    let reason = reason.unwrap().message;
    assert!(reason.contains("address already in use"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn the_same_wish_from_many_mouths_starts_one_guest() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    let mouths = (0..50).map(|_| node.keepers.wish(wish.clone()));
    for taken in futures_util::future::join_all(mouths).await {
        assert_eq!(taken.unwrap().generation, 1);
    }
    node.until(&wish.instance, Seen::Running).await;
    assert_eq!((rig.hypervisor.starts(), rig.disks.prepared()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_late_wish_is_answered_with_what_is_wanted_now() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    node.terminate(&wish).await;
    assert_eq!(node.wish(&wish).await, 2);
    pause(10_000).await;
    assert_eq!(rig.hypervisor.starts(), 1);
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_another_node_is_refused() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = InstanceWish {
        node: "node-00000002".parse().unwrap(),
        ..fakes::wish(1)
    };
    let refused = node.keepers.wish(wish).await.unwrap_err();
    assert_eq!(refused.code, control::Code::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_termination_at_any_moment_of_a_launch_leaves_nothing() {
    for after_ms in [0, 1, 500, 1_000, 2_050, 2_200, 3_000] {
        let rig = Rig::new();
        *rig.disks.takes.lock().unwrap() = Duration::from_secs(2);
        let node = rig.start().await;
        let wish = fakes::wish(1);
        node.wish(&wish).await;
        pause(after_ms).await;
        let report = node.terminate(&wish).await;
        assert_eq!(report.reason, None, "it was asked for");
        rig.assert_nothing_left(&wish.instance);
        assert!(rig.networks.plugged_now().is_empty());
        assert!(node.residents.all().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_ignores_the_power_button_is_ended_after_its_grace() {
    let rig = Rig::new();
    rig.hypervisor.behave(|manners| manners.guests_obey = false);
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    node.wish(&terminated(&wish)).await;
    pause(9_000).await;
    assert_eq!(rig.hypervisor.domains().len(), 1);
    pause(1_500).await;
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_image_ends_the_launch_with_the_reason_and_nothing_half_made() {
    let rig = Rig::new();
    let why = StateReason::new(
        "Client.InvalidImage",
        "part 3 of 5: its SHA-1 is not the manifest's",
    );
    *rig.disks.fails.lock().unwrap() = Some(why.clone());
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.wish(&wish).await;
    let report = node.until(&wish.instance, Seen::Terminated).await;
    assert_eq!(report.reason, Some(why));
    rig.assert_nothing_left(&wish.instance);
    assert_eq!(rig.hypervisor.starts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hypervisor_that_refuses_is_quoted_in_the_reason() {
    let rig = Rig::new();
    rig.hypervisor
        .behave(|manners| manners.start_fails = Some("no such bridge mb1".into()));
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.wish(&wish).await;
    let reason = node
        .until(&wish.instance, Seen::Terminated)
        .await
        .reason
        .unwrap();
    assert_eq!(reason.code, "Server.InternalError");
    assert!(
        reason.message.contains("no such bridge mb1"),
        "{}",
        reason.message
    );
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn disks_that_cannot_be_put_on_disk_end_the_launch_with_the_reason() {
    let rig = Rig::new();
    let why = StateReason::new("Server.InternalError", "swap.raw: Input/output error");
    *rig.disks.keep_fails.lock().unwrap() = Some(why.clone());
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.wish(&wish).await;
    let report = node.until(&wish.instance, Seen::Terminated).await;
    assert_eq!(report.reason, Some(why));
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_not_called_terminated_until_it_is() {
    let rig = Rig::new();
    *rig.disks.wipes_fail.lock().unwrap() = 3;
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    rig.hypervisor.end(&wish.instance, End::PoweredOff);
    pause(1_000).await;
    let report = node.keepers.get(&wish.instance).unwrap().report();
    assert_eq!(report.seen, Seen::ShuttingDown);
    assert!(
        report.stage.contains("the disk is busy"),
        "{}",
        report.stage
    );
    let report = node.until(&wish.instance, Seen::Terminated).await;
    let code = report.reason.unwrap().code;
    assert_eq!(code, "Client.InstanceInitiatedShutdown");
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn a_guest_whose_machine_crashed_is_held_with_the_reason_and_starts_again_from_its_disks() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    let why = StateReason::new(
        "Server.InternalError",
        "Server.InternalError: swap.raw: Input/output error",
    );
    *rig.disks.fails.lock().unwrap() = Some(why);
    rig.hypervisor
        .end(&wish.instance, End::Crashed("signal 9".into()));
    let report = || node.keepers.get(&wish.instance).unwrap().report();
    pause(1_000).await;
    let first = report();
    assert_eq!((first.seen, first.reason), (Seen::Pending, None));
    let shown = first.impaired.unwrap().message;
    assert!(shown.contains("signal 9"), "{shown}");

    // Tried more and more seldom, and never given up.
    pause(3_600_000).await;
    let shown = report().impaired.unwrap().message;
    assert!(shown.contains("Input/output error"), "{shown}");
    let tried = rig.disks.regained();
    assert!((30..=40).contains(&tried), "{tried}");
    assert!(rig.disks.there().contains(&wish.instance));

    *rig.disks.fails.lock().unwrap() = None;
    node.until(&wish.instance, Seen::Running).await;
    assert_eq!((report().impaired, rig.disks.prepared()), (None, 1));
    assert!(steps(&report()).contains(&"held"));
    assert_eq!(rig.hypervisor.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_is_held_outlasts_a_restart_of_the_node_and_goes_when_its_user_says_so() {
    let mut rig = Rig::new();
    let wish = fakes::wish(1);
    let node = rig.start().await;
    node.run(&wish).await;
    node.stop().await;
    rig.hypervisor.end_unseen(&wish.instance);
    rig.boot_id = "boot-2".to_owned();
    rig.hypervisor
        .behave(|manners| manners.start_fails = Some("no such bridge mb1".into()));
    for _ in 0..2 {
        let node = rig.start().await;
        pause(10_000).await;
        let report = node.keepers.get(&wish.instance).unwrap().report();
        assert_eq!(report.seen, Seen::Pending);
        let shown = report.impaired.unwrap().message;
        assert!(shown.contains("no such bridge mb1"), "{shown}");
        assert!(rig.disks.there().contains(&wish.instance));
        node.stop().await;
    }
    let node = rig.start().await;
    pause(10_000).await;
    let report = node.terminate(&wish).await;
    assert_eq!(report.reason, None, "it was asked for");
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn reboots_are_counted_whether_the_guest_obeys_or_not() {
    let rig = Rig::new();
    let node = rig.start().await;
    let mut wish = fakes::wish(1);
    node.run(&wish).await;
    for (obeys, reboots) in [(true, 1), (false, 2)] {
        rig.hypervisor.behave(|manners| manners.guests_obey = obeys);
        wish = InstanceWish {
            reboots,
            ..newer(&wish)
        };
        node.wish(&wish).await;
        let mut reports = node.keepers.get(&wish.instance).unwrap().reports();
        reports
            .wait_for(|report| report.reboots == reboots)
            .await
            .unwrap();
        let domain = &rig.hypervisor.domains()[wish.instance.as_str()];
        assert_eq!(
            (domain.resets, domain.pid),
            (reboots, 1001),
            "the same QEMU"
        );
    }
    pause(200_000).await;
    assert_eq!(rig.hypervisor.domains()[wish.instance.as_str()].resets, 2);
}

#[tokio::test(start_paused = true)]
async fn a_guest_on_a_full_disk_is_shown_and_resumed_when_there_is_room_and_not_too_often() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    let report = || node.keepers.get(&wish.instance).unwrap().report();
    let resumes = || rig.hypervisor.domains()[wish.instance.as_str()].resumes;
    assert_eq!(report().impaired, None);

    *rig.disks.free_mib.lock().unwrap() = Some(3);
    rig.hypervisor.behave(|manners| manners.disks_fail = true);
    rig.hypervisor.pause(&wish.instance, Cause::Disk);
    pause(50).await;
    let shown = report();
    assert_eq!(shown.seen, Seen::Running);
    assert_eq!(shown.impaired.unwrap().code, "Server.InternalError");
    pause(60_000).await;
    assert_eq!(resumes(), 0, "it would only stop again");
    assert!(
        report().stage.contains("3 MiB are free"),
        "{}",
        report().stage
    );

    // There is room, but not where it writes: tried now and then, and shown all the time.
    *rig.disks.free_mib.lock().unwrap() = Some(1024);
    for _ in 0..600 {
        pause(100).await;
        assert!(report().impaired.is_some());
    }
    assert!((3..=7).contains(&resumes()), "{}", resumes());

    rig.hypervisor.behave(|manners| manners.disks_fail = false);
    pause(15_000).await;
    assert_eq!((report().impaired, report().stage.as_str()), (None, ""));
    let steps = report();
    let steps: Vec<&str> = self::steps(&steps).into_iter().rev().take(2).collect();
    assert_eq!(steps, ["resumed", "paused"]);
}

#[tokio::test(start_paused = true)]
async fn a_termination_of_a_guest_that_stands_still_does_not_wait_for_its_grace() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    rig.hypervisor.pause(&wish.instance, Cause::Disk);
    node.wish(&terminated(&wish)).await;
    pause(1_000).await;
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_cannot_be_kept_is_not_acknowledged_and_a_new_one_not_begun() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    let (folder, aside) = (rig.dir.path(), rig.dir.path().with_extension("aside"));
    let block = || {
        std::fs::rename(folder, &aside).unwrap();
        std::fs::write(folder, "in the way").unwrap();
    };
    let unblock = || {
        std::fs::remove_file(folder).unwrap();
        std::fs::rename(&aside, folder).unwrap();
    };
    block();
    let refused = node.keepers.wish(wish.clone()).await.unwrap_err();
    assert_eq!(refused.code, control::Code::NotReady);
    assert!(
        refused.message.contains("cannot be kept"),
        "{}",
        refused.message
    );
    pause(10_000).await;
    assert_eq!((rig.disks.prepared(), node.residents.all().len()), (0, 0));
    let subject = Subject::Instance(wish.instance.clone());
    assert!(node.keepers.site().feed().get(&subject).is_none());

    unblock();
    node.run(&wish).await;

    // It can be ended all the same, or its disks would never make room; and is so until it is said.
    block();
    let end = terminated(&wish);
    assert!(node.keepers.wish(end.clone()).await.is_err());
    pause(1_000).await;
    assert!(rig.hypervisor.domains().is_empty());
    unblock();
    assert_eq!(node.wish(&end).await, 2);
    node.until(&wish.instance, Seen::Terminated).await;
    rig.assert_nothing_left(&wish.instance);
}
