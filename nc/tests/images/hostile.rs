//! The scenarios J1 to J11 of hostile images, as far as a node defends itself: a launch ends with a
//! reason that names the trouble, and leaves nothing in the cache.

use std::{process::Command, time::Duration};

use super::*;

/// The launch fails saying that, and the cache is as empty as before.
async fn ends(store: &Arc<Store>, says: &str) {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(folder.path(), store);
    let error = hold(&cache, store, 1).await.unwrap_err().to_string();
    assert!(error.contains(says), "{error}\nshould say {says}");
    cache.release(&holder(1)).await.unwrap();
    nothing_is_left(folder.path(), &error).await;
}

#[tokio::test]
async fn j1_a_corrupt_part_is_named_and_does_not_poison_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&noise(12 << 20)).await;
    let cache = open(folder.path(), &store);
    store.damage(1);
    let error = hold(&cache, &store, 1).await.unwrap_err().to_string();
    assert!(
        error.contains("part 1 is corrupt: its SHA-1 is "),
        "{error}"
    );
    // As the end of a launch does.
    cache.release(&holder(1)).await.unwrap();
    nothing_is_left(folder.path(), &error).await;

    // The same bit again: the part is whole, and so is the image.
    store.damage(1);
    let path = hold(&cache, &store, 1).await.unwrap();
    assert!(std::fs::read(path).unwrap() == noise(12 << 20));
}

#[tokio::test]
async fn j2_missing_extra_and_repeated_parts_and_lying_sizes_are_refused() {
    // Two parts of the same size, and a shorter one.
    let image = noise(25 << 20);
    type Lie = fn(&mut control::cloud::Ticket);
    let lies: [(Lie, &str); 8] = [
        (|ticket| drop(ticket.parts.pop()), "bytes together"),
        (
            |ticket| ticket.parts.push(ticket.parts[1].clone()),
            "part 3 cannot be fetched: it is not there any more",
        ),
        (
            |ticket| ticket.parts[1] = ticket.parts[0].clone(),
            "part 1 is corrupt",
        ),
        (|ticket| ticket.parts.swap(0, 1), "part 0 is corrupt"),
        (
            |ticket| ticket.parts[0].size_bytes = 1 << 40,
            "a part is larger than 10 MiB",
        ),
        (
            |ticket| ticket.parts[0].digest_sha1 = "../../etc/passwd".to_owned(),
            "a digest is no SHA-1",
        ),
        (
            |ticket| ticket.size_bytes = 1000,
            "the archive's file has 26214400 bytes, the manifest says 1000",
        ),
        (
            |ticket| ticket.digest_sha1 = "0".repeat(40),
            "the image is not the one that was bundled",
        ),
    ];
    let store = Store::serve(&image).await;
    let mut honest = None;
    store.lie(|ticket| honest = Some(ticket.clone()));
    for (lie, says) in lies {
        store.lie(lie);
        ends(&store, says).await;
        store.lie(|ticket| *ticket = honest.clone().unwrap());
    }
    store.lose(1);
    ends(&store, "part 1 cannot be fetched: it is not there any more").await;
}

