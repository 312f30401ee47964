//! What an earlier process, a reboot of the host or a lost connection left is taken up: a node of
//! fakes, with time standing still unless something waits for it.

use control::node::{InstanceWish, Wanted};
use nix::libc;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::{
    fakes,
    rig::{Rig, pause, steps, terminated},
    site::Subject,
};

#[tokio::test(start_paused = true)]
async fn a_restarted_node_adopts_its_guests_and_finishes_its_launches() {
    let rig = Rig::new();
    let node = rig.start().await;
    let (runs, comes) = (fakes::wish(1), fakes::wish(2));
    node.run(&runs).await;
    *rig.disks.takes.lock().unwrap() = Duration::from_secs(10);
    node.wish(&comes).await;
    pause(3_000).await;
    node.stop().await;
    assert_eq!(
        rig.hypervisor.domains().len(),
        1,
        "a stop of the node is none of its guests"
    );

    let node = rig.start().await;
    let report = node.until(&runs.instance, Seen::Running).await;
    assert_eq!(
        rig.hypervisor.domains()[runs.instance.as_str()].pid,
        1001,
        "the same QEMU"
    );
    assert!(steps(&report).contains(&"adopted"));
    assert!(node.residents.get(&runs.instance).is_some());
    node.until(&comes.instance, Seen::Running).await;
    assert_eq!(rig.hypervisor.starts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_termination_goes_on_after_a_restart() {
    let rig = Rig::new();
    *rig.disks.wipes_fail.lock().unwrap() = 2;
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    node.wish(&terminated(&wish)).await;
    pause(1_000).await;
    node.stop().await;
    let node = rig.start().await;
    node.until(&wish.instance, Seen::Terminated).await;
    rig.assert_nothing_left(&wish.instance);

    // It is still reported by the next process, and forgotten in the end.
    node.stop().await;
    let node = rig.start().await;
    assert_eq!(
        node.keepers.get(&wish.instance).unwrap().report().seen,
        Seen::Terminated
    );
    pause(3_700_000).await;
    assert!(node.keepers.get(&wish.instance).is_none());
    assert!(rig.files_of(&wish.instance).is_empty());
    assert!(
        node.keepers
            .site()
            .feed()
            .get(&Subject::Instance(wish.instance))
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_ended_while_nobody_watched_starts_again_and_the_reason_is_shown() {
    let rig = Rig::new();
    let node = rig.start().await;
    let (a, b) = (fakes::wish(1), fakes::wish(2));
    node.run(&a).await;
    node.run(&b).await;
    node.stop().await;
    rig.hypervisor.end_unseen(&a.instance);
    let node = rig.start().await;
    let held = node.until(&a.instance, Seen::Pending).await;
    let why = held.impaired.unwrap().message;
    assert!(why.contains("while nobody watched"), "{why}");
    node.until(&a.instance, Seen::Running).await;

    // The same while only the connection was lost.
    rig.hypervisor.lose("libvirtd was restarted");
    rig.hypervisor.end_unseen(&b.instance);
    pause(1_000).await;
    assert_eq!(
        node.keepers.get(&b.instance).unwrap().report().seen,
        Seen::Running
    );
    rig.hypervisor.restore();
    node.until(&b.instance, Seen::Pending).await;
    node.until(&b.instance, Seen::Running).await;
    assert_eq!((rig.hypervisor.starts(), rig.disks.prepared()), (4, 2));
}

/// A disk of the instance, open for as long as the file is.
fn open_as_qemu(rig: &Rig, wish: &InstanceWish) -> std::fs::File {
    let folder = rig.dir.path().join(wish.instance.as_str());
    let path = folder.join("disk.qcow2");
    std::fs::write(&path, "x").unwrap();
    let qemu = std::fs::File::open(&path).unwrap();
    let lock = libc::flock {
        l_type: libc::F_RDLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 100,
        l_len: 1,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&qemu, nix::fcntl::FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    qemu
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_libvirt_lost_while_the_node_was_down_keeps_its_disks_and_its_tap() {
    let rig = Rig::new();
    let node = rig.start().await;
    let (stays, ends) = (fakes::wish(1), fakes::wish(2));
    node.run(&stays).await;
    node.run(&ends).await;
    let qemus = [open_as_qemu(&rig, &stays), open_as_qemu(&rig, &ends)];
    node.stop().await;
    rig.hypervisor.end_unseen(&stays.instance);
    rig.hypervisor.end_unseen(&ends.instance);

    let node = rig.start().await;
    node.wish(&terminated(&ends)).await;
    pause(120_000).await;
    let report = node.keepers.get(&stays.instance).unwrap().report();
    assert_eq!(report.seen, Seen::Running);
    assert!(report.stage.contains("has its disk open"), "{report:?}");
    for wish in [&stays, &ends] {
        assert!(rig.disks.there().contains(&wish.instance));
        let tap = wish.spec.interface.short;
        assert!(rig.networks.plugged_now().contains(&tap));
    }

    drop(qemus);
    node.until(&stays.instance, Seen::Pending).await;
    node.until(&stays.instance, Seen::Running).await;
    node.until(&ends.instance, Seen::Terminated).await;
    rig.assert_nothing_left(&ends.instance);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_a_qemu_process_has_open_is_never_wiped_whatever_libvirt_says() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    let qemu = open_as_qemu(&rig, &wish);

    rig.hypervisor.end_unseen(&wish.instance);
    pause(120_000).await;
    let report = node.keepers.get(&wish.instance).unwrap().report();
    assert_eq!(report.seen, Seen::Running);
    assert!(
        report.stage.contains("has its disk open"),
        "{}",
        report.stage
    );

    node.wish(&terminated(&wish)).await;
    pause(120_000).await;
    assert!(rig.disks.there().contains(&wish.instance));

    drop(qemu);
    node.until(&wish.instance, Seen::Terminated).await;
    rig.assert_nothing_left(&wish.instance);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_rebooted_starts_its_guests_again_once() {
    let mut rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    node.stop().await;
    rig.hypervisor.end_unseen(&wish.instance);
    rig.boot_id = "boot-2".to_owned();
    let node = rig.start().await;
    node.until(&wish.instance, Seen::Running).await;
    assert_eq!(rig.hypervisor.starts(), 2);
    assert!(
        rig.disks.there().contains(&wish.instance),
        "its disks were kept"
    );
}

#[tokio::test(start_paused = true)]
async fn only_domains_that_bear_our_mark_are_ever_ended() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    let domain = rig.hypervisor.domains()[wish.instance.as_str()]
        .domain
        .clone();
    node.terminate(&wish).await;

    // A start that we had given up comes to pass after the end: ours, and ended.
    rig.hypervisor
        .put_foreign(wish.instance.as_str(), domain.clone());
    // Somebody's own machine, and another node's instance: left alone.
    rig.hypervisor
        .put_foreign("windows-for-the-accountant", domain.clone());
    let mut theirs = domain.clone();
    theirs.instance = "i-00000009".parse().unwrap();
    theirs.host.node = "node-00000002".parse().unwrap();
    rig.hypervisor.put_foreign("i-00000009", theirs);
    // Ours, but nothing is known of it: it gets time to be wished for.
    let mut lost = domain;
    lost.instance = "i-00000007".parse().unwrap();
    rig.hypervisor.put_foreign("i-00000007", lost);

    pause(90_000).await;
    let left: Vec<String> = rig.hypervisor.domains().into_keys().collect();
    assert_eq!(
        left,
        ["i-00000007", "i-00000009", "windows-for-the-accountant"]
    );
    pause(600_000).await;
    let left: Vec<String> = rig.hypervisor.domains().into_keys().collect();
    assert_eq!(left, ["i-00000009", "windows-for-the-accountant"]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_whose_record_cannot_be_read_is_left_running() {
    for text in ["", "{\"form\": 99}"] {
        let rig = Rig::new();
        let node = rig.start().await;
        let wish = fakes::wish(1);
        node.run(&wish).await;
        node.stop().await;
        let record = rig.dir.path().join("i-00000001/instance.json");
        let whole = std::fs::read(&record).unwrap();
        std::fs::write(&record, text).unwrap();

        let node = rig.start().await;
        pause(1_300_000).await;
        assert_eq!(rig.hypervisor.domains().len(), 1, "{text}");
        assert!(node.keepers.get(&wish.instance).is_none());

        // What can be read again is taken up again.
        std::fs::write(&record, whole).unwrap();
        pause(60_000).await;
        let report = node.keepers.get(&wish.instance).unwrap().report();
        assert_eq!(report.seen, Seen::Running);
    }
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_has_lost_its_record_keeps_its_disks_and_an_empty_one_goes() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    node.stop().await;
    rig.hypervisor.end_unseen(&wish.instance);
    let folder = rig.dir.path().join("i-00000001");
    std::fs::write(folder.join("disk.qcow2"), "guest").unwrap();
    std::fs::remove_file(folder.join("instance.json")).unwrap();
    let empty = rig.dir.path().join("i-00000002");
    std::fs::create_dir(&empty).unwrap();
    std::fs::write(empty.join(".instance.json.new"), "{").unwrap();

    let node = rig.start().await;
    pause(90_000).await;
    assert!(node.keepers.get(&wish.instance).is_none());
    let kept = std::fs::read(folder.join("disk.qcow2")).unwrap();
    assert_eq!(kept, b"guest");
    assert!(!empty.exists());
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_hypervisor_is_away_takes_no_wish_before_it_has_looked() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    node.run(&wish).await;
    node.stop().await;

    rig.hypervisor.lose("libvirtd is down");
    let starting = rig.start();
    tokio::pin!(starting);
    assert!(
        tokio::time::timeout(Duration::from_secs(60), starting.as_mut())
            .await
            .is_err()
    );
    rig.hypervisor.restore();
    let node = starting.await;
    assert_eq!(
        node.keepers.get(&wish.instance).unwrap().report().seen,
        Seen::Running
    );
}

#[tokio::test(start_paused = true)]
async fn a_launch_outlasts_a_restart_of_the_hypervisor_and_starts_once() {
    let rig = Rig::new();
    let node = rig.start().await;
    let wish = fakes::wish(1);
    rig.hypervisor.lose("libvirtd is restarting");
    node.wish(&wish).await;
    pause(5_000).await;
    assert_eq!(
        node.keepers.get(&wish.instance).unwrap().report().seen,
        Seen::Pending
    );
    rig.hypervisor.restore();
    node.until(&wish.instance, Seen::Running).await;
    assert_eq!(rig.hypervisor.starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_came_to_stand_still_while_nobody_watched_is_found_and_resumed() {
    let rig = Rig::new();
    let node = rig.start().await;
    let (a, b) = (fakes::wish(1), fakes::wish(2));
    node.run(&a).await;
    node.run(&b).await;
    node.stop().await;
    rig.hypervisor.pause_unseen(&a.instance, Cause::Disk);
    *rig.disks.free_mib.lock().unwrap() = Some(0);
    let node = rig.start().await;
    pause(100).await;
    let report = |wish: &InstanceWish| node.keepers.get(&wish.instance).unwrap().report();
    assert!(report(&a).impaired.is_some(), "taken up as it is");

    // The same while this one watches but an event was lost.
    let by_hand = Cause::Other("by hand".to_owned());
    rig.hypervisor.pause_unseen(&b.instance, by_hand);
    pause(61_000).await;
    assert!(report(&b).impaired.unwrap().message.contains("by hand"));

    *rig.disks.free_mib.lock().unwrap() = None;
    pause(61_000).await;
    assert_eq!(report(&a).impaired, None);
    assert!(report(&b).impaired.is_some(), "not ours to resume");
    rig.hypervisor.resume_unseen(&b.instance);
    pause(61_000).await;
    assert_eq!(report(&b).impaired, None);
}

/// Launches, terminations, power-offs and restarts of the node at random, all of it seeded.
#[tokio::test(start_paused = true)]
async fn whatever_the_moment_of_each_stop_every_instance_runs_once_or_is_gone() {
    for seed in 0..4 {
        let mut rng = StdRng::seed_from_u64(seed);
        let rig = Rig::new();
        *rig.disks.takes.lock().unwrap() = Duration::from_millis(300);
        let mut node = rig.start().await;
        let mut wishes: Vec<InstanceWish> = Vec::new();
        let mut power_offs = 0;
        for _ in 0..60 {
            match rng.random_range(0..10) {
                0..=3 => {
                    let n = u32::try_from(wishes.len()).unwrap() + 1;
                    wishes.push(fakes::wish(n));
                    node.wish(&fakes::wish(n)).await;
                }
                4..=5 if !wishes.is_empty() => {
                    let index = rng.random_range(0..wishes.len());
                    wishes[index] = terminated(&wishes[index]);
                    node.wish(&wishes[index]).await;
                }
                6 if !wishes.is_empty() => {
                    let index = rng.random_range(0..wishes.len());
                    rig.hypervisor.end(&wishes[index].instance, End::PoweredOff);
                    power_offs += 1;
                }
                7..=8 => {
                    node.stop().await;
                    node = rig.start().await;
                }
                _ => {}
            }
            pause(rng.random_range(0..700)).await;
        }
        pause(60_000).await;

        let reports = node.keepers.reports();
        for wish in &wishes {
            match reports[&wish.instance].seen {
                Seen::Running => {
                    assert_eq!(wish.wanted, Wanted::Running, "seed {seed}");
                    assert!(
                        rig.hypervisor
                            .domains()
                            .contains_key(wish.instance.as_str())
                    );
                }
                Seen::Terminated => rig.assert_nothing_left(&wish.instance),
                other => panic!("seed {seed}: {} is stuck {other:?}", wish.instance),
            }
        }
        // A power-off of which nobody heard looks like a crash: its guest starts again.
        assert!(
            rig.hypervisor.starts() as usize <= wishes.len() + power_offs,
            "seed {seed}: started twice"
        );
    }
}
