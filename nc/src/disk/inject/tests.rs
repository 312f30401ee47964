//! Keys into file systems that the tools of the host make, and into what a hostile user makes.

use std::{fs::File, os::unix::fs::FileExt};

use daemon::run::Tool;
use image::mbr::{self, Entry};

use super::*;
use crate::disk::layout::{Head, Partition};

const KEY: &str = "ssh-ed25519 AAAAC3Nz key";
const START: u64 = 1 << 20;

fn can_be_tried() -> bool {
    let lacks = if !nix::unistd::geteuid().is_root() {
        "root"
    } else if !Path::new("/usr/bin/bwrap").exists() {
        "bubblewrap"
    } else {
        return true;
    };
    eprintln!("SKIPPED: putting a key in needs {lacks}");
    false
}

async fn debugfs(file_system: &str, commands: &[&str]) -> String {
    let script = commands.join("\n");
    let tool = Tool::new("debugfs").args(["-w", "-f", "/dev/stdin", file_system]);
    tool.stdin(script).text().await.unwrap()
}

/// A disk with an ext4 file system from 1 MiB on, with these commands done to it.
async fn image(dir: &Path, options: &[&str], commands: &[&str]) -> PathBuf {
    let path = dir.join("image.raw");
    File::create(&path)
        .unwrap()
        .set_len(START + (64 << 20))
        .unwrap();
    let made = Tool::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4"])
        .args(options);
    let made = made.args(["-E", "offset=1048576"]).arg(&path).arg("64M");
    made.output().await.unwrap();
    let mut all = vec!["mkdir /etc", "mkdir /root", "mkdir /usr", "mkdir /usr/bin"];
    all.extend(commands);
    debugfs(&format!("{}?offset={START}", path.display()), &all).await;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    std::fs::set_permissions(&path, mode).unwrap();
    path
}

/// An ext4 file system there.
fn ext_at(start: u64) -> Root {
    Root {
        start,
        kind: FileSystem::Ext { unbootable: None },
        partition: None,
    }
}

/// How an instance of that image gets its key; the image stays as it is.
async fn way(image: &Path, roots: &[Root], dir: &Path, policy: InjectKeys) -> Way {
    let before = std::fs::read(image).unwrap();
    let way = Keys::new(policy).way(image, roots, KEY, dir).await;
    assert!(
        std::fs::read(image).unwrap() == before,
        "the image is as it was"
    );
    assert!(!dir.join(WORK).exists(), "the job's folder is gone");
    way
}

/// The file system at [`START`] with the changes, as a guest will find it.
async fn changed(image: &Path, dir: &Path, policy: InjectKeys) -> Option<String> {
    match way(image, &[ext_at(START)], dir, policy).await {
        Way::OnDisk(changes) => Some(file_system(image, dir, START, changes).await),
        Way::Itself | Way::ByFirmware => None,
    }
}

async fn file_system(image: &Path, dir: &Path, start: u64, changes: Vec<Change>) -> String {
    let disk = dir.join("file-system.raw");
    let before = std::fs::read(image).unwrap();
    std::fs::write(&disk, &before[start as usize..]).unwrap();
    let file = File::options().write(true).open(&disk).unwrap();
    for Change { offset, bytes } in changes {
        file.write_all_at(&bytes, offset - start).unwrap();
    }
    let check = Tool::new("e2fsck").args(["-f", "-n"]).arg(&disk);
    check.output().await.expect("e2fsck finds nothing");
    disk.to_string_lossy().into_owned()
}

#[tokio::test]
async fn host_a_key_is_put_in_with_owner_and_mode_for_blocks_of_1_and_of_4_kib() {
    if !can_be_tried() {
        return;
    }
    for options in [
        &["-b", "1024"][..],
        &["-b", "4096"],
        &["-b", "4096", "-O", "metadata_csum"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), options, &[]).await;
        let disk = changed(&image, folder.path(), InjectKeys::Auto)
            .await
            .unwrap();
        let said = debugfs(
            &disk,
            &["cat /root/.ssh/authorized_keys", "ls -l /root/.ssh"],
        )
        .await;
        assert!(said.contains(&format!("{KEY}\n")), "{said}");
        assert!(said.contains("100600 (1)      0      0"), "{said}");
        assert!(said.contains("40700 (2)      0      0"), "{said}");
    }
}

