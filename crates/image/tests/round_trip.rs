//! A bundle made by us, and by the tools that euca2ools calls, comes back whole.

#![allow(clippy::disallowed_methods)] // the tools that a bundle is compared with
#![allow(clippy::unwrap_used)] // helpers of tests, where a panic is the message

#[path = "round_trip/lies.rs"]
mod lies;

use std::{
    os::unix::fs::{FileExt, MetadataExt},
    process::Command,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use image::{
    blocks::BLOCK_BYTES,
    bundle::{self, PartSink},
    digest::{Sha1Digest, Sha256Digest},
    keys::{BundleKey, Certificate, CloudKey},
    manifest::{Architecture, Kind, PART_BYTES},
    recognise::{Content, FileSystem},
    unbundle::{
        self, FetchError, Order, Part, PartSource, Shape, UnbundleError, Unbundled, unbundle,
    },
};

/// Parts in memory.
#[derive(Default, Clone)]
struct Parts(Vec<Bytes>);

impl PartSink for Parts {
    fn put(&mut self, _: &str, bytes: Vec<u8>) -> std::io::Result<()> {
        self.0.push(bytes.into());
        Ok(())
    }
}

#[async_trait]
impl PartSource for Parts {
    async fn fetch(&self, index: usize) -> Result<Part, FetchError> {
        let part = self.0.get(index).ok_or("404 Not Found")?;
        // As a network cuts it: never where a block of the cipher ends.
        Ok(part.chunks(100_003).map(Bytes::copy_from_slice).collect())
    }
}

fn cloud() -> CloudKey {
    let made = Command::new("openssl")
        .args([
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
        ])
        .output()
        .expect("openssl is installed");
    CloudKey::from_pem(&String::from_utf8(made.stdout).unwrap()).unwrap()
}

fn bundled(image: &[u8], shape: Shape) -> (Order, Parts) {
    let cloud = cloud();
    let certificate: Certificate = cloud.certificate();
    let key = BundleKey::mint();
    let order = bundle::Order {
        name: "test",
        size_bytes: image.len() as u64,
        key: &key,
    };
    let label = bundle::Label {
        kind: Kind::Machine,
        architecture: Architecture::X86_64,
        user: "123456789012".parse().unwrap(),
        kernel_id: None,
        ramdisk_id: None,
        block_device_mapping: vec![],
        cloud_key: key.wrap(&certificate).unwrap(),
        user_key: Default::default(),
    };
    let mut parts = Parts::default();
    let bundled = bundle::bundle(order, &mut &image[..], &mut parts, &mut |_| {}).unwrap();
    let manifest = bundled.manifest(order, label);
    let manifest =
        image::manifest::Manifest::parse(manifest.to_xml(None).unwrap().as_bytes()).unwrap();
    let key = cloud.unwrap(&manifest.cloud_key).unwrap();
    (Order::of(&manifest, key, shape), parts)
}

async fn run(order: Order, parts: Parts) -> Result<(Unbundled, std::fs::File), UnbundleError> {
    let file = tempfile::tempfile().unwrap();
    let unbundled = unbundle(
        order,
        Arc::new(parts),
        file.try_clone().unwrap(),
        unbundle::meter(),
    )
    .await?;
    Ok((unbundled, file))
}

/// What the digest of a file is said to be.
fn content_digest(file: &[u8]) -> Sha256Digest {
    let mut said = Vec::new();
    for (number, block) in file.chunks(BLOCK_BYTES as usize).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            said.extend_from_slice(&(number as u64).to_le_bytes());
            said.extend_from_slice(Sha256Digest::of(block).as_bytes());
        }
    }
    said.extend_from_slice(&(file.len() as u64).to_le_bytes());
    Sha256Digest::of(&said)
}

/// Bytes that do not compress, the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| step()).collect()
}

