//! Large bodies in Ceph's gateway: the object tests again, over a monitor, an OSD in memory and a
//! radosgw that `radosgw.sh` starts on loopback. Debian's packages are installed by `tests/run --long`.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::remote_blobs::run_again;

const PROGRAMS: [&str; 7] = [
    "ceph",
    "ceph-mon",
    "ceph-osd",
    "ceph-authtool",
    "monmaptool",
    "radosgw",
    "radosgw-admin",
];

/// What passes over radosgw: all that passes over a Walrus.
const OBJECT_TESTS: [&str; 5] = [
    "crash::killed",
    "http_api::",
    "http_multipart::",
    "http_encryption::",
    "remote_blobs::any_",
];

/// Ceph on this machine; ended when it is dropped.
struct Ceph {
    folder: TempDir,
    url: String,
}

fn missing() -> Option<&'static str> {
    let is_in = |folder: PathBuf, name: &str| folder.join(name).is_file();
    let path = std::env::var_os("PATH").unwrap_or_default();
    PROGRAMS.into_iter().find(|name| {
        let mut folders = std::env::split_paths(&path);
        !folders.any(|folder| is_in(folder, name))
    })
}

impl Ceph {
    fn start() -> Self {
        let [monitor, s3] = [(); 2].map(|()| testkit::ports::free().port());
        let ceph = Self {
            folder: tempfile::tempdir().unwrap(),
            url: format!("http://127.0.0.1:{s3}"),
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/radosgw.sh");
        let mut command = Command::new("sh");
        command.arg(script).arg(ceph.folder.path());
        command.args([monitor.to_string(), s3.to_string()]);
        assert!(command.status().unwrap().success(), "radosgw starts");
        ceph
    }
}

impl Drop for Ceph {
    fn drop(&mut self) {
        let pids = std::fs::read_to_string(self.folder.path().join("pids")).unwrap_or_default();
        // The gateway first: it waits for nobody who is gone.
        for pid in pids.lines().rev().filter_map(|line| line.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn long_the_object_tests_pass_over_cephs_gateway() {
    if !crate::is_long() {
        return;
    }
    if let Some(name) = missing() {
        println!("SKIPPED: {name} is not installed (radosgw, ceph-mon, ceph-osd, ceph-common)");
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: Ceph's daemons keep files as root here");
        return;
    }
    let ceph = Ceph::start();
    let environment = [
        ("MALLEE_BLOBS_URL", ceph.url.as_str()),
        ("MALLEE_BLOBS_KEY", "WALRUSKEY"),
        ("MALLEE_BLOBS_SECRET", "walrus-secret"),
    ];
    run_again(&OBJECT_TESTS, &environment);
}
