//! The power goes: what was written and not synced is lost, or half of it is, in pieces of 4 KiB.
//! Every acknowledged write is there all the same. And a sync that fails is taken at its word.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use tempfile::TempDir;
use testkit::seed::{self, TestRng};

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{S3, pattern},
    workload::Workload,
};

/// What a disk writes in one piece.
const PAGE: usize = 4096;

/// Walrus' folder of objects on a disk whose power can go: `faults/disk.c` is preloaded, and keeps
/// in a mirror what was synced.
struct Disk {
    root: PathBuf,
    mirror: TempDir,
    library: PathBuf,
}

/// A name in a folder of the mirror.
struct Entry {
    id: String,
    is_folder: bool,
    name: String,
}

impl Disk {
    fn below(walrus: &mut Walrus) -> Self {
        let mirror = tempfile::tempdir().unwrap();
        let library = mirror.path().join("disk.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults/disk.c");
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source);
        assert!(cc.status().unwrap().success(), "cc compiles the disk");

        let root = walrus.state().join("objects");
        std::fs::create_dir_all(&root).unwrap();
        for (name, value) in [
            ("LD_PRELOAD", library.as_path()),
            ("MALLEE_DISK", &root),
            ("MALLEE_MIRROR", mirror.path()),
            ("MALLEE_EIO", &mirror.path().join("eio")),
        ] {
            walrus
                .environment
                .push((name.to_owned(), value.as_os_str().to_owned()));
        }
        let disk = Self {
            root,
            mirror,
            library,
        };
        disk.is_all_synced();
        disk
    }

    /// Syncs of paths with that text in them fail from now on.
    fn fail_syncs_of(&self, part: &str) {
        std::fs::write(self.mirror.path().join("eio"), part).unwrap();
    }

    fn heal(&self) {
        std::fs::remove_file(self.mirror.path().join("eio")).unwrap();
    }

    fn saved(&self, kind: &str, id: &str) -> PathBuf {
        self.mirror.path().join(kind).join(id)
    }

    /// The power goes, and what is left becomes the disk. With luck some of what was not synced is
    /// there too: any names, any pages.
    fn cut(&self, mut luck: Option<&mut TestRng>) {
        let after = self.root.with_extension("after");
        self.restore(
            &id_of(&self.root),
            Some(&self.root),
            &after,
            &mut luck,
            &mut BTreeMap::new(),
        );
        std::fs::remove_dir_all(&self.root).unwrap();
        std::fs::rename(&after, &self.root).unwrap();
        self.is_all_synced();
    }

    fn restore(
        &self,
        id: &str,
        live: Option<&Path>,
        to: &Path,
        luck: &mut Option<&mut TestRng>,
        made: &mut BTreeMap<String, PathBuf>,
    ) {
        std::fs::create_dir(to).unwrap();
        let now = live.map(entries).unwrap_or_default();
        for entry in lucky_names(self.synced_names(id), now, luck) {
            let target = to.join(&entry.name);
            let live = live.map(|folder| folder.join(&entry.name));
            let live = live.filter(|path| path.exists() && id_of(path) == entry.id);
            if entry.is_folder {
                self.restore(&entry.id, live.as_deref(), &target, luck, made);
            } else if let Some(first) = made.get(&entry.id) {
                std::fs::hard_link(first, &target).unwrap();
            } else {
                let synced = std::fs::read(self.saved("files", &entry.id)).unwrap_or_default();
                let live = live.and_then(|path| std::fs::read(path).ok());
                std::fs::write(&target, lucky_bytes(synced, live, luck)).unwrap();
                made.insert(entry.id, target);
            }
        }
    }

    fn synced_names(&self, id: &str) -> Vec<Entry> {
        let text = std::fs::read_to_string(self.saved("folders", id)).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.splitn(3, ' ').map(str::to_owned);
            let (id, kind) = (words.next()?, words.next()?);
            Some(Entry {
                id,
                is_folder: kind == "d",
                name: words.next()?,
            })
        };
        text.lines().filter_map(entry).collect()
    }

    /// After the start of a machine all that is there is on the disk.
    fn is_all_synced(&self) {
        for kind in ["files", "folders"] {
            let _ = std::fs::remove_dir_all(self.mirror.path().join(kind));
            std::fs::create_dir(self.mirror.path().join(kind)).unwrap();
        }
        self.save(&self.root);
        assert!(self.library.exists());
    }

    fn save(&self, folder: &Path) {
        let mut text = String::new();
        for entry in entries(folder) {
            let (path, kind) = (
                folder.join(&entry.name),
                if entry.is_folder { 'd' } else { 'f' },
            );
            text += &format!("{} {kind} {}\n", entry.id, entry.name);
            if entry.is_folder {
                self.save(&path);
            } else {
                std::fs::copy(&path, self.saved("files", &entry.id)).unwrap();
            }
        }
        std::fs::write(self.saved("folders", &id_of(folder)), text).unwrap();
    }
}

/// As `faults/disk.c` makes it.
fn id_of(path: &Path) -> String {
    let metadata = std::fs::symlink_metadata(path).unwrap();
    let born = metadata
        .created()
        .unwrap()
        .duration_since(UNIX_EPOCH)
        .unwrap();
    format!(
        "{}-{}-{}",
        metadata.ino(),
        born.as_secs(),
        born.subsec_nanos()
    )
}

fn entries(folder: &Path) -> Vec<Entry> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        Entry {
            id: id_of(&entry.path()),
            is_folder: entry.path().is_dir(),
            name: entry.file_name().into_string().unwrap(),
        }
    });
    entries.collect()
}