#[tokio::test]
async fn host_keys_that_came_with_the_image_stay() {
    if !can_be_tried() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old");
    std::fs::write(&old, "ssh-rsa AAAA old").unwrap();
    let write = format!("write {} authorized_keys", old.display());
    let commands = ["mkdir /root/.ssh", "cd /root/.ssh", &write];
    let image = image(folder.path(), &[], &commands).await;
    let disk = changed(&image, folder.path(), InjectKeys::Auto)
        .await
        .unwrap();
    let said = debugfs(&disk, &["cat /root/.ssh/authorized_keys"]).await;
    assert!(
        said.contains(&format!("ssh-rsa AAAA old\n{KEY}\n")),
        "{said}"
    );
}

#[tokio::test]
async fn host_an_image_that_fetches_its_key_is_left_alone_unless_always_is_said() {
    if !can_be_tried() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), &[], &["mkdir /usr/bin/cloud-init"]).await;
    assert_eq!(changed(&image, folder.path(), InjectKeys::Auto).await, None);
    assert_eq!(
        changed(&image, folder.path(), InjectKeys::Never).await,
        None
    );
    assert!(
        changed(&image, folder.path(), InjectKeys::Always)
            .await
            .is_some()
    );
}

#[tokio::test]
async fn host_hostile_images_harm_nobody_and_hold_nothing_up() {
    if !can_be_tried() {
        return;
    }
    let target = tempfile::tempdir().unwrap();
    let link = format!("symlink /root/.ssh {}", target.path().display());
    let cases: [&[&str]; 5] = [
        // Links to the host, to itself, and up and out.
        &[&link],
        &["symlink /root/.ssh .ssh"],
        &["symlink /root/.ssh ../../../../../../root/.ssh"],
        // A device in its place, and a loop of directories.
        &["cd /root", "mknod .ssh c 1 5"],
        &[
            "mkdir /root/.ssh",
            "mkdir /root/.ssh/authorized_keys",
            "link /root /root/.ssh/authorized_keys/up",
        ],
    ];
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), &[], case).await;
        let begun = std::time::Instant::now();
        changed(&image, folder.path(), InjectKeys::Auto).await;
        assert!(begun.elapsed().as_secs() < 20, "{case:?}");
    }
    let left = std::fs::read_dir(target.path()).unwrap().count();
    assert_eq!(left, 0, "nothing was written to the host");

    // A superblock of noise, and a file system that says it is large.
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path(), &[], &[]).await;
    for (offset, bytes) in [(1024 + 4, &[0xff; 4][..]), (1024, &[0xff; 1024])] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&image, mode).unwrap();
        let file = File::options().write(true).open(&image).unwrap();
        file.write_all_at(bytes, START + offset).unwrap();
        let begun = std::time::Instant::now();
        let keys = Keys::default();
        keys.way(&image, &[ext_at(START)], KEY, folder.path()).await;
        assert!(begun.elapsed().as_secs() < 40);
    }
}

#[test]
fn a_key_is_one_line() {
    assert_eq!(line("ssh-rsa AAAA me\nevil\r\0"), "ssh-rsa AAAA meevil\n");
}

/// A disk of a BIOS boot partition, one for `/boot` and one for the root, by GUID, with that tree.
async fn gpt_disk(dir: &Path, make_root: &Path) -> PathBuf {
    let disk = dir.join("image.raw");
    let root_bytes = std::fs::metadata(make_root).unwrap().len();
    let file = File::create(&disk).unwrap();
    file.set_len((20 << 20) + root_bytes).unwrap();
    let parts = ["-n1:2048:4095", "-t1:ef02", "-n2:4096:+8M", "-n4:12M:-2M"];
    let made = Tool::new("sgdisk").args(parts).arg(&disk);
    made.output().await.unwrap();
    let boot = Tool::new("mke2fs").args(["-qF", "-text4", "-Eoffset=2097152"]);
    boot.arg(&disk).arg("8M").output().await.unwrap();
    let root = std::fs::read(make_root).unwrap();
    let file = File::options().write(true).open(&disk).unwrap();
    file.write_all_at(&root, 12 << 20).unwrap();
    disk
}

/// A tree with what a root has, and these files.
fn tree(dir: &Path, files: &[&str]) -> PathBuf {
    let tree = dir.join("tree");
    for folder in ["etc", "root", "usr/bin"] {
        std::fs::create_dir_all(tree.join(folder)).unwrap();
    }
    for file in files {
        std::fs::write(tree.join(file), "x").unwrap();
    }
    tree
}

