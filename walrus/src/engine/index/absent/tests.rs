use std::{fs::File, os::unix::fs::FileExt, path::Path};

use s3::{Acl, VersionId, acl::Canned, documents::tagging::Tags, headers::Attributes};
use tempfile::TempDir;
use types::{AccountId, Timestamp};

use super::*;
use crate::engine::{
    facts::{Body, Fact},
    index::IndexFile,
    journal::Location,
};

/// Enough for a tree of several pages, whose upper ones hold keys as well.
const OBJECTS: u64 = 600;

fn owner() -> AccountId {
    "111111111111".parse().unwrap()
}

fn name() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

fn key(n: u64) -> Key {
    Key::parse(&format!("key/{n:06}")).unwrap()
}

fn bucket() -> Bucket {
    Bucket {
        name: name(),
        id: "1".into(),
        owner: owner(),
        created: Timestamp(1),
        location: None,
        acl: Acl::default(),
        settings: Default::default(),
    }
}

fn object(n: u64) -> Object {
    Object {
        bucket: name(),
        key: key(n),
        version: VersionId::null(),
        order: n,
        etag: hex::encode(n.to_le_bytes()),
        size: 0,
        modified: Timestamp(1),
        owner: owner(),
        acl: Canned::Private.resolve(&owner(), &owner()),
        attributes: Attributes::default(),
        checksum: None,
        tags: Tags::default(),
        lock: Default::default(),
        encryption: None,
        body: Body::Inline,
        upload_id: None,
    }
}

/// An index of every second key, all of it in one file.
fn filled() -> (TempDir, IndexFile) {
    let folder = tempfile::tempdir().unwrap();
    let index = IndexFile::new(folder.path().join("index.sqlite"));
    let mut writer = index.writer().unwrap();
    let at = Location {
        segment: 1,
        offset: 32,
        length: 64,
    };
    let mut facts = vec![Fact::BucketSet(Box::new(bucket()))];
    facts.extend((0..OBJECTS).map(|n| Fact::ObjectSet(Box::new(object(n * 2)))));
    writer.begin().unwrap();
    writer.apply(&facts, at).unwrap();
    writer.commit((1, 96)).unwrap();
    drop(writer);
    (folder, index)
}

/// Where those bytes stand in a file: pages that were split may have left copies that count for nothing.
fn places(content: &[u8], bytes: &[u8]) -> Vec<u64> {
    let windows = content.windows(bytes.len()).enumerate();
    let found = windows.filter(|(_, window)| *window == bytes);
    found.map(|(at, _)| at as u64).collect()
}

/// Runs something while one bit is wrong.
fn flipped(path: &Path, at: u64, bit: u64, run: impl FnOnce()) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
    run();
    file.write_all_at(&byte, at).unwrap();
}

fn find(index: &IndexFile, n: u64) -> Result<Option<Kept<Object>>> {
    let mut reader = index.reader()?;
    reader.view(|view| view.find_newest_for_certain(&name(), &key(n)))
}

#[test]
fn what_is_not_there_is_not_there_and_what_is_there_is_found() {
    let (_folder, index) = filled();
    for n in [0, 1, 2, 599, 600, 2 * OBJECTS - 2, 2 * OBJECTS, 999_999] {
        let found = find(&index, n).unwrap().map(|kept| kept.thing);
        let is_there = n % 2 == 0 && n < 2 * OBJECTS;
        assert_eq!(found, is_there.then(|| object(n)));
    }
    let none = BucketName::parse("another").unwrap();
    let mut reader = index.reader().unwrap();
    reader.view(|view| view.confirm_no_bucket(&none)).unwrap();
}

#[test]
fn no_flipped_bit_in_a_key_makes_an_object_absent() {
    let (folder, index) = filled();
    let path = folder.path().join("index.sqlite");
    let content = std::fs::read(&path).unwrap();
    let (mut found_out, mut flips) = (0, 0);
    for at in places(&content, b"bucketkey/") {
        let number = std::str::from_utf8(&content[at as usize + 10..][..6]).ok();
        let Some(n) = number.and_then(|number| number.parse::<u64>().ok()) else {
            continue;
        };
        if n % 5 > 0 {
            continue;
        }
        // Other bits for each, so that all are tried and none takes long.
        for byte in [n % 6, 6 + n / 10 % 10, 12 + n / 10 % 4] {
            flips += 1;
            flipped(&path, at + byte, n / 70 % 8, || {
                for near in [n.saturating_sub(2), n, (n + 2).min(2 * OBJECTS - 2)] {
                    match find(&index, near) {
                        Ok(Some(kept)) => assert_eq!(kept.thing, object(near)),
                        Ok(None) => panic!("byte {byte} of {n}: {near} is absent"),
                        Err(error) => {
                            assert!(error.is_of_index(), "{error}");
                            found_out += 1;
                        }
                    }
                }
            });
        }
    }
    assert!(found_out >= 300, "{found_out} of {flips}");
}

#[test]
fn no_flipped_bit_in_a_buckets_name_makes_it_absent() {
    let (folder, index) = filled();
    let path = folder.path().join("index.sqlite");
    // Beside its owner, as its row has it.
    let content = std::fs::read(&path).unwrap();
    let [at] = places(&content, b"bucket111111111111")[..] else {
        panic!("it lies elsewhere");
    };
    for bit in 0..8 * "bucket".len() as u64 {
        flipped(&path, at + bit / 8, bit % 8, || {
            let mut reader = index.reader().unwrap();
            let found = reader.view(|view| match view.find_bucket(&name())? {
                None => view.confirm_no_bucket(&name()),
                Some(_) => panic!("bit {bit} changes nothing"),
            });
            assert!(found.unwrap_err().is_of_index());
        });
    }
}