/// A file system's magic, then noise, a hole and noise: 25 MiB, three parts.
fn partition_image() -> Vec<u8> {
    let mut image = noise(25 << 20);
    image[..4096].fill(0);
    image[1080..1082].copy_from_slice(&[0x53, 0xef]);
    image[4 << 20..8 << 20].fill(0);
    image
}

#[tokio::test]
async fn a_partition_image_comes_back_at_one_mebibyte() {
    let image = partition_image();
    let (order, parts) = bundled(&image, Shape::Disk);
    assert_eq!(order.parts.len(), 3);
    let meter = unbundle::meter();
    let file = tempfile::tempfile().unwrap();
    let bundled_bytes = order.bundled_bytes;
    let unbundled = unbundle(
        order,
        Arc::new(parts),
        file.try_clone().unwrap(),
        meter.clone(),
    )
    .await
    .unwrap();

    assert_eq!(
        unbundled.content,
        Content::Partition(FileSystem::Ext { unbootable: None })
    );
    assert_eq!(unbundled.file_bytes, (26 << 20));
    let mut whole = vec![0; 26 << 20];
    file.read_exact_at(&mut whole, 0).unwrap();
    assert_eq!(unbundled.sha256, content_digest(&whole));
    assert_eq!(unbundle::done_bytes(&meter), bundled_bytes);
    let mut found = vec![0; image.len()];
    file.read_exact_at(&mut found, 1 << 20).unwrap();
    assert!(found == image);
    let allocated = file.metadata().unwrap().blocks() * 512;
    assert!(
        allocated < (22 << 20),
        "the hole and the first mebibyte are not stored: {allocated}"
    );
}

#[tokio::test]
async fn a_kernel_comes_back_byte_for_byte() {
    for length in [1, 511, 512, 100_000] {
        let image = noise(length);
        let (order, parts) = bundled(&image, Shape::Verbatim);
        let (unbundled, file) = run(order, parts).await.unwrap();
        let mut found = vec![0; length];
        file.read_exact_at(&mut found, 0).unwrap();
        assert!(found == image);
        assert_eq!(unbundled.file_bytes, length as u64);
    }
}

#[tokio::test]
async fn a_bundle_made_by_tar_gzip_and_openssl_is_read() {
    let image = partition_image();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test"), &image).unwrap();
    let script = "tar --format=gnu -c --mode=0644 test > t; gzip -c t | \
        openssl enc -aes-128-cbc -K 000102030405060708090a0b0c0d0e0f -iv 101112131415161718191a1b1c1d1e1f > c";
    let status = Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    let tar = std::fs::read(folder.path().join("t")).unwrap();
    let cipher = std::fs::read(folder.path().join("c")).unwrap();
    let mut parts: Vec<_> = cipher
        .chunks(PART_BYTES as usize)
        .map(Bytes::copy_from_slice)
        .collect();
    parts.push(Bytes::new()); // euca2ools ends so where the length is a multiple of the part size
    let order = Order {
        parts: parts.iter().map(|part| Sha1Digest::of(part)).collect(),
        bundled_bytes: cipher.len() as u64,
        size_bytes: image.len() as u64,
        digest: Sha1Digest::of(&tar),
        key: BundleKey::from_hex(
            "000102030405060708090a0b0c0d0e0f",
            "101112131415161718191a1b1c1d1e1f",
        )
        .unwrap(),
        shape: Shape::Disk,
    };
    let (unbundled, file) = run(order, Parts(parts)).await.unwrap();
    let mut whole = vec![0; unbundled.file_bytes as usize];
    file.read_exact_at(&mut whole, 0).unwrap();
    assert_eq!(unbundled.sha256, content_digest(&whole));
}

