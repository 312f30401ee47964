//! Encryption over HTTP: under our keys and under the client's, whole and in ranges, copied, in
//! parts; and what lies on the disk is not what was put.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use md5::Digest as _;

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{S3, pattern},
};

const PREFIX: &str = "x-amz-server-side-encryption-customer-";

/// The three headers of a key.
fn key(byte: u8, prefix: &str) -> Vec<(String, String)> {
    let key = [byte; 32];
    vec![
        (format!("{prefix}algorithm"), "AES256".to_owned()),
        (format!("{prefix}key"), BASE64.encode(key)),
        (
            format!("{prefix}key-md5"),
            BASE64.encode(md5::Md5::digest(key)),
        ),
    ]
}

fn pairs(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect()
}

fn holds(folder: &std::path::Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, needle);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[tokio::test]
async fn what_is_encrypted_comes_back_and_is_not_on_the_disk() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    let ours = [("x-amz-server-side-encryption", "AES256")];
    for size in [0, 1, 1000, 16 << 10, 65_536, 200_000, 1_500_000] {
        let data = pattern(size, 9);
        let put = alice.call("PUT", "/bucket/k", &ours, &data).await.ok();
        assert_eq!(put.header("x-amz-server-side-encryption"), "AES256");
        assert_eq!(alice.get("/bucket/k").await.ok().body, data);
        if size > 100 {
            let range = [("range", "bytes=50-99")];
            let part = alice.call("GET", "/bucket/k", &range, b"").await;
            assert_eq!(part.body, data[50..100]);
            let needle = &data[20..84];
            assert!(
                !holds(&walrus.state().join("objects"), needle),
                "{size} bytes lie open"
            );
        }
    }
    alice.put("/bucket/open", &pattern(1000, 9)).await.ok();
    let needle = &pattern(1000, 9)[20..84];
    assert!(
        holds(&walrus.state().join("objects"), needle),
        "the look can find something"
    );
}

#[tokio::test]
async fn a_clients_own_key_is_needed_every_time() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    let (right, wrong) = (key(1, PREFIX), key(2, PREFIX));
    for size in [10, 300_000] {
        let data = pattern(size, 4);
        alice
            .call("PUT", "/bucket/k", &pairs(&right), &data)
            .await
            .ok();
        let got = alice
            .call("GET", "/bucket/k", &pairs(&right), b"")
            .await
            .ok();
        assert_eq!(got.body, data);
        assert!(!got.header(&format!("{PREFIX}key-md5")).is_empty());
        alice.get("/bucket/k").await.fails(400, "InvalidRequest");
        let refused = alice.call("GET", "/bucket/k", &pairs(&wrong), b"").await;
        refused.fails(400, "InvalidRequest");

        // Copied under another key, then in the open.
        let source = key(1, "x-amz-copy-source-server-side-encryption-customer-");
        let mut headers = [pairs(&source), pairs(&wrong)].concat();
        headers.push(("x-amz-copy-source", "/bucket/k"));
        alice.call("PUT", "/bucket/copy", &headers, b"").await.ok();
        let got = alice
            .call("GET", "/bucket/copy", &pairs(&wrong), b"")
            .await
            .ok();
        assert_eq!(got.body, data);
        let mut headers = pairs(&source);
        headers.push(("x-amz-copy-source", "/bucket/k"));
        alice.call("PUT", "/bucket/open", &headers, b"").await.ok();
        assert_eq!(alice.get("/bucket/open").await.ok().body, data);
    }
}

#[tokio::test]
async fn a_bucket_encrypts_uploads_in_parts_too() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    let rule = b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
        <SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>\
        </ServerSideEncryptionConfiguration>";
    alice.put("/bucket?encryption", rule).await.ok();

    let begun = alice.call("POST", "/bucket/k?uploads", &[], b"").await.ok();
    let id = begun.element("UploadId");
    let parts = [pattern((5 << 20) + 3, 1), pattern(70_000, 2)];
    let mut lines = String::new();
    for (number, data) in (1..).zip(&parts) {
        let target = format!("/bucket/k?uploadId={id}&partNumber={number}");
        let put = alice.put(&target, data).await.ok();
        let etag = put.header("etag");
        lines += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    }
    let document = format!("<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>");
    let target = format!("/bucket/k?uploadId={id}");
    alice
        .call("POST", &target, &[], document.as_bytes())
        .await
        .ok();

    let whole = parts.concat();
    let got = alice.get("/bucket/k").await.ok();
    assert_eq!(got.header("x-amz-server-side-encryption"), "AES256");
    assert_eq!(got.body, whole);
    let border = format!("bytes={}-{}", 5 << 20, (5 << 20) + 10);
    let over = alice
        .call("GET", "/bucket/k", &[("range", &border)], b"")
        .await;
    assert_eq!(over.body, whole[5 << 20..=(5 << 20) + 10]);
    let asked = [("x-amz-object-attributes", "ObjectParts,ObjectSize")];
    let known = alice
        .call("GET", "/bucket/k?attributes", &asked, b"")
        .await
        .ok();
    assert_eq!(known.elements("PartNumber"), ["1", "2"]);
    assert_eq!(known.element("ObjectSize"), whole.len().to_string());
}

#[tokio::test]
async fn a_small_object_can_be_a_part() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    alice.put("/bucket/small", b"0123456789").await.ok();
    let begun = alice.call("POST", "/bucket/k?uploads", &[], b"").await.ok();
    let id = begun.element("UploadId");
    let target = format!("/bucket/k?uploadId={id}&partNumber=1");
    let headers = [
        ("x-amz-copy-source", "/bucket/small"),
        ("x-amz-copy-source-range", "bytes=2-5"),
    ];
    let copied = alice.call("PUT", &target, &headers, b"").await.ok();
    let etag = copied.element("ETag");
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    let target = format!("/bucket/k?uploadId={id}");
    alice
        .call("POST", &target, &[], document.as_bytes())
        .await
        .ok();
    assert_eq!(alice.get("/bucket/k").await.ok().body, "2345");
}

#[tokio::test]
async fn keys_that_have_names_are_the_administrators_to_give_and_to_take_away() {
    let mut walrus = Walrus::start_with(&[r#"s3.kms_keys=["k1"]"#]).await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    let under = |name: &'static str| {
        [
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", name),
        ]
    };
    let put = alice
        .call("PUT", "/bucket/a", &under("k1"), b"secret words")
        .await;
    let name = "x-amz-server-side-encryption-aws-kms-key-id";
    assert_eq!(put.ok().header(name), "k1");
    let unknown = alice.call("PUT", "/bucket/b", &under("k2"), b"x").await;
    unknown.fails(400, "KMS.NotFoundException");
    let default = b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>\
        <SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>k1</KMSMasterKeyID>\
        </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
    alice.put("/bucket?encryption", default).await.ok();
    let put = alice.put("/bucket/c", b"words").await.ok();
    assert_eq!(put.header("x-amz-server-side-encryption"), "aws:kms");

    for (key, body) in [("a", &b"secret words"[..]), ("c", b"words")] {
        let got = alice.get(&format!("/bucket/{key}")).await.ok();
        assert_eq!((&got.body[..], got.header(name)), (body, "k1"));
    }
    assert!(!holds(&walrus.state(), b"secret words"));
    walrus.restart_with(&["s3.kms_keys=[]"]).await;
    let closed = alice.get("/bucket/a").await;
    closed.fails(400, "KMS.NotFoundException");
}
