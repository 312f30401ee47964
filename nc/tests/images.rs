//! The image cache and the disks on it, against a real HTTP server: one that is slow, fails, forgets,
//! and serves what a hostile user uploaded.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message

#[path = "images/hostile.rs"]
mod hostile;
#[path = "images/store.rs"]
mod store;

use std::{
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nc::{
    bandwidth::Bandwidth,
    cache::{Cache, CacheError, Form, Settings, Told, lease::LeaseTimes, peers::PeerTimes},
    disk::LocalDisks,
    fakes,
    needs::{Disks, Progress},
};
use store::{Store, noise, partition};
use tokio::sync::watch;
use types::InstanceId;

const QUICK: LeaseTimes = LeaseTimes {
    beat: Duration::from_millis(50),
    silence: Duration::from_millis(500),
    poll: Duration::from_millis(20),
};

fn settings(folder: &Path, node: u32) -> Settings {
    Settings {
        folder: folder.to_owned(),
        node: format!("node-{node:08x}").parse().unwrap(),
        limit_bytes: Some(1 << 30),
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: store::no_tls(),
        lease: QUICK,
        patience: Duration::from_secs(10),
        peers: PeerTimes::default(),
        bandwidth: Bandwidth::default(),
    }
}

fn open(folder: &Path, store: &Arc<Store>) -> Cache {
    Cache::new(settings(folder, 1), store.clone())
}

fn holder(n: u32) -> InstanceId {
    format!("i-{n:08x}").parse().unwrap()
}

/// Files below `folder`, but for the boot loader.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["entries", "uses", "filling"] {
        for entry in std::fs::read_dir(folder.join(part)).unwrap() {
            found.push(format!(
                "{part}/{}",
                entry.unwrap().file_name().to_string_lossy()
            ));
        }
    }
    found.sort();
    found
}

/// The cache is as empty as before. A lease that was being renewed when its fill ended goes with that.
async fn nothing_is_left(cache: &Path, after: &str) {
    let begun = Instant::now();
    while !files(cache).is_empty() {
        let left = files(cache);
        assert!(begun.elapsed().as_secs() < 20, "{left:?} after {after}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn hold(cache: &Cache, store: &Store, n: u32) -> Result<std::path::PathBuf, CacheError> {
    cache
        .hold(&store.image(), Form::Disk, &holder(n), &|_| {})
        .await
}

#[tokio::test]
async fn host_an_image_is_fetched_once_and_becomes_a_bootable_read_only_disk() {
    let folder = tempfile::tempdir().unwrap();
    let image = partition(12 << 20);
    let store = Store::serve(&image).await;
    let cache = open(folder.path(), &store);
    let heard = Mutex::new(Vec::new());
    let path = cache
        .hold(&store.image(), Form::Disk, &holder(1), &|told| {
            heard.lock().unwrap().extend(told.percent)
        })
        .await
        .unwrap();

    let disk = std::fs::File::open(&path).unwrap();
    assert_eq!(disk.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    let mut content = vec![0; image.len()];
    disk.read_exact_at(&mut content, 1 << 20).unwrap();
    assert!(content == image);
    let mut head = [0; 1024];
    disk.read_exact_at(&mut head, 0).unwrap();
    assert_eq!(&head[510..512], [0x55, 0xaa]);
    assert!(
        head[512..].iter().any(|byte| *byte != 0),
        "the core image is in the gap"
    );
    assert!(heard.lock().unwrap().is_sorted());
    assert_eq!(store.hits(), store.parts());

    assert_eq!(hold(&cache, &store, 2).await.unwrap(), path);
    assert_eq!(
        store.hits(),
        store.parts(),
        "the second instance fetches nothing"
    );
    assert_eq!(
        files(folder.path()).len(),
        2,
        "an entry, and the folder of its uses"
    );
}

#[tokio::test]
async fn eight_launches_at_once_fetch_each_part_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(12 << 20)).await;
    let cache = open(folder.path(), &store);
    let launches = (0..8).map(|n| hold(&cache, &store, n));
    for path in futures_util::future::join_all(launches).await {
        path.unwrap();
    }
    assert_eq!(store.hits(), store.parts());
    assert_eq!(store.tickets(), 1);
}

#[tokio::test]
async fn a_kernel_is_kept_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = noise(100_000);
    let store = Store::serve(&kernel).await;
    let cache = open(folder.path(), &store);
    let path = cache
        .hold(&store.image(), Form::Plain, &holder(1), &|_| {})
        .await
        .unwrap();
    assert!(std::fs::read(path).unwrap() == kernel);
}

