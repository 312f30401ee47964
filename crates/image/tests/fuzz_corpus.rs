//! The fuzz targets without a fuzzer: the committed corpus, and mutations of it from a fixed seed.
//! `fuzz/` runs the same functions under libFuzzer.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use image::fuzzing;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Mutations of each file of a corpus.
const MUTATIONS: usize = 400;
/// No input of a corpus's size may take longer, on however busy a machine.
const SLOW: Duration = Duration::from_secs(5);
/// The longest input: corpora are small, and mutants do not grow without end.
const INPUT_MAX: usize = 256 * 1024;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(
        files.len() >= 4,
        "{} has hardly any input",
        folder.display()
    );
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = corpus(target);
    let mut rng = StdRng::seed_from_u64(0x6d61_6c6c_6565);
    for seed in &corpus {
        check(target, run, seed);
        for _ in 0..MUTATIONS {
            let mut input = seed.clone();
            for _ in 0..rng.random_range(1..=4) {
                mutate(&mut input, &corpus, &mut rng);
            }
            input.truncate(INPUT_MAX);
            check(target, run, &input);
        }
    }
}

fn check(target: &str, run: fn(&[u8]), input: &[u8]) {
    let began = Instant::now();
    let ran = catch_unwind(AssertUnwindSafe(|| run(input)));
    let took = began.elapsed();
    if ran.is_err() || took > SLOW {
        let file = std::env::temp_dir().join(format!("mallee-fuzz-{target}"));
        std::fs::write(&file, input).unwrap();
        panic!(
            "{target}: took {took:?}; the input is in {}",
            file.display()
        );
    }
}

/// Values at which parsers stumble.
const ODD: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'<', b'/', b'7'];

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut StdRng) {
    if input.is_empty() {
        input.push(rng.random());
    }
    let at = rng.random_range(0..input.len());
    let length = rng.random_range(1..=16).min(input.len() - at);
    match rng.random_range(0..7) {
        0 => input[at] ^= 1 << rng.random_range(0..8),
        1 => input[at] = ODD[rng.random_range(0..ODD.len())],
        2 => input[at..at + length].fill(ODD[rng.random_range(0..ODD.len())]),
        3 => input.truncate(at),
        4 => {
            let piece = input[at..at + length].to_vec();
            input.splice(at..at, piece);
        }
        5 => drop(input.drain(at..at + length)),
        _ => {
            let other = &corpus[rng.random_range(0..corpus.len())];
            let from = rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}

#[test]
fn no_manifest_makes_its_reader_stumble() {
    replay("manifest", fuzzing::manifest);
}

#[test]
fn no_gzip_stream_makes_its_reader_stumble() {
    replay("gzip", fuzzing::gzip);
}

#[test]
fn no_tar_stream_makes_its_reader_stumble() {
    replay("tar", fuzzing::tar);
}

#[test]
fn no_qcow2_header_makes_its_reader_stumble() {
    replay("qcow2", fuzzing::qcow2);
}

#[test]
fn no_partition_table_makes_its_reader_stumble() {
    replay("partitions", fuzzing::partitions);
}