#[tokio::test]
async fn j4_bombs_and_archives_in_archives_stop_at_what_was_declared() {
    let began = std::time::Instant::now();
    ends(&Store::serve_bomb(1 << 30, 1 << 20).await, "says 1048576").await;
    assert!(began.elapsed() < Duration::from_secs(30), "{began:?}");

    let folder = tempfile::tempdir().unwrap();
    let (image, other) = (folder.path().join("image"), folder.path().join("other"));
    std::fs::write(&image, noise(100_000)).unwrap();
    std::fs::write(&other, noise(100_000)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let tar = |members: &[&str]| {
        #[allow(clippy::disallowed_methods)] // a test's tool
        let made = Command::new("tar")
            .arg("-C")
            .arg(folder.path())
            .args(["--format=gnu", "-cf", "-"])
            .args(members)
            .output()
            .unwrap();
        assert!(made.status.success());
        made.stdout
    };
    // A tar in the tar is an image that is no image.
    ends(&Store::serve(&tar(&["image"])).await, "a tar archive").await;
    for (members, says) in [
        (&["image", "other"][..], "more than one file"),
        (&["link"], "something other than a regular file"),
        (&["."], "something other than a regular file"),
    ] {
        let store = Store::serve_tar(&tar(members), 100_000).await;
        ends(&store, says).await;
    }
}

#[tokio::test]
async fn j4_a_part_that_never_ends_is_read_no_further_than_it_was_said_to_be_long() {
    let store = Store::serve(&noise(1 << 20)).await;
    store.never_end();
    let began = std::time::Instant::now();
    ends(&store, "part 0 cannot be fetched: more came than the").await;
    assert!(began.elapsed() < Duration::from_secs(30), "{began:?}");
    assert_eq!(store.hits(), 1, "it is asked for once");
}

#[tokio::test]
async fn j5_keys_that_do_not_fit_or_are_none_are_refused() {
    let image = noise(1 << 20);
    for (key, iv, says) in [
        (Some("00".repeat(16)), None, "cannot be decompressed"),
        (None, Some("00".repeat(16)), "cannot be decompressed"),
        (Some("00".repeat(15)), None, "key"),
        (Some(String::new()), None, "key"),
        (Some("zz".repeat(16)), None, "key"),
        (Some("00".repeat(1 << 20)), None, "key"),
        (None, Some("00".repeat(17)), "key"),
    ] {
        let store = Store::serve(&image).await;
        store.lie(|ticket| {
            if let Some(key) = key {
                ticket.key = types::Secret::new(key);
            }
            if let Some(iv) = iv {
                ticket.iv = types::Secret::new(iv);
            }
        });
        ends(&store, says).await;
    }
}

/// A file that qemu-img makes in that format.
fn made_by_qemu(format: &str, arguments: &[&str]) -> Vec<u8> {
    // Before it makes a key it measures the processor, and gives up if that seems to do nothing.
    let gave_up = |said: &str| said.contains("Unable to get accurate CPU usage");
    for _ in 0..20 {
        match try_with_qemu(format, arguments) {
            Ok(image) => return image,
            Err(said) => assert!(gave_up(&said), "{format}: {said}"),
        }
    }
    panic!("qemu-img cannot measure this processor");
}

fn try_with_qemu(format: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    #[allow(clippy::disallowed_methods)] // a test's tool
    let made = Command::new("qemu-img")
        .current_dir(folder.path())
        .args(["create", "-q", "-f", format])
        .args(arguments)
        .arg(&path)
        .arg("16M")
        .output()
        .unwrap();
    match made.status.success() {
        true => Ok(std::fs::read(path).unwrap()),
        false => Err(String::from_utf8_lossy(&made.stderr).into_owned()),
    }
}

#[tokio::test]
async fn host_j6_j7_j9_images_of_other_formats_are_refused_by_name() {
    let secret = ["--object", "secret,id=s,data=x"];
    for (format, arguments, says) in [
        (
            "qcow2",
            &["-u", "-b", "/etc/shadow", "-F", "raw"][..],
            "a qcow2 image that names a backing file",
        ),
        (
            "qcow2",
            &["-o", "data_file=data"],
            "a qcow2 image that names an external data file",
        ),
        ("qcow2", &[], "a qcow2 image"),
        ("vmdk", &[], "a VMDK image"),
        (
            "vmdk",
            &["-o", "subformat=monolithicFlat"],
            "a VMDK descriptor",
        ),
        ("vhdx", &[], "a VHDX image"),
        ("vdi", &[], "a VDI image"),
        ("vpc", &[], "a VHD image"),
        ("qed", &[], "a QED image"),
        (
            "luks",
            &[&secret[..], &["-o", "key-secret=s,iter-time=10"]].concat(),
            "a LUKS volume",
        ),
    ] {
        let image = made_by_qemu(format, arguments);
        let says = format!("the image is not raw: its first bytes are those of {says}");
        ends(&Store::serve(&image).await, &says).await;
    }
}

#[tokio::test]
async fn host_j8_what_a_guest_writes_on_its_disks_changes_no_format() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("i-00000001");
    std::fs::create_dir(&dir).unwrap();
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
    let made = disks.prepare(&wish, &dir, &progress).await.unwrap();

    // A guest has the front of its raw disks to itself.
    let header = made_by_qemu("qcow2", &["-u", "-b", "/etc/shadow", "-F", "raw"]);
    for disk in &made.disks[1..] {
        assert_eq!(disk.file.format.as_str(), "raw");
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&disk.file.path);
        file.unwrap().write_all_at(&header, 0).unwrap();
    }
    // As after a reboot, and after the node's own restart: it is what it was, and nothing was asked
    // of the files themselves.
    disks.keep(&wish, &dir).await.unwrap();
    let again = disks.prepare(&wish, &dir, &progress).await.unwrap();
    assert_eq!(again, made);
    for disk in &made.disks[1..] {
        let mut front = vec![0; header.len()];
        let file = std::fs::File::open(&disk.file.path).unwrap();
        file.read_exact_at(&mut front, 0).unwrap();
        assert!(front == header, "{:?}", disk.file.path);
    }
}

#[tokio::test]
async fn j10_a_size_beyond_all_room_is_refused_before_a_byte_is_fetched() {
    for size in [1 << 40, u64::MAX] {
        let store = Store::serve(&noise(1 << 20)).await;
        store.lie(|ticket| ticket.size_bytes = size);
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path(), &store);
        let mut image = store.image();
        image.size_bytes = size;
        let refused = cache.hold(&image, Form::Disk, &holder(1), &|_| {}).await;
        assert!(refused.is_err());
        assert_eq!(store.hits(), 0, "of an image of {size} bytes");
        cache.release(&holder(1)).await.unwrap();
        nothing_is_left(folder.path(), "a refusal").await;
    }
}

#[tokio::test]
async fn host_j11_hostile_partition_tables_and_file_systems_are_bytes_and_are_never_mounted() {
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut overlapping = noise(2 << 20);
    overlapping[..512].fill(0);
    for entry in 0..4 {
        let at = 446 + 16 * entry;
        overlapping[at + 4] = [0x83, 0x05, 0x0f, 0xee][entry];
        overlapping[at + 8..at + 12].copy_from_slice(&1_u32.to_le_bytes());
        overlapping[at + 12..at + 16].fill(0xff);
    }
    overlapping[510..512].copy_from_slice(&[0x55, 0xaa]);
    // A superblock of noise but for its magic: no kernel should ever see it.
    let superblock = partition(12 << 20);
    for (n, image) in [(1, overlapping), (2, superblock)] {
        let store = Store::serve(&image).await;
        let cache = open(&folder.path().join(n.to_string()), &store);
        let path = hold(&cache, &store, n).await.unwrap();
        let kept = std::fs::read(&path).unwrap();
        assert!(kept.ends_with(&image), "the bytes are the user's");
        let ours = folder.path().display().to_string();
        assert!(!mounts().contains(&ours), "something is mounted");
    }
}