#[tokio::test]
async fn a_server_that_stumbles_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(1 << 20)).await;
    store.fail_next(503, 2);
    store.cut_next(1);
    let cache = open(folder.path(), &store);
    hold(&cache, &store, 1).await.unwrap();
    assert_eq!(store.hits(), store.parts() + 3);
}

#[tokio::test]
async fn a_ticket_that_ran_out_is_renewed_in_mid_transfer() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(35 << 20)).await;
    store.tickets_serve(2);
    let cache = open(folder.path(), &store);
    hold(&cache, &store, 1).await.unwrap();
    assert!(store.tickets() >= 2, "{} tickets", store.tickets());
}

#[tokio::test]
async fn a_connection_that_is_cut_in_mid_part_costs_no_byte_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(35 << 20)).await;
    store.cut_next(3);
    let cache = open(folder.path(), &store);
    hold(&cache, &store, 1).await.unwrap();
    let (_, sent) = store.asked_and_sent();
    assert_eq!(sent, store.bundled_bytes(), "each byte is sent once");
    assert_eq!(store.hits(), store.parts() + 3);
}

#[tokio::test]
async fn a_store_that_dies_in_mid_transfer_is_asked_only_for_what_had_not_come() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(35 << 20)).await;
    store.trickle(Duration::from_millis(40));
    let cache = open(folder.path(), &store);
    let (held, ()) = tokio::join!(hold(&cache, &store, 1), async {
        // The first parts are there, the next ones are half way.
        tokio::time::sleep(Duration::from_millis(550)).await;
        store.restart(Duration::from_millis(600)).await;
    });
    held.unwrap();
    let (asked, all) = (store.asked_and_sent().0, store.bundled_bytes());
    // Two parts were under way: the whole of them was asked for once, and once what was missing.
    assert!(asked > all, "nothing was under way when it died");
    let parts = image::manifest::PART_BYTES;
    assert!(
        asked < all + 2 * parts,
        "{asked} asked for of {all}: whole parts again"
    );
}

#[tokio::test]
async fn a_ticket_that_ran_out_costs_no_byte_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(35 << 20)).await;
    store.tickets_serve(2);
    store.cut_next(1);
    let cache = open(folder.path(), &store);
    hold(&cache, &store, 1).await.unwrap();
    assert!(store.tickets() >= 2, "{} tickets", store.tickets());
    let (_, sent) = store.asked_and_sent();
    assert_eq!(sent, store.bundled_bytes(), "each byte is sent once");
}

#[tokio::test]
async fn no_room_is_said_before_a_byte_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(12 << 20)).await;
    let limit_bytes = Some(10 << 20);
    let cache = Cache::new(
        Settings {
            limit_bytes,
            ..settings(folder.path(), 1)
        },
        store.clone(),
    );
    let error = hold(&cache, &store, 1).await.unwrap_err();
    assert!(matches!(error, CacheError::NoRoom { .. }), "{error}");
    assert_eq!(store.hits(), 0);
}

#[tokio::test]
async fn what_is_unused_goes_and_what_is_in_use_stays() {
    let folder = tempfile::tempdir().unwrap();
    let limit_bytes = Some(38 << 20);
    let stores = [
        Store::serve(&noise(12 << 20)).await,
        Store::serve(&noise(13 << 20)).await,
        Store::serve(&noise(14 << 20)).await,
    ];
    let cache = Cache::new(
        Settings {
            limit_bytes,
            ..settings(folder.path(), 1)
        },
        store::all(&stores),
    );
    let first = hold(&cache, &stores[0], 1).await.unwrap();
    let second = hold(&cache, &stores[1], 2).await.unwrap();
    assert!(
        hold(&cache, &stores[2], 3).await.is_err(),
        "both are in use"
    );

    cache.release(&holder(2)).await.unwrap();
    hold(&cache, &stores[2], 3).await.unwrap();
    assert!(first.exists());
    assert!(!second.exists());
}

