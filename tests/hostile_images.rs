//! J11, and what keeps J6 to J9 from coming back, held against the source: no daemon mounts what is in
//! an image, and no call of a QEMU tool leaves it to the file to say what format it has.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message

use std::path::{Path, PathBuf};

/// The source of what runs on hosts, without its tests.
fn shipped() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["clc", "cc", "nc", "sc", "walrus"]
        .iter()
        .map(|daemon| root.join(daemon).join("src"))
        .collect();
    for entry in std::fs::read_dir(root.join("crates")).unwrap() {
        let krate = entry.unwrap().path();
        if !krate.ends_with("testkit") {
            folders.push(krate.join("src"));
        }
    }
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                found.push((path, code));
            }
        }
    }
    assert!(found.len() > 200, "the source is not where it was");
    found
}

#[test]
fn j11_nothing_that_runs_on_a_host_mounts_an_image() {
    /// What mounts, and mounts no image: names of network namespaces and the jail's own view, both bind
    /// mounts; and the bench that is a guest's first process and mounts its own empty disk there.
    const OTHER_MOUNTS: [&str; 3] = [
        "crates/net/src",
        "crates/daemon/src",
        "crates/cli/src/commands/bench/writer.rs",
    ];
    let words = [
        "mount(",
        "mount::",
        "\"mount\"",
        "losetup",
        "\"kpartx\"",
        "guestfs",
        "guestmount",
        "qemu-nbd",
        "dev/loop",
        "dev/nbd",
    ];
    for (path, code) in shipped() {
        let shown = path.display().to_string();
        if OTHER_MOUNTS.iter().any(|place| shown.contains(place)) {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            let found = words
                .iter()
                .find(|word| !is_comment && line.contains(*word));
            assert_eq!(found, None, "{shown}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn j8_every_call_of_a_qemu_tool_names_the_format() {
    let mut calls = 0;
    for (path, code) in shipped() {
        for verb in [
            "\"create\"",
            "\"convert\"",
            "\"info\"",
            "\"resize\"",
            "\"rebase\"",
            "\"check\"",
        ] {
            let mut rest = code.as_str();
            while let Some(at) = rest.find(verb) {
                let before = &rest[..at];
                let around = &before[before.len().saturating_sub(400)..];
                let after = &rest[at..rest.len().min(at + 400)];
                rest = &rest[at + verb.len()..];
                if !around.contains("qemu") {
                    continue;
                }
                calls += 1;
                let named = ["\"-f\"", "\"-F\"", "--image-opts", "driver"];
                assert!(
                    named.iter().any(|flag| after.contains(flag)),
                    "{}: {verb} without a format",
                    path.display()
                );
            }
        }
    }
    assert!(calls > 0, "no call was looked at");
}
