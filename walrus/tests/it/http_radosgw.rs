//! What Ceph's gateway adds to S3, over HTTP: figures in answers, lists without order, and names of
//! buckets with their owner's account before a colon.

use types::quota::Limit;

use crate::{
    daemon_process::{ALICE, BOB, CAROL, Key, Walrus, now_ms},
    quotas::{Admin, alices, photos},
    s3_client::{Answer, S3, pattern},
};

async fn stats(who: &S3) -> Answer {
    who.call("HEAD", "/photos?read-stats", &[], b"").await.ok()
}

#[track_caller]
fn figures(answer: &Answer, expect: &[(&str, &str)]) {
    for (name, value) in expect {
        assert_eq!(answer.header(&format!("x-rgw-{name}")), *value, "{name}");
    }
}

#[tokio::test]
async fn a_bucket_tells_what_it_holds_and_its_owner_what_it_may() {
    let walrus = Walrus::start_with(&["quota.account_buckets=9", "quota.bucket_objects=50"]).await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    let admin = Admin::of(&walrus);
    alice.put("/photos", b"").await.ok();
    let empty = stats(&alice).await;
    figures(&empty, &[("object-count", "0"), ("bytes-used", "0")]);
    let unlimited = [
        ("quota-user-size", "-1"),
        ("quota-user-objects", "-1"),
        ("quota-max-buckets", "9"),
        ("quota-bucket-size", "-1"),
        ("quota-bucket-objects", "50"),
    ];
    figures(&empty, &unlimited);

    // Old versions and parts count, markers do not: as in the quota's own counters.
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    alice.put("/photos?versioning", enabled).await.ok();
    for (key, size) in [("a", 3), ("a", 20_000), ("b", 5)] {
        alice
            .put(&format!("/photos/{key}"), &pattern(size, 1))
            .await
            .ok();
    }
    alice.delete("/photos/b").await.ok();
    let upload = alice.call("POST", "/photos/c?uploads", &[], b"").await.ok();
    let part = format!(
        "/photos/c?partNumber=1&uploadId={}",
        upload.element("UploadId")
    );
    alice.put(&part, &pattern(1000, 1)).await.ok();
    let full = stats(&alice).await;
    figures(&full, &[("object-count", "3"), ("bytes-used", "21008")]);
    let used = admin.line(photos()).await.used;
    assert_eq!((used.objects, used.bytes), (3, 21_008));

    admin.set(alices(), Limit::At(70_000), Limit::At(8)).await;
    admin.set(photos(), Limit::At(60_000), Limit::None).await;
    let limited = [
        ("quota-user-size", "70000"),
        ("quota-user-objects", "8"),
        ("quota-bucket-size", "60000"),
        ("quota-bucket-objects", "-1"),
    ];
    figures(&stats(&alice).await, &limited);

    // Who may ask for the bucket learns what it holds, and no stranger what its owner may.
    let asked = bob.call("HEAD", "/photos?read-stats", &[], b"").await;
    assert_eq!(
        (asked.status.as_u16(), asked.header("x-rgw-bytes-used")),
        (403, "")
    );
    let acl = [("x-amz-acl", "public-read")];
    alice.call("PUT", "/photos?acl", &acl, b"").await.ok();
    for stranger in [&bob, &S3::anonymous(&walrus)] {
        let told = stats(stranger).await;
        figures(&told, &[("object-count", "3"), ("bytes-used", "21008")]);
        figures(&told, &limited.map(|(name, _)| (name, "")));
    }
    for target in ["/photos", "/photos?read-stats=false"] {
        let silent = alice.call("HEAD", target, &[], b"").await.ok();
        figures(&silent, &[("object-count", ""), ("quota-max-buckets", "")]);
    }
    let wrong = alice
        .call("HEAD", "/photos?read-stats=perhaps", &[], b"")
        .await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn an_account_is_told_what_it_holds_and_may() {
    let sets = ["quota.account_buckets=1000", "quota.bucket_mib=1"];
    let walrus = Walrus::start_with(&sets).await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    let admin = Admin::of(&walrus);
    for bucket in ["photos", "others", "empty"] {
        alice.put(&format!("/{bucket}"), b"").await.ok();
    }
    bob.put("/bobs", b"").await.ok();
    bob.put("/bobs/key", b"his").await.ok();
    alice.put("/photos/a", &pattern(20_000, 1)).await.ok();
    alice.put("/photos/b", b"x").await.ok();
    alice.put("/others/a", b"xy").await.ok();
    admin.set(alices(), Limit::Default, Limit::At(40)).await;

    let told = alice.get("/?usage").await.ok();
    for (name, value) in [
        ("QuotaMaxBytes", "-1"),
        ("QuotaMaxBuckets", "1000"),
        ("QuotaMaxObjCount", "40"),
        ("QuotaMaxBytesPerBucket", "1048576"),
        ("QuotaMaxObjCountPerBucket", "-1"),
        ("TotalBytes", "20003"),
        ("TotalEntries", "3"),
    ] {
        assert_eq!(told.element(name), value, "{name} in {}", told.text());
    }
    let used = admin.line(alices()).await.used;
    assert_eq!((used.bytes, used.objects), (20_003, 3));
    assert_eq!(told.elements("Bucket"), ["empty", "others", "photos"]);
    assert_eq!(told.elements("Bytes"), ["0", "2", "20001"]);

    alice.delete("/photos/a").await.ok();
    let told = alice.get("/?usage").await.ok();
    assert_eq!(
        (told.element("TotalBytes"), told.element("TotalEntries")),
        ("3".into(), "2".into())
    );

    // Carol is Alice's, and may not list her buckets.
    let (nobody, carol) = (S3::anonymous(&walrus), S3::of(&walrus, CAROL));
    nobody.get("/?usage").await.fails(403, "AccessDenied");
    carol.get("/?usage").await.fails(403, "AccessDenied");
    let span = alice.get("/?usage&start-date=2026-01-01").await;
    span.fails(501, "NotImplemented");
}

#[tokio::test]
async fn a_list_without_order_is_one_with_and_takes_no_delimiter() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/photos", b"").await.ok();
    for key in ["b", "a/1", "a/2", "c"] {
        alice.put(&format!("/photos/{key}"), b"x").await.ok();
    }
    for version in ["", "&list-type=2"] {
        let list = async |more: &str| {
            let target = format!("/photos?allow-unordered=true{version}{more}");
            alice.get(&target).await
        };
        let all = ["a/1", "a/2", "b", "c"];
        assert_eq!(list("").await.ok().elements("Key"), all);
        assert_eq!(list("&prefix=a/").await.ok().elements("Key"), all[..2]);
        let first = list("&max-keys=3").await.ok();
        let next = match version {
            "" => format!("&marker={}", first.elements("Key")[2]),
            _ => format!(
                "&continuation-token={}",
                first.element("NextContinuationToken")
            ),
        };
        assert_eq!(list(&next).await.ok().elements("Key"), all[3..]);
        list("&delimiter=/").await.fails(400, "InvalidArgument");

        let wrong = format!("/photos?allow-unordered=perhaps{version}");
        alice.get(&wrong).await.fails(400, "InvalidArgument");
        let ordered = format!("/photos?allow-unordered=false&delimiter=/{version}");
        assert_eq!(alice.get(&ordered).await.ok().elements("Key"), ["b", "c"]);
    }
}

