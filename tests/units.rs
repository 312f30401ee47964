//! The systemd units: well-formed, and hardened as far as each daemon's work allows.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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

/// The folders that a daemon may write under its unit; none for one that may write wherever root may.
fn writable(name: &str) -> Option<Vec<PathBuf>> {
    let file = format!("../deploy/systemd/mallee-{name}.service");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
        .expect("the unit is in deploy/systemd");
    let values = |key: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(key));
        lines
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    };
    if values("ProtectSystem=") != ["strict"] {
        return None;
    }
    let states = values("StateDirectory=").into_iter();
    let states = states.map(|state| Path::new("/var/lib").join(state));
    let others = values("ReadWritePaths=").into_iter();
    let others = others.map(|path| PathBuf::from(path.trim_start_matches('-')));
    Some(states.chain(others).collect())
}

/// All absolute paths in a configuration, with their keys.
fn paths(value: &toml::Value, key: &str) -> Vec<(String, PathBuf)> {
    match value {
        toml::Value::String(text) if text.starts_with('/') => vec![(key.to_owned(), text.into())],
        toml::Value::Array(values) => values.iter().flat_map(|value| paths(value, key)).collect(),
        toml::Value::Table(table) => table
            .iter()
            .flat_map(|(name, value)| paths(value, &format!("{key}.{name}")))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_daemon_may_write_under_its_unit_where_its_example_says() {
    let mut seen = 0;
    for name in ["clc", "cc", "nc", "sc", "walrus"] {
        let Some(writable) = writable(name) else {
            continue;
        };
        assert!(
            writable.contains(&Path::new("/var/lib/mallee").join(name)),
            "{name}"
        );
        let file = format!("../deploy/examples/one-host/{name}.toml");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
            .expect("the example is in deploy/examples");
        let example: toml::Value = toml::from_str(&text).expect("an example is TOML");
        // What a daemon only reads is named as a file, and may lie anywhere.
        for (key, path) in paths(&example, name) {
            let is_writable = writable.iter().any(|folder| path.starts_with(folder));
            let is_read = path.extension().is_some();
            assert!(
                is_writable || is_read,
                "{key} = {} is not writable",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 0, "the example has a pool");
}

#[test]
fn who_a_unit_runs_as_is_made_and_what_it_documents_is_there() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/systemd");
    let users =
        fs::read_to_string(deploy.join("mallee.sysusers")).expect("it is in deploy/systemd");
    for (name, _) in UNITS {
        let text = fs::read_to_string(deploy.join(format!("{name}.service")))
            .expect("the unit is in deploy/systemd");
        if let Some(user) = text.lines().find_map(|line| line.strip_prefix("User=")) {
            let is_made = users
                .lines()
                .any(|line| line.starts_with(&format!("u {user} ")));
            assert!(is_made, "{name} runs as {user}");
        }
        assert!(
            !text.contains("Documentation=man:"),
            "{name}: we have no manual pages"
        );
    }
}
