//! `mallee bench disk`, whole: a guest built from packages, QEMU, and this program inside it.

#![allow(clippy::disallowed_methods)] // the program under test, and the guest's build

use std::{path::Path, process::Command};

use serde_json::Value;

fn built(folder: &Path) -> Option<std::path::PathBuf> {
    let out = folder.join("guest.img");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Command::new(here.join("../../deploy/guest/build"))
        .arg("--out")
        .arg(&out)
        .arg("--cache")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest-packages"))
        .output()
        .unwrap();
    if !built.status.success() {
        let why = String::from_utf8_lossy(&built.stderr);
        eprintln!("SKIPPED, no guest: {why}");
        return None;
    }
    Some(out)
}

/// Ratios and not MB/s: what else the machine does moves only those.
#[test]
fn host_a_guest_on_our_overlay_costs_the_host_what_one_on_a_raw_disk_does() {
    let folder = tempfile::tempdir().unwrap();
    let Some(guest) = built(folder.path()) else {
        return;
    };
    let disks = folder.path().join("disks");
    std::fs::create_dir(&disks).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_mallee"))
        .args([
            "bench", "disk", "--count", "64", "--output", "json", "--guest",
        ])
        .arg(&guest)
        .arg("--dir")
        .arg(&disks)
        .args([
            "--disk",
            "qcow2-backed",
            "--disk",
            "qcow2-tuned",
            "--disk",
            "overlay",
        ])
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let ratios = |disk: usize, when: &str| {
        let of = &report["disks"][disk][when];
        (
            of["writes"].as_f64().unwrap(),
            of["flushes"].as_f64().unwrap(),
        )
    };
    let at_most = |disk, when, writes_max: f64, flushes_max: f64| {
        let (writes, flushes) = ratios(disk, when);
        assert!(
            writes <= writes_max && flushes <= flushes_max,
            "{}, {when}: {writes} {flushes}",
            report["disks"][disk]["disk"]
        );
    };
    let [raw, backed, tuned, ours] = [0, 1, 2, 3];
    assert_eq!(ratios(raw, "empty"), (1.0, 1.0));
    let (writes, flushes) = ratios(backed, "empty");
    assert!(
        writes > 2.9 && flushes > 1.9,
        "the paper's penalty: {writes} {flushes}"
    );
    at_most(tuned, "empty", 2.05, 1.05);
    at_most(ours, "empty", 1.0, 1.0);
    at_most(ours, "data", 2.05, 1.05);
    at_most(ours, "again", 1.0, 1.0);
    assert!(report["disks"][ours]["first_mb_s"].as_f64().unwrap() > 0.0);
    assert!(!report["place"]["file_system"].as_str().unwrap().is_empty());
    let left = std::fs::read_dir(&disks).unwrap().count();
    assert_eq!(left, 0, "what was written is removed");
}

#[test]
fn a_guest_without_a_kernel_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("not-a-guest");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_mallee"))
        .args(["bench", "disk", "--guest"])
        .arg(&image)
        .arg("--dir")
        .arg(folder.path())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(64));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("deploy/guest/build"), "{said}");
}
