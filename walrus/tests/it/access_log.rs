//! Server access logs from outside: what is asked of a bucket stands in objects of another one, by
//! the permission of a list or a policy, after a kill, too.

use std::time::{Duration, Instant};

use crate::{
    daemon_process::{ALICE, BOB, SYSTEM, Walrus},
    s3_client::{Answer, S3, plain_text},
};

fn status(target: &str, more: &str) -> Vec<u8> {
    format!(
        "<BucketLoggingStatus xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LoggingEnabled>\
         <TargetBucket>{target}</TargetBucket><TargetPrefix>p/</TargetPrefix>{more}\
         </LoggingEnabled></BucketLoggingStatus>"
    )
    .into_bytes()
}

async fn prepare(alice: &S3) {
    alice.put("/photos", b"").await.ok();
    let acl = [("x-amz-acl", "log-delivery-write")];
    alice.call("PUT", "/logs", &acl, b"").await.ok();
    alice.put("/photos?logging", &status("logs", "")).await.ok();
}

/// All lines that were delivered, once one of them has that in it.
async fn lines(alice: &S3, wanted: &str) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let mut lines = Vec::new();
        for key in alice.get("/logs?list-type=2").await.ok().elements("Key") {
            let object = alice.get(&format!("/logs/{key}")).await.ok();
            assert_eq!(object.header("content-type"), "text/plain");
            lines.extend(object.text().lines().map(str::to_owned));
        }
        if lines.iter().any(|line| line.contains(wanted)) {
            return lines;
        }
        assert!(Instant::now() < until, "{wanted} is not in {lines:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[track_caller]
fn line<'a>(lines: &'a [String], answer: &Answer, operation: &str) -> &'a str {
    let id = answer.header("x-amz-request-id");
    let found: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(&format!(" {id} {operation} ")))
        .collect();
    assert_eq!(found.len(), 1, "{operation} {id} in {lines:#?}");
    found[0]
}

