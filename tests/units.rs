//! The systemd units: well-formed, and hardened as far as each daemon's work allows.

use std::{fs, path::Path, process::Command};

/// How exposed a unit may be, in tenths of systemd's scale. The Node Controller makes namespaces
/// and rules and so keeps capabilities that the others do without.
const UNITS: [(&str, u32); 5] = [
    ("mallee-clc", 20),
    ("mallee-cc", 20),
    ("mallee-sc", 20),
    ("mallee-walrus", 20),
    ("mallee-nc", 60),
];

/// The unit with programs that exist here, for `verify` looks for them.
fn with_programs(name: &str, folder: &Path) -> std::path::PathBuf {
    let unit =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/systemd/{name}.service"));
    let text = fs::read_to_string(unit).expect("the unit is in deploy/systemd");
    let file = folder.join(format!("{name}.service"));
    fs::write(
        &file,
        text.replace(&format!("/usr/bin/{name}"), "/bin/true"),
    )
    .expect("a file in a temporary folder");
    file
}

#[allow(
    clippy::disallowed_methods,
    reason = "a test of a host tool, not a daemon"
)]
fn systemd_analyze(arguments: &[&str], unit: &Path) -> Option<(bool, String)> {
    let done = Command::new("systemd-analyze")
        .args(arguments)
        .arg(unit)
        .output()
        .ok()?;
    let said = [done.stdout, done.stderr].concat();
    Some((
        done.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

#[test]
fn every_unit_is_well_formed_and_under_its_threshold() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, exposure_max) in UNITS {
        let unit = with_programs(name, folder.path());
        let Some((ok, said)) = systemd_analyze(&["verify", "--man=no"], &unit) else {
            return println!("SKIPPED: units: systemd-analyze is not installed");
        };
        assert!(ok && said.trim().is_empty(), "{name}: {said}");

        let threshold = format!("--threshold={exposure_max}");
        let security = ["security", "--offline=yes", "--no-pager", &threshold];
        let (ok, said) = systemd_analyze(&security, &unit).expect("it was there a moment ago");
        assert!(ok, "{name}: {}", said.lines().last().unwrap_or_default());
    }
}

#[test]
fn a_stop_of_the_node_controller_kills_nobody_else() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd/mallee-nc.service");
    let text = fs::read_to_string(unit).expect("the unit is in deploy/systemd");
    assert!(text.lines().any(|line| line == "KillMode=process"));
    for mounts in [
        "PrivateTmp=",
        "ProtectHome=",
        "ProtectSystem=",
        "ProtectKernel",
        "PrivateDevices=",
    ] {
        assert!(
            !text.lines().any(|line| line.starts_with(mounts)),
            "{mounts} makes a mount namespace"
        );
    }
}
