//! What one pass from a bundle to a raw disk costs, beside what each stage costs alone.
//!
//! `cargo run --release --example pass -p mallee-image [-- DIR [GIB [DATA_MIB]]]`
//!
//! Makes an image with so much data in DIR (the folder for temporary files by default), bundles it,
//! and unbundles it in a process of its own, whose memory, time and writing the kernel counts. Then
//! writes the same bytes to a file alone, for the disk's limit. Prints ratios: on a busy machine they
//! are what means something.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a measurement: what fails, shows

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use image::{
    bundle::{self, Folder, Source},
    digest::Sha1Digest,
    keys::BundleKey,
    unbundle::{self, FetchError, Order, Part, PartSource, Shape, unbundle},
};

/// Data comes in runs of this length, as files lie in a file system.
const RUN_BYTES: usize = 4 << 20;

fn main() {
    let mut words = std::env::args().skip(1);
    let first = words.next();
    if first.as_deref() == Some("--child") {
        return child(Path::new(&words.next().unwrap()));
    }
    let parent = first.map_or_else(std::env::temp_dir, PathBuf::from);
    let gib: u64 = words.next().map_or(4, |word| word.parse().unwrap());
    let data_mib: u64 = words.next().map_or(800, |word| word.parse().unwrap());
    let folder = tempfile::tempdir_in(parent).unwrap();
    measure(folder.path(), gib << 30, data_mib << 20);
}

fn key() -> BundleKey {
    BundleKey::new([1; 16], [2; 16])
}

fn measure(folder: &Path, size_bytes: u64, data_bytes: u64) {
    let image = make_image(&folder.join("image"), size_bytes, data_bytes);
    let (begun, cpu) = (Instant::now(), process_cpu());
    let key = key();
    let order = bundle::Order {
        name: "image",
        size_bytes,
        key: &key,
    };
    let mut source = Source::new(image.try_clone().unwrap(), 0);
    let mut sink = Folder(folder.to_owned());
    let bundled = bundle::bundle(order, &mut source, &mut sink, &mut |_| {}).unwrap();
    println!(
        "bundling: {:.1} MB from {:.1} MB of data, {:.2} s, {:.2} s CPU",
        bundled.bundled_bytes as f64 / 1e6,
        data_bytes as f64 / 1e6,
        begun.elapsed().as_secs_f64(),
        (process_cpu() - cpu).as_secs_f64(),
    );
    let digests: Vec<String> = bundled
        .parts
        .iter()
        .map(|part| part.digest.to_string())
        .collect();
    let said = format!(
        "{size_bytes} {} {}\n{}",
        bundled.bundled_bytes,
        bundled.digest,
        digests.join("\n")
    );
    std::fs::write(folder.join("order"), said).unwrap();

    let program = std::env::current_exe().unwrap();
    let ran = Command::new(program)
        .arg("--child")
        .arg(folder)
        .status()
        .unwrap();
    assert!(ran.success());
    let alone = write_alone(&image, &folder.join("alone"), size_bytes);
    let figures = std::fs::read_to_string(folder.join("figures")).unwrap();
    let [wall, slowest, share] = figures
        .split(' ')
        .map(|figure| figure.parse::<f64>().unwrap())
        .collect::<Vec<_>>()[..]
    else {
        panic!("three figures");
    };
    let alone = alone.as_secs_f64();
    println!(
        "slowest stage alone {slowest:.2} s; the same data written and synced alone {alone:.2} s"
    );
    let limit = slowest.max(alone).max(share);
    println!(
        "wall / the largest of these and of all CPU / cores: {:.2} (target: at most 1.25)",
        wall / limit
    );
}

/// Half of the data is words, half of it does not compress: gzip makes a little more than half of it.
fn make_image(path: &Path, size_bytes: u64, data_bytes: u64) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    file.set_len(size_bytes).unwrap();
    let runs = data_bytes / RUN_BYTES as u64;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<String> = (0..4096).map(|_| format!("{:x} ", next() >> 40)).collect();
    for run in 0..runs {
        let mut data = Vec::with_capacity(RUN_BYTES + 16);
        while data.len() < RUN_BYTES {
            match run % 2 {
                0 => data.extend_from_slice(words[next() as usize % words.len()].as_bytes()),
                _ => data.extend_from_slice(&next().to_le_bytes()),
            }
        }
        file.write_all_at(&data[..RUN_BYTES], size_bytes / runs * run / 4096 * 4096)
            .unwrap();
    }
    file
}

