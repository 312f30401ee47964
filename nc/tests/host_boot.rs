//! The whole way of an image, for real: built from Debian packages, bundled, served, fetched into the
//! cache, given a boot loader, and booted by QEMU from the overlay. Without metadata or ssh, which
//! the cloud's own tests cover.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message
#![allow(clippy::disallowed_methods)] // QEMU is started as a child that the test kills

#[path = "images/store.rs"]
#[allow(dead_code)]
mod store;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nc::{
    cache::{Cache, Settings, lease::LeaseTimes},
    disk::LocalDisks,
    fakes,
    needs::{Disks, Progress},
};
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

/// QEMU, ended with the test.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn start(disk: &Path, console: &Path) -> Machine {
    let drive = format!("file={},format=qcow2,if=virtio", disk.display());
    let child = Command::new("qemu-system-x86_64")
        .args([
            "-machine",
            "pc,accel=tcg",
            "-cpu",
            "max",
            "-m",
            "192",
            "-nodefaults",
        ])
        .args(["-display", "none", "-no-reboot", "-drive", &drive])
        .args([
            "-netdev",
            "user,id=n,restrict=on",
            "-device",
            "virtio-net-pci,netdev=n",
        ])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Machine(child)
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

async fn boots(guest: &Path, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::serve(&std::fs::read(guest).unwrap()).await;
    let settings = Settings {
        folder: folder.path().join("cache"),
        node: "node-00000001".parse().unwrap(),
        limit_bytes: None,
        grub: "/usr/lib/grub/i386-pc".into(),
        tls: store::no_tls(),
        lease: LeaseTimes::default(),
    };
    let disks = LocalDisks::new(
        Cache::open(settings, store.clone()).unwrap(),
        &folder.path().join("templates"),
        "boot-1",
    )
    .unwrap();
    let mut wish = fakes::wish(1);
    wish.spec.image = store.image();
    let progress = watch::Sender::new(Progress::default());
    let made = disks
        .prepare(&wish, folder.path(), &progress)
        .await
        .unwrap();

    let console = folder.path().join("console");
    let _machine = start(&made.disks[0].file.path, &console);
    says(&console, expected).await;
    says(&console, "guest: root mounted").await;
    says(&console, "guest: address 10.0.2.15/24").await;
}

#[tokio::test]
async fn host_a_partition_image_boots_by_its_own_menu_and_without_one_by_its_newest_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let Some(guest) = guest(folder.path()) else {
        return;
    };
    boots(&guest, "Booting `Mallee guest").await;

    let removed = Command::new("debugfs")
        .args(["-w", "-R", "rm /boot/grub/grub.cfg"])
        .arg(&guest)
        .output()
        .unwrap();
    assert!(removed.status.success());
    boots(&guest, "Starting /boot/vmlinuz-").await;
}