const OWN: &str = "111111111111";
const OTHER: &str = "222222222222";

/// A bucket with an object, an upload and a page that may ask for it.
async fn prepare(alice: &S3) -> String {
    alice.put("/photos", b"").await.ok();
    alice.put("/photos/key", b"body").await.ok();
    let cors = b"<CORSConfiguration><CORSRule><AllowedOrigin>https://page.example</AllowedOrigin>\
                 <AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
    alice.put("/photos?cors", cors).await.ok();
    let upload = alice
        .call("POST", "/photos/up?uploads", &[], b"")
        .await
        .ok();
    upload.element("UploadId")
}

#[tokio::test]
async fn an_owners_account_before_a_colon_names_the_same_bucket() {
    let walrus = Walrus::start().await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    prepare(&alice).await;
    for name in [
        format!("{OWN}:photos"),
        format!("{OWN}%3Aphotos"),
        ":photos".into(),
    ] {
        alice
            .put(&format!("/{name}/new"), name.as_bytes())
            .await
            .ok();
        assert_eq!(alice.get("/photos/new").await.ok().body, name);
        assert_eq!(alice.get(&format!("/{name}/new")).await.ok().body, name);
        let list = alice.get(&format!("/{name}")).await.ok();
        // A bucket has one name in answers.
        assert_eq!(list.element("Name"), "photos");
        assert_eq!(list.elements("Key"), ["key", "new"]);

        let from = format!("{name}/new");
        let from = [("x-amz-copy-source", from.as_str())];
        alice.call("PUT", "/photos/copy", &from, b"").await.ok();
        let onto_itself = alice.call("PUT", "/photos/new", &from, b"").await;
        onto_itself.fails(400, "InvalidRequest");
        alice.delete(&format!("/{name}/copy")).await.ok();
        bob.get(&format!("/{name}/key"))
            .await
            .fails(403, "AccessDenied");
    }
    let both = [("x-amz-expected-bucket-owner", OTHER)];
    let target = format!("/{OWN}:photos/key");
    let refused = alice.call("GET", &target, &both, b"").await;
    refused.fails(403, "AccessDenied");
}

