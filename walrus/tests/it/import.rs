//! `mallee s3 import` and `verify` between two stores: what is there is left, what was broken off is
//! gone on with, and what differs is named.

use cli::{
    commands::s3::Between,
    object_store::{Credentials, ObjectStore},
};

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{S3, pattern},
};

fn store(walrus: &Walrus) -> ObjectStore {
    let credentials = Credentials {
        access_key: ALICE.id.to_owned(),
        secret: ALICE.secret.to_owned(),
        session_token: None,
    };
    ObjectStore::new(&format!("http://{}", walrus.s3), "mallee-1", credentials).unwrap()
}

fn between(from: &Walrus, to: &Walrus) -> Between {
    Between {
        from: store(from),
        from_bucket: "photos".to_owned(),
        to: store(to),
        to_bucket: "album".to_owned(),
        prefix: String::new(),
        jobs: 4,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_of_another_store_is_imported_and_verified() {
    let (old, new) = (Walrus::start().await, Walrus::start().await);
    let (from, to) = (S3::of(&old, ALICE), S3::of(&new, ALICE));
    from.put("/photos", b"").await.ok();
    for i in 0..1_200 {
        from.put(&format!("/photos/many/{i:04}"), &pattern(10, i as u8))
            .await
            .ok();
    }
    let meta = [
        ("content-type", "image/png"),
        ("x-amz-meta-colour", "green"),
        ("cache-control", "no-store"),
    ];
    from.call(
        "PUT",
        "/photos/a%20b%2Bc%26d%2F%C3%A9",
        &meta,
        &pattern(100_000, 1),
    )
    .await
    .ok();
    from.put("/photos/empty", b"").await.ok();
    from.put("/photos/large", &pattern(70 << 20, 9)).await.ok();

    let between = between(&old, &new);
    let said = between.import().await.unwrap();
    assert_eq!((said.objects, said.copied, said.same), (1_203, 1_203, 0));
    let odd = to.get("/album/a%20b%2Bc%26d%2F%C3%A9").await.ok();
    assert!(odd.body == pattern(100_000, 1));
    assert_eq!(odd.header("content-type"), "image/png");
    assert_eq!(odd.header("x-amz-meta-colour"), "green");
    assert_eq!(odd.header("cache-control"), "no-store");
    assert!(to.get("/album/large").await.ok().body == pattern(70 << 20, 9));

    // Again: all is there. One is lost, one is another: both are named, and mended by a third run.
    let again = between.import().await.unwrap();
    assert_eq!((again.copied, again.same), (0, 1_203));
    assert_eq!(
        between.verify(true).await.unwrap().differing,
        Vec::<String>::new()
    );
    to.delete("/album/empty").await.ok();
    to.put("/album/many/0007", &pattern(10, 8)).await.ok();
    let mut differing = between.verify(false).await.unwrap().differing;
    differing.sort();
    assert_eq!(differing, ["empty", "many/0007"]);
    between.import().await.unwrap();
    assert_eq!(
        between.verify(true).await.unwrap().differing,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_source_that_refuses_is_said_so() {
    let (old, new) = (Walrus::start().await, Walrus::start().await);
    let refused = between(&old, &new).import().await.unwrap_err();
    assert!(refused.to_string().contains("NoSuchBucket"), "{refused}");
}
