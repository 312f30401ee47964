#![allow(
    clippy::disallowed_methods,
    reason = "a test runs the tools it compares with"
)]

use std::{ops::Range, process::Command};

use proptest::prelude::*;

use super::{read::number, *};

fn untar(archive: &[u8], declared: u64, step: usize) -> Result<Vec<u8>, TarError> {
    let mut reader = Untar::new(declared);
    let mut file = Vec::new();
    for mut chunk in archive.chunks(step) {
        while let Some(piece) = reader.next(&mut chunk)? {
            match piece {
                Piece::Data(data) => file.extend_from_slice(data),
                Piece::Zeros(count) => file.resize(file.len() + count as usize, 0),
            }
        }
    }
    reader.finish().map(|()| file)
}

fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let size = content.len() as u64;
    let mut archive = header(name, size).to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len() + padding(BLOCK as u64, size) as usize, 0);
    archive
}

fn gnu_tar(arguments: &[&str], content: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("image"), content).unwrap();
    let output = Command::new("tar")
        .args(arguments)
        .args([
            "-c",
            "--mode=0644",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mtime=@0",
            "image",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn our_archive_is_gnu_tars_archive() {
    let content = vec![7; 5000];
    assert_eq!(
        archive("image", &content),
        gnu_tar(&["--format=gnu"], &content)
    );
}

#[test]
fn archives_of_every_accepted_format_are_read() {
    let mut content = vec![0; 300_000];
    content[..3000].fill(1);
    content[200_000..200_700].fill(2);
    for format in ["--format=gnu", "--format=ustar", "--format=pax"] {
        for step in [1, 511, 512, 10_000] {
            assert_eq!(
                untar(&gnu_tar(&[format], &content), 300_000, step),
                Ok(content.clone())
            );
        }
    }
}

/// An archive of an image's data only, and the image.
fn sparse(size: u64, data: &[Range<u64>]) -> (Vec<u8>, Vec<u8>) {
    let mut image = vec![0; size as usize];
    let mut archive = sparse_header("image", size, data);
    let head = archive.len() as u64;
    for (index, stretch) in data.iter().enumerate() {
        let stretch = stretch.start as usize..stretch.end as usize;
        image[stretch.clone()].fill(index as u8 | 1);
        archive.extend_from_slice(&image[stretch]);
    }
    let stored = archive.len() as u64 - head;
    archive.resize(archive.len() + padding(head, stored) as usize, 0);
    (archive, image)
}

#[test]
fn others_and_we_read_our_sparse_archives() {
    let at = |n: u64| n * 100_352..n * 100_352 + 4096;
    // By how many places the map has: one block of it, exactly full ones, several, none.
    for (places, end) in [(0, 8192), (1, 5000), (3, 0), (24, 700), (25, 1), (60, 8192)] {
        let data: Vec<Range<u64>> = (1..=places).map(at).collect();
        let size = data.last().map_or(0, |last| last.end) + end;
        let (archive, image) = sparse(size, &data);
        for step in [1, 700, 100_000] {
            assert_eq!(untar(&archive, size, step).unwrap(), image);
        }
        let python = "import sys, tarfile; tar = tarfile.open(mode='r|', fileobj=sys.stdin.buffer); \
            sys.stdout.buffer.write(tar.extractfile(next(iter(tar))).read())";
        for (program, words) in [("tar", ["-xOf", "-"]), ("python3", ["-c", python])] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("archive");
            std::fs::write(&path, &archive).unwrap();
            let ran = Command::new(program)
                .args(words)
                .stdin(std::fs::File::open(&path).unwrap())
                .output()
                .unwrap();
            assert!(ran.status.success(), "{program}: {ran:?}");
            assert!(ran.stdout == image, "{program}, {places} places");
        }
    }
}

#[test]
fn a_sparse_member_is_read_with_its_holes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let file = std::fs::File::create(&path).unwrap();
    let mut expected = vec![0; 4_000_000];
    for index in 0..40 {
        let at = index * 100_000;
        std::os::unix::fs::FileExt::write_all_at(&file, b"data", at as u64).unwrap();
        expected[at..at + 4].copy_from_slice(b"data");
    }
    file.set_len(4_000_000).unwrap();
    let output = Command::new("tar")
        .args(["--format=gnu", "-cS", "image"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.stdout.len() < 1_000_000, "tar found no holes");
    for step in [1, 700, 100_000] {
        assert_eq!(untar(&output.stdout, 4_000_000, step).unwrap(), expected);
    }
}

#[test]
fn a_size_beyond_octal_survives() {
    let block = header("big", 1 << 40);
    assert_eq!(number(&block[124..136]), Some(1 << 40));
    assert!(matches!(
        untar(&block, 1 << 40, 512),
        Err(TarError::Truncated)
    ));
}

#[test]
fn anything_but_one_whole_file_of_the_declared_size_is_refused() {
    let good = archive("image", &[1; 2000]);
    assert_eq!(
        untar(&good, 1999, 512),
        Err(TarError::Size {
            declared: 1999,
            found: 2000
        })
    );
    assert_eq!(untar(&good[..1500], 2000, 512), Err(TarError::Truncated));
    assert_eq!(untar(&[], 2000, 512), Err(TarError::Truncated));

    let two = [&good[..2560], &good[..]].concat();
    assert_eq!(untar(&two, 2000, 512), Err(TarError::MoreThanOne));

    let mut broken = good.clone();
    broken[0] ^= 1;
    assert_eq!(
        untar(&broken, 2000, 512),
        Err(TarError::Header("wrong checksum"))
    );
    assert_eq!(
        untar(&[1; 600], 2000, 512),
        Err(TarError::Header("no ustar magic"))
    );

    for kind in *b"123456K" {
        let mut link = header("image", 2000);
        link[156] = kind;
        let sum = checksum(&link);
        link[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(untar(&link, 2000, 512), Err(TarError::NotAFile));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        edits in proptest::collection::vec((0usize..3072, any::<u8>()), 0..12),
        step in 1usize..2000,
    ) {
        let mut bytes = archive("image", &[1; 2000]);
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        let sum = checksum(bytes[..512].try_into().unwrap());
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let _ = untar(&bytes, 2000, step);
    }
}