#[tokio::test]
async fn nodes_that_share_a_folder_fill_once_and_take_over_from_the_dead() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(12 << 20)).await;
    store.slow(Duration::from_millis(700));
    let one = Cache::new(settings(folder.path(), 1), store.clone());
    let two = Cache::new(settings(folder.path(), 2), store.clone());
    let (first, second) = tokio::join!(hold(&one, &store, 1), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        hold(&two, &store, 2).await
    });
    assert_eq!(first.unwrap(), second.unwrap());
    assert_eq!(store.hits(), store.parts(), "one fetched, the other waited");

    // A node that died in mid-fill left a lease that no one renews, and its half.
    let other = Store::serve(&noise(1 << 20)).await;
    let name = nc::cache::EntryName::of(&other.image(), Form::Disk).unwrap();
    let filling = folder.path().join("filling");
    std::fs::write(
        filling.join(format!("{name}.lease")),
        r#"{"node":"node-00000009","run":"dead","count":4,"percent":30}"#,
    )
    .unwrap();
    std::fs::write(filling.join(format!("{name}.node-00000009.dead")), "half").unwrap();
    let three = Cache::new(settings(folder.path(), 3), other.clone());
    let heard = Mutex::new(Vec::new());
    let report = |told: &Told| heard.lock().unwrap().push(told.clone());
    three
        .hold(&other.image(), Form::Disk, &holder(3), &report)
        .await
        .unwrap();
    let others = Told {
        doing: "waiting for node-00000009, which fetches it".to_owned(),
        percent: Some(30),
        ..Told::default()
    };
    assert!(
        heard.lock().unwrap().contains(&others),
        "the other node's progress is shown"
    );
    assert!(std::fs::read_dir(filling).unwrap().next().is_none());
}

#[tokio::test]
async fn a_launch_given_up_leaves_nothing_half_made_and_the_next_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(12 << 20)).await;
    store.slow(Duration::from_secs(60));
    let cache = open(folder.path(), &store);
    let impatient = tokio::time::timeout(Duration::from_millis(300), hold(&cache, &store, 1)).await;
    assert!(impatient.is_err());
    cache.release(&holder(1)).await.unwrap();
    nothing_is_left(folder.path(), "a launch given up").await;

    store.slow(Duration::ZERO);
    hold(&cache, &store, 2).await.unwrap();
}

#[tokio::test]
async fn host_disks_are_made_kept_and_wiped() {
    let folder = tempfile::tempdir().unwrap();
    let instance_dir = folder.path().join("i-00000001");
    std::fs::create_dir(&instance_dir).unwrap();
    let store = Store::serve(&partition(12 << 20)).await;
    let disks = LocalDisks::new(
        open(&folder.path().join("cache"), &store),
        &folder.path().join("templates"),
        "boot-1",
    )
    .unwrap();
    let mut wish = fakes::wish(1);
    wish.spec.image = store.image();
    let progress = watch::Sender::new(Progress::default());

    let made = disks
        .prepare(&wish, &instance_dir, &progress)
        .await
        .unwrap();
    assert_eq!(made.disks.len(), 3);
    let root = &made.disks[0];
    assert!(root.file.path.exists() && root.backing.is_some());
    assert_eq!(made.disks[1].serial.as_deref(), Some("ephemeral0"));
    assert_eq!(made.disks[2].serial.as_deref(), Some("swap"));
    assert_eq!(progress.borrow().stage, "making the disk");

    // Again, as after a restart of the node: the guest's own bytes are still there.
    let overlay = std::fs::OpenOptions::new()
        .write(true)
        .open(&root.file.path)
        .unwrap();
    overlay.write_all_at(b"guest", 1 << 19).unwrap();
    let again = disks
        .prepare(&wish, &instance_dir, &progress)
        .await
        .unwrap();
    assert_eq!(again, made);
    let mut kept = [0; 5];
    std::fs::File::open(&root.file.path)
        .unwrap()
        .read_exact_at(&mut kept, 1 << 19)
        .unwrap();
    assert_eq!(&kept, b"guest");

    disks.wipe(&wish.instance, &instance_dir).await.unwrap();
    disks.wipe(&wish.instance, &instance_dir).await.unwrap();
    assert_eq!(std::fs::read_dir(&instance_dir).unwrap().count(), 0);
    let cache = open(&folder.path().join("cache"), &store);
    assert_eq!(cache.entries().await.unwrap()[0].uses, 0);
}