#[test]
fn the_same_key_makes_the_same_parts_and_gunzip_reads_them() {
    let image = partition_image();
    let key = BundleKey::new([1; 16], [2; 16]);
    let order = bundle::Order {
        name: "test",
        size_bytes: image.len() as u64,
        key: &key,
    };
    let made = || {
        let (mut parts, mut heard) = (Parts::default(), 0);
        let bundled = bundle::bundle(order, &mut &image[..], &mut parts, &mut |bytes| {
            assert!(bytes >= heard);
            heard = bytes;
        });
        assert_eq!(heard, image.len() as u64);
        (bundled.unwrap(), parts)
    };
    let (bundled, parts) = made();
    let again = made();
    assert!(again.0 == bundled && again.1.0 == parts.0);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("c"), parts.0.concat()).unwrap();
    let script = "openssl enc -d -aes-128-cbc -K 01010101010101010101010101010101 \
        -iv 02020202020202020202020202020202 -in c | gzip -dc | tar -xf - && cat test";
    let out = Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(out.status.success() && out.stdout == image);
}

#[tokio::test]
async fn holes_of_a_file_are_neither_bundled_nor_written() {
    const SIZE: u64 = 6 << 30;
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    let data = noise(1 << 20);
    let places = [0, 1 << 30, (5 << 30) + 4096];
    for place in places {
        file.write_all_at(&data, place).unwrap();
    }
    let key = BundleKey::new([1; 16], [2; 16]);
    let order = bundle::Order {
        name: "test",
        size_bytes: SIZE,
        key: &key,
    };
    let (mut parts, mut heard) = (Parts::default(), Vec::new());
    let mut source = bundle::Source::new(file, 0);
    let bundled = bundle::bundle(order, &mut source, &mut parts, &mut |reached| {
        heard.push(reached)
    });
    let bundled = bundled.unwrap();
    // Compressed zeros of six gibibytes are six mebibytes.
    assert!(bundled.bundled_bytes < 4 << 20, "{}", bundled.bundled_bytes);
    assert!(heard.is_sorted() && heard.last() == Some(&SIZE));

    let order = Order {
        parts: bundled.parts.iter().map(|part| part.digest).collect(),
        bundled_bytes: bundled.bundled_bytes,
        size_bytes: SIZE,
        digest: bundled.digest,
        key,
        shape: Shape::Verbatim,
    };
    let (unbundled, file) = run(order, parts).await.unwrap();
    assert_eq!(unbundled.file_bytes, SIZE);
    assert!(file.metadata().unwrap().blocks() * 512 < 4 << 20);
    for place in places {
        let mut read = vec![0; data.len()];
        file.read_exact_at(&mut read, place).unwrap();
        assert!(read == data);
    }
}

#[test]
fn an_image_that_ends_early_and_a_store_that_fails_are_told_apart_and_end_all_threads() {
    struct Full;
    impl PartSink for Full {
        fn put(&mut self, _: &str, _: Vec<u8>) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }
    let key = BundleKey::new([1; 16], [2; 16]);
    let image = noise(40 << 20);
    let order = |size_bytes| bundle::Order {
        name: "test",
        size_bytes,
        key: &key,
    };
    let short = order(image.len() as u64 + 1);
    let error = bundle::bundle(short, &mut &image[..], &mut Parts::default(), &mut |_| {});
    assert!(
        matches!(error, Err(bundle::BundleError::Read(_))),
        "{error:?}"
    );
    let whole = order(image.len() as u64);
    let error = bundle::bundle(whole, &mut &image[..], &mut Full, &mut |_| {});
    assert!(
        matches!(error, Err(bundle::BundleError::Store(_))),
        "{error:?}"
    );
}

/// A source that never answers.
struct Silence;

#[async_trait]
impl PartSource for Silence {
    async fn fetch(&self, _: usize) -> Result<Part, FetchError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn dropping_the_run_ends_its_threads() {
    let (order, _) = bundled(&noise(1000), Shape::Disk);
    let file = tempfile::tempfile().unwrap();
    let run = unbundle(order, Arc::new(Silence), file, unbundle::meter());
    let timeout = std::time::Duration::from_millis(100);
    assert!(tokio::time::timeout(timeout, run).await.is_err());
    // The runtime's shutdown waits for blocking threads: a stage that went on would hang the test.
}
