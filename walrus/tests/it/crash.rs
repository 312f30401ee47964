//! Killed at any moment: what was acknowledged is there, nothing is half there, and fsck agrees.

use std::{collections::BTreeMap, time::Duration};

use testkit::seed;

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{S3, pattern},
    workload::Workload,
};

async fn kill_again_and_again(seed: u64, rounds: u64) {
    let _told = seed::Told {
        seed,
        steps: rounds,
    };
    let mut rng = seed::rng(seed);
    let mut walrus = Walrus::start().await;
    let workload = Workload::begin(&walrus).await;

    let mut checked = 0;
    for round in 0..rounds {
        let writers = workload.write(&walrus, seed * 1_000 + round);
        tokio::time::sleep(Duration::from_millis(50 + seed::below(&mut rng, 500))).await;
        walrus.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        if seed::per_mille(&mut rng, 200) {
            let (right, said) = walrus.fsck();
            assert!(right, "round {round}: {said}");
        }
        walrus.run().await;
        checked += workload.check(&walrus, &format!("round {round}")).await;
    }
    assert!(
        checked as u64 > rounds * 5,
        "only {checked} keys were checked"
    );
    assert!(walrus.stop());
    let (right, said) = walrus.fsck();
    assert!(right && said.contains("orphans   0"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_keeps_what_it_acknowledged() {
    kill_again_and_again(seed::asked().unwrap_or(1), seed::steps(8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_killed_a_thousand_times() {
    if crate::is_long() {
        kill_again_and_again(2, 1_000).await;
    }
}

#[tokio::test]
async fn an_index_that_is_lost_or_damaged_is_made_anew() {
    let mut walrus = Walrus::start().await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    for (i, size) in [10, 100_000].into_iter().enumerate() {
        s3.put(&format!("/bucket/{i}"), &pattern(size, 1))
            .await
            .ok();
    }
    let index = walrus.state().join("objects/index.sqlite");
    let damages: [&dyn Fn(); 3] = [
        &|| std::fs::remove_file(&index).unwrap(),
        &|| std::fs::write(&index, b"this is no database, it only looks like a file").unwrap(),
        &|| std::fs::write(&index, b"").unwrap(),
    ];
    for damage in damages {
        walrus.kill();
        damage();
        for end in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", index.display()));
        }
        walrus.run().await;
        let s3 = S3::of(&walrus, ALICE);
        assert_eq!(s3.get("/bucket").await.ok().elements("Key"), ["0", "1"]);
        assert!(s3.get("/bucket/1").await.ok().body == pattern(100_000, 1));
    }
}

#[tokio::test]
async fn two_daemons_never_share_a_folder() {
    let walrus = Walrus::start().await;
    let (right, said) = walrus.fsck();
    assert!(
        !right && said.contains("another process uses this folder"),
        "{said}"
    );
}

#[tokio::test]
async fn host_a_disk_that_fills_up_loses_nothing_and_recovers_by_deleting() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: mounting a small disk needs root");
        return;
    }
    let walrus = Walrus::start_on_small_disk(32).await;
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
