//! Nodes that share an image cache, as processes that are killed and stopped, on a local file system
//! and on one that has nothing but the least (FUSE: no mmap, no holes, no locks, with and without
//! hard links); and a cache whose file system hangs, or is full.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message
#![allow(clippy::disallowed_methods)] // processes are what is tested

#[path = "fleet/fuse.rs"]
mod fuse;
#[path = "fleet/process.rs"]
mod process;
#[path = "images/store.rs"]
#[allow(dead_code, reason = "the faults are for other tests")]
mod store;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nc::{
    bandwidth::Bandwidth,
    cache::{
        Cache, EntryName, Form, Settings, Told, files::PATIENCE, lease::LeaseTimes,
        peers::PeerTimes,
    },
    disk::LocalDisks,
    fakes,
    needs::{Disks, Progress},
};
use nix::sys::signal::Signal;
use process::{Node, Place};
use store::{Store, noise, partition};
use testkit::seed;
use tokio::sync::watch;

/// How long anything here may take: processes start and images of megabytes are written.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes one of them.
type Make = fn() -> Where;

/// A cache folder on each kind of file system.
#[allow(
    clippy::large_enum_variant,
    reason = "there are three, for a moment each"
)]
enum Where {
    Local(tempfile::TempDir),
    Shared(fuse::Mounted),
}

