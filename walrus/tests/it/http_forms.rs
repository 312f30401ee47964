//! Browser uploads over HTTP: forms with policies of both signature versions, and without any.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::{
    daemon_process::{ALICE, Key, SYSTEM, Walrus},
    s3_client::{Answer, S3, pattern},
};

const BOUNDARY: &str = "xXx-a-boundary-xXx";

fn form(fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        body.extend_from_slice(part.as_bytes());
    }
    let head = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"cat.png\"\r\n\
         Content-Type: image/png\r\n\r\n"
    );
    body.extend_from_slice(head.as_bytes());
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// A browser: it signs nothing itself.
struct Browser(S3);

impl Browser {
    async fn send(&self, target: &str, body: &[u8]) -> Answer {
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.0
            .call("POST", target, &[("content-type", &kind)], body)
            .await
    }

    async fn post(&self, target: &str, fields: &[(&str, &str)], file: &[u8]) -> Answer {
        self.send(target, &form(fields, file)).await
    }
}

fn hmac<M: Mac + KeyInit>(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn policy(conditions: &str) -> String {
    BASE64.encode(format!(
        r#"{{"expiration":"2999-01-01T00:00:00Z","conditions":[{conditions}]}}"#
    ))
}

fn signed_by_2(key: Key, policy: &str) -> String {
    BASE64.encode(hmac::<Hmac<Sha1>>(key.secret.as_bytes(), policy))
}

fn signed_by_4(key: Key, day: &str, policy: &str) -> String {
    let secret = format!("AWS4{}", key.secret);
    let steps = [day, "mallee-1", "s3", "aws4_request", policy];
    let signature = steps.iter().fold(secret.into_bytes(), |key, text| {
        hmac::<Hmac<Sha256>>(&key, text)
    });
    hex::encode(signature)
}

async fn start() -> (Walrus, S3, Browser) {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/photos", b"").await.ok();
    let browser = Browser(S3::anonymous(&walrus));
    (walrus, alice, browser)
}

#[tokio::test]
async fn a_form_with_a_policy_of_version_4_is_an_upload() {
    let (_walrus, alice, browser) = start().await;
    let credential = format!("{}/20261129/mallee-1/s3/aws4_request", ALICE.id);
    let policy = policy(&format!(
        r#"{{"bucket":"photos"}},["starts-with","$key","in/"],{{"acl":"public-read"}},
        {{"x-amz-credential":"{credential}"}},{{"x-amz-algorithm":"AWS4-HMAC-SHA256"}},
        {{"x-amz-date":"20261129T000000Z"}},["starts-with","$x-amz-meta-colour",""],
        ["content-length-range",1,3000000],["starts-with","$Content-Type","image/"],
        {{"success_action_status":"201"}},["starts-with","$tagging",""]"#
    ));
    let signature = signed_by_4(ALICE, "20261129", &policy);
    let fields = [
        ("key", "in/${filename}"),
        ("acl", "public-read"),
        ("Content-Type", "image/png"),
        ("x-amz-meta-colour", "green"),
        (
            "tagging",
            "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
        ),
        ("success_action_status", "201"),
        ("x-amz-credential", &credential),
        ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
        ("x-amz-date", "20261129T000000Z"),
        ("policy", &policy),
        ("x-amz-signature", &signature),
    ];
    let file = pattern(2_500_000, 3);
    let answer = browser.post("/photos", &fields, &file).await.ok();
    assert_eq!(answer.status, 201);
    assert_eq!(answer.element("Key"), "in/cat.png");
    let location = answer.header("location").to_owned();
    assert!(location.ends_with("/photos/in/cat.png"), "{location}");
    assert_eq!(answer.element("Location"), location);

    let read = browser.0.get("/photos/in/cat.png").await.ok();
    assert!(read.body == file, "what was sent is kept");
    assert_eq!(read.header("content-type"), "image/png");
    assert_eq!(read.header("x-amz-meta-colour"), "green");
    let tags = alice.get("/photos/in/cat.png?tagging").await.ok();
    assert_eq!(tags.element("Value"), "b");

    let large = browser
        .post("/photos", &fields, &pattern(3_000_001, 1))
        .await;
    large.fails(400, "EntityTooLarge");
    let empty = browser.post("/photos", &fields, b"").await;
    empty.fails(400, "EntityTooSmall");
    let mut forged = fields;
    forged[10].1 = "00";
    let refused = browser.post("/photos", &forged, b"x").await;
    refused.fails(403, "SignatureDoesNotMatch");
    let mut elsewhere = fields;
    elsewhere[0].1 = "out";
    let refused = browser.post("/photos", &elsewhere, b"x").await;
    refused.fails(403, "AccessDenied");
    assert_eq!(browser.0.get("/photos/in/cat.png").await.ok().body, file);
}

/// `euca-bundle-instance` signs a policy so; `euca-upload-bundle --upload-policy` sends this form.
#[tokio::test]
async fn a_bundle_comes_in_by_the_policy_that_euca2ools_makes() {
    let (walrus, _alice, browser) = start().await;
    let policy =
        policy(r#"{"acl":"ec2-bundle-read"},{"bucket":"photos"},["starts-with","$key","web"]"#);
    let signature = signed_by_2(ALICE, &policy);
    let fields = [
        ("Policy", policy.as_str()),
        ("AWSAccessKeyId", ALICE.id),
        ("key", "web.part.00"),
        ("Signature", &signature),
        ("acl", "ec2-bundle-read"),
    ];
    let target = "/services/objectstorage/photos";
    let answer = browser.post(target, &fields, b"a part").await.ok();
    assert_eq!(answer.status, 204);
    assert!(
        answer
            .header("location")
            .ends_with("/services/objectstorage/photos/web.part.00")
    );
    let cloud = S3::of(&walrus, SYSTEM);
    assert_eq!(cloud.get("/photos/web.part.00").await.ok().body, "a part");
    browser
        .0
        .get("/photos/web.part.00")
        .await
        .fails(403, "AccessDenied");
}

#[tokio::test]
async fn nobody_in_particular_writes_where_everyone_may() {
    let (_walrus, alice, browser) = start().await;
    let fields = [
        ("key", "a"),
        ("success_action_redirect", "http://example.org/done"),
    ];
    browser
        .post("/photos", &fields, b"x")
        .await
        .fails(403, "AccessDenied");
    let open = [("x-amz-acl", "public-read-write")];
    alice.call("PUT", "/open", &open, b"").await.ok();
    let answer = browser.post("/open", &fields, b"x").await;
    assert_eq!(answer.status, 303);
    assert_eq!(
        answer.header("location"),
        "http://example.org/done?bucket=open&key=a&etag=%229dd4e461268c8034f5c8564e155c67a6%22"
    );
    assert_eq!(alice.get("/open/a").await.ok().body, "x");

    let by_policy = br#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:PutObject",
        "Resource":"arn:aws:s3:::photos/drop/*","Condition":{"StringEquals":{"s3:x-amz-acl":"private"}}}}"#;
    alice.put("/photos?policy", by_policy).await.ok();
    let dropped = [("key", "drop/a"), ("x-amz-checksum-crc32", "jNxeuw==")];
    browser
        .post("/photos", &dropped, b"x")
        .await
        .fails(403, "AccessDenied");
}