#[tokio::test]
async fn every_request_has_its_line() {
    let walrus = Walrus::start_with(&["access_log.deliver_every_s=1"]).await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    let nobody = S3::anonymous(&walrus);
    prepare(&alice).await;
    alice.put("/others", b"").await.ok();

    let put = alice.put("/photos/a%20b", &[7; 1000]).await.ok();
    let part = [("range", "bytes=10-19"), ("user-agent", "tester \"1\"")];
    let get = alice.call("GET", "/photos/a%20b", &part, b"").await.ok();
    let denied = bob.get("/photos/a%20b").await.fails(403, "AccessDenied");
    let unsigned = nobody
        .get("/photos?list-type=2")
        .await
        .fails(403, "AccessDenied");
    let from = [("x-amz-copy-source", "/photos/a%20b")];
    let copy = alice.call("PUT", "/others/copy", &from, b"").await.ok();
    let delete = b"<Delete><Object><Key>x</Key></Object><Object><Key>y</Key></Object></Delete>";
    use base64::Engine as _;
    use md5::Digest as _;
    let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(delete));
    let md5 = [("content-md5", md5.as_str())];
    let batch = alice
        .call("POST", "/photos?delete", &md5, delete)
        .await
        .ok();
    alice.get("/others/copy").await.ok();
    alice.get("/photos/the-last").await.fails(404, "NoSuchKey");

    let lines = lines(&alice, "the-last").await;
    let owner = hex::encode([b'1'; 32]);
    let begins = format!("{owner} photos [");
    assert!(
        lines.iter().all(|line| line.starts_with(&begins)),
        "{lines:#?}"
    );

    let put = line(&lines, &put, "REST.PUT.OBJECT");
    assert!(put.contains(&format!("+0000] 127.0.0.1 {owner} ")), "{put}");
    assert!(
        put.contains(" a%20b \"PUT /photos/a%20b HTTP/1.1\" 200 - - 1000 "),
        "{put}"
    );
    assert!(put.contains(" SigV4 - AuthHeader 127.0.0.1:"), "{put}");
    let get = line(&lines, &get, "REST.GET.OBJECT");
    assert!(get.contains(" 206 - 10 1000 "), "{get}");
    assert!(get.contains("\"tester %221%22\""), "{get}");
    let denied = line(&lines, &denied, "REST.GET.OBJECT");
    assert!(denied.contains(" 403 AccessDenied "), "{denied}");
    assert!(denied.contains(&hex::encode([b'2'; 32])), "{denied}");
    let unsigned = line(&lines, &unsigned, "REST.GET.BUCKET");
    assert!(unsigned.contains("127.0.0.1 - "), "{unsigned}");
    assert!(line(&lines, &copy, "REST.COPY.OBJECT_GET").contains(" a%20b "));
    line(&lines, &batch, "REST.POST.MULTI_OBJECT_DELETE");
    let id = batch.header("x-amz-request-id");
    let batch = format!(" {id} BATCH.DELETE.OBJECT ");
    assert_eq!(lines.iter().filter(|line| line.contains(&batch)).count(), 2);

    // Nothing of it is told of the bucket that is not logged, and what is delivered is not a request.
    assert!(
        !lines
            .iter()
            .any(|line| line.contains("GET /others") || line.contains(" logs "))
    );
    let metrics = plain_text(&format!("http://{}/metrics", walrus.admin)).await;
    assert!(
        metrics.contains("access_log_lines_total{outcome=\"delivered\"}"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_bucket_has_one_name_in_its_log_and_no_line_of_what_was_not_there() {
    let walrus = Walrus::start_with(&["access_log.deliver_every_s=1"]).await;
    let alice = S3::of(&walrus, ALICE);
    prepare(&alice).await;
    alice.put("/others", b"").await.ok();
    alice.put("/photos/key", b"x").await.ok();
    let from = [("x-amz-copy-source", "222222222222:photos/key")];
    let absent = [
        alice.get("/222222222222:photos/key").await,
        alice.call("PUT", "/others/copy", &from, b"").await,
    ];
    let absent = absent.map(|answer| answer.fails(404, "NoSuchBucket"));
    let from = [("x-amz-copy-source", "111111111111:photos/key")];
    let copy = alice.call("PUT", "/others/copy", &from, b"").await.ok();
    let get = alice.get("/111111111111:photos/key").await.ok();
    alice.get("/photos/the-last").await.fails(404, "NoSuchKey");

    let lines = lines(&alice, "the-last").await;
    let begins = format!("{} photos [", hex::encode([b'1'; 32]));
    assert!(
        lines.iter().all(|line| line.starts_with(&begins)),
        "{lines:#?}"
    );
    line(&lines, &copy, "REST.COPY.OBJECT_GET");
    let get = line(&lines, &get, "REST.GET.OBJECT");
    // What was sent is told as it was sent.
    assert!(
        get.contains(" key \"GET /111111111111:photos/key HTTP/1.1\" 200 "),
        "{get}"
    );
    for answer in absent {
        let id = answer.header("x-amz-request-id");
        assert!(!lines.iter().any(|line| line.contains(id)), "{lines:#?}");
    }
}

#[tokio::test]
async fn lines_survive_a_kill() {
    let mut walrus = Walrus::start_with(&["access_log.deliver_every_s=2"]).await;
    let alice = S3::of(&walrus, ALICE);
    prepare(&alice).await;
    for number in 0..20 {
        alice.put(&format!("/photos/{number}"), b"x").await.ok();
    }
    let folder = walrus.state().join("access-log");
    let until = Instant::now() + Duration::from_secs(10);
    let spooled = || {
        let files = std::fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        files
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect::<String>()
    };
    while !spooled().contains("/photos/19 ") {
        assert!(Instant::now() < until, "{}", spooled());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    walrus.kill();
    walrus.run().await;
    let lines = lines(&alice, "/photos/19 ").await;
    let puts = lines
        .iter()
        .filter(|line| line.contains(" REST.PUT.OBJECT "));
    assert_eq!(puts.count(), 20, "{lines:#?}");
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::read_dir(&folder).unwrap().count() > 0 {
        assert!(Instant::now() < until, "what is delivered is removed");
        alice.get("/photos?logging").await.ok();
        tokio::time::sleep(Duration::from_millis(100)).await;
        if spooled().is_empty() || !spooled().contains("/photos/19 ") {
            break;
        }
    }
}

#[tokio::test]
async fn a_policy_lets_logs_in_and_without_permission_there_are_none() {
    let walrus = Walrus::start_with(&["access_log.deliver_every_s=1"]).await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    alice.put("/photos", b"").await.ok();
    alice.put("/logs", b"").await.ok();
    let partitioned = "<TargetObjectKeyFormat><PartitionedPrefix><PartitionDateSource>EventTime\
        </PartitionDateSource></PartitionedPrefix></TargetObjectKeyFormat>";
    alice
        .put("/photos?logging", &status("logs", partitioned))
        .await
        .ok();
    alice.put("/photos/refused", b"x").await.ok();
    let until = Instant::now() + Duration::from_secs(20);
    let metrics = format!("http://{}/metrics", walrus.admin);
    while !plain_text(&metrics)
        .await
        .contains("access_log_lines_total{outcome=\"refused\"}")
    {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        alice
            .get("/logs?list-type=2")
            .await
            .ok()
            .elements("Key")
            .is_empty()
    );

    let policy = br#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
        "Principal":{"Service":"logging.s3.amazonaws.com"},"Action":"s3:PutObject",
        "Resource":"arn:aws:s3:::logs/p/*","Condition":{
        "ArnLike":{"aws:SourceArn":"arn:aws:s3:::photos"},
        "StringEquals":{"aws:SourceAccount":"111111111111"}}}]}"#;
    alice.put("/logs?policy", policy).await.ok();
    alice.put("/photos/kept", b"x").await.ok();
    lines(&alice, "/photos/kept").await;
    let keys = alice.get("/logs?list-type=2").await.ok().elements("Key");
    assert!(
        keys[0].starts_with("p/111111111111/mallee-1/photos/20"),
        "{keys:?}"
    );
    // The service is nobody whom a client could be.
    bob.put("/logs/p/mine", b"x")
        .await
        .fails(403, "AccessDenied");

    // Switched off, then on again with the bucket gone and made anew: it is not logged.
    alice
        .put("/photos?logging", b"<BucketLoggingStatus/>")
        .await
        .ok();
    let none = alice.get("/photos?logging").await.ok();
    assert!(!none.text().contains("LoggingEnabled"), "{}", none.text());
}

