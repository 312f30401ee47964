//! The whole way of an image, for real: built from Debian packages, bundled, served, fetched into the
//! cache, given a boot loader, and booted by QEMU from its root disk. Without metadata, which
//! the cloud's own tests cover.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message
#![allow(clippy::disallowed_methods)] // QEMU is started as a child that the test kills

#[path = "images/store.rs"]
#[allow(dead_code)]
mod store;

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nc::{
    bandwidth::Bandwidth,
    cache::{Cache, Settings, lease::LeaseTimes, peers::PeerTimes},
    disk::LocalDisks,
    fakes,
    needs::{DiskFile, Disks, Progress},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use store::Store;
use tokio::sync::watch;

/// From power on to an address takes 6 s here; a busy machine may take ten times that.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);

/// Builds the guest; none, with a reason on the terminal, where packages cannot be had.
fn guest(folder: &Path) -> Option<PathBuf> {
    let out = folder.join("guest.img");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/guest/build");
    let packages = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-packages");
    let built = Command::new(script)
        .arg("--out")
        .arg(&out)
        .arg("--cache")
        .arg(packages)
        .output()
        .unwrap();
    if !built.status.success() {
        eprintln!(
            "SKIPPED, no guest: {}",
            String::from_utf8_lossy(&built.stderr)
        );
        return None;
    }
    Some(out)
}

/// QEMU, killed at the latest with the test.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Starts QEMU on a root disk; what reaches the disk's file is logged, with the flushes between.
fn start(root: &DiskFile, console: &Path, ssh_port: u16, log: &Path) -> Machine {
    std::fs::write(log, "").unwrap();
    let nodes = [
        json!({ "driver": "file", "node-name": "file", "filename": root.path }),
        json!({ "driver": "file", "node-name": "log", "filename": log, "cache": { "no-flush": true } }),
        json!({ "driver": "blklogwrites", "node-name": "logged", "file": "file", "log": "log" }),
        json!({ "driver": root.format.as_str(), "node-name": "root", "file": "logged" }),
    ];
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-machine",
        "pc,accel=tcg",
        "-cpu",
        "max",
        "-m",
        "192",
        "-nodefaults",
    ])
    .args(["-display", "none", "-no-reboot"])
    .args(["-device", "virtio-blk-pci,drive=root"])
    .args(["-device", "virtio-net-pci,netdev=n", "-netdev"])
    .arg(format!(
        "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"
    ))
    .arg("-serial")
    .arg(format!("file:{}", console.display()));
    for node in nodes {
        qemu.args(["-blockdev", &node.to_string()]);
    }
    Machine(qemu.stdout(Stdio::null()).spawn().unwrap())
}

