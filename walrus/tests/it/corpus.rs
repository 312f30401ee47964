//! The corpora of the fuzz targets, replayed; and each file of them with bytes changed at random.

use std::path::{Path, PathBuf};

use testkit::seed;

#[allow(unreachable_pub, reason = "the fuzz targets have it from a library")]
#[path = "../../../fuzz/src/s3.rs"]
mod targets;

/// Changed copies of each file.
const CHANGED: u64 = 300;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target)
}

fn replay(target: &str, check: fn(&[u8])) {
    let seed = seed::asked().unwrap_or(1);
    let changed = seed::steps(if crate::is_long() {
        100 * CHANGED
    } else {
        CHANGED
    });
    let _told = seed::Told {
        seed,
        steps: changed,
    };
    let mut rng = seed::rng(seed);

    let mut files = 0;
    for entry in std::fs::read_dir(corpus(target)).unwrap() {
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        check(&data);
        files += 1;
        for _ in 0..changed {
            let mut data = data.clone();
            for _ in 0..=seed::below(&mut rng, 4) {
                let at = seed::below(&mut rng, data.len() as u64 + 1) as usize;
                match seed::below(&mut rng, 4) {
                    0 => data.truncate(at),
                    1 => data.insert(at, seed::below(&mut rng, 256) as u8),
                    2 => data.extend_from_within(at..),
                    _ => {
                        if let Some(byte) = data.get_mut(at) {
                            *byte ^= 1 << seed::below(&mut rng, 8);
                        }
                    }
                }
                data.truncate(1 << 20);
            }
            check(&data);
        }
    }
    assert!(files > 5, "the corpus of {target} has {files} files");
}

#[test]
fn routes_are_found_or_refused() {
    replay("s3_route", targets::route);
}

#[test]
fn the_corpus_of_signatures_has_good_ones() {
    let good = std::fs::read(corpus("s3_signature").join("v4-chunks")).unwrap();
    assert!(targets::is_signed(&good));
}

#[test]
fn signatures_are_checked_or_refused() {
    replay("s3_signature", targets::signature);
}

#[test]
fn documents_are_read_or_refused() {
    replay("s3_document", targets::document);
}

#[test]
fn copy_sources_are_read_or_refused() {
    replay("s3_copy_source", targets::copy_source);
}