/// A file system of that tree, made by its own tool.
async fn made_of(tree: &Path, kind: FileSystem) -> PathBuf {
    let path = tree.with_extension("raw");
    let sized = |bytes| File::create(&path).unwrap().set_len(bytes).unwrap();
    match kind {
        FileSystem::Ext { .. } => {
            sized(32 << 20);
            let made = Tool::new("mke2fs").args(["-qF", "-text4", "-d"]);
            made.arg(tree).arg(&path).output().await.unwrap();
        }
        FileSystem::Btrfs => {
            sized(128 << 20);
            let made = Tool::new("mkfs.btrfs").args(["-q", "--rootdir"]);
            made.arg(tree).arg(&path).output().await.unwrap();
        }
        FileSystem::Xfs => {
            sized(320 << 20);
            let client = tree.join("usr/bin/cloud-init");
            let client = match client.exists() {
                true => format!("cloud-init ---755 0 0 {}\n", client.display()),
                false => String::new(),
            };
            // A list of what is in it: name, mode, owner; a dollar ends a folder.
            let list = format!(
                "/\n0 0\nd--755 0 0\netc d--755 0 0\n$\nroot d--700 0 0\n$\n\
                 usr d--755 0 0\nbin d--755 0 0\n{client}$\n$\n$\n"
            );
            let file = tree.with_extension("proto");
            std::fs::write(&file, list).unwrap();
            let made = Tool::new("mkfs.xfs").args(["-q", "-p"]);
            made.arg(&file).arg(&path).output().await.unwrap();
        }
    }
    path
}

#[tokio::test]
async fn host_a_key_is_put_into_the_root_of_a_gpt_and_not_into_its_boot_partition() {
    if !can_be_tried() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ext = FileSystem::Ext { unbootable: None };
    let root = made_of(&tree(folder.path(), &[]), ext).await;
    let disk = gpt_disk(folder.path(), &root).await;
    let head = Head::read(&disk).unwrap();
    let found: Vec<_> = head.roots().iter().map(|root| root.partition).collect();
    assert_eq!(found, [Some(Partition::Gpt(2)), Some(Partition::Gpt(4))]);
    let way = way(&disk, head.roots(), folder.path(), InjectKeys::Auto).await;
    let Way::OnDisk(changes) = way else {
        panic!("{way:?}");
    };
    let inside = |change: &Change| change.offset >= 12 << 20;
    assert!(changes.iter().all(inside), "in the root alone");
    let disk = file_system(&disk, folder.path(), 12 << 20, changes).await;
    let said = debugfs(&disk, &["cat /root/.ssh/authorized_keys"]).await;
    assert!(said.contains(&format!("{KEY}\n")), "{said}");
}

/// A boot record with those entries: kind, first sector, sectors.
fn record(entries: [(u8, u32, u32); 2]) -> [u8; 512] {
    mbr::record(&entries.map(|(kind, start_sector, sectors)| Entry {
        number: 1,
        bootable: false,
        kind,
        start_sector,
        sectors,
    }))
}

/// A disk with nothing in its primary and its first logical partition, and the root in the second.
fn logical_disk(dir: &Path, make_root: &Path) -> PathBuf {
    let disk = dir.join("image.raw");
    let root = std::fs::read(make_root).unwrap();
    let sectors = (root.len() / 512) as u32;
    let file = File::create(&disk).unwrap();
    file.set_len(ROOT_IN_LOGICAL + root.len() as u64).unwrap();
    for (at, entries) in [
        (0, [(0x83, 2048, 2048), (0x05, 4096, 10240 + sectors)]),
        (4096, [(0x82, 2048, 2048), (0x05, 8192, 2048 + sectors)]),
        (12288, [(0x83, 2048, sectors), (0, 0, 0)]),
    ] {
        file.write_all_at(&record(entries), at * 512).unwrap();
    }
    file.write_all_at(&root, ROOT_IN_LOGICAL).unwrap();
    disk
}

const ROOT_IN_LOGICAL: u64 = 7 << 20;

