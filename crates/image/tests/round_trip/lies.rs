//! A damaged, lying or hostile bundle comes back as an error that says which part and why.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use bytes::Bytes;
use image::{
    digest::Sha1Digest,
    keys::BundleKey,
    manifest::PART_BYTES,
    unbundle::{Order, Shape, UnbundleError},
};

use super::{Parts, bundled, noise, partition_image, run};

#[tokio::test]
async fn a_corrupt_part_is_named() {
    let (order, mut parts) = bundled(&partition_image(), Shape::Disk);
    let mut damaged = parts.0[1].to_vec();
    damaged[5_000_000] ^= 1;
    parts.0[1] = damaged.into();
    let error = run(order, parts).await.unwrap_err().to_string();
    assert!(
        error.starts_with("part 1 is corrupt: its SHA-1 is "),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_part_is_named() {
    let (order, mut parts) = bundled(&partition_image(), Shape::Disk);
    parts.0.pop();
    let error = run(order, parts).await.unwrap_err().to_string();
    assert_eq!(error, "part 2 cannot be fetched: 404 Not Found");
}

#[tokio::test]
async fn lies_about_size_digest_and_key_are_told_apart() {
    let (order, parts) = bundled(&partition_image(), Shape::Disk);

    let lie = Order {
        bundled_bytes: order.bundled_bytes - 16,
        ..order.clone()
    };
    let error = run(lie, parts.clone()).await.unwrap_err();
    assert!(
        matches!(error, UnbundleError::BundledSize { .. }),
        "{error}"
    );

    let lie = Order {
        size_bytes: order.size_bytes - 1,
        ..order.clone()
    };
    let error = run(lie, parts.clone()).await.unwrap_err();
    assert!(matches!(error, UnbundleError::Tar(_)), "{error}");

    let lie = Order {
        digest: Sha1Digest::of(b"other"),
        ..order.clone()
    };
    let error = run(lie, parts.clone()).await.unwrap_err();
    assert!(
        matches!(error, UnbundleError::ImageDigest { .. }),
        "{error}"
    );

    let lie = Order {
        key: BundleKey::new([0; 16], [0; 16]),
        ..order
    };
    let error = run(lie, parts).await.unwrap_err();
    // Not that its padding is wrong, which decryption may have found as well: the beginning counts.
    assert!(matches!(error, UnbundleError::Gunzip(_)), "{error}");
}

/// A bundle around any gzip stream, right in all its digests.
fn bundle_of(gzip: Vec<u8>, size_bytes: u64) -> (Order, Parts) {
    let key = BundleKey::new([1; 16], [2; 16]);
    let mut encrypt = Command::new("openssl")
        .args([
            "enc",
            "-aes-128-cbc",
            "-K",
            &"01".repeat(16),
            "-iv",
            &"02".repeat(16),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = encrypt.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || stdin.write_all(&gzip).unwrap());
    let cipher = encrypt.wait_with_output().unwrap().stdout;
    feeder.join().unwrap();
    let parts: Vec<_> = cipher
        .chunks(PART_BYTES as usize)
        .map(Bytes::copy_from_slice)
        .collect();
    let order = Order {
        parts: parts.iter().map(|part| Sha1Digest::of(part)).collect(),
        bundled_bytes: cipher.len() as u64,
        size_bytes,
        digest: Sha1Digest::of(b""),
        key,
        shape: Shape::Disk,
    };
    (order, Parts(parts))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_gzip_bomb_stops_at_the_declared_size() {
    // Four gibibytes of zeros, in 256 gzip members of 16 MiB, where one mebibyte is declared.
    let bomb = gzip(&vec![0; 16 << 20]).repeat(256);
    let (order, parts) = bundle_of(bomb, 1 << 20);
    let begun = std::time::Instant::now();
    let error = run(order, parts).await.unwrap_err();
    assert!(
        matches!(error, UnbundleError::Tar(_) | UnbundleError::TooLong { .. }),
        "{error}"
    );
    assert!(begun.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn an_endless_archive_stops_too() {
    // A right header and a right file, then zeros without end where tar's padding may be.
    let mut archive = Command::new("sh")
        .args([
            "-c",
            "cd $(mktemp -d) && head -c 1000 /dev/zero > f && tar -cf - f && rm f",
        ])
        .output()
        .unwrap()
        .stdout;
    archive.resize(64 << 20, 0);
    let (order, parts) = bundle_of(gzip(&archive), 1000);
    let error = run(order, parts).await.unwrap_err();
    assert!(
        matches!(error, UnbundleError::TooLong { declared: 1000 }),
        "{error}"
    );
}

#[tokio::test]
async fn bytes_after_the_gzip_stream_are_refused() {
    let mut stream = gzip(b"not even a tar");
    stream.extend_from_slice(b"something else");
    let (order, parts) = bundle_of(stream, 1000);
    let error = run(order, parts).await.unwrap_err();
    assert!(matches!(error, UnbundleError::Gunzip(_)), "{error}");
}

#[tokio::test]
async fn a_qcow2_header_in_a_raw_image_is_refused() {
    let mut image = noise(1 << 20);
    image[..4].copy_from_slice(b"QFI\xfb");
    let (order, parts) = bundled(&image, Shape::Disk);
    let error = run(order, parts).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "the image is not raw: its first bytes are those of a qcow2 image"
    );
}
