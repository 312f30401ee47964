//! Any bit of any file that is kept, flipped while nobody runs: what is answered afterwards is what
//! was written, or nothing. Whoever has a backup has everything again.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use testkit::seed::{self, TestRng};

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{Answer, S3, pattern},
};

/// As fast as it can, pass after pass: an index that is wrong is found.
const SCRUBBING: [&str; 2] = [
    "storage.scrub_mib_per_s=1000",
    "storage.scrub_every_hours=0",
];
const NOTE: (&str, &str) = ("x-amz-meta-note", "as it was");
const SEALED: (&str, &str) = ("x-amz-server-side-encryption", "AES256");

/// What was written, by key.
fn objects() -> BTreeMap<&'static str, Vec<u8>> {
    BTreeMap::from([
        ("/bucket/inline", pattern(5_000, 7)),
        ("/bucket/file", pattern(200_000, 1)),
        ("/bucket/sealed-inline", pattern(3_000, 2)),
        ("/bucket/sealed-file", pattern(100_000, 3)),
        ("/bucket/newest", pattern(70_000, 4)),
    ])
}

/// A store with every kind of body, stopped.
async fn filled() -> Walrus {
    let mut walrus = Walrus::start_with(&SCRUBBING).await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    for (key, body) in objects() {
        let mut headers = vec![NOTE];
        headers.extend(key.contains("sealed").then_some(SEALED));
        s3.call("PUT", key, &headers, &body).await.ok();
        // Two of them in a segment that is sealed, the others in the next.
        if key == "/bucket/inline" {
            assert!(walrus.stop());
            walrus.run().await;
        }
    }
    assert!(walrus.stop());
    walrus
}

/// Every file that is kept, by kind. Certificates are not: whoever lost them joins again.
fn kinds(state: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut folders = vec![state.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let below = path.strip_prefix(state).unwrap().to_str().unwrap();
            if path.is_dir() {
                if !["tls", "public"].contains(&below) {
                    folders.push(path);
                }
                continue;
            }
            let kind = match below {
                below if below.starts_with("objects/blobs/") => "objects/blobs",
                below if below.starts_with("objects/journal/") => "objects/journal",
                other => other,
            };
            if path.metadata().unwrap().len() > 0 {
                kinds.entry(kind.to_owned()).or_default().push(path);
            }
        }
    }
    kinds.values_mut().for_each(|paths| paths.sort());
    kinds
}

fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp")
        .args(["-a", "--"])
        .args([from, to])
        .status();
    assert!(done.unwrap().success());
}

fn flip(path: &Path, rng: &mut TestRng) -> u64 {
    let mut bytes = std::fs::read(path).unwrap();
    let bit = seed::below(rng, bytes.len() as u64 * 8);
    bytes[bit as usize / 8] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
    bit
}

fn is_as_written(answer: &Answer, body: &[u8]) -> bool {
    answer.status.is_success() && answer.body == body && answer.header(NOTE.0) == NOTE.1
}

/// Asks for everything. What is answered is right; says whether all of it was.
async fn ask(walrus: &Walrus, may_be_absent: bool, when: &str) -> bool {
    let s3 = S3::of(walrus, ALICE);
    let mut all = true;
    for (key, body) in objects() {
        let Some(answer) = s3.send(s3.request("GET", key, &[], b"")).await else {
            all = false;
            continue;
        };
        let refused = answer.status.is_server_error();
        let absent = may_be_absent && answer.status.as_u16() == 404;
        let right = is_as_written(&answer, &body);
        assert!(
            right || refused || absent,
            "{when}: {key}: {}",
            answer.status
        );
        all &= right;
    }
    all
}

/// An index that is wrong is found by whoever reads it, at the latest by the scrub, and made anew.
async fn until_all_is_right(walrus: &mut Walrus, when: &str) {
    for _ in 0..300 {
        if !walrus.is_running() {
            walrus.run().await;
        }
        if ask(walrus, true, when).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{when}: the index stays wrong");
}

async fn flip_again_and_again(seed: u64, rounds: u64) {
    let _told = seed::Told {
        seed,
        steps: rounds,
    };
    let mut rng = seed::rng(seed);
    let mut walrus = filled().await;
    let (state, backup) = (walrus.state(), walrus.folder.path().join("backup"));
    copy(&state, &backup);
    let kinds: Vec<_> = kinds(&state).into_iter().collect();
    assert!(kinds.len() >= 6, "{kinds:?}");

    for round in 0..rounds {
        let (kind, paths) = &kinds[round as usize % kinds.len()];
        let path = seed::one_of(&mut rng, paths).unwrap();
        let bit = flip(path, &mut rng);
        let when = format!("round {round}, bit {bit} of {}", path.display());

        let mut starts = walrus.comes_up().await;
        if kind.starts_with("objects/index") && !starts {
            starts = walrus.comes_up().await;
        }
        // Keys and identities that are not what was written are nothing to serve with.
        assert!(starts || !kind.starts_with("objects/"), "{when}: no start");
        if starts {
            match kind.starts_with("objects/index") {
                true => until_all_is_right(&mut walrus, &when).await,
                false => drop(ask(&walrus, false, &when).await),
            }
            if walrus.is_running() {
                walrus.kill();
            }
        }
        std::fs::remove_dir_all(&state).unwrap();
        copy(&backup, &state);
    }
    walrus.run().await;
    assert!(ask(&walrus, false, "at the end").await);
}

campaign!(
    flip_again_and_again: any_bit_of_any_file_may_flip_and_nothing_wrong_is_answered(1, 24),
    long_a_thousand_bits_flip_in_files_of_every_kind(2, 1_000)
);