#[tokio::test]
async fn a_bucket_of_another_account_is_not_there_for_whatever_is_asked() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    let id = prepare(&alice).await;
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let delete = b"<Delete><Object><Key>key</Key></Object></Delete>";
    let done = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>\
                 </CompleteMultipartUpload>";
    let hold = b"<LegalHold><Status>ON</Status></LegalHold>";
    let policy =
        br#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}}"#;
    let (part, of_upload) = (
        format!("/up?partNumber=1&uploadId={id}"),
        format!("/up?uploadId={id}"),
    );
    let asked: Vec<(&str, &str, &[u8])> = vec![
        ("GET", "", b""),
        ("GET", "?list-type=2", b""),
        ("GET", "?versions", b""),
        ("GET", "?uploads", b""),
        ("GET", "?location", b""),
        ("GET", "?acl", b""),
        ("GET", "?policy", b""),
        ("GET", "?policyStatus", b""),
        ("GET", "?cors", b""),
        ("PUT", "?policy", policy),
        ("PUT", "?tagging", tags),
        ("DELETE", "?cors", b""),
        ("DELETE", "", b""),
        ("POST", "?delete", delete),
        ("GET", "/key", b""),
        ("GET", "/key?acl", b""),
        ("GET", "/key?tagging", b""),
        ("GET", "/key?attributes", b""),
        ("GET", "/key?legal-hold", b""),
        ("PUT", "/key", b"new"),
        ("PUT", "/key?tagging", tags),
        ("PUT", "/key?legal-hold", hold),
        ("DELETE", "/key", b""),
        ("DELETE", "/key?tagging", b""),
        ("POST", "/key?uploads", b""),
        ("PUT", &part, b"part"),
        ("GET", &of_upload, b""),
        ("POST", &of_upload, done),
        ("DELETE", &of_upload, b""),
    ];
    use base64::Engine as _;
    use md5::Digest as _;
    for account in [OTHER, "alice", "11111111111", "999999999999", "*", "%00"] {
        for (method, rest, body) in &asked {
            let target = format!("/{account}:photos{rest}");
            let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(body));
            let headers = [
                ("content-md5", md5.as_str()),
                ("x-amz-object-attributes", "ETag"),
            ];
            let answer = alice.call(method, &target, &headers, body).await;
            let answer = answer.fails(404, "NoSuchBucket");
            assert_eq!(answer.element("BucketName"), "photos", "{method} {target}");
        }
        for target in ["", "?read-stats", "/key"] {
            let target = format!("/{account}:photos{target}");
            let head = alice.call("HEAD", &target, &[], b"").await;
            assert_eq!(
                (head.status.as_u16(), head.header("x-rgw-bytes-used")),
                (404, "")
            );
        }
        let public = [("x-amz-acl", "public-read-write")];
        for target in ["?acl", "/key?acl"] {
            let target = format!("/{account}:photos{target}");
            let answer = alice.call("PUT", &target, &public, b"").await;
            answer.fails(404, "NoSuchBucket");
        }
        let from = format!("{account}:photos/key");
        let from = [("x-amz-copy-source", from.as_str())];
        for target in ["/photos/copy".to_owned(), format!("/photos{part}")] {
            let answer = alice.call("PUT", &target, &from, b"").await;
            answer.fails(404, "NoSuchBucket");
        }
    }
    // An object that is deleted, and a bucket that is opened, would show here.
    let left = alice.get("/photos").await.ok();
    assert_eq!(left.elements("Key"), ["key"]);
    assert_eq!(alice.get("/photos/key").await.ok().body, "body");
    assert_eq!(
        alice.get("/photos?uploads").await.ok().elements("UploadId"),
        [id]
    );
    alice
        .get("/photos?policy")
        .await
        .fails(404, "NoSuchBucketPolicy");
    alice
        .get("/photos?tagging")
        .await
        .fails(404, "NoSuchTagSet");
    let nobody = S3::anonymous(&walrus);
    nobody.get("/photos").await.fails(403, "AccessDenied");
}