/// Waits until the console says `text`.
async fn says(console: &Path, text: &str) {
    let begun = Instant::now();
    loop {
        let said = std::fs::read(console).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        if said.contains(text) {
            return;
        }
        assert!(
            begun.elapsed() < BOOT_TIMEOUT,
            "the console never said {text:?}, but:\n{said}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A guest that is up, on disks that were made for it.
struct Booted {
    folder: tempfile::TempDir,
    machine: Machine,
    ssh_port: u16,
    root: DiskFile,
}

async fn booted(guest: &Path, key: &str, expected: &str) -> Booted {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&std::fs::read(guest).unwrap()).await;
    let settings = Settings {
        folder: folder.path().join("cache"),
        node: "node-00000001".parse().unwrap(),
        limit_bytes: None,
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: store::no_tls(),
        lease: LeaseTimes::default(),
        patience: Duration::from_secs(10),
        peers: PeerTimes::default(),
        bandwidth: Bandwidth::default(),
    };
    let disks = LocalDisks::new(
        Cache::new(settings, store.clone()),
        &folder.path().join("templates"),
        "boot-1",
    )
    .unwrap();
    let mut wish = fakes::wish(1);
    wish.spec.image = store.image();
    wish.spec.metadata.key = Some(("key".to_owned(), key.to_owned()));
    let progress = watch::Sender::new(Progress::default());
    let made = disks.prepare(&wish, folder.path(), &progress).await;
    let root = made.unwrap().disks[0].file.clone();
    std::fs::copy(&root.path, folder.path().join("before")).unwrap();

    let (console, ssh_port) = (folder.path().join("console"), testkit::ports::free().port());
    let machine = start(&root, &console, ssh_port, &folder.path().join("log"));
    says(&console, expected).await;
    says(&console, "guest: root mounted").await;
    says(&console, "guest: address 10.0.2.15/24").await;
    Booted {
        folder,
        machine,
        ssh_port,
        root,
    }
}

async fn boots(guest: &Path, expected: &str) {
    booted(guest, "", expected).await;
}

/// Runs a command in the guest by ssh, until it answers.
async fn ssh(port: u16, key: &Path, command: &str) -> String {
    let begun = Instant::now();
    loop {
        let done = Command::new("ssh")
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"])
            .arg("-i")
            .arg(key)
            .args(["-p", &port.to_string(), "root@127.0.0.1", command])
            .output()
            .unwrap();
        if done.status.success() {
            return String::from_utf8_lossy(&done.stdout).into_owned();
        }
        assert!(
            begun.elapsed() < BOOT_TIMEOUT,
            "no ssh: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn host_a_partition_image_boots_by_its_own_menu_and_without_one_by_its_newest_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let Some(guest) = guest(folder.path()) else {
        return;
    };
    boots(&guest, "Booting `Mallee guest").await;

    remove(&guest, "/boot/grub/grub.cfg");
    boots(&guest, "Starting /boot/vmlinuz-").await;
}

fn remove(guest: &Path, path: &str) {
    let removed = Command::new("debugfs")
        .args(["-w", "-R", &format!("rm {path}")])
        .arg(guest)
        .output()
        .unwrap();
    assert!(removed.status.success());
}

/// The log of QEMU's blklogwrites: a sector that counts its entries, then each entry's sector, and
/// the data of what was written. Writes what the last flush among the first `entries` covers.
fn replay(log: &Path, entries: u64, disk: &Path) {
    const SECTOR: usize = 512;
    const FLUSH: u64 = 1;
    const DISCARD: u64 = 4;
    let (log, disk) = (
        std::fs::read(log).unwrap(),
        File::options().write(true).open(disk).unwrap(),
    );
    let mut at = SECTOR;
    let mut waiting = Vec::new();
    for _ in 0..entries {
        let [sector, sectors, flags] = [0, 1, 2].map(|n| word(&log, at + 8 * n));
        at += SECTOR;
        if flags & DISCARD == 0 {
            let data = &log[at..][..sectors as usize * SECTOR];
            waiting.push((data, sector * SECTOR as u64));
            at += data.len();
        }
        if flags & FLUSH != 0 {
            for (data, offset) in waiting.drain(..) {
                disk.write_all_at(data, offset).unwrap();
            }
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn entries(log: &Path) -> u64 {
    word(&std::fs::read(log).unwrap(), 16)
}

/// The SHA-256 of a file in the guest's file system, after its journal was replayed as at a boot.
fn digest_in(disk: &Path, format: &str, file: &str, folder: &Path) -> String {
    let (raw, out) = (folder.join("raw"), folder.join("out"));
    run(Command::new("qemu-img")
        .args(["convert", "-f", format, "-O", "raw"])
        .args([disk, &raw]));
    // The partition alone: e2fsck forgets where it begins once it has replayed the journal.
    let (partition, disk) = (folder.join("partition"), std::fs::read(raw).unwrap());
    std::fs::write(&partition, &disk[1 << 20..]).unwrap();
    let checked = Command::new("e2fsck")
        .args(["-f", "-y"])
        .arg(&partition)
        .output()
        .unwrap();
    assert!(checked.status.code().unwrap() <= 1, "{checked:?}");
    let dump = format!("dump {file} {}", out.display());
    run(Command::new("debugfs").args(["-R", &dump]).arg(&partition));
    hex::encode(Sha256::digest(std::fs::read(out).unwrap()))
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test]
async fn host_a_key_is_put_in_lets_its_owner_in_and_what_the_guest_synced_outlives_qemu_and_power()
{
    if !Path::new("/usr/bin/bwrap").exists() {
        eprintln!("SKIPPED: keys are put in by a jail, which needs bubblewrap");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(guest) = guest(folder.path()) else {
        return;
    };
    remove(&guest, "/sbin/metadata");
    let key = folder.path().join("key");
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key));
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let booted = booted(&guest, public.trim(), "Mallee guest").await;
    let synced = "dd if=/dev/urandom of=/root/synced bs=64k count=64 conv=fsync 2>/dev/null \
                  && sha256sum /root/synced | cut -c 1-64";
    let digest = ssh(booted.ssh_port, &key, synced).await;

    let (folder, root) = (booted.folder.path(), &booted.root);
    let (log, format) = (folder.join("log"), root.format.as_str());
    let logged = entries(&log);
    drop(booted.machine);
    let found = digest_in(&root.path, format, "/root/synced", folder);
    assert_eq!(found, digest.trim(), "QEMU was killed");

    // Of what QEMU wrote only what it had flushed when the guest's sync returned.
    let after_a_power_cut = folder.join("before");
    replay(&log, logged, &after_a_power_cut);
    let found = digest_in(&after_a_power_cut, format, "/root/synced", folder);
    assert_eq!(found, digest.trim(), "the power was cut");
}