#[tokio::test]
async fn host_a_node_that_lost_its_cache_fetches_again_and_the_guests_bytes_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (cache_dir, instance_dir) = (folder.path().join("cache"), folder.path().join("instance"));
    std::fs::create_dir(&instance_dir).unwrap();
    let (image, kernel) = (partition(12 << 20), noise(3 << 20));
    let stores = [Store::serve(&image).await, Store::serve(&kernel).await];
    // Each time as after a start of the node: nothing is remembered.
    let disks = || {
        let cache = Cache::new(settings(&cache_dir, 1), store::all(&stores));
        LocalDisks::new(cache, &folder.path().join("templates"), "boot-1").unwrap()
    };
    let mut wish = fakes::wish(1);
    (wish.spec.image, wish.spec.kernel) = (stores[0].image(), Some(stores[1].image()));
    let progress = watch::Sender::new(Progress::default());
    let made = disks().prepare(&wish, &instance_dir, &progress).await;
    let made = made.unwrap();
    disks().keep(&wish, &instance_dir).await.unwrap();
    let root = &made.disks[0];
    let backing = root.backing.clone().expect("an overlay").path;
    let first = std::fs::read(&backing).unwrap();
    let write = std::fs::OpenOptions::new()
        .write(true)
        .open(&root.file.path);
    write.unwrap().write_all_at(b"guest", 1 << 19).unwrap();

    let lost = [
        "all of the cache, as with a new disk",
        "its image only",
        "its kernel only",
    ];
    for (round, what) in lost.into_iter().enumerate() {
        match round {
            0 => std::fs::remove_dir_all(&cache_dir).unwrap(),
            1 => std::fs::remove_file(&backing).unwrap(),
            _ => std::fs::remove_file(&made.kernel.as_ref().unwrap().kernel).unwrap(),
        }
        let hits: Vec<usize> = stores.iter().map(|store| store.hits()).collect();
        let again = disks().regain(&wish, &instance_dir, &progress).await;
        assert_eq!(again.unwrap(), made, "{what}");
        assert!(std::fs::read(&backing).unwrap() == first, "{what}");
        let mut kept = [0; 5];
        let disk = std::fs::File::open(&root.file.path).unwrap();
        disk.read_exact_at(&mut kept, 1 << 19).unwrap();
        assert_eq!(&kept, b"guest", "{what}");
        for ((store, hits), is_lost) in stores.iter().zip(hits).zip([round < 2, round != 1]) {
            let read = if is_lost { store.parts() } else { 0 };
            assert_eq!(store.hits() - hits, read, "{what}");
        }
        let cache = Cache::new(settings(&cache_dir, 1), store::all(&stores));
        let entries = cache.entries().await.unwrap();
        assert!(
            entries.iter().all(|entry| entry.uses == 1),
            "{what}: {entries:?}"
        );
    }

    // Where nobody gives tickets, or the image has changed, the reason says so and the disk stays.
    std::fs::remove_file(&backing).unwrap();
    let cache = Cache::new(settings(&cache_dir, 1), store::all(&stores[1..]));
    let without = LocalDisks::new(cache, &folder.path().join("templates"), "boot-1").unwrap();
    let refused = without.regain(&wish, &instance_dir, &progress).await;
    let reason = refused.unwrap_err();
    assert!(reason.message.contains("gives no ticket"), "{reason:?}");

    wish.spec.image = stores[1].image();
    let refused = disks().regain(&wish, &instance_dir, &progress).await;
    let reason = refused.unwrap_err();
    assert!(reason.message.contains("has lost"), "{reason:?}");
    let mut kept = [0; 5];
    let disk = std::fs::File::open(&root.file.path).unwrap();
    disk.read_exact_at(&mut kept, 1 << 19).unwrap();
    assert_eq!(&kept, b"guest");
}

#[tokio::test]
async fn host_disks_that_a_guest_wrote_to_are_never_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&partition(12 << 20)).await;
    let dir = folder.path().join("instance");
    std::fs::create_dir(&dir).unwrap();
    let cache = open(&folder.path().join("cache"), &store);
    let disks = LocalDisks::new(cache, &folder.path().join("templates"), "boot-1").unwrap();
    let mut wish = fakes::wish(1);
    wish.spec.image = store.image();
    let progress = watch::Sender::new(Progress::default());
    let made = disks.prepare(&wish, &dir, &progress).await.unwrap();
    disks.keep(&wish, &dir).await.unwrap();
    let swap = &made.disks[2].file.path;
    std::fs::write(swap, "guest").unwrap();
    let (whole, aside) = (dir.join("disks.json"), dir.join("aside"));

    // What cannot be read is not taken for absent, by a launch either.
    std::fs::rename(&whole, &aside).unwrap();
    std::fs::create_dir(&whole).unwrap();
    for had in [
        disks.prepare(&wish, &dir, &progress).await,
        disks.regain(&wish, &dir, &progress).await,
    ] {
        let reason = had.unwrap_err();
        assert!(reason.message.contains("disks.json"), "{reason:?}");
    }
    std::fs::remove_dir(&whole).unwrap();

    std::fs::remove_file(dir.join("disks.made")).unwrap();
    let refused = disks.regain(&wish, &dir, &progress).await;
    let reason = refused.unwrap_err();
    assert!(reason.message.contains("none are made"), "{reason:?}");

    std::fs::rename(&aside, &whole).unwrap();
    assert_eq!(disks.regain(&wish, &dir, &progress).await.unwrap(), made);
    assert_eq!(std::fs::read(swap).unwrap(), b"guest");
    std::fs::remove_file(&made.disks[0].file.path).unwrap();
    let refused = disks.regain(&wish, &dir, &progress).await;
    assert!(refused.is_err());
    assert!(!made.disks[0].file.path.exists());
}

