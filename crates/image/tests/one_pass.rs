//! What one pass costs, counted by the kernel: bytes written, and memory, however large the image.

#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message
#![allow(clippy::disallowed_methods)] // a test that runs itself

use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use async_trait::async_trait;
use image::{
    bundle::{self, Folder, Source},
    keys::BundleKey,
    unbundle::{self, FetchError, Order, Part, PartSource, Shape, unbundle},
};

const GIB: u64 = 1 << 30;
/// Bytes of each image that are no holes, in many places.
const DATA_BYTES: u64 = 96 << 20;
/// A tenth of a bundle's part: not a whole number of pages, as little as files are.
const RUN_BYTES: usize = 1_000_003;

/// Parts in a folder.
struct Parts(PathBuf);

#[async_trait]
impl PartSource for Parts {
    async fn fetch(&self, index: usize) -> Result<Part, FetchError> {
        let file = self.0.join(format!("image.part.{index:02}"));
        Ok(vec![std::fs::read(file)?.into()])
    }
}

/// An image of that size with data spread over it.
fn image(path: &Path, size_bytes: u64) -> File {
    let file = File::options();
    let file = { file }
        .read(true)
        .write(true)
        .create(true)
        .open(path)
        .unwrap();
    file.set_len(size_bytes).unwrap();
    let (runs, mut state) = (DATA_BYTES / RUN_BYTES as u64, size_bytes | 1);
    for run in 0..runs {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(RUN_BYTES)
        .collect();
        file.write_all_at(&noise, size_bytes / runs * run).unwrap();
    }
    file
}

fn key() -> BundleKey {
    BundleKey::new([1; 16], [2; 16])
}

fn bundled(image: File, size_bytes: u64, folder: &Path) {
    let key = key();
    let order = bundle::Order {
        name: "image",
        size_bytes,
        key: &key,
    };
    let (mut image, mut sink) = (Source::new(image, 0), Folder(folder.to_owned()));
    let made = bundle::bundle(order, &mut image, &mut sink, &mut |_| {}).unwrap();
    let digests: Vec<String> = made
        .parts
        .iter()
        .map(|part| part.digest.to_string())
        .collect();
    let head = format!("{size_bytes} {} {}", made.bundled_bytes, made.digest);
    std::fs::write(
        folder.join("order"),
        format!("{head}\n{}", digests.join("\n")),
    )
    .unwrap();
}

/// A field of a file of `/proc/self`, in its own unit.
fn proc(file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The high-water mark of memory begins anew (proc(5), clear_refs).
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn peak_bytes() -> u64 {
    proc("status", "VmHWM:") * 1024
}

/// What the process that unbundles is told, and what it tells.
const FOLDER: &str = "MALLEE_TEST_ONE_PASS";
const NAME: &str = "however_large_the_image_little_is_held_and_each_byte_is_written_once";

// The kernel counts for a whole process, so the unbundling has one of its own: this test again.
#[test]
fn however_large_the_image_little_is_held_and_each_byte_is_written_once() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return unbundled(Path::new(&folder));
    }
    for size_bytes in [4 * GIB, 8 * GIB] {
        let folder = tempfile::tempdir().unwrap();
        let original = image(&folder.path().join("original"), size_bytes);
        forget_peak();
        bundled(original, size_bytes, folder.path());
        let bundler_peak = peak_bytes();

        let again = std::env::current_exe().unwrap();
        let mut child = Command::new(again);
        let ran = child
            .args(["--exact", NAME])
            .env(FOLDER, folder.path())
            // As its unit sets it for a Node Controller: glibc otherwise comes to keep freed parts.
            .env("MALLOC_MMAP_THRESHOLD_", "1048576")
            .output()
            .unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
        let told: Vec<u64> = told
            .split(' ')
            .map(|figure| figure.parse().unwrap())
            .collect();
        let [written, allocated, peak] = told[..] else {
            panic!("three figures");
        };

        println!(
            "{} GiB: {written} written, {allocated} allocated, peaks {bundler_peak}, {peak}",
            size_bytes / GIB
        );
        // Runs begin and end within a block; the rest of it is zeros, which are stored with it.
        let stored_at_most = DATA_BYTES + DATA_BYTES / RUN_BYTES as u64 * 8192;
        assert!(allocated <= stored_at_most, "{allocated} allocated");
        if written == 0 {
            println!("SKIPPED: bytes written: the folder for temporary files is in memory");
        }
        assert!(written * 100 <= allocated * 105, "{written} of {allocated}");
        assert!(peak <= 64 << 20, "{peak}");
        assert!(bundler_peak <= 64 << 20, "{bundler_peak}");
    }
}

fn unbundled(folder: &Path) {
    let order = std::fs::read_to_string(folder.join("order")).unwrap();
    let [head, digests @ ..] = &order.lines().collect::<Vec<_>>()[..] else {
        panic!("a head and digests");
    };
    let [size_bytes, bundled_bytes, digest] = head.split(' ').collect::<Vec<_>>()[..] else {
        panic!("three words");
    };
    let order = Order {
        parts: digests
            .iter()
            .map(|digest| digest.parse().unwrap())
            .collect(),
        bundled_bytes: bundled_bytes.parse().unwrap(),
        size_bytes: size_bytes.parse().unwrap(),
        digest: digest.parse().unwrap(),
        key: key(),
        shape: Shape::Disk,
    };
    let file = File::create_new(folder.join("raw")).unwrap();
    let before = proc("io", "write_bytes:");
    let parts = Arc::new(Parts(folder.to_owned()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let run = unbundle(order, parts, file.try_clone().unwrap(), unbundle::meter());
    let done = runtime.block_on(run).unwrap();
    let written = proc("io", "write_bytes:") - before;
    let allocated = file.metadata().unwrap().blocks() * 512;
    assert_eq!(done.file_bytes.to_string(), size_bytes);
    let told = format!("{written} {allocated} {}", peak_bytes());
    std::fs::write(folder.join("told"), told).unwrap();
}
