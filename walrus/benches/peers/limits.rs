//! What the machine can do: one core's MD5, the disk's writing, one sync.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use md5::{Digest, Md5};

/// What a single upload is measured with.
const BODY_BYTES: usize = 64 << 20;
const ROUNDS: usize = 5;

pub(crate) struct Limits {
    pub(crate) md5_mb_s: f64,
    pub(crate) disk_mb_s: f64,
    pub(crate) sync_ms: f64,
}

pub(crate) fn measure(folder: &Path) -> Limits {
    let body = vec![0x5a; BODY_BYTES];
    let rate = |best: Duration| BODY_BYTES as f64 / 1e6 / best.as_secs_f64();

    let md5 = best_of(ROUNDS, || {
        std::hint::black_box(Md5::digest(std::hint::black_box(&body)));
    });
    let path = folder.join("limit");
    let disk = best_of(ROUNDS, || {
        let mut file = File::create(&path).unwrap();
        file.write_all(&body).unwrap();
        file.sync_data().unwrap();
    });
    let mut file = File::create(&path).unwrap();
    let mut syncs: Vec<Duration> = (0..50)
        .map(|_| {
            file.write_all(&body[..4096]).unwrap();
            let begun = Instant::now();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    syncs.sort();
    std::fs::remove_file(&path).unwrap();
    Limits {
        md5_mb_s: rate(md5),
        disk_mb_s: rate(disk),
        sync_ms: syncs[syncs.len() / 2].as_secs_f64() * 1e3,
    }
}

fn best_of(rounds: usize, mut work: impl FnMut()) -> Duration {
    let times = (0..rounds).map(|_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    });
    times.min().unwrap()
}
