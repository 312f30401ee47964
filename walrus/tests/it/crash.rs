//! Killed at any moment: what was acknowledged is there, nothing is half there, and fsck agrees.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{S3, pattern},
};

/// Rounds of kill and restart; each is a second or so.
const ROUNDS: u64 = 6;
const WRITERS: u64 = 6;

/// What a writer knows of its own key: what was acknowledged last, and what was sent after that and
/// never answered.
#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: Option<Vec<u8>>,
    in_doubt: Vec<Option<Vec<u8>>>,
}

type Journal = Arc<Mutex<BTreeMap<String, Known>>>;

/// The answer's text if the request was done.
async fn send(
    s3: &S3,
    method: &str,
    target: &str,
    body: &[u8],
) -> Option<crate::s3_client::Answer> {
    let answer = s3.send(s3.request(method, target, &[], body)).await?;
    answer.status.is_success().then_some(answer)
}

/// The same body as an upload of one part.
async fn upload(s3: &S3, target: &str, body: &[u8]) -> Option<crate::s3_client::Answer> {
    let id = send(s3, "POST", &format!("{target}?uploads"), b"")
        .await?
        .element("UploadId");
    let part = send(
        s3,
        "PUT",
        &format!("{target}?uploadId={id}&partNumber=1"),
        body,
    )
    .await?;
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        part.header("etag")
    );
    send(
        s3,
        "POST",
        &format!("{target}?uploadId={id}"),
        document.as_bytes(),
    )
    .await
}

async fn write(s3: S3, journal: Journal, writer: u64, round: u64) {
    for step in 0_u64.. {
        let key = format!("writer-{writer}/key-{}", step % 5);
        let target = format!("/bucket/{key}");
        let size = [10, 5_000, 20_000, 300_000][(step + writer) as usize % 4];
        let body = (step % 7 != 6).then(|| pattern(size, (step * 13 + round * 7 + writer) as u8));

        journal
            .lock()
            .unwrap()
            .entry(key.clone())
            .or_default()
            .in_doubt
            .push(body.clone());
        let done = match &body {
            Some(body) if step % 5 == 4 => upload(&s3, &target, body).await,
            Some(body) => send(&s3, "PUT", &target, body).await,
            None => send(&s3, "DELETE", &target, b"").await,
        };
        if done.is_none() {
            return;
        }
        let mut journal = journal.lock().unwrap();
        journal.insert(
            key,
            Known {
                acknowledged: body,
                in_doubt: Vec::new(),
            },
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_keeps_what_it_acknowledged() {
    let mut walrus = Walrus::start().await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    let journal = Journal::default();
    let mut checked = 0;

    for round in 0..ROUNDS {
        let writers = (0..WRITERS).map(|writer| {
            let fresh = S3::of(&walrus, ALICE);
            tokio::spawn(write(fresh, journal.clone(), writer, round))
        });
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(150 + 97 * round)).await;
        walrus.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        if round % 3 == 2 {
            let (right, said) = walrus.fsck();
            assert!(right, "{said}");
        }
        walrus.run().await;

        let s3 = S3::of(&walrus, ALICE);
        let known = journal.lock().unwrap().clone();
        for (key, mut known) in known {
            let answer = s3.get(&format!("/bucket/{key}")).await;
            let there = answer.status.is_success().then(|| answer.body.to_vec());
            known.in_doubt.push(known.acknowledged.clone());
            assert!(
                known.in_doubt.contains(&there),
                "round {round}: {key} is {:?} bytes, status {}",
                there.as_ref().map(Vec::len),
                answer.status
            );
            journal.lock().unwrap().insert(
                key,
                Known {
                    acknowledged: there,
                    in_doubt: vec![],
                },
            );
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} keys were checked");
    walrus.kill();
    let (right, said) = walrus.fsck();
    assert!(right && said.contains("orphans"), "{said}");
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
async fn rot_is_an_error_with_a_name_and_never_other_bytes() {
    let mut walrus = Walrus::start().await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    s3.put("/bucket/large", &pattern(200_000, 1)).await.ok();
    let blob = first_file(&walrus.state().join("objects/blobs"));
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&blob, bytes).unwrap();

    s3.get("/bucket/large").await.fails(500, "InternalError");
    walrus.kill();
    let (right, said) = walrus.fsck();
    assert!(
        !right && said.contains("block 0 is not what was written"),
        "{said}"
    );
}

fn first_file(folder: &std::path::Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .find_map(|path| {
            if path.is_dir() {
                try_first(&path)
            } else {
                Some(path)
            }
        })
        .unwrap()
}

fn try_first(folder: &std::path::Path) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .next()
        .map(|entry| entry.unwrap().path())
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