#[tokio::test]
async fn what_is_no_form_is_refused_and_leaves_nothing() {
    let (_walrus, alice, browser) = start().await;
    let open = [("x-amz-acl", "public-read-write")];
    alice.call("PUT", "/open", &open, b"").await.ok();

    let plain = [("content-type", "text/plain")];
    let refused = browser.0.call("POST", "/open", &plain, b"x").await;
    refused.fails(412, "PreconditionFailed");
    browser
        .post("/open", &[], b"x")
        .await
        .fails(400, "InvalidArgument");
    let whole = form(&[("key", "a")], &pattern(300_000, 1));
    let cut = browser.send("/open", &whole[..200_000]).await;
    cut.fails(400, "MalformedPOSTRequest");
    let no_file = format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na\r\n--{BOUNDARY}--\r\n"
    );
    let refused = browser.send("/open", no_file.as_bytes()).await;
    refused.fails(400, "IncorrectNumberOfFilesInPostRequest");

    let long = "x".repeat(30_000);
    let fields = [("key", "a"), ("x-amz-meta-a", &long)];
    let refused = browser.post("/open", &fields, b"x").await;
    refused.fails(400, "MaxPostPreDataLengthExceededError");
    // Headers of a part that never end.
    let endless = format!("--{BOUNDARY}\r\nX: {}", "y".repeat(2_000_000));
    let refused = browser.send("/open", endless.as_bytes()).await;
    refused.fails(400, "MaxPostPreDataLengthExceededError");
    let wrong = [("key", "a"), ("x-amz-checksum-crc32", "AAAAAA==")];
    browser
        .post("/open", &wrong, b"x")
        .await
        .fails(400, "BadDigest");
    let wrong = [("key", "a"), ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    browser
        .post("/open", &wrong, b"x")
        .await
        .fails(400, "BadDigest");
    assert!(alice.get("/open").await.ok().elements("Key").is_empty());
}
