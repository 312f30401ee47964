//! No room left, in bytes or in names: writes are refused by their code, reads and deletes go on.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{S3, pattern},
};

fn may_mount() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: mounting a small disk needs root");
    }
    is_root
}

#[tokio::test]
async fn host_a_disk_that_fills_up_loses_nothing_and_recovers_by_deleting() {
    if !may_mount() {
        return;
    }
    let walrus = Walrus::start_on_small_disk("size=32m").await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();

    // Small bodies fill the journal, large ones make files: both end in the same refusal, early
    // enough for deletes to work.
    let mut kept = BTreeMap::new();
    let mut refused = 0;
    for i in 0..200_u8 {
        let data = pattern(if i % 2 == 0 { 15_000 } else { 1_000_000 }, i);
        let key = format!("/bucket/{i}");
        let answer = s3.put(&key, &data).await;
        if answer.status.is_success() {
            kept.insert(key, data);
        } else {
            answer.fails(507, "InsufficientStorage");
            refused += 1;
        }
    }
    assert!(refused > 0 && kept.len() > 10);
    for (key, data) in &kept {
        assert!(s3.get(key).await.ok().body == *data, "{key}");
    }
    for key in kept.keys() {
        s3.delete(key).await.ok();
    }
    let mut answer = s3.put("/bucket/again", &pattern(1_000_000, 1)).await;
    for _ in 0..100 {
        if answer.status.is_success() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        answer = s3.put("/bucket/again", &pattern(1_000_000, 1)).await;
    }
    answer.ok();
}

#[tokio::test]
async fn host_a_disk_without_inodes_refuses_files_and_takes_what_needs_none() {
    if !may_mount() {
        return;
    }
    // 256 folders, the journal, the index and its companions, and a few files.
    let walrus = Walrus::start_on_small_disk("size=256m,nr_inodes=300").await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();

    let (mut kept, mut refused) = (Vec::new(), 0);
    for i in 0..80_u8 {
        let key = format!("/bucket/{i}");
        let answer = s3.put(&key, &pattern(100_000, i)).await;
        if answer.status.is_success() {
            kept.push((key, pattern(100_000, i)));
        } else {
            answer.fails(507, "InsufficientStorage");
            refused += 1;
        }
    }
    assert!(
        refused > 0 && kept.len() > 5,
        "{refused} refused, {} kept",
        kept.len()
    );
    // What lies in the journal needs no name of its own.
    s3.put("/bucket/small", &pattern(1000, 1)).await.ok();
    for (key, data) in &kept {
        assert!(s3.get(key).await.ok().body == *data, "{key}");
    }
    for (key, _) in &kept {
        s3.delete(key).await.ok();
    }
    let again = async || {
        let answer = s3.put("/bucket/again", &pattern(100_000, 1)).await;
        answer.status.is_success()
    };
    for _ in 0..100 {
        if again().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no file can be made after all were deleted");
}
