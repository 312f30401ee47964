//! Every kind of fact, in random histories, as the committer writes them: the index that fsck makes
//! from journal and files is the one that was there. Then something is damaged at random: it is named,
//! and whatever was not damaged is still there.

mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use testkit::seed;

use self::history::{History, KINDS};
use super::{Report, check};
use crate::engine::{
    Places,
    blobs::BlobId,
    frame,
    index::IndexFile,
    journal::{Location, Segments, segment_path},
    recover::{INDEX, JOURNAL},
};

/// Every row of the index but the place in the journal and what is counted per segment.
fn rows(folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let index = rusqlite::Connection::open(folder.join(INDEX)).unwrap();
    let tables = [
        "buckets", "objects", "versions", "uploads", "parts", "blobs", "totals", "quotas", "events",
    ];
    let dump = |table: &str| {
        let mut query = index.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = query.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let value = |at| row.get::<_, rusqlite::types::Value>(at);
            (0..columns)
                .map(value)
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        let rows = query
            .query_map([], row)
            .unwrap()
            .map(|row| format!("{:?}", row.unwrap()));
        // A counter of nothing is no counter.
        let rows = rows.filter(|row| {
            table != "totals" || !row.ends_with("Integer(0), Integer(0), Integer(0)]")
        });
        rows.collect()
    };
    tables
        .iter()
        .map(|table| ((*table).to_owned(), dump(table)))
        .collect()
}

/// What is kept, wherever the index has it, with where its fact lies.
fn records(folder: &Path) -> BTreeMap<String, (u64, u64)> {
    let index = rusqlite::Connection::open(folder.join(INDEX)).unwrap();
    let mut found = BTreeMap::new();
    for table in [
        "buckets", "objects", "versions", "uploads", "parts", "quotas",
    ] {
        let sql = format!("SELECT record, segment, offset FROM {table}");
        let mut query = index.prepare(&sql).unwrap();
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)));
        found.extend(query.query_map([], row).unwrap().map(Result::unwrap));
    }
    found
}

fn fsck(folder: &Path) -> Report {
    check(&Places::below(folder), &|_, _, _| {}).unwrap()
}

/// The same without an index that knows more than a damaged journal.
fn fsck_anew(folder: &Path) -> Report {
    IndexFile::new(folder.join(INDEX)).remove().unwrap();
    fsck(folder)
}

#[test]
fn the_index_made_anew_is_the_one_that_was_there() {
    let mut seen = BTreeSet::new();
    let first = seed::asked().unwrap_or(1);
    for seed in first..first + seed::steps(6) {
        let (folder, kinds) = History::play(seed);
        seen.extend(kinds);
        let before = rows(folder.path());
        let report = fsck(folder.path());
        assert_eq!(report.damage, [""; 0], "seed {seed}");
        assert_eq!(report.orphans, 0, "seed {seed}");
        assert_eq!(report.blobs, before["blobs"].len() as u64);
        assert_eq!(rows(folder.path()), before, "seed {seed}");
    }
    assert_eq!(seen, BTreeSet::from(KINDS), "every kind was there");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Frames of the journal, each with its segment and its bytes up to the padding.
fn frames(folder: &Path) -> Vec<Location> {
    let journal = folder.join(JOURNAL);
    let segments = Segments::open(&journal, None).unwrap();
    let mut scan = segments.scan(&journal, None);
    let mut found = Vec::new();
    while let Some((at, _)) = scan.next_frame().unwrap() {
        found.push(at);
    }
    found
}

fn flip(path: &Path, at: u64, bit: u32) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 1 << bit;
    std::fs::write(path, bytes).unwrap();
}

/// What is there after damage: what lay elsewhere is as it was, and nothing is wrong unsaid.
fn whole_but(folder: &Path, before: &BTreeMap<String, (u64, u64)>, hit: impl Fn(u64, u64) -> bool) {
    let after = records(folder);
    for (record, (segment, offset)) in before {
        assert!(
            after.contains_key(record) || hit(*segment, *offset),
            "lost, and not damaged: {record}"
        );
    }
}

#[test]
fn a_flipped_bit_in_any_frame_is_named_and_nothing_else_is_lost() {
    let mut rng = seed::rng(seed::asked().unwrap_or(11));
    let (folder, _) = History::play(2);
    let (journal, before) = (folder.path().join(JOURNAL), records(folder.path()));
    let all = frames(folder.path());
    for _ in 0..seed::steps(12) {
        let hit = seed::one_of(&mut rng, &all).unwrap();
        // The last eight bytes may be padding.
        let at = hit.offset + seed::below(&mut rng, hit.length - 8);
        let path = segment_path(&journal, hit.segment);
        let bit = seed::below(&mut rng, 8) as u32;
        flip(&path, at, bit);

        let report = fsck(folder.path());
        assert_eq!(report.damage.len(), 1);
        assert_eq!(records(folder.path()), before, "the index knows it all");
        let report = fsck_anew(folder.path());
        let name = format!("segment {:016x} at {}", hit.segment, hit.offset);
        assert!(
            report.damage.iter().any(|line| line.starts_with(&name)),
            "{:?}",
            report.damage
        );
        whole_but(folder.path(), &before, |segment, offset| {
            (segment, offset) == (hit.segment, hit.offset)
        });
        flip(&path, at, bit);
        assert_eq!(fsck(folder.path()).damage, [""; 0]);
    }
    assert_eq!(records(folder.path()), before);
}