#[tokio::test]
async fn no_bucket_is_created_with_a_colon_and_no_host_has_one() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    for target in [
        "/111111111111:new",
        "/:new",
        "/%3Anew/",
        "/222222222222:new",
        "/new:",
    ] {
        alice.put(target, b"").await.fails(400, "InvalidBucketName");
    }
    assert!(alice.get("/").await.ok().elements("Name").is_empty());
    alice.get("/new").await.fails(404, "NoSuchBucket");
    alice.get("/:new").await.fails(404, "NoSuchBucket");
    alice.get("/::new").await.fails(400, "InvalidBucketName");

    prepare(&alice).await;
    let at =
        async |host: &str, target: &str| alice.call("GET", target, &[("host", host)], b"").await;
    assert_eq!(at("photos.s3.localhost", "/key").await.ok().body, "body");
    let qualified = at("111111111111:photos.s3.localhost", "/key").await;
    assert_eq!(qualified.status, 400, "{}", qualified.text());
    // There the path is a key, colon and all.
    alice.put("/photos/:photos/key", b"another").await.ok();
    let keyed = at("photos.s3.localhost:80", "/:photos/key").await.ok();
    assert_eq!(keyed.body, "another");
}

#[tokio::test]
async fn policies_hold_by_whatever_name_the_bucket_is_called() {
    let walrus = Walrus::start().await;
    let (alice, bob, carol) = (
        S3::of(&walrus, ALICE),
        S3::of(&walrus, BOB),
        S3::of(&walrus, CAROL),
    );
    prepare(&alice).await;
    for key in ["public/a", "secret/a"] {
        alice.put(&format!("/photos/{key}"), b"x").await.ok();
    }
    alice.put("/copies", b"").await.ok();
    let own = format!(
        r#"{{"Statement":[
        {{"Effect":"Allow","Principal":{{"AWS":"{OTHER}"}},"Action":["s3:GetObject","s3:ListBucket"],
          "Resource":["arn:aws:s3:::photos","arn:aws:s3:::photos/*"]}},
        {{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::photos/key"}}]}}"#
    );
    assert_eq!(
        alice.put("/photos?policy", own.as_bytes()).await.status,
        204
    );
    let sources = r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:PutObject",
        "Resource":"arn:aws:s3:::copies/*",
        "Condition":{"StringLike":{"s3:x-amz-copy-source":["photos/secret/*","/photos/secret/*"]}}}}"#;
    assert_eq!(
        alice.put("/copies?policy", sources.as_bytes()).await.status,
        204
    );

    for name in [
        "photos",
        ":photos",
        "111111111111:photos",
        "111111111111%3Aphotos",
    ] {
        let at = |key: &str| format!("/{name}/{key}");
        bob.get(&at("public/a")).await.ok();
        bob.get(&format!("/{name}?list-type=2")).await.ok();
        bob.get(&at("key")).await.fails(403, "AccessDenied");
        bob.put(&at("new"), b"x").await.fails(403, "AccessDenied");
        alice.get(&at("key")).await.fails(403, "AccessDenied");
        // By her own policy: whatever begins with `public/`.
        carol.get(&at("public/a")).await.ok();
        carol.get(&at("secret/a")).await.fails(403, "AccessDenied");
        let copied = async |key: &str| {
            let from = format!("{name}/{key}");
            let from = [("x-amz-copy-source", from.as_str())];
            alice.call("PUT", "/copies/copy", &from, b"").await
        };
        copied("public/a").await.ok();
        copied("secret/a").await.fails(403, "AccessDenied");
    }
    // It is the name that a policy can be about.
    let qualified = own.replace(
        "arn:aws:s3:::photos/key",
        "arn:aws:s3:::111111111111:photos/key",
    );
    let refused = alice.put("/photos?policy", qualified.as_bytes()).await;
    refused.fails(400, "MalformedPolicy");
}

