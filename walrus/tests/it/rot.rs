//! A flipped bit in every kind of file: it is found, it is named, and nobody is ever given other
//! bytes than those that were written.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{S3, pattern, plain_text},
};

/// As fast as it can, pass after pass.
const SCRUBBING: [&str; 2] = [
    "storage.scrub_mib_per_s=1000",
    "storage.scrub_every_hours=0",
];

/// The number that a metric shows.
async fn metric(walrus: &Walrus, name: &str) -> u64 {
    let text = plain_text(&format!("http://{}/metrics", walrus.admin)).await;
    let value = text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        found.ends_with(name).then(|| value.parse().unwrap())
    });
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

async fn until_metric(walrus: &Walrus, name: &str, least: u64) {
    let until = Instant::now() + Duration::from_secs(30);
    while metric(walrus, name).await < least {
        assert!(Instant::now() < until, "{name} does not reach {least}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The journal, oldest first.
fn segments(walrus: &Walrus) -> Vec<PathBuf> {
    let mut found = files_below(&walrus.state().join("objects/journal"));
    found.sort();
    found
}

fn lose_index(walrus: &Walrus) {
    for end in ["", "-wal", "-shm"] {
        let index = format!("objects/index.sqlite{end}");
        let _ = std::fs::remove_file(walrus.state().join(index));
    }
}

/// Flips one bit wherever those bytes stand in a file; says how often they do.
fn flip(path: &Path, bytes: &[u8]) -> usize {
    let mut content = std::fs::read(path).unwrap_or_default();
    let places: Vec<usize> = content
        .windows(bytes.len())
        .enumerate()
        .filter_map(|(at, window)| (window == bytes).then_some(at))
        .collect();
    for at in &places {
        content[*at] ^= 1;
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &content[*at..=*at], *at as u64).unwrap();
    }
    places.len()
}

/// Waits until a pass that began from now on has ended.
async fn until_scrubbed(walrus: &Walrus) {
    let text = std::fs::read(walrus.state().join("objects/scrub.json")).unwrap_or_default();
    let kept: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    // Written at the end of each pass, those before the last start included; one may be under way.
    let ended = kept["passes"].as_u64().unwrap_or_default();
    until_metric(walrus, "scrub_passes", ended + 2).await;
}

/// A Walrus with a small and a large object, started twice: so one segment is sealed.
async fn with_objects(sets: &[&str]) -> (Walrus, S3) {
    let mut walrus = Walrus::start_with(sets).await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    s3.put("/bucket/small", &pattern(5_000, 7)).await.ok();
    s3.put("/bucket/large", &pattern(200_000, 1)).await.ok();
    assert!(walrus.stop());
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    (walrus, s3)
}

#[tokio::test]
async fn the_scrub_finds_a_flipped_bit_and_nobody_is_served_it() {
    let (mut walrus, s3) = with_objects(&SCRUBBING).await;
    until_scrubbed(&walrus).await;
    assert_eq!(metric(&walrus, "damaged_places").await, 0);

    // In a file.
    let blob = files_below(&walrus.state().join("objects/blobs")).remove(0);
    assert!(flip(&blob, &pattern(200_000, 1)[1000..2000]) > 0);
    s3.get("/bucket/large").await.fails(500, "InternalError");
    until_metric(&walrus, "damaged_places", 1).await;

    // In a sealed segment of the journal.
    let segment = segments(&walrus).remove(0);
    assert!(flip(&segment, &pattern(5_000, 7)[3000..4000]) > 0);
    s3.get("/bucket/small").await.fails(500, "InternalError");
    until_metric(&walrus, "damaged_places", 2).await;
    until_scrubbed(&walrus).await;

    let (right, said) = walrus.says(&["scrub"]);
    let both = said.contains("block 0 is not what was written") && said.contains("checksum");
    assert!(!right && both, "{said}");
    walrus.kill();
    let (right, said) = walrus.says(&["fsck"]);
    assert!(!right && said.contains("2 places are damaged"), "{said}");
}

#[tokio::test]
async fn a_segments_head_that_rots_is_named_mended_and_stops_nothing() {
    let (mut walrus, _) = with_objects(&SCRUBBING).await;
    let segments = segments(&walrus);
    let whole: Vec<_> = segments.iter().map(std::fs::read).collect();
    // The one with the objects, that says nothing of another; and the one that seals it.
    for segment in &segments {
        walrus.kill();
        assert_eq!(flip(segment, b"MWSEGM01"), 1);
        lose_index(&walrus);

        walrus.run().await;
        let s3 = S3::of(&walrus, ALICE);
        assert!(s3.get("/bucket/small").await.ok().body == pattern(5_000, 7));
        assert!(s3.get("/bucket/large").await.ok().body == pattern(200_000, 1));
        s3.put("/bucket/later", b"later").await.ok();
        until_scrubbed(&walrus).await;
        assert_eq!(metric(&walrus, "damaged_places").await, 1);
        let (right, said) = walrus.says(&["scrub"]);
        let name = segment.file_stem().unwrap().to_str().unwrap();
        let line = format!("segment {name} at 0: bits of its head");
        assert!(!right && said.contains(&line), "{said}");

        walrus.kill();
        let (right, said) = walrus.fsck();
        assert!(!right && said.contains("1 places are damaged"), "{said}");
        assert!(said.contains(&line), "{said}");
        let (right, said) = walrus.fsck();
        assert!(right, "{said}");
        walrus.run().await;
        until_scrubbed(&walrus).await;
        assert_eq!(metric(&walrus, "damaged_places").await, 0);
    }
    for (path, whole) in segments.iter().zip(whole) {
        assert!(std::fs::read(path).unwrap().starts_with(&whole.unwrap()));
    }
    let s3 = S3::of(&walrus, ALICE);
    assert_eq!(&s3.get("/bucket/later").await.ok().body[..], b"later");
}

#[tokio::test]
async fn the_last_write_is_not_taken_for_a_torn_one_if_the_index_knows_better() {
    let (mut walrus, s3) = with_objects(&SCRUBBING).await;
    let last = pattern(9_000, 5);
    s3.put("/bucket/last", &last).await.ok();
    assert!(walrus.stop());
    let segment = segments(&walrus).pop().unwrap();
    let rot = |bytes: &[u8]| assert_eq!(flip(&segment, bytes), 1);
    let flipped = [&[last[3000] ^ 1], &last[3001..4000]].concat();

    rot(&last[3000..4000]);
    for _ in 0..2 {
        let (right, said) = walrus.fsck();
        assert!(!right && said.contains("1 places are damaged"), "{said}");
    }
    rot(&flipped);
    assert!(walrus.fsck().0);
    rot(&last[3000..4000]);
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    s3.get("/bucket/last").await.fails(500, "InternalError");
    until_scrubbed(&walrus).await;
    assert_eq!(metric(&walrus, "damaged_places").await, 1);
    walrus.kill();
    rot(&flipped);
    assert!(walrus.fsck().0);
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    assert!(s3.get("/bucket/last").await.ok().body == last);
}

#[tokio::test]
async fn a_file_whose_fact_cannot_be_read_is_there_when_it_can_again() {
    let (mut walrus, s3) = with_objects(&SCRUBBING).await;
    s3.put("/bucket/later", b"later").await.ok();
    walrus.kill();
    let segment = segments(&walrus).remove(0);
    let blobs = walrus.state().join("objects/blobs");
    assert_eq!(flip(&segment, b"\"key\":\"large\""), 1);
    // As long as the index is there, it knows.
    let (right, said) = walrus.fsck();
    assert!(!right && said.contains("orphans   0"), "{said}");
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    assert!(s3.get("/bucket/large").await.ok().body == pattern(200_000, 1));
    walrus.kill();
    lose_index(&walrus);
    let (right, said) = walrus.fsck();
    assert!(!right && said.contains("orphans   1"), "{said}");

    // Nobody knows that it is an object, at this start and at each later one; it is no orphan either.
    for _ in 0..2 {
        walrus.run().await;
        let s3 = S3::of(&walrus, ALICE);
        assert!(s3.get("/bucket/small").await.ok().body == pattern(5_000, 7));
        s3.get("/bucket/large").await.fails(404, "NoSuchKey");
        assert_eq!(files_below(&blobs).len(), 1);
        assert!(walrus.stop());
    }
    // The segment is restored.
    assert_eq!(flip(&segment, b"#key\":\"large\""), 1);
    let (right, said) = walrus.fsck();
    assert!(right && said.contains("orphans   0"), "{said}");
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    assert!(s3.get("/bucket/large").await.ok().body == pattern(200_000, 1));
}

#[tokio::test]
async fn a_flipped_bit_in_the_index_is_found_and_the_index_made_anew() {
    let (mut walrus, s3) = with_objects(&SCRUBBING).await;
    let etag = s3
        .get("/bucket/small")
        .await
        .ok()
        .header("etag")
        .trim_matches('"')
        .to_owned();
    let index = walrus.state().join("objects/index.sqlite");
    let wal = walrus.state().join("objects/index.sqlite-wal");
    let flipped = flip(&index, etag.as_bytes()) + flip(&wal, etag.as_bytes());
    assert!(flipped > 0);

    // The scrub finds it, Walrus ends, and the next start has a new index.
    assert!(!walrus.ended().await);
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    assert_eq!(
        s3.get("/bucket/small").await.ok().header("etag"),
        format!("\"{etag}\"")
    );
    assert!(s3.get("/bucket/large").await.ok().body == pattern(200_000, 1));
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_stops_the_start_by_name_and_nothing_is_lost_by_that() {
    let (mut walrus, _) = with_objects(&["storage.scrub_mib_per_s=0"]).await;
    walrus.kill();
    for segment in segments(&walrus) {
        // A folder in its place gives an error to whoever reads it, as a bad sector does.
        let aside = segment.with_extension("aside");
        std::fs::rename(&segment, &aside).unwrap();
        std::fs::create_dir(&segment).unwrap();
        for arguments in [&[][..], &["fsck"], &["fsck", "--give-up"]] {
            let (right, said) = walrus.says(arguments);
            let named = format!("{} cannot be read", segment.display());
            assert!(!right && said.contains(&named), "{arguments:?}: {said}");
            assert!(said.contains("`mallee-walrus fsck` there"), "{said}");
        }
        std::fs::remove_dir(&segment).unwrap();
        std::fs::rename(&aside, &segment).unwrap();
    }
    let (right, said) = walrus.fsck();
    assert!(right, "{said}");
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    assert!(s3.get("/bucket/small").await.ok().body == pattern(5_000, 7));
    assert!(s3.get("/bucket/large").await.ok().body == pattern(200_000, 1));
}

/// Writes all of a stopped Walrus's index into the database itself, so that nothing is replayed.
fn settled_index(walrus: &Walrus) -> PathBuf {
    let index = walrus.state().join("objects/index.sqlite");
    let checkpoint = rusqlite::Connection::open(&index).unwrap();
    let all = "PRAGMA wal_checkpoint(TRUNCATE)";
    checkpoint.query_row(all, [], |_| Ok(())).unwrap();
    index
}

#[tokio::test]
async fn a_flipped_bit_in_a_key_of_the_index_makes_nothing_absent() {
    for row in [&b"bucketsmall"[..], b"bucket111111111111"] {
        let (mut walrus, _) = with_objects(&["storage.scrub_mib_per_s=0"]).await;
        walrus.kill();
        let index = settled_index(&walrus);
        assert_eq!(flip(&index, row), 1);
        is_told_to_come_again(&mut walrus).await;
    }
}

/// A read meets damage in the index: the client is told to come again, Walrus ends, and after its next
/// start the object is there.
async fn is_told_to_come_again(walrus: &mut Walrus) {
    walrus.run().await;
    let s3 = S3::of(walrus, ALICE);
    s3.get("/bucket/small")
        .await
        .fails(503, "ServiceUnavailable");
    assert!(!walrus.ended().await);
    walrus.run().await;
    let s3 = S3::of(walrus, ALICE);
    assert!(s3.get("/bucket/small").await.ok().body == pattern(5_000, 7));
}

#[tokio::test]
async fn a_reader_that_meets_a_flipped_bit_in_the_index_is_told_to_come_again() {
    let (mut walrus, s3) = with_objects(&["storage.scrub_mib_per_s=0"]).await;
    let etag = s3
        .get("/bucket/small")
        .await
        .ok()
        .header("etag")
        .trim_matches('"')
        .to_owned();
    walrus.kill();
    let index = settled_index(&walrus);
    assert_eq!(flip(&index, etag.as_bytes()), 1);
    is_told_to_come_again(&mut walrus).await;
}