#[tokio::test]
async fn a_target_must_be_ones_own_and_is_told_back() {
    let walrus = Walrus::start().await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    alice.put("/photos", b"").await.ok();
    bob.put("/logs", b"").await.ok();
    let bad = "InvalidTargetBucketForLogging";
    alice
        .put("/photos?logging", &status("absent", ""))
        .await
        .fails(400, bad);
    alice
        .put("/photos?logging", &status("logs", ""))
        .await
        .fails(400, bad);
    bob.put("/photos?logging", &status("logs", ""))
        .await
        .fails(403, "AccessDenied");
    alice
        .put("/photos?logging", b"<BucketLoggingStatus")
        .await
        .fails(400, "MalformedXML");
    alice
        .put("/absent?logging", &status("photos", ""))
        .await
        .fails(404, "NoSuchBucket");

    alice.put("/mine", b"").await.ok();
    let grant = |id: &str| {
        format!(
            "<TargetGrants><Grant><Grantee><ID>{id}</ID></Grantee><Permission>READ</Permission>\
             </Grant></TargetGrants>"
        )
    };
    let bobs = hex::encode([b'2'; 32]);
    alice
        .put("/photos?logging", &status("mine", &grant(&bobs)))
        .await
        .ok();
    let told = alice.get("/photos?logging").await.ok();
    assert_eq!(told.element("TargetBucket"), "mine");
    assert_eq!(told.element("TargetPrefix"), "p/");
    assert_eq!(told.element("ID"), bobs);
    assert!(told.text().contains("SimplePrefix"), "{}", told.text());

    let lent = r#"{"Statement":[{"Effect":"Allow","Principal":"*",
        "Action":["s3:GetBucketLogging","s3:PutBucketLogging"],"Resource":"arn:aws:s3:::photos"}]}"#;
    let lent = alice.put("/photos?policy", lent.as_bytes()).await;
    assert_eq!(lent.status, 204);
    bob.get("/photos?logging").await.ok();
    bob.put("/photos?logging", b"<BucketLoggingStatus/>")
        .await
        .fails(403, "AccessDenied");

    let nobody = status("mine", &grant("nobody"));
    alice
        .put("/photos?logging", &nobody)
        .await
        .fails(400, "InvalidArgument");
}