impl Where {
    fn all() -> [(&'static str, Make); 3] {
        [
            ("local", || Self::Local(scratch())),
            ("fuse", || Self::shared(true)),
            ("fuse without links", || Self::shared(false)),
        ]
    }

    fn shared(has_links: bool) -> Self {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Self::Shared(fuse::Mounted::below(parent, has_links).expect("/dev/fuse can be mounted"))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Local(folder) => folder.path(),
            Self::Shared(mounted) => mounted.path(),
        }
    }
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// What is half made in the cache, and who says that he makes it. Not the draft of a lease, which a
/// node that was killed may leave.
fn left_over(cache: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(cache.join("filling"))
        .into_iter()
        .flatten();
    let is_draft = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    files
        .map(|file| file.unwrap().path())
        .filter(|path| !is_draft(path))
        .collect()
}

/// Entries that are being written.
fn begun(cache: &Path) -> Vec<PathBuf> {
    let mut parts = left_over(cache);
    parts.retain(|path| path.extension().is_none_or(|end| end != "lease"));
    parts
}

fn entry(cache: &Path, store: &Store) -> PathBuf {
    let name = EntryName::of(&store.image(), Form::Disk).unwrap();
    cache.join("entries").join(name.as_str())
}

/// Whether the entry is the image, byte for byte.
fn is_whole(cache: &Path, store: &Store, image: &[u8]) -> bool {
    std::fs::read(entry(cache, store)).is_ok_and(|found| found == image)
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < LIMIT, "{what} did not come to pass");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_processes_that_share_a_cache_fetch_an_image_once() {
    let image = noise(12 << 20);
    for (kind, make) in Where::all() {
        let cache = make();
        let store = Store::serve(&image).await;
        store.slow(Duration::from_millis(300));
        let place = Place::new(cache.path(), &store).await;
        let mut nodes: Vec<Node> = (1..=4).map(|n| place.start(n)).collect();
        for node in &mut nodes {
            let held = node.end_of_hold().await;
            assert_eq!(held, Ok(entry(cache.path(), &store)), "{kind}");
        }
        assert_eq!(
            store.hits(),
            store.parts(),
            "{kind}: one fetched, the others waited"
        );
        assert!(is_whole(cache.path(), &store, &image), "{kind}");
        assert_eq!(left_over(cache.path()), Vec::<PathBuf>::new(), "{kind}");
    }
}

/// Rounds of [`host_a_filler_that_is_killed_at_any_byte_is_taken_over`] on each file system.
fn rounds() -> u64 {
    match std::env::var("MALLEE_LONG") {
        Ok(_) => 200,
        Err(_) => 4,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_a_filler_that_is_killed_at_any_byte_is_taken_over() {
    let image = noise(12 << 20);
    let seed = seed::asked().unwrap_or_else(rand::random);
    let _told = seed::Told {
        seed,
        steps: rounds(),
    };
    let mut rng = seed::rng(seed);
    for round in 0..rounds() {
        for (kind, make) in Where::all() {
            let cache = make();
            let store = Store::serve(&image).await;
            store.slow(Duration::from_millis(30));
            let place = Place::new(cache.path(), &store).await;
            // At a byte of the file, or at a moment before and after there are any.
            let byte = seed::below(&mut rng, image.len() as u64 + (4 << 20));
            let moment = Duration::from_millis(seed::below(&mut rng, 400));
            let waits = seed::per_mille(&mut rng, 500);

            let mut first = place.start(1);
            let heir = waits.then(|| place.start(2));
            match seed::per_mille(&mut rng, 700) {
                true => {
                    let is_there =
                        || place.written_bytes() >= byte || entry(cache.path(), &store).exists();
                    until("the byte", is_there).await;
                }
                false => tokio::time::sleep(moment).await,
            }
            first.signal(Signal::SIGKILL);
            let mut heir = heir.unwrap_or_else(|| place.start(2));
            let what = format!("{kind}, round {round}, byte {byte}, {moment:?}");
            assert_eq!(
                heir.end_of_hold().await,
                Ok(entry(cache.path(), &store)),
                "{what}"
            );
            assert!(is_whole(cache.path(), &store, &image), "{what}");
            // Killed after it had published, the first one may leave its word, and no more; killed
            // while it did, the name too under which it wrote, which is then one more of the entry's.
            let of_entry = |part: &PathBuf| std::fs::read(part).is_ok_and(|bytes| bytes == image);
            let half: Vec<PathBuf> = begun(cache.path())
                .into_iter()
                .filter(|part| !of_entry(part))
                .collect();
            assert!(half.is_empty(), "{what}: {half:?}");

            let hits = store.hits();
            assert!(place.start(3).end_of_hold().await.is_ok(), "{what}");
            assert_eq!(store.hits(), hits, "{what}: it is there for good");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_a_filler_that_was_only_slow_does_no_harm_when_it_comes_back() {
    let image = noise(12 << 20);
    for (kind, make) in Where::all() {
        let cache = make();
        let store = Store::serve(&image).await;
        store.slow(Duration::from_millis(150));
        let place = Place::new(cache.path(), &store).await;
        let mut slow = place.start(1);
        until("the first bytes", || place.written_bytes() > 0).await;
        slow.signal(Signal::SIGSTOP);
        let mut heir = place.start(2);
        assert!(heir.end_of_hold().await.is_ok(), "{kind}");
        let taken = std::fs::metadata(entry(cache.path(), &store))
            .unwrap()
            .ino();

        slow.signal(Signal::SIGCONT);
        assert_eq!(
            slow.end_of_hold().await,
            Ok(entry(cache.path(), &store)),
            "{kind}"
        );
        let now = std::fs::metadata(entry(cache.path(), &store))
            .unwrap()
            .ino();
        assert_eq!(now, taken, "{kind}: what guests stand on is the same file");
        assert!(is_whole(cache.path(), &store, &image), "{kind}");
        until("the end of what it had", || {
            left_over(cache.path()).is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_what_another_node_uses_is_not_evicted() {
    for (kind, make) in Where::all() {
        let cache = make();
        let (used, wanted) = (
            Store::serve(&noise(6 << 20)).await,
            Store::serve(&noise(7 << 20)).await,
        );
        let place = Place::new(cache.path(), &used).await.limited_to(10 << 20);
        let other = Place::new(cache.path(), &wanted).await.limited_to(10 << 20);
        let mut user = place.start(1);
        assert!(user.end_of_hold().await.is_ok(), "{kind}");

        let refused = other.start(2).end_of_hold().await.unwrap_err();
        assert!(refused.contains("no room"), "{kind}: {refused}");
        assert_eq!(
            wanted.hits(),
            0,
            "{kind}: refused before a byte was fetched"
        );
        let mut kept = place.start(3);
        assert!(kept.end_of_hold().await.is_ok(), "{kind}");
        assert_eq!(kept.ask("release").await, "released");
        assert!(kept.ask("evict").await.starts_with("kept"), "{kind}");

        assert_eq!(user.ask("release").await, "released", "{kind}");
        assert!(other.start(2).end_of_hold().await.is_ok(), "{kind}");
        assert!(!entry(cache.path(), &used).exists(), "{kind}: it made room");
    }
}

fn settings(folder: &Path, patience: Duration) -> Settings {
    Settings {
        folder: folder.to_owned(),
        node: "node-00000001".parse().unwrap(),
        limit_bytes: Some(1 << 30),
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: store::no_tls(),
        lease: LeaseTimes {
            beat: Duration::from_millis(50),
            silence: Duration::from_millis(500),
            poll: Duration::from_millis(20),
        },
        patience,
        peers: PeerTimes::default(),
        bandwidth: Bandwidth::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_a_cache_that_hangs_holds_up_who_needs_it_and_nobody_else() {
    let (mounted, local) = (Where::shared(true), scratch());
    let Where::Shared(mounted) = mounted else {
        unreachable!()
    };
    let image = noise(12 << 20);
    let store = Store::serve(&image).await;
    store.slow(Duration::from_millis(1500));
    let patience = Duration::from_millis(300);
    let hanging = Cache::new(settings(mounted.path(), patience), store.clone());
    let healthy = Cache::new(settings(local.path(), PATIENCE), store.clone());
    hanging.entries().await.unwrap();
    let heard = Arc::new(Mutex::new(Vec::<String>::new()));

    // Once before the first byte, and once in mid-fill.
    for (round, delay) in [Duration::ZERO, Duration::from_millis(350)]
        .into_iter()
        .enumerate()
    {
        let holder = fakes::wish(round as u32 + 1).instance;
        let (cache, asked, told) = (hanging.clone(), store.image(), heard.clone());
        if delay.is_zero() {
            mounted.hang();
        }
        let launch = tokio::spawn(async move {
            let tell = |now: &Told| told.lock().unwrap().push(now.doing.clone());
            cache.hold(&asked, Form::Disk, &holder, &tell).await
        });
        tokio::time::sleep(delay).await;
        mounted.hang();
        let says = |doing: &String| doing.contains("has not answered for");
        until("a word", || heard.lock().unwrap().iter().any(says)).await;
        assert!(hanging.silence().unwrap().contains("has not answered for"));

        // Who does not need it is served at once: another cache, the runtime's own threads, a
        // release, and whoever asks what is there.
        let begun = Instant::now();
        let other = fakes::wish(9).instance;
        healthy
            .hold(&store.image(), Form::Disk, &other, &|_| {})
            .await
            .unwrap();
        let refused = hanging.report().await.unwrap_err();
        assert!(
            refused.message.contains("has not answered for"),
            "{refused}"
        );
        let released = tokio::time::timeout(Duration::from_secs(5), hanging.release(&other));
        assert!(released.await.unwrap().unwrap_err().is_silence());
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        assert!(!launch.is_finished());

        mounted.go_on();
        let path = launch.await.unwrap().unwrap();
        assert!(std::fs::read(&path).unwrap() == image);
        until("its word", || hanging.silence().is_none()).await;
        heard.lock().unwrap().clear();
        hanging
            .release(&fakes::wish(round as u32 + 1).instance)
            .await
            .unwrap();
        hanging.evict(&store.image().id).await.unwrap();
    }
}

/// A small file system in memory, mounted until it is dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn of(bytes: u64) -> Self {
        let folder = scratch();
        let options = format!("size={bytes}");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(
            Some("none"),
            folder.path(),
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
        .expect("root may mount");
        Self(folder)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let flags = nix::mount::MntFlags::MNT_DETACH;
        let _ended = nix::mount::umount2(self.0.path(), flags);
    }
}

async fn reason_of_launch(cache: &Cache, store: &Store) -> Result<(), types::StateReason> {
    let work = scratch();
    let disks = LocalDisks::new(cache.clone(), &work.path().join("templates"), "boot-1").unwrap();
    let mut wish = fakes::wish(1);
    wish.spec.image = store.image();
    let progress = watch::Sender::new(Progress::default());
    disks.prepare(&wish, work.path(), &progress).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn host_a_full_disk_refuses_early_and_the_reason_has_the_figures() {
    let disk = Tmpfs::of(300 << 20);
    let store = Store::serve(&noise(60 << 20)).await;
    let cache = Cache::new(settings(disk.0.path(), PATIENCE), store.clone());
    let reason = reason_of_launch(&cache, &store).await.unwrap_err();
    assert_eq!(reason.code, "Server.InsufficientInstanceCapacity");
    let need = image::mbr::disk_bytes(60 << 20).to_string();
    assert!(
        reason.message.contains(&format!("it needs {need} bytes")),
        "{reason:?}"
    );
    assert!(reason.message.contains("free"), "{reason:?}");
    assert_eq!(store.hits(), 0, "before a byte is fetched");
    assert_eq!(left_over(disk.0.path()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn host_a_disk_that_others_fill_meanwhile_is_said_and_leaves_nothing() {
    let disk = Tmpfs::of(300 << 20);
    let store = Store::serve(&noise(30 << 20)).await;
    // Slower than a disk is filled, on a busy machine too.
    store.slow(Duration::from_secs(3));
    let cache = Cache::new(settings(disk.0.path(), PATIENCE), store.clone());
    let launch = tokio::spawn({
        let (cache, store) = (cache.clone(), store.clone());
        async move { reason_of_launch(&cache, &store).await }
    });
    until("the fill", || !begun(disk.0.path()).is_empty()).await;
    let hog = disk.0.path().join("hog");
    let mut file = std::fs::File::create(&hog).unwrap();
    let mebibyte = vec![1; 1 << 20];
    while std::io::Write::write_all(&mut file, &mebibyte).is_ok() {}

    let reason = launch.await.unwrap().unwrap_err();
    assert_eq!(
        reason.code, "Server.InsufficientInstanceCapacity",
        "{reason:?}"
    );
    assert!(reason.message.contains("0 are free"), "{reason:?}");
    drop(file);
    std::fs::remove_file(hog).unwrap();
    assert_eq!(left_over(disk.0.path()), Vec::<PathBuf>::new());
    let holder = fakes::wish(2).instance;
    cache
        .hold(&store.image(), Form::Disk, &holder, &|_| {})
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn host_full_tmp_and_var_log_have_no_effect() {
    let cache = scratch();
    let image = partition(12 << 20);
    let store = Store::serve(&image).await;
    let place = Place::new(cache.path(), &store).await;
    let fill = "mount --make-rprivate / && for d in /tmp /var/log; do \
                mount -t tmpfs -o size=64k,nr_inodes=8 none $d && \
                { dd if=/dev/zero of=$d/full bs=4k 2>/dev/null; :; }; done && exec \"$@\"";
    let mut node = place.start_by(1, &["unshare", "-m", "sh", "-c", fill, "sh"]);
    let held = node.end_of_hold().await.unwrap();
    let made = std::fs::read(held).unwrap();
    assert!(
        made[1 << 20..] == image,
        "a partition, with its boot loader before it"
    );
}
