//! Large bodies in another S3 store: the object tests again, and what is particular to it. The other
//! store is a second Walrus; those that begin with `any_` hold over Ceph's gateway too (`radosgw.rs`).

use std::{process::Command, time::Duration};

use testkit::seed;

use crate::{
    daemon_process::{ALICE, Walrus},
    other_store::OtherStore,
    s3_client::{S3, pattern},
    workload::Workload,
};

/// Tests that speak to a Walrus over HTTP and care nothing for where it keeps its bytes.
const OBJECT_TESTS: [&str; 6] = [
    "crash::killed",
    "http_api::",
    "http_multipart::",
    "http_encryption::",
    "import::",
    "clients::",
];

/// Runs tests of this very program again, with every Walrus over another store.
pub(crate) fn run_again(tests: &[&str], environment: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(tests)
        .args(["--test-threads", "2", "--skip", "long_"])
        .env("MALLEE_BLOBS", "another store")
        .envs(environment.iter().copied());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let passed = said.lines().find_map(|line| {
        let line = line.strip_prefix("test result: ok. ")?;
        line.split(' ').next()?.parse::<u32>().ok()
    });
    assert!(passed.is_some_and(|passed| passed > 20), "{said}");
}

#[test]
fn the_object_tests_pass_over_another_store() {
    run_again(&OBJECT_TESTS, &[]);
}

async fn over_another_store() -> (Walrus, S3) {
    let other = OtherStore::start().await;
    let mut walrus = Walrus::prepare_over(other, &[]).await;
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    (walrus, s3)
}

/// Looks again until it holds, or for 30 seconds.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

