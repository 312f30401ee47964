//! A bucket of a million keys, made through the engine itself, and how long a page of it takes.

use std::{path::Path, time::Instant};

use bytes::Bytes;
use s3::{BucketName, conditions::WriteConditions};
use walrus::engine::{
    Bucket, Change, Engine, Object, Places, Tuning,
    change::{PutChange, SameBucket},
};

use crate::{
    daemon_process::ALICE,
    load::{Connection, Request},
    peers::{Peer, signed},
    targets::Target,
};

const KEYS: usize = 1_000_000;
const BATCH: usize = 512;
/// Pages that are asked for, spread over the bucket.
const PAGES: usize = 40;

pub(crate) fn page(runtime: &tokio::runtime::Runtime, folder: &Path) -> Target {
    println!("\na page of a bucket of {KEYS} keys");
    let begun = Instant::now();
    let peer = Peer::walrus_with(runtime, folder, |state| {
        runtime.block_on(fill(&Places::below(&state.join("objects"))));
        // What a first start makes: a store that holds something does not start without.
        std::fs::write(state.join("encryption.key"), [1; 32]).unwrap();
    });
    println!("  made in {:.0} s", begun.elapsed().as_secs_f64());

    let mut connection = Connection::open(peer.address);
    let mut took: Vec<f64> = (0..PAGES)
        .map(|at| {
            let after = key(at * KEYS / PAGES);
            let target = format!("/million?list-type=2&max-keys=1000&start-after={after}");
            let head = signed(
                "GET",
                &target,
                peer.address,
                ALICE.id,
                ALICE.secret,
                "mallee-1",
                0,
            );
            let request = Request {
                head,
                body: Default::default(),
            };
            let begun = Instant::now();
            connection.call(&request);
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    let (p50, most) = (took[PAGES / 2], took[PAGES - 1]);
    println!(
        "  p50 {p50:.1} ms, the slowest of {PAGES} {most:.1} ms, {:.0} MiB",
        peer.most_memory_mib()
    );
    Target::at_most("a page of a bucket of 1,000,000 keys: p50 ms", p50, 50.0)
}

fn key(number: usize) -> String {
    format!("folder-{:03}/object-{number:07}", number / 2000)
}

async fn fill(places: &Places) {
    let engine = Engine::open(places, Tuning::default()).unwrap();
    let name = BucketName::parse("million").unwrap();
    // As facts of the first version stand in the journal: what fields came later have defaults.
    let acl = "[]";
    let bucket =
        format!(r#"{{"name":"million","id":"1","owner":"111111111111","created":0,"acl":{acl}}}"#);
    let bucket: Bucket = serde_json::from_str(&bucket).unwrap();
    engine
        .commit(Change::CreateBucket(Box::new(bucket)))
        .await
        .unwrap();
    let put = |number: usize| {
        let object = format!(
            r#"{{"bucket":"million","key":"{}","etag":"0cc175b9c0f1b6a831c399e269772661","size":1,
            "modified":1,"owner":"111111111111","acl":{acl},"attributes":{{}},"body":"inline"}}"#,
            key(number)
        );
        let object: Object = serde_json::from_str(&object).unwrap();
        Change::PutObject(Box::new(PutChange {
            bucket: SameBucket {
                name: name.clone(),
                id: "1".to_owned(),
            },
            object,
            inline: Bytes::from_static(b"a"),
            blobs: Vec::new(),
            unique: 0,
            conditions: WriteConditions::default(),
        }))
    };
    for first in (0..KEYS).step_by(BATCH) {
        let changes = (first..KEYS.min(first + BATCH)).map(put).collect();
        for done in engine.commit_all(changes).await {
            done.unwrap();
        }
    }
    engine.close().await;
}