#[tokio::test]
async fn host_a_root_in_a_logical_partition_gets_its_key_as_one_in_a_primary_does() {
    if !can_be_tried() {
        return;
    }
    let ext = FileSystem::Ext { unbootable: None };
    for (kind, files) in [
        (ext, &[][..]),
        (FileSystem::Xfs, &["usr/bin/cloud-init"]),
        (FileSystem::Btrfs, &[]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let root = made_of(&tree(folder.path(), files), kind).await;
        let disk = logical_disk(folder.path(), &root);
        let head = Head::read(&disk).unwrap();
        let expected = Root {
            start: ROOT_IN_LOGICAL,
            kind,
            partition: Some(Partition::Mbr(6)),
        };
        assert_eq!(head.roots(), [expected]);
        let way = way(&disk, head.roots(), folder.path(), InjectKeys::Auto).await;
        let changes = match (kind, way) {
            (FileSystem::Ext { .. }, Way::OnDisk(changes)) => changes,
            // GRUB, which has a number of its own for it, has found the client.
            (FileSystem::Xfs, Way::Itself) | (FileSystem::Btrfs, Way::ByFirmware) => continue,
            (kind, way) => panic!("{kind:?}: {way:?}"),
        };
        assert!(
            changes
                .iter()
                .all(|change| change.offset >= ROOT_IN_LOGICAL)
        );
        let disk = file_system(&disk, folder.path(), ROOT_IN_LOGICAL, changes).await;
        let said = debugfs(&disk, &["cat /root/.ssh/authorized_keys"]).await;
        assert!(said.contains(&format!("{KEY}\n")), "{said}");
    }
}

#[tokio::test]
async fn host_a_root_of_xfs_or_btrfs_gets_its_key_by_firmware_unless_it_fetches_it() {
    if !can_be_tried() {
        return;
    }
    for kind in [FileSystem::Xfs, FileSystem::Btrfs] {
        for (files, policy, expected) in [
            (&[][..], InjectKeys::Auto, Way::ByFirmware),
            (&["usr/bin/cloud-init"], InjectKeys::Auto, Way::Itself),
            (&["usr/bin/cloud-init"], InjectKeys::Always, Way::ByFirmware),
            (&[], InjectKeys::Never, Way::Itself),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let root = made_of(&tree(folder.path(), files), kind).await;
            let alone = Head::read(&root).unwrap();
            assert_eq!(alone.roots().len(), 1);
            let found = way(&root, alone.roots(), folder.path(), policy).await;
            assert_eq!(found, expected, "{kind:?}, {files:?}, {policy:?}");
            if policy != InjectKeys::Auto {
                continue;
            }
            let disk = gpt_disk(folder.path(), &root).await;
            let head = Head::read(&disk).unwrap();
            let found = way(&disk, head.roots(), folder.path(), policy).await;
            assert_eq!(found, expected, "{kind:?}, {files:?}, {policy:?}, in a GPT");
        }
    }
}

#[tokio::test]
async fn host_a_root_in_a_subvolume_of_btrfs_is_found() {
    if !can_be_tried() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let inner = tree(folder.path(), &["usr/bin/cloud-init"]);
    let outer = folder.path().join("outer");
    std::fs::create_dir(&outer).unwrap();
    std::fs::rename(inner, outer.join("@")).unwrap();
    let root = made_of(&outer, FileSystem::Btrfs).await;
    let head = Head::read(&root).unwrap();
    let found = way(&root, head.roots(), folder.path(), InjectKeys::Auto).await;
    assert_eq!(found, Way::Itself);
}

#[tokio::test]
async fn host_hostile_xfs_and_btrfs_harm_nobody_and_hold_nothing_up() {
    if !can_be_tried() {
        return;
    }
    for (kind, at) in [(FileSystem::Xfs, 4), (FileSystem::Btrfs, 0x10000 + 0x50)] {
        let folder = tempfile::tempdir().unwrap();
        let root = made_of(&tree(folder.path(), &[]), kind).await;
        let file = File::options().write(true).open(&root).unwrap();
        // Its sizes, and where its trees are.
        file.write_all_at(&[0xfe; 200], at).unwrap();
        let head = Head::read(&root).unwrap();
        assert_eq!(head.roots().len(), 1, "its magic is there");
        let begun = std::time::Instant::now();
        let found = way(&root, head.roots(), folder.path(), InjectKeys::Auto).await;
        assert_eq!(found, Way::ByFirmware);
        assert!(begun.elapsed().as_secs() < 40);
    }
}

#[tokio::test]
async fn an_image_in_which_no_root_is_found_gets_its_key_by_firmware() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::default();
    let way = |image| keys.way(image, &[], KEY, folder.path());
    assert_eq!(way(Path::new("/image")).await, Way::ByFirmware);
    let never = Keys::new(InjectKeys::Never);
    let way = never.way(Path::new("/image"), &[], KEY, folder.path());
    assert_eq!(way.await, Way::Itself);
}