/// Parts in a folder.
struct Parts(PathBuf);

#[async_trait]
impl PartSource for Parts {
    async fn fetch(&self, index: usize) -> Result<Part, FetchError> {
        let file = self.0.join(format!("image.part.{index:02}"));
        let read = tokio::task::spawn_blocking(move || std::fs::read(file));
        Ok(vec![read.await??.into()])
    }
}

fn child(folder: &Path) {
    let said = std::fs::read_to_string(folder.join("order")).unwrap();
    let (head, digests) = said.split_once('\n').unwrap();
    let [size_bytes, bundled_bytes, digest] = head.split(' ').collect::<Vec<_>>()[..] else {
        panic!("three words");
    };
    let order = Order {
        parts: digests
            .lines()
            .map(|line| line.parse::<Sha1Digest>().unwrap())
            .collect(),
        bundled_bytes: bundled_bytes.parse().unwrap(),
        size_bytes: size_bytes.parse().unwrap(),
        digest: digest.parse().unwrap(),
        key: key(),
        shape: Shape::Disk,
    };
    let file = File::create_new(folder.join("raw")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let meter = unbundle::meter();
    let (begun, written) = (Instant::now(), proc("io", "write_bytes:"));
    let busy_before = machine_busy();
    let run = unbundle(
        order,
        Arc::new(Parts(folder.to_owned())),
        file.try_clone().unwrap(),
        meter.clone(),
    );
    runtime.block_on(run).unwrap();
    let wall = begun.elapsed().as_secs_f64();
    let written = proc("io", "write_bytes:") - written;

    println!("stage      bytes MB     first s   last s   CPU s   MB/s of CPU");
    let mut slowest = 0.0_f64;
    for reading in meter.readings() {
        let (megabytes, cpu) = (reading.bytes as f64 / 1e6, reading.cpu.as_secs_f64());
        slowest = slowest.max(cpu);
        let speed = if cpu > 0.0 { megabytes / cpu } else { 0.0 };
        let (first, last) = (reading.first.as_secs_f64(), reading.last.as_secs_f64());
        println!(
            "{:10} {megabytes:8.1}  {first:9.2} {last:8.2} {cpu:7.2} {speed:10.0}",
            reading.name
        );
    }
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    let own = process_cpu().as_secs_f64();
    // Others work on this machine too, and take their share of its cores.
    let others = (machine_busy() - busy_before - own).max(0.0);
    let left = (cores - others / wall).max(0.1);
    let allocated = file.metadata().unwrap().blocks() * 512;
    println!(
        "wall {wall:.2} s; all CPU {own:.2} s on the {left:.2} of {cores} cores that others left"
    );
    println!(
        "written / allocated: {:.3} (target: at most 1.05)",
        written as f64 / allocated as f64
    );
    let peak = proc("status", "VmHWM:") as f64 / 1024.0;
    println!("peak memory: {peak:.1} MiB (target: at most 64)");
    let share = own / left;
    std::fs::write(folder.join("figures"), format!("{wall} {slowest} {share}")).unwrap();
}

/// Seconds of processor time that the whole machine has spent on anything (proc(5), `stat`).
fn machine_busy() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap();
    let all: Vec<f64> = text
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .map(|word| word.parse().unwrap())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq, steal: all but the third and the fourth from 0.
    let busy: f64 = all.iter().take(8).sum::<f64>() - all[3] - all[4];
    busy / 100.0
}

/// The data of the image, written front to back and synced.
fn write_alone(image: &File, to: &Path, size_bytes: u64) -> Duration {
    let file = File::create_new(to).unwrap();
    let mut buffer = vec![0; 1 << 20];
    let (mut took, mut at) = (Duration::ZERO, 0);
    while at < size_bytes {
        let count = image.read_at(&mut buffer, at).unwrap();
        let begun = Instant::now();
        if buffer[..count].iter().any(|byte| *byte != 0) {
            file.write_all_at(&buffer[..count], at).unwrap();
        }
        took += begun.elapsed();
        at += count as u64;
    }
    let begun = Instant::now();
    file.set_len(size_bytes).unwrap();
    file.sync_all().unwrap();
    took + begun.elapsed()
}

fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A field of a file of `/proc/self`, in its own unit.
fn proc(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