#[tokio::test]
async fn forms_and_visits_of_a_website_have_their_lines() {
    let walrus = Walrus::start_with(&["access_log.deliver_every_s=1"]).await;
    let (alice, nobody) = (S3::of(&walrus, ALICE), S3::anonymous(&walrus));
    prepare(&alice).await;
    let open = [("x-amz-acl", "public-read-write")];
    alice.call("PUT", "/photos?acl", &open, b"").await.ok();
    let site = b"<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument>\
                 </WebsiteConfiguration>";
    alice.put("/photos?website", site).await.ok();

    let form = "--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nan/upload\r\n--b\r\n\
                Content-Disposition: form-data; name=\"file\"\r\n\r\n12345\r\n--b--\r\n";
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    let posted = nobody.call("POST", "/photos", &kind, form.as_bytes()).await;
    assert_eq!(posted.status, 204);
    let host = [("host", "photos.s3-website.localhost")];
    let lost = nobody.call("GET", "/lost", &host, b"").await;
    assert_eq!(lost.status, 404);

    let lines = lines(&alice, "WEBSITE.GET.OBJECT").await;
    let post = line(&lines, &posted, "REST.POST.OBJECT");
    assert!(
        post.contains(" an/upload ") && post.contains(" 204 - "),
        "{post}"
    );
    assert!(post.contains(" 5 "), "{post}");
    let visit = line(&lines, &lost, "WEBSITE.GET.OBJECT");
    assert!(
        visit.contains(" lost ") && visit.contains(" 404 NoSuchKey "),
        "{visit}"
    );
}

#[tokio::test]
async fn what_rules_do_has_its_lines() {
    let sets = ["access_log.deliver_every_s=1", "s3.lifecycle_day_s=1"];
    let walrus = Walrus::start_with(&sets).await;
    let alice = S3::of(&walrus, ALICE);
    prepare(&alice).await;
    let versioned = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    alice.put("/photos?versioning", versioned).await.ok();
    alice.put("/photos/old", b"12345").await.ok();
    let rules = b"<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter/>\
        <Expiration><Days>1</Days></Expiration><NoncurrentVersionExpiration>\
        <NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>\
        </LifecycleConfiguration>";
    alice.put("/photos?lifecycle", rules).await.ok();

    let lines = lines(&alice, " S3.EXPIRE.OBJECT old ").await;
    let line = |operation: &str| {
        let mut found = lines.iter().filter(|line| line.contains(operation));
        found.next().expect("it was done").as_str()
    };
    let marked = line(" S3.CREATE.DELETEMARKER old ");
    assert!(marked.contains(" - AmazonS3 "), "{marked}");
    let expired = line(" S3.EXPIRE.OBJECT old ");
    assert!(expired.contains(" old \"-\" - - - 5 - - "), "{expired}");
}

#[tokio::test]
async fn a_line_has_the_handshake_that_the_front_door_tells_and_nobody_elses() {
    let walrus = Walrus::start_with(&["access_log.deliver_every_s=1"]).await;
    let alice = S3::of(&walrus, ALICE);
    prepare(&alice).await;
    let tls = "TLSv1_3 TLS13_AES_256_GCM_SHA384";
    let get_by = async |by| {
        let got = alice.get_vouched("/photos?acl", "198.51.100.7", tls, by);
        got.await.ok()
    };
    let (told, forged) = (get_by(SYSTEM).await, get_by(ALICE).await);
    alice.get("/photos/the-last").await.fails(404, "NoSuchKey");

    let lines = lines(&alice, "the-last").await;
    let told = line(&lines, &told, "REST.GET.ACL");
    assert!(told.contains("+0000] 198.51.100.7 "), "{told}");
    assert!(
        told.contains(" SigV4 TLS13_AES_256_GCM_SHA384 AuthHeader "),
        "{told}"
    );
    assert!(told.ends_with(" TLSv1_3 - -"), "{told}");
    let forged = line(&lines, &forged, "REST.GET.ACL");
    assert!(forged.contains("+0000] 127.0.0.1 "), "{forged}");
    assert!(forged.contains(" SigV4 - AuthHeader "), "{forged}");
    assert!(forged.ends_with(" - - -"), "{forged}");
}
