//! The arrows between crates, as ARCHITECTURE.md draws them: who may use whom. A daemon never
//! imports another; they meet in `control` alone, and `testkit` is for tests only.

use std::{collections::BTreeMap, process::Command};

const DAEMONS: [&str; 5] = ["clc", "cc", "nc", "sc", "walrus"];

/// Each crate of the library, lowest first, and what of ours it may use.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("types", &[]),
    ("daemon", &[]),
    ("store", &[]),
    ("wire", &["types"]),
    ("sigv4", &["types"]),
    ("iam", &["types"]),
    ("image", &["types"]),
    ("net", &["types"]),
    ("s3", &["types"]),
    ("ec2", &["types", "wire"]),
    ("control", &["types", "daemon"]),
    ("cli", &["types", "daemon", "control", "image", "sigv4"]),
    (
        "testkit",
        &[
            "types", "daemon", "control", "store", "image", "net", "iam", "s3", "sigv4", "ec2",
            "wire",
        ],
    ),
];

/// Packages that are tests and benches as a whole, and may use everything.
const OUTSIDE: [&str; 2] = ["tests", "benches"];

/// One use of a crate of ours by another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: String,
    to: String,
    in_tests_only: bool,
}

/// Every crate of ours with its arrows, from `cargo metadata`.
#[allow(clippy::disallowed_methods, reason = "a test asks cargo, not a daemon")]
fn workspace() -> BTreeMap<String, Vec<Arrow>> {
    let asked = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test");
    assert!(
        asked.status.success(),
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list");
    packages
        .iter()
        .map(|package| (ours(&package["name"]).expect("ours"), arrows(package)))
        .collect()
}

fn ours(name: &serde_json::Value) -> Option<String> {
    Some(name.as_str()?.strip_prefix("mallee-")?.to_owned())
}

fn arrows(package: &serde_json::Value) -> Vec<Arrow> {
    let dependencies = package["dependencies"].as_array().expect("a list");
    let arrow = |dependency: &serde_json::Value| {
        Some(Arrow {
            from: ours(&package["name"])?,
            to: ours(&dependency["name"])?,
            in_tests_only: dependency["kind"] == "dev",
        })
    };
    dependencies.iter().filter_map(arrow).collect()
}

/// Why an arrow must not be; nothing if it may.
fn objection(arrow: &Arrow) -> Option<String> {
    let Arrow {
        from,
        to,
        in_tests_only,
    } = arrow;
    let (from, to) = (from.as_str(), to.as_str());
    if OUTSIDE.contains(&from) {
        return None;
    }
    if DAEMONS.contains(&to) {
        return Some(format!("{from} imports the daemon {to}"));
    }
    if to == "testkit" {
        let why = format!("{from} uses testkit outside its tests");
        return (!in_tests_only).then_some(why);
    }
    if *in_tests_only || (DAEMONS.contains(&from) && to != "cli") {
        return None;
    }
    let may = MAY_USE
        .iter()
        .find(|(name, _)| *name == from)
        .map(|(_, may)| *may);
    match may {
        Some(may) if may.contains(&to) => None,
        Some(_) => Some(format!("{from} may not use {to}")),
        None => Some(format!("{from} uses {to} and has no line in MAY_USE")),
    }
}

#[test]
fn every_arrow_between_crates_is_one_that_may_be() {
    let arrows = workspace().into_values().flatten();
    let objections: Vec<String> = arrows.filter_map(|arrow| objection(&arrow)).collect();
    assert!(objections.is_empty(), "{objections:#?}");
}

#[test]
fn every_crate_has_its_place() {
    let known: Vec<&str> = MAY_USE
        .iter()
        .map(|(name, _)| *name)
        .chain(DAEMONS)
        .chain(OUTSIDE)
        .collect();
    let lost: Vec<String> = workspace()
        .into_keys()
        .filter(|name| !known.contains(&name.as_str()))
        .collect();
    assert!(
        lost.is_empty(),
        "without a place in tests/layers.rs: {lost:?}"
    );
}

#[test]
fn the_arrows_that_must_not_be_are_refused() {
    let arrow = |from: &str, to: &str, in_tests_only| {
        objection(&Arrow {
            from: from.into(),
            to: to.into(),
            in_tests_only,
        })
    };
    assert!(arrow("clc", "cc", false).is_some());
    assert!(
        arrow("clc", "cc", true).is_some(),
        "not in its tests either"
    );
    assert!(arrow("types", "wire", false).is_some());
    assert!(arrow("control", "store", false).is_some());
    assert!(arrow("nc", "testkit", false).is_some());
    assert!(arrow("unheard-of", "types", false).is_some());
    assert!(arrow("nc", "testkit", true).is_none());
    assert!(arrow("clc", "ec2", false).is_none());
    assert!(arrow("tests", "cc", true).is_none());
}