#[test]
fn a_segment_that_is_cut_off_or_gone_is_named_and_the_others_are_read() {
    let mut rng = seed::rng(seed::asked().unwrap_or(12));
    let (folder, _) = History::play(3);
    let (journal, before) = (folder.path().join(JOURNAL), records(folder.path()));
    let last = Segments::open(&journal, None).unwrap().0.last().unwrap().0;
    for number in 2..last {
        let path = segment_path(&journal, number);
        let bytes = std::fs::read(&path).unwrap();
        let cut = 33 + seed::below(&mut rng, bytes.len() as u64 - 33);
        for length in [Some(cut), None] {
            match length {
                Some(length) => std::fs::write(&path, &bytes[..length as usize]).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let report = fsck_anew(folder.path());
            let name = format!("segment {number:016x}");
            assert!(
                report.damage.iter().any(|line| line.starts_with(&name)),
                "{:?}",
                report.damage
            );
            whole_but(folder.path(), &before, |segment, offset| {
                segment == number
                    && length.is_none_or(|length| {
                        offset + 24 > length || {
                            let frame = frames_of(&bytes, offset);
                            offset + frame > length
                        }
                    })
            });
            std::fs::write(&path, &bytes).unwrap();
        }
    }
    assert_eq!(fsck(folder.path()).damage, [""; 0]);
    assert_eq!(records(folder.path()), before);
}

/// Bytes of the frame at a place of a segment.
fn frames_of(segment: &[u8], offset: u64) -> u64 {
    let head = &segment[offset as usize..][..frame::HEAD_BYTES];
    frame::announced(head).unwrap() as u64
}

#[test]
fn a_segments_head_that_is_wrong_is_named_and_loses_nothing() {
    let (folder, _) = History::play(4);
    let before = rows(folder.path());
    let path = segment_path(&folder.path().join(JOURNAL), 2);
    let whole = std::fs::read(&path).unwrap();
    let name = "segment 0000000000000002 at 0: ";
    for bit in (0..256).step_by(5) {
        flip(&path, bit / 8, bit as u32 % 8);
        let report = fsck_anew(folder.path());
        assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
        assert!(report.damage[0].starts_with(name), "{:?}", report.damage);
        assert_eq!(rows(folder.path()), before, "bit {bit}");
        assert_eq!(std::fs::read(&path).unwrap(), whole, "it is as it was");
        assert_eq!(fsck(folder.path()).damage, [""; 0]);
    }

    // What cannot be known any more stays as it is.
    for at in [0, 8, 16, 24] {
        flip(&path, at, 3);
    }
    for _ in 0..2 {
        let report = fsck_anew(folder.path());
        assert!(report.damage[0].starts_with(name), "{:?}", report.damage);
        assert_eq!(rows(folder.path()), before);
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(fsck(folder.path()).damage, [""; 0]);
}

#[test]
fn a_file_that_is_damaged_or_gone_is_named_and_the_others_are_right() {
    let mut rng = seed::rng(seed::asked().unwrap_or(13));
    let (folder, _) = History::play(5);
    let before = rows(folder.path());
    let all = files(&folder.path().join("blobs"));
    for round in 0..seed::steps(12) {
        let path = seed::one_of(&mut rng, &all).unwrap();
        let bytes = std::fs::read(path).unwrap();
        match round % 3 {
            0 => {
                // The last four bytes of a footer are zeros that say nothing.
                let at = seed::below(&mut rng, bytes.len() as u64 - 4);
                flip(path, at, seed::below(&mut rng, 8) as u32);
            }
            1 => {
                let length = seed::below(&mut rng, bytes.len() as u64) as usize;
                std::fs::write(path, &bytes[..length]).unwrap();
            }
            _ => std::fs::remove_file(path).unwrap(),
        }
        let report = fsck(folder.path());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(BlobId::parse(name).is_some());
        assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
        assert!(report.damage[0].contains(name), "{:?}", report.damage);
        assert_eq!(rows(folder.path()), before, "facts are as they were");
        std::fs::write(path, &bytes).unwrap();
    }
    assert_eq!(fsck(folder.path()).damage, [""; 0]);
}
