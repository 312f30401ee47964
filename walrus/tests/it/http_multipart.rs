//! Uploads in parts.

use crate::{
    daemon_process::{ALICE, BOB, Walrus},
    s3_client::{S3, pattern},
};

const MIB: usize = 1 << 20;

struct Upload {
    id: String,
    parts: Vec<(u32, String)>,
}

async fn begin(s3: &S3, target: &str) -> Upload {
    let id = s3
        .call("POST", &format!("{target}?uploads"), &[], b"")
        .await
        .ok()
        .element("UploadId");
    Upload {
        id,
        parts: Vec::new(),
    }
}

impl Upload {
    async fn put(&mut self, s3: &S3, target: &str, number: u32, data: &[u8]) {
        let target = format!("{target}?uploadId={}&partNumber={number}", self.id);
        let etag = s3.put(&target, data).await.ok().header("etag").to_owned();
        self.parts.retain(|(known, _)| *known != number);
        self.parts.push((number, etag));
    }

    fn document(&self) -> String {
        let line = |(number, etag): &(u32, String)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        };
        let lines: String = self.parts.iter().map(line).collect();
        format!("<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>")
    }

    async fn complete(&self, s3: &S3, target: &str) -> crate::s3_client::Answer {
        let target = format!("{target}?uploadId={}", self.id);
        s3.call("POST", &target, &[], self.document().as_bytes())
            .await
    }
}

#[tokio::test]
async fn parts_become_an_object_and_a_repeated_completion_answers_the_same() {
    let walrus = Walrus::start().await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    alice.put("/bucket", b"").await.ok();
    let (one, two) = (pattern(5 * MIB, 1), pattern(MIB + 7, 2));

    let mut upload = begin(&alice, "/bucket/big").await;
    upload
        .put(&alice, "/bucket/big", 1, &pattern(5 * MIB, 9))
        .await;
    upload.put(&alice, "/bucket/big", 1, &one).await;
    upload.put(&alice, "/bucket/big", 7, &two).await;
    alice.get("/bucket/big").await.fails(404, "NoSuchKey");
    let listed = alice
        .get(&format!("/bucket/big?uploadId={}", upload.id))
        .await
        .ok();
    assert_eq!(listed.elements("PartNumber"), ["1", "7"]);
    assert_eq!(
        alice.get("/bucket?uploads").await.ok().elements("Key"),
        ["big"]
    );
    let part = format!("/bucket/big?uploadId={}&partNumber=2", upload.id);
    bob.put(&part, b"x").await.fails(403, "AccessDenied");

    let done = upload.complete(&alice, "/bucket/big").await.ok();
    assert!(
        done.element("ETag").ends_with("-2&quot;"),
        "{}",
        done.text()
    );
    let again = upload.complete(&alice, "/bucket/big").await.ok();
    assert_eq!(done.element("ETag"), again.element("ETag"));

    let whole = [one.clone(), two.clone()].concat();
    assert!(alice.get("/bucket/big").await.ok().body == whole);
    let across = [("range", "bytes=5242870-5242889")];
    let got = alice.call("GET", "/bucket/big", &across, b"").await.ok();
    assert_eq!(&got.body[..], &whole[5_242_870..5_242_890]);
    let second = alice.get("/bucket/big?partNumber=2").await.ok();
    assert!(second.body == two && second.header("x-amz-mp-parts-count") == "2");
    let beyond = alice.get("/bucket/big?partNumber=3").await;
    let beyond = beyond.fails(416, "InvalidPartNumber");
    assert_eq!(beyond.element("PartNumberRequested"), "3");
    assert_eq!(beyond.element("ActualPartCount"), "2");
    assert!(
        alice
            .get("/bucket?uploads")
            .await
            .ok()
            .elements("Key")
            .is_empty()
    );

    // A copy has all the parts and outlives its source.
    alice
        .call(
            "PUT",
            "/bucket/copy",
            &[("x-amz-copy-source", "/bucket/big")],
            b"",
        )
        .await
        .ok();
    alice.delete("/bucket/big").await.ok();
    assert!(alice.get("/bucket/copy").await.ok().body == whole);
}

#[tokio::test]
async fn an_upload_that_is_wrong_or_aborted_leaves_nothing() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();

    let mut upload = begin(&alice, "/bucket/key").await;
    upload.put(&alice, "/bucket/key", 1, b"small").await;
    upload.put(&alice, "/bucket/key", 2, b"last").await;
    upload
        .complete(&alice, "/bucket/key")
        .await
        .fails(400, "EntityTooSmall");
    upload.parts.reverse();
    upload
        .complete(&alice, "/bucket/key")
        .await
        .fails(400, "InvalidPartOrder");
    upload.parts = vec![(1, "\"nonsense\"".into())];
    upload
        .complete(&alice, "/bucket/key")
        .await
        .fails(400, "InvalidPart");
    upload
        .complete(&alice, "/bucket/other")
        .await
        .fails(404, "NoSuchUpload");

    let target = format!("/bucket/key?uploadId={}", upload.id);
    assert_eq!(alice.delete(&target).await.ok().status, 204);
    alice.delete(&target).await.fails(404, "NoSuchUpload");
    alice
        .put(&format!("{target}&partNumber=1"), b"late")
        .await
        .fails(404, "NoSuchUpload");
    for _ in 0..200 {
        if walrus.blob_files().await == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("parts of an aborted upload are left");
}

#[tokio::test]
async fn a_part_is_copied_from_a_range() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    let data = pattern(300_000, 4);
    alice.put("/bucket/from%25", &data).await.ok();

    let mut upload = begin(&alice, "/bucket/to").await;
    let target = format!("/bucket/to?uploadId={}&partNumber=1", upload.id);
    let range = |text: &'static str| {
        [
            ("x-amz-copy-source", "bucket/from%2525"),
            ("x-amz-copy-source-range", text),
        ]
    };
    alice
        .call("PUT", &target, &range("bytes=0-300000"), b"")
        .await
        .fails(404, "NoSuchKey");
    let source = [
        ("x-amz-copy-source", "bucket/from%25"),
        ("x-amz-copy-source-range", "bytes=0-300000"),
    ];
    alice
        .call("PUT", &target, &source, b"")
        .await
        .fails(416, "InvalidRange");
    let source = [
        ("x-amz-copy-source", "bucket/from%25"),
        ("x-amz-copy-source-range", "bytes=100-200099"),
    ];
    let copied = alice.call("PUT", &target, &source, b"").await.ok();
    upload.parts.push((1, copied.element("ETag")));
    upload.complete(&alice, "/bucket/to").await.ok();
    assert!(alice.get("/bucket/to").await.ok().body == data[100..200_100]);
}

#[tokio::test]
async fn a_large_upload_costs_little_memory() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    let data = pattern(192 * MIB, 3);
    alice.put("/bucket/large", &data).await.ok();
    let got = alice.get("/bucket/large").await.ok();
    assert!(got.body == data);
    let resident_mib = walrus.resident_kib() / 1024;
    assert!(
        resident_mib < 100,
        "{resident_mib} MiB for an object of 192 MiB"
    );
}
