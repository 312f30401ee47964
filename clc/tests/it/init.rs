//! `mallee-clc init` as an administrator runs it.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
};

/// Nobody's number here.
const DAEMON: u32 = 54_321;

fn owners(folder: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(folder).unwrap();
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        found.push((
            path.display().to_string(),
            fs::metadata(&path).unwrap().uid(),
        ));
        if path.is_dir() {
            found.extend(owners(&path));
        }
    }
    found
}

#[allow(clippy::disallowed_methods, reason = "a test of a command of ours")]
fn init(state: &Path) {
    let done = Command::new(env!("CARGO_BIN_EXE_mallee-clc"))
        .args(["init", "--output", "json", "--state"])
        .arg(state)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn host_what_root_makes_with_init_is_the_daemons() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return println!("SKIPPED: init: it needs root");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let state = dir.path().join("mallee/clc");
    init(&state);
    assert!(
        owners(&state).iter().all(|(_, owner)| *owner == 0),
        "as nobody had it"
    );
    let parent = fs::metadata(state.parent().unwrap()).unwrap();
    assert_eq!(
        parent.permissions().mode() & 0o777,
        0o755,
        "daemons pass it"
    );

    // What systemd does at the first start of the unit; then it leaves the folder alone.
    for (path, _) in owners(&state) {
        chown(&path, Some(DAEMON), Some(DAEMON)).unwrap();
    }
    chown(&state, Some(DAEMON), Some(DAEMON)).unwrap();
    fs::remove_dir_all(state.join("tls")).unwrap();
    init(&state);
    let made = owners(&state);
    assert!(made.iter().any(|(path, _)| path.ends_with("tls/cert.pem")));
    for (path, owner) in made {
        assert_eq!(owner, DAEMON, "{path}");
    }
}
