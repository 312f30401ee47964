//! Killed at any moment: what was acknowledged is there, nothing is half there, and fsck agrees.

use std::time::Duration;

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

campaign!(
    kill_again_and_again: killed_at_any_moment_it_keeps_what_it_acknowledged(1, 8),
    long_killed_a_thousand_times(2, 1_000)
);

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