fn signer(key: Key) -> sigv4::sign::Key<'static> {
    sigv4::sign::Key {
        access_key: key.id,
        secret: key.secret,
        session_token: None,
    }
}

#[tokio::test]
async fn a_signature_is_good_for_the_name_as_it_was_signed_and_no_other() {
    let walrus = Walrus::start().await;
    let (alice, nobody) = (S3::of(&walrus, ALICE), S3::anonymous(&walrus));
    prepare(&alice).await;
    let names = ["/photos/key", "/:photos/key", "/111111111111%3Aphotos/key"];
    for signed in names {
        let ask = sigv4::sign::Presign {
            headers: &[],
            method: "GET",
            host: &nobody.host,
            path: signed,
            query: "",
            expires_secs: 60,
        };
        let target = sigv4::sign::Target {
            region: "mallee-1",
            service: "s3",
        };
        let presigned = sigv4::sign::v4_presign(ask, signer(ALICE), target, now_ms());
        let query = presigned.split_once('?').unwrap().1;
        for sent in names {
            let by_4 = nobody.get(&format!("{sent}?{query}")).await;
            let (mut head, body) = nobody.request("GET", sent, &[], b"").into_parts();
            let date = types::Timestamp(now_ms()).http_date();
            head.headers.insert("date", date.parse().unwrap());
            sigv4::sign::v2_s3_header(&mut head, signed, signer(ALICE)).unwrap();
            let by_2 = nobody.send(http::Request::from_parts(head, body)).await;
            for answer in [by_4, by_2.unwrap()] {
                if sent == signed {
                    assert_eq!(answer.ok().body, "body");
                } else {
                    answer.fails(403, "SignatureDoesNotMatch");
                }
            }
        }
    }
}

#[tokio::test]
async fn pages_and_forms_reach_a_bucket_by_its_owners_account_and_no_other() {
    let walrus = Walrus::start().await;
    let (alice, nobody) = (S3::of(&walrus, ALICE), S3::anonymous(&walrus));
    prepare(&alice).await;
    let acl = [("x-amz-acl", "public-read-write")];
    alice.call("PUT", "/photos?acl", &acl, b"").await.ok();

    let page = [
        ("origin", "https://page.example"),
        ("access-control-request-method", "GET"),
    ];
    let form = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nposted\r\n--b\r\n\
                Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nx\r\n--b--\r\n";
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    for name in ["photos", ":photos", "111111111111:photos"] {
        let target = format!("/{name}/key");
        let asked = nobody.call("OPTIONS", &target, &page, b"").await.ok();
        assert_eq!(asked.header("access-control-allow-origin"), page[0].1);
        let got = alice.call("GET", &target, &page[..1], b"").await.ok();
        assert_eq!(got.header("access-control-allow-origin"), page[0].1);
        let target = format!("/{name}");
        nobody
            .call("POST", &target, &kind, form.as_bytes())
            .await
            .ok();
        alice.delete("/photos/posted").await.ok();
    }
    let target = format!("/{OTHER}:photos/key");
    let asked = nobody.call("OPTIONS", &target, &page, b"").await;
    let asked = asked.fails(404, "NoSuchBucket");
    let got = alice.call("GET", &target, &page[..1], b"").await;
    let got = got.fails(404, "NoSuchBucket");
    for answer in [asked, got] {
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    let target = format!("/{OTHER}:photos");
    let posted = nobody.call("POST", &target, &kind, form.as_bytes()).await;
    posted.fails(404, "NoSuchBucket");
    alice.get("/photos/posted").await.fails(404, "NoSuchKey");
}
