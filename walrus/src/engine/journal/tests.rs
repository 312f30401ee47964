//! What is torn, damaged or moved in a journal, and what is read of it then.

use super::*;
use crate::engine::facts::Fact;

fn gone(key: &str) -> Fact {
    Fact::ObjectGone {
        bucket: s3::BucketName::parse("bucket").unwrap(),
        key: s3::Key::parse(key).unwrap(),
        version: s3::VersionId::null(),
    }
}

/// Writes batches 1, 2, … of two frames each into the first segment.
fn written(folder: &Path, batches: u64) -> Vec<Location> {
    let mut journal = Journal::begin(folder, 1, 0).unwrap();
    let mut places = Vec::new();
    for batch in 1..=batches {
        let mut bytes = Vec::new();
        for name in ["a", "b"] {
            let offset = journal.end() + bytes.len() as u64;
            let length = frame::write(&mut bytes, batch, &[gone(name)], b"body") as u64;
            places.push(Location {
                segment: 1,
                offset,
                length,
            });
        }
        journal.append(&bytes).unwrap();
    }
    places
}

fn scanned(folder: &Path) -> (Vec<Location>, Vec<Damage>) {
    let segments = Segments::open(folder, None).unwrap();
    let mut scan = segments.scan(folder, None);
    let mut found = Vec::new();
    while let Some((at, _)) = scan.next_frame().unwrap() {
        found.push(at);
    }
    (found, scan.damage)
}

#[test]
fn a_torn_tail_is_no_damage_wherever_it_is_torn() {
    let folder = tempfile::tempdir().unwrap();
    let places = written(folder.path(), 3);
    let path = segment_path(folder.path(), 1);
    let whole = std::fs::read(&path).unwrap();

    for cut in (SEGMENT_HEAD_BYTES as usize..whole.len()).step_by(7) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (found, damage) = scanned(folder.path());
        let expect = places
            .iter()
            .filter(|at| at.offset + at.length <= cut as u64)
            .count();
        assert_eq!((found.len(), damage), (expect, vec![]), "cut at {cut}");
    }
}

#[test]
fn a_hole_in_the_last_batch_is_torn_and_in_an_earlier_one_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let places = written(folder.path(), 4);
    let path = segment_path(folder.path(), 1);
    let whole = std::fs::read(&path).unwrap();
    let with_hole = |at: &Location| {
        let mut bytes = whole.clone();
        bytes[at.offset as usize + 30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        scanned(folder.path())
    };

    let (found, damage) = with_hole(&places[6]);
    assert_eq!(
        (found.len(), damage.len()),
        (6, 0),
        "frame 7 was never acknowledged"
    );
    let known = (1, places[7].offset + places[7].length);
    let segments = Segments::open(folder.path(), Some(known)).unwrap();
    let mut scan = segments.scan(folder.path(), None);
    while scan.next_frame().unwrap().is_some() {}
    assert_eq!(
        scan.damage.len(),
        1,
        "an index that knows it says that it was"
    );
    assert_eq!(segments.0, [known]);

    let (found, damage) = with_hole(&places[2]);
    assert_eq!(
        (found.len(), damage.len()),
        (7, 1),
        "frame 2 was: its loss is reported"
    );
}

/// A second segment, which says that the first one ends there; all places that count, and its path.
fn followed(folder: &Path, end: u64) -> (Vec<Location>, PathBuf) {
    let mut next = Journal::begin(folder, 2, end).unwrap();
    let mut bytes = Vec::new();
    frame::write(&mut bytes, 3, &[gone("c")], b"body");
    next.append(&bytes).unwrap();
    (scanned(folder).0, segment_path(folder, 2))
}

/// The same, when the first one's last frames were refused.
fn with_a_void_tail(folder: &Path) -> (Vec<Location>, PathBuf) {
    let places = written(folder, 2);
    followed(folder, places[2].offset)
}

#[test]
fn a_flipped_bit_in_a_head_is_named_and_changes_nothing_of_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (places, path) = with_a_void_tail(folder.path());
    assert_eq!(places.len(), 3);
    let whole = std::fs::read(&path).unwrap();
    for bit in 0..SEGMENT_HEAD_BYTES as usize * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &bytes).unwrap();

        let (found, damage) = scanned(folder.path());
        assert_eq!(found, places, "bit {bit}");
        assert_eq!(
            (damage.len(), damage[0].segment, damage[0].offset),
            (1, 2, 0)
        );
        assert_eq!(mend_heads(folder.path()).unwrap().len(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), whole, "bit {bit}");
        assert_eq!(scanned(folder.path()), (places.clone(), vec![]));
    }
    assert_eq!(mend_heads(folder.path()).unwrap(), []);
}

#[test]
fn a_head_that_says_nothing_is_named_and_loses_no_frame() {
    let folder = tempfile::tempdir().unwrap();
    let last = written(folder.path(), 2)[3];
    let (places, path) = followed(folder.path(), last.offset + last.length);
    assert_eq!(places.len(), 5);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..SEGMENT_HEAD_BYTES as usize].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    settle(folder.path()).unwrap();
    let (found, damage) = scanned(folder.path());
    assert_eq!((found, damage.len()), (places, 1));
    assert_eq!(mend_heads(folder.path()).unwrap(), []);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn the_frames_of_another_segment_are_not_read_a_second_time() {
    let folder = tempfile::tempdir().unwrap();
    let (places, path) = with_a_void_tail(folder.path());
    std::fs::copy(segment_path(folder.path(), 1), &path).unwrap();
    let (found, damage) = scanned(folder.path());
    assert_eq!(found.iter().filter(|at| at.segment == 2).count(), 0);
    assert!(places[..2].iter().all(|place| found.contains(place)));
    assert!(
        damage[0].why.contains("this is segment 0000000000000001"),
        "{damage:?}"
    );
}

#[test]
fn only_what_was_torn_is_removed_and_never_while_somebody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let places = written(folder.path(), 1);
    let path = segment_path(folder.path(), 2);
    for torn in [&[][..], &[0; 32], b"MWSEGM01"] {
        std::fs::write(&path, torn).unwrap();
        // The scrub looks while the committer begins a segment.
        assert_eq!(Segments::sealed(folder.path()).unwrap().0, []);
        assert_eq!(Segments::open(folder.path(), None).unwrap().0.len(), 2);
        assert!(path.exists());
        settle(folder.path()).unwrap();
        assert!(!path.exists());
    }
    Journal::begin(folder.path(), 2, places[1].offset + places[1].length).unwrap();
    let sealed = Segments::sealed(folder.path()).unwrap().0;
    assert_eq!(sealed, [(1, places[1].offset + places[1].length)]);
    // A segment that a start began, and that nothing was written to.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..8].fill(7);
    std::fs::write(&path, &bytes).unwrap();
    settle(folder.path()).unwrap();
    assert!(path.exists());
}

#[test]
fn what_lies_behind_a_sealed_end_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let places = written(folder.path(), 2);
    Journal::begin(folder.path(), 2, places[2].offset).unwrap();
    let (found, damage) = scanned(folder.path());
    assert_eq!((found.len(), damage), (2, vec![]));
}