/// Without luck the synced names; with luck any of those that came or went since.
fn lucky_names(
    synced: Vec<Entry>,
    live: Vec<Entry>,
    luck: &mut Option<&mut TestRng>,
) -> Vec<Entry> {
    let Some(rng) = luck else { return synced };
    let mut names: BTreeMap<String, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
    for entry in synced {
        let name = entry.name.clone();
        names.entry(name).or_default().0 = Some(entry);
    }
    for entry in live {
        let name = entry.name.clone();
        names.entry(name).or_default().1 = Some(entry);
    }
    let one = |(before, now): (Option<Entry>, Option<Entry>)| {
        let is_same = before.as_ref().map(|entry| &entry.id) == now.as_ref().map(|entry| &entry.id);
        if is_same || seed::per_mille(rng, 500) {
            now
        } else {
            before
        }
    };
    names.into_values().filter_map(one).collect()
}

/// Without luck the synced bytes; with luck any pages of what was written since.
fn lucky_bytes(synced: Vec<u8>, live: Option<Vec<u8>>, luck: &mut Option<&mut TestRng>) -> Vec<u8> {
    let (Some(rng), Some(live)) = (luck, live) else {
        return synced;
    };
    if live.len() < synced.len() {
        return if seed::per_mille(rng, 500) {
            live
        } else {
            synced
        };
    }
    let mut bytes = synced;
    let grown = seed::below(rng, (live.len() - bytes.len()) as u64 + 1);
    bytes.resize(bytes.len() + grown as usize, 0);
    for (page, new) in bytes.chunks_mut(PAGE).zip(live.chunks(PAGE)) {
        if seed::per_mille(rng, 500) {
            page.copy_from_slice(&new[..page.len()]);
        }
    }
    bytes
}

/// Cuts, with plain kills between them, so that what only the page cache holds is recovered first.
async fn cut_again_and_again(seed: u64, rounds: u64) {
    let _told = seed::Told {
        seed,
        steps: rounds,
    };
    let mut rng = seed::rng(seed);
    let mut walrus = Walrus::prepare(&[]).await;
    let disk = Disk::below(&mut walrus);
    walrus.run().await;
    let workload = Workload::begin(&walrus).await;

    let mut checked = 0;
    for round in 0..rounds {
        let writers = workload.write(&walrus, seed * 1_000 + round);
        tokio::time::sleep(Duration::from_millis(100 + seed::below(&mut rng, 500))).await;
        walrus.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        let kind = seed::below(&mut rng, 3);
        match kind {
            0 => {}
            1 => disk.cut(None),
            _ => disk.cut(Some(&mut rng)),
        }
        if seed::per_mille(&mut rng, 300) {
            let (right, said) = walrus.fsck();
            assert!(right, "round {round}, kind {kind}: {said}");
        }
        walrus.run().await;
        if kind == 0 && seed::per_mille(&mut rng, 500) {
            // What recovery believed must survive too, though nothing was written since.
            workload
                .check(&walrus, &format!("round {round}, recovered"))
                .await;
            walrus.kill();
            disk.cut(None);
            walrus.run().await;
        }
        checked += workload
            .check(&walrus, &format!("round {round}, kind {kind}"))
            .await;
    }
    assert!(
        checked as u64 > rounds * 5,
        "only {checked} keys were checked"
    );
    assert!(walrus.stop());
    let (right, said) = walrus.fsck();
    assert!(right && said.contains("orphans   0"), "{said}");
}

campaign!(
    cut_again_and_again: a_power_cut_takes_nothing_that_was_acknowledged(1, 12),
    long_two_hundred_power_cuts(2, 200)
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_is_never_tried_again_and_never_answered_with_200() {
    let mut walrus = Walrus::prepare(&[]).await;
    let disk = Disk::below(&mut walrus);
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    s3.put("/bucket/small", &pattern(100, 1)).await.ok();
    s3.put("/bucket/large", &pattern(100_000, 1)).await.ok();

    // The segment that is being written, and no other: the next one is good.
    let segment = newest(&disk.root.join("journal"));
    disk.fail_syncs_of(&segment);
    s3.put("/bucket/small", &pattern(100, 2))
        .await
        .fails(503, "ServiceUnavailable");
    assert!(s3.get("/bucket/small").await.ok().body == pattern(100, 1));
    s3.put("/bucket/small", &pattern(100, 3)).await.ok();
    assert!(
        newest(&disk.root.join("journal")) > segment,
        "the segment was given up"
    );
    disk.heal();

    // A file whose bytes may not be on the disk is no object.
    disk.fail_syncs_of("/blobs/");
    let refused = s3.put("/bucket/large", &pattern(100_000, 2)).await;
    assert!(refused.status.is_server_error(), "{}", refused.status);
    disk.heal();
    assert!(s3.get("/bucket/large").await.ok().body == pattern(100_000, 1));

    walrus.kill();
    disk.cut(None);
    let (right, said) = walrus.fsck();
    assert!(right, "{said}");
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    assert!(s3.get("/bucket/small").await.ok().body == pattern(100, 3));
    assert!(s3.get("/bucket/large").await.ok().body == pattern(100_000, 1));

    // A disk that syncs nothing at all: Walrus ends, and a restart finds what was acknowledged.
    disk.fail_syncs_of("/journal");
    let refused = s3.put("/bucket/small", &pattern(100, 4)).await;
    assert!(!refused.status.is_success());
    assert!(!walrus.ended().await, "it ends, and says that it failed");
    disk.heal();
    disk.cut(None);
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    assert!(s3.get("/bucket/small").await.ok().body == pattern(100, 3));
}

fn newest(folder: &Path) -> String {
    entries(folder)
        .into_iter()
        .map(|entry| entry.name)
        .max()
        .unwrap()
}