async fn until_keys(walrus: &Walrus, count: usize) {
    let other = walrus.other.as_ref().unwrap();
    let what = format!("{count} files in the other store");
    until(&what, async || {
        (other.keys().await.len() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_store_keeps_bodies_and_loses_what_nobody_needs() {
    let (mut walrus, s3) = over_another_store().await;
    // Three and a half parts, one part, less than the memory, in the journal.
    let sizes = [(29 << 20) + 17, 8 << 20, 100_000, 5_000];
    for (at, size) in sizes.into_iter().enumerate() {
        let data = pattern(size, at as u8);
        let key = format!("/bucket/{at}");
        s3.put(&key, &data).await.ok();
        assert!(s3.get(&key).await.ok().body == data, "{key}");
        for (from, to) in [(0, 0), (size / 3, size / 2), (size - 1, size - 1)] {
            let range = format!("bytes={from}-{to}");
            let part = s3.call("GET", &key, &[("range", &range)], b"").await.ok();
            assert!(part.body == data[from..=to], "{key} {range}");
        }
    }
    until_keys(&walrus, 3).await;
    assert!(!walrus.state().join("objects/blobs").exists());
    // A body that looks like a refusal is a body.
    let refusal = format!(
        "<Error><Code>SlowDown</Code><Message>{}</Message></Error>",
        "m".repeat(20_000)
    );
    s3.put("/bucket/refusal", refusal.as_bytes()).await.ok();
    assert!(s3.get("/bucket/refusal").await.ok().body == refusal.as_bytes());
    s3.delete("/bucket/refusal").await.ok();

    // A copy is made by the other store; each goes by itself.
    let from = [("x-amz-copy-source", "/bucket/0")];
    s3.call("PUT", "/bucket/copy", &from, b"").await.ok();
    until_keys(&walrus, 4).await;
    s3.delete("/bucket/0").await.ok();
    until_keys(&walrus, 3).await;
    assert!(s3.get("/bucket/copy").await.ok().body == pattern(sizes[0], 0));
    // Overwritten, and refused: neither leaves anything.
    s3.put("/bucket/1", &pattern(50_000, 9)).await.ok();
    let wrong = [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    let body = pattern(17 << 20, 1);
    s3.call("PUT", "/bucket/1", &wrong, &body)
        .await
        .fails(400, "BadDigest");
    until_keys(&walrus, 3).await;
    let other = walrus.other.as_ref().unwrap();
    until("no upload is left", async || {
        other.uploads().await.is_empty().then_some(())
    })
    .await;

    assert!(walrus.stop());
    let (right, said) = walrus.fsck();
    assert!(
        right && said.contains("files     3") && said.contains("orphans   0"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_a_clear_503_and_nothing_is_lost() {
    let (mut walrus, s3) = over_another_store().await;
    let (old, new) = (pattern(300_000, 1), pattern(300_000, 2));
    s3.put("/bucket/large", &old).await.ok();
    s3.put("/bucket/small", b"small").await.ok();

    walrus.store_below().kill();
    let begun = std::time::Instant::now();
    s3.get("/bucket/large")
        .await
        .fails(503, "ServiceUnavailable");
    let refused = s3
        .put("/bucket/large", &new)
        .await
        .fails(503, "ServiceUnavailable");
    assert!(
        refused.text().contains("store that keeps large objects"),
        "{}",
        refused.text()
    );
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
    // Once it is known to be away, nobody waits for it.
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        s3.put("/bucket/large", &new)
            .await
            .fails(503, "ServiceUnavailable");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    // What is here is served.
    assert_eq!(&s3.get("/bucket/small").await.ok().body[..], b"small");
    s3.put("/bucket/small", b"other").await.ok();
    let ready = format!("http://{}/readyz", walrus.admin);
    until("it is not ready", async || {
        let text = crate::s3_client::plain_text(&ready).await;
        text.contains("is away").then_some(())
    })
    .await;
    let (right, said) = walrus.says(&["--check"]);
    assert!(right, "{said}");

    // It comes back: so do we, without a restart. And we start without it.
    for restarts in [false, true] {
        if restarts {
            walrus.store_below().kill();
            walrus.kill();
            let (right, said) = walrus.fsck();
            assert!(
                !right && said.contains("away") && !said.contains("DAMAGE"),
                "{said}"
            );
            walrus.launch();
            until("it serves", async || {
                let answer = s3
                    .send(s3.request("GET", "/bucket/small", &[], b""))
                    .await?;
                answer.status.is_success().then_some(())
            })
            .await;
            s3.get("/bucket/large")
                .await
                .fails(503, "ServiceUnavailable");
        }
        walrus.store_below().run().await;
        let body = until("it is served again", async || {
            let answer = s3.get("/bucket/large").await;
            answer.status.is_success().then_some(answer.body)
        });
        assert!(body.await == old);
    }
    s3.put("/bucket/large", &new).await.ok();
    until_keys(&walrus, 1).await;
}

/// In the journal, one file, and three parts of an upload in the other store.
const SIZES: [usize; 6] = [10, 5_000, 20_000, 20_000, 300_000, 17 << 20];

/// Kills us, or the store below, or both at once, amid writes.
async fn either_is_killed(seed: u64, rounds: u64) {
    let _told = seed::Told {
        seed,
        steps: rounds,
    };
    let mut rng = seed::rng(seed);
    let (mut walrus, _) = over_another_store().await;
    let workload = Workload::of(&walrus, &SIZES).await;
    let mut checked = 0;
    for round in 0..rounds {
        let writers = workload.write(&walrus, seed * 1_000 + round);
        tokio::time::sleep(Duration::from_millis(200 + seed::below(&mut rng, 600))).await;
        // The first three rounds, of few, are one of each kind.
        let kind = if round < 3 {
            round
        } else {
            seed::below(&mut rng, 4)
        };
        let (kills_other, kills_us) =
            [(true, false), (true, true), (false, true), (false, true)][kind as usize];
        if kills_other {
            walrus.store_below().kill();
        }
        if kills_us {
            walrus.kill();
        }
        for writer in writers {
            writer.await.unwrap();
        }
        if kills_other {
            walrus.store_below().run().await;
        }
        if kills_us {
            if seed::per_mille(&mut rng, 200) {
                let (right, said) = walrus.fsck();
                assert!(right, "round {round}: {said}");
            }
            walrus.run().await;
        }
        let s3 = S3::of(&walrus, ALICE);
        until("the store is there again", async || {
            let answer = s3.get("/bucket/source").await;
            answer.status.is_success().then_some(())
        })
        .await;
        checked += workload.check(&walrus, &format!("round {round}")).await;
    }
    assert!(
        checked as u64 > rounds * 5,
        "only {checked} keys were checked"
    );
    // All that crashes left is found.
    walrus.stop();
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    for key in s3.get("/bucket").await.ok().elements("Key") {
        s3.delete(&format!("/bucket/{key}")).await.ok();
    }
    // Uploads that a killed writer began are its own: their parts are files that facts name.
    let begun = s3.get("/bucket?uploads").await.ok();
    for (key, id) in begun.elements("Key").iter().zip(begun.elements("UploadId")) {
        s3.delete(&format!("/bucket/{key}?uploadId={id}"))
            .await
            .ok();
    }
    until_keys(&walrus, 0).await;
    let other = walrus.other.as_ref().unwrap();
    until("no upload is left", async || {
        other.uploads().await.is_empty().then_some(())
    })
    .await;
}

campaign!(
    either_is_killed: either_store_may_be_killed_and_what_was_acknowledged_is_there(3, 6),
    long_either_store_is_killed_three_hundred_times(4, 300)
);

/// What an object is like while it goes through the other store in every way.
async fn comes_and_goes(s3: &S3) {
    let data = pattern((17 << 20) + 3, 1);
    s3.put("/bucket/large", &data).await.ok();
    assert!(s3.get("/bucket/large").await.ok().body == data);
    let range = [("range", "bytes=9000000-9000099")];
    let part = s3.call("GET", "/bucket/large", &range, b"").await.ok();
    assert!(part.body == data[9_000_000..9_000_100]);
    let from = [("x-amz-copy-source", "/bucket/large")];
    s3.call("PUT", "/bucket/copy", &from, b"").await.ok();
    s3.delete("/bucket/large").await.ok();
    assert!(s3.get("/bucket/copy").await.ok().body == data);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_https_only_a_store_that_the_ca_file_vouches_for_is_believed() {
    let mut other = OtherStore::start_own().await;
    other.is_https = true;
    let mut walrus = Walrus::prepare_over(other, &[]).await;
    walrus.run().await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    comes_and_goes(&s3).await;
    until_keys(&walrus, 1).await;

    // Somebody else's authority.
    let ca_file = walrus.folder.path().join("blobs.ca.pem");
    let vouched = std::fs::read(&ca_file).unwrap();
    let stranger = Walrus::prepare_plain(&std::env::temp_dir(), &[]).await;
    std::fs::write(&ca_file, stranger.authority_pem()).unwrap();
    assert!(walrus.stop());
    walrus.launch();
    until("it says why", async || {
        let answer = s3.send(s3.request("GET", "/bucket/copy", &[], b"")).await?;
        answer.fails(503, "ServiceUnavailable");
        let ready = format!("http://{}/readyz", walrus.admin);
        let text = crate::s3_client::plain_text(&ready).await;
        text.contains("certificate").then_some(())
    })
    .await;

    assert!(walrus.stop());
    std::fs::write(&ca_file, vouched).unwrap();
    walrus.run().await;
    until("it is served", async || {
        let answer = s3.get("/bucket/copy").await;
        answer.status.is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_store_is_swept_of_what_a_crash_left() {
    let (mut walrus, s3) = over_another_store().await;
    s3.put("/bucket/large", &pattern(100_000, 1)).await.ok();
    assert!(walrus.stop());

    // A file whose fact was never written, an upload that nobody ends, and what is not ours at all.
    let other = walrus.other.as_ref().unwrap();
    let (theirs, bucket) = (other.s3(), other.bucket.clone());
    let name = "ab".repeat(16);
    theirs
        .put(&format!("/{bucket}/large/ab/{name}"), b"orphan")
        .await
        .ok();
    theirs
        .call(
            "POST",
            &format!("/{bucket}/large/ab/{name}?uploads"),
            &[],
            b"",
        )
        .await
        .ok();
    theirs
        .put(&format!("/{bucket}/large/readme"), b"for people")
        .await
        .ok();
    theirs
        .put(&format!("/{bucket}/ab/{name}"), b"beside the prefix")
        .await
        .ok();

    let (right, said) = walrus.fsck();
    assert!(right && said.contains("orphans   1"), "{said}");
    walrus.run().await;
    let other = walrus.other.as_ref().unwrap();
    until("the sweep", async || {
        let clean = other.keys().await.len() == 2 && other.uploads().await.is_empty();
        clean.then_some(())
    })
    .await;
    theirs.get(&format!("/{bucket}/large/readme")).await.ok();
    theirs.get(&format!("/{bucket}/ab/{name}")).await.ok();
    let s3 = S3::of(&walrus, ALICE);
    assert!(s3.get("/bucket/large").await.ok().body == pattern(100_000, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_stores_rot_is_named_and_never_served() {
    let (mut walrus, s3) = over_another_store().await;
    let data = pattern(1 << 20, 1);
    s3.put("/bucket/rots", &data).await.ok();
    s3.put("/bucket/stays", &data).await.ok();
    s3.put("/bucket/goes", &pattern(20_000, 2)).await.ok();
    until_keys(&walrus, 3).await;

    let other = walrus.other.as_ref().unwrap();
    let (theirs, bucket) = (other.s3(), other.bucket.clone());
    let (mut rotten, mut gone) = (String::new(), String::new());
    for key in other.keys().await {
        let place = format!("/{bucket}/{key}");
        let mut bytes = theirs.get(&place).await.ok().body.to_vec();
        if bytes.len() < 100_000 {
            theirs.delete(&place).await.ok();
            gone = key;
        } else if rotten.is_empty() {
            bytes[700_000] ^= 4;
            theirs.put(&place, &bytes).await.ok();
            rotten = key;
        }
    }
    // In front of the damage it is served; at the damage the connection is cut.
    let mut wrong = 0;
    for key in ["/bucket/rots", "/bucket/stays"] {
        match s3.send(s3.request("GET", key, &[], b"")).await {
            Some(answer) => assert!(answer.ok().body == data),
            None => wrong += 1,
        }
    }
    assert_eq!(wrong, 1);
    s3.get("/bucket/goes").await.fails(500, "InternalError");

    assert!(walrus.stop());
    let (right, said) = walrus.fsck();
    assert!(!right && said.contains("2 places are damaged"), "{said}");
    let line = said.lines().find(|line| line.contains(&rotten)).unwrap();
    assert!(line.contains("block 10 is not what was written"), "{line}");
    assert!(said.contains(&gone), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bucket_has_one_of_us() {
    let (walrus, s3) = over_another_store().await;
    s3.put("/bucket/large", &pattern(100_000, 1)).await.ok();
    let other = walrus.other.as_ref().unwrap();

    let mut second = Walrus::prepare_plain(&std::env::temp_dir(), &[]).await;
    second.add_sets(other.sets(second.folder.path()));
    second.launch();
    assert!(!second.ended().await);
    let (right, said) = second.fsck();
    assert!(
        !right && said.contains("belongs to another Walrus"),
        "{said}"
    );
    // Neither did that delete anything.
    assert!(s3.get("/bucket/large").await.ok().body == pattern(100_000, 1));

    // Who takes the place of one that is gone says so.
    let mark = other
        .s3()
        .get(&format!("/{}/large/owner", other.bucket))
        .await
        .ok();
    std::fs::write(second.state().join("objects/blobs.owner"), &mark.body).unwrap();
    drop(s3);
    let (right, said) = second.fsck();
    assert!(right && said.contains("orphans   1"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_key_is_exchanged_without_a_restart_and_never_told() {
    let (mut walrus, s3) = over_another_store().await;
    s3.put("/bucket/large", &pattern(100_000, 1)).await.ok();
    assert!(walrus.stop());
    let other = walrus.other.take().unwrap();
    let file = walrus.folder.path().join("blobs.credentials");

    // A key that is denied is no lost object.
    other.write_key(&file, "another-secret");
    for command in ["fsck", "--check"] {
        let (right, said) = walrus.says(&[command]);
        assert_eq!(right, command == "--check", "{said}");
        assert!(
            !said.contains("another-secret") && !said.contains("DAMAGE"),
            "{said}"
        );
    }
    walrus.launch();
    until("it is denied", async || {
        let answer = s3
            .send(s3.request("GET", "/bucket/large", &[], b""))
            .await?;
        Some(answer.fails(503, "ServiceUnavailable"))
    })
    .await;
    // The right one is taken as soon as it is there.
    other.write_key(&file, other.secret());
    let body = until("it is served", async || {
        let answer = s3.get("/bucket/large").await;
        answer.status.is_success().then_some(answer.body)
    });
    assert!(body.await == pattern(100_000, 1));
}

#[tokio::test]
async fn what_cannot_be_right_is_said_by_check() {
    let walrus = Walrus::prepare_plain(&std::env::temp_dir(), &[]).await;
    let file = walrus.folder.path().join("key");
    std::fs::write(&file, "aws_access_key_id=a\n").unwrap();
    let file = format!("blobs.credentials_file={}", file.display());
    for (sets, why) in [
        (vec!["blobs.bucket=large"], "blobs.url is missing"),
        (
            vec!["blobs.url=http://h", "blobs.bucket=large"],
            "blobs.credentials_file is missing",
        ),
        (
            vec!["blobs.url=http://h", "blobs.bucket=l", file.as_str()],
            "blobs.bucket",
        ),
        (
            vec!["blobs.url=h", "blobs.bucket=large", file.as_str()],
            "blobs.url",
        ),
        (
            vec![
                "blobs.url=http://h",
                "blobs.bucket=large",
                "storage.blobs_dir=/srv",
                file.as_str(),
            ],
            "exclude each other",
        ),
        (
            vec!["blobs.url=http://h", "blobs.bucket=large", file.as_str()],
            "everybody may read it",
        ),
        (vec!["blobs.uri=http://h"], "url"),
    ] {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let (right, said) = walrus.says(&sets.chain(["--check"]).collect::<Vec<_>>());
        assert!(!right && said.contains(why), "{why}: {said}");
    }
}