#[tokio::test]
async fn host_disks_outlast_a_power_cut_once_they_are_kept_and_are_made_again_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&partition(12 << 20)).await;
    let mut wish = fakes::wish(1);
    wish.spec.image = store.image();
    let progress = watch::Sender::new(Progress::default());
    let templates = folder.path().join("templates");
    let disks_of = |boot| {
        let cache = open(&folder.path().join("cache"), &store);
        LocalDisks::new(cache, &templates, boot).unwrap()
    };
    for (kept, boot, survives) in [
        (false, "boot-1", true),
        (false, "boot-2", false),
        (true, "boot-2", true),
    ] {
        let dir = tempfile::tempdir_in(folder.path()).unwrap();
        let disks = disks_of("boot-1");
        let made = disks.prepare(&wish, dir.path(), &progress).await.unwrap();
        let swap = &made.disks[2].file.path;
        std::fs::write(swap, "guest").unwrap();
        if kept {
            disks.keep(&wish, dir.path()).await.unwrap();
        }
        let again = disks_of(boot).prepare(&wish, dir.path(), &progress).await;
        assert_eq!(again.unwrap(), made);
        let same = std::fs::metadata(swap).unwrap().len() == 5;
        assert_eq!(same, survives, "kept: {kept}, then {boot}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_come_at_once_come_no_faster_together_than_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let stores = [
        Store::serve(&noise(9 << 20)).await,
        Store::serve(&noise(8 << 20)).await,
    ];
    let settings = Settings {
        bandwidth: Bandwidth::of(Some(8 << 20)),
        ..settings(folder.path(), 1)
    };
    let cache = Cache::new(settings, store::all(&stores));
    let begun = Instant::now();
    let (first, second) = tokio::join!(hold(&cache, &stores[0], 1), hold(&cache, &stores[1], 2));
    let took = begun.elapsed();
    let bytes: u64 = stores.iter().map(|store| store.bundled_bytes()).sum();
    let least = bytes as f64 / f64::from(8 << 20) - 0.2;
    assert!(took.as_secs_f64() >= least, "{bytes} bytes in {took:?}");
    assert!(std::fs::read(first.unwrap()).unwrap() == noise(9 << 20));
    assert!(std::fs::read(second.unwrap()).unwrap() == noise(8 << 20));
}

#[tokio::test]
async fn a_bad_image_is_the_users_to_read_about() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(12 << 20)).await;
    store.damage(0);
    let disks = LocalDisks::new(
        open(folder.path(), &store),
        &folder.path().join("templates"),
        "boot-1",
    )
    .unwrap();
    let mut wish = fakes::wish(1);
    wish.spec.image = store.image();
    let progress = watch::Sender::new(Progress::default());
    let reason = disks
        .prepare(&wish, folder.path(), &progress)
        .await
        .unwrap_err();
    assert_eq!(reason.code, "Client.InternalError");
    assert!(
        reason.message.contains("part 0 is corrupt"),
        "{}",
        reason.message
    );
}

#[tokio::test]
async fn host_a_file_system_that_grub_cannot_read_is_named_unless_a_kernel_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    let make =
        daemon::run::Tool::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-O", "inline_data"]);
    make.arg(&image).output().await.unwrap();
    let store = Store::serve(&std::fs::read(&image).unwrap()).await;
    let kernel = Store::serve(&noise(5000)).await;
    let stores = [store.clone(), kernel.clone()];
    let cache = Cache::new(
        settings(&folder.path().join("cache"), 1),
        store::all(&stores),
    );
    let disks = LocalDisks::new(cache, &folder.path().join("templates"), "boot-1").unwrap();
    let mut wish = fakes::wish(1);
    wish.spec.image = store.image();
    let progress = watch::Sender::new(Progress::default());

    let reason = disks
        .prepare(&wish, folder.path(), &progress)
        .await
        .unwrap_err();
    assert!(
        reason
            .message
            .contains("uses inline_data, which GRUB cannot read"),
        "{reason:?}"
    );
    wish.spec.kernel = Some(kernel.image());
    let made = disks
        .prepare(&wish, folder.path(), &progress)
        .await
        .unwrap();
    let kernel = made.kernel.unwrap();
    assert_eq!(
        (kernel.root_device.as_str(), kernel.ramdisk),
        ("vda1", None)
    );
    assert!(kernel.kernel.exists());
}
