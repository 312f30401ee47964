//! The daemon over HTTP: buckets, objects, lists, lists of access, copies.

use crate::{
    daemon_process::{ALICE, BOB, CAROL, SYSTEM, Walrus},
    s3_client::{S3, pattern},
};

#[tokio::test]
async fn a_bucket_lives_and_dies() {
    let walrus = Walrus::start().await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));

    alice.put("/photos", b"").await.ok();
    alice.put("/photos", b"").await.ok();
    let elsewhere = b"<CreateBucketConfiguration><LocationConstraint>EU</LocationConstraint>\
                      </CreateBucketConfiguration>";
    alice
        .put("/photos", elsewhere)
        .await
        .fails(409, "BucketAlreadyOwnedByYou");
    bob.put("/photos", b"")
        .await
        .fails(409, "BucketAlreadyExists");
    bob.put("/Bad_Name", b"")
        .await
        .fails(400, "InvalidBucketName");
    assert_eq!(alice.get("/").await.ok().elements("Name"), ["photos"]);
    assert!(bob.get("/").await.ok().elements("Name").is_empty());

    assert_eq!(
        alice
            .call("HEAD", "/photos", &[], b"")
            .await
            .ok()
            .header("x-amz-bucket-region"),
        "mallee-1"
    );
    assert_eq!(
        alice
            .call("HEAD", "/nobody-has-this", &[], b"")
            .await
            .status,
        404
    );
    assert_eq!(bob.call("HEAD", "/photos", &[], b"").await.status, 403);
    alice.get("/photos?location").await.ok();

    alice.put("/photos/a", b"x").await.ok();
    alice.delete("/photos").await.fails(409, "BucketNotEmpty");
    alice.delete("/photos/a").await.ok();
    bob.delete("/photos").await.fails(403, "AccessDenied");
    assert_eq!(alice.delete("/photos").await.ok().status, 204);
    alice.get("/photos").await.fails(404, "NoSuchBucket");
    alice
        .put("/photos/a", b"x")
        .await
        .fails(404, "NoSuchBucket");

    let located = b"<CreateBucketConfiguration><LocationConstraint>EU</LocationConstraint></CreateBucketConfiguration>";
    alice.put("/placed", located).await.ok();
    assert!(
        alice
            .get("/placed?location")
            .await
            .ok()
            .text()
            .contains(">EU</LocationConstraint>")
    );
}

#[tokio::test]
async fn an_object_comes_back_as_it_was_put_whatever_its_size() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();

    for size in [0, 1, 16 << 10, (16 << 10) + 1, 65_536, 3_000_000] {
        let data = pattern(size, 3);
        let etag = format!("\"{}\"", md5_hex(&data));
        let headers = [
            ("content-type", "text/x-test"),
            ("x-amz-meta-colour", "green"),
            ("content-encoding", "gzip"),
        ];
        let put = alice.call("PUT", "/bucket/key", &headers, &data).await.ok();
        assert_eq!(put.header("etag"), etag, "{size}");

        let got = alice.get("/bucket/key").await.ok();
        assert!(got.body == data, "{size}");
        assert_eq!(got.header("etag"), etag);
        assert_eq!(got.header("content-type"), "text/x-test");
        assert_eq!(got.header("content-encoding"), "gzip");
        assert_eq!(got.header("x-amz-meta-colour"), "green");

        let head = alice.call("HEAD", "/bucket/key", &[], b"").await.ok();
        assert_eq!(head.header("content-length"), size.to_string());
        assert!(head.body.is_empty());
    }
}

fn md5_hex(data: &[u8]) -> String {
    use md5::Digest as _;
    hex::encode(md5::Md5::digest(data))
}

#[tokio::test]
async fn ranges_and_conditions_are_kept_to() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    for size in [1000, 200_000] {
        let data = pattern(size, 1);
        let put = alice.put("/bucket/key", &data).await.ok();
        let etag = put.header("etag").to_owned();
        let get =
            async |headers: &[(&str, &str)]| alice.call("GET", "/bucket/key", headers, b"").await;

        let part = get(&[("range", "bytes=10-19")]).await;
        assert_eq!((part.status.as_u16(), &part.body[..]), (206, &data[10..20]));
        assert_eq!(part.header("content-range"), format!("bytes 10-19/{size}"));
        let last = get(&[("range", "bytes=-5")]).await;
        assert_eq!(&last.body[..], &data[size - 5..]);
        get(&[("range", &format!("bytes={size}-"))])
            .await
            .fails(416, "InvalidRange");
        assert_eq!(get(&[("range", "bytes=9-1")]).await.status, 200);

        assert_eq!(get(&[("if-none-match", &etag)]).await.status, 304);
        assert_eq!(get(&[("if-match", &etag)]).await.status, 200);
        get(&[("if-match", "\"other\"")])
            .await
            .fails(412, "PreconditionFailed");
        let future = "Fri, 01 Jan 2100 00:00:00 GMT";
        assert_eq!(get(&[("if-modified-since", future)]).await.status, 304);
        assert_eq!(get(&[("if-unmodified-since", future)]).await.status, 200);
    }
    let override_target = "/bucket/key?response-content-type=text%2Fx-other";
    assert_eq!(
        alice.get(override_target).await.ok().header("content-type"),
        "text/x-other"
    );
    alice.get("/bucket/none").await.fails(404, "NoSuchKey");
}

#[tokio::test]
async fn one_of_many_racing_writers_takes_the_lock() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();

    let writers = (0..12).map(|i| {
        let alice = alice.clone();
        tokio::spawn(async move {
            let body = pattern(20_000 * (i % 3), i as u8);
            alice
                .call("PUT", "/bucket/lock", &[("if-none-match", "*")], &body)
                .await
                .status
                .as_u16()
        })
    });
    let mut answers = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        answers.push(writer.await.unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers[0], 200);
    assert!(
        answers[1..].iter().all(|status| *status == 412),
        "{answers:?}"
    );

    let put = alice
        .call("PUT", "/bucket/new", &[("if-match", "\"aa\"")], b"")
        .await;
    put.fails(404, "NoSuchKey");
    let delete = alice
        .call("DELETE", "/bucket/lock", &[("if-match", "\"aa\"")], b"")
        .await;
    delete.fails(412, "PreconditionFailed");
}

#[tokio::test]
async fn readers_see_one_version_while_writers_overwrite() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    alice.put("/bucket/key", &pattern(100, 0)).await.ok();

    let writers = (0..4_u8).map(|writer| {
        let alice = alice.clone();
        tokio::spawn(async move {
            for i in 0..30_u8 {
                let size = [100, 30_000, 900_000][usize::from(i) % 3];
                alice
                    .put("/bucket/key", &pattern(size, writer * 30 + i))
                    .await
                    .ok();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers = (0..60).map(|_| {
        let (alice, is_over) = (alice.clone(), is_over.clone());
        tokio::spawn(async move {
            let mut reads = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let got = alice.get("/bucket/key").await.ok();
                assert_eq!(got.header("etag"), format!("\"{}\"", md5_hex(&got.body)));
                assert_eq!(got.header("content-length"), got.body.len().to_string());
                reads += 1;
            }
            reads
        })
    });
    let readers: Vec<_> = readers.collect();
    for writer in writers {
        writer.await.unwrap();
    }
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0, "every reader read something");
    }
    // Bodies that were overwritten are gone, all but the one that is there.
    for _ in 0..200 {
        if walrus.blob_files().await <= 1 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{} files are left", walrus.blob_files().await);
}

#[tokio::test]
async fn keys_are_letters_and_never_paths() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    let long = "k".repeat(1024);
    let keys = [
        "../up", "..", "a//b", "/lead", "dir/", "dir/file", "%25", "%2e%2e/x", "a b+c", "é☃",
        "?x=1", "\u{1}", &long,
    ];

    for (i, key) in keys.iter().enumerate() {
        let target = format!("/bucket/{}", percent(key));
        alice.put(&target, &[i as u8]).await.ok();
    }
    for (i, key) in keys.iter().enumerate() {
        let got = alice.get(&format!("/bucket/{}", percent(key))).await.ok();
        assert_eq!(got.body[..], [i as u8], "{key:?}");
    }
    let listed = alice
        .get("/bucket?encoding-type=url")
        .await
        .ok()
        .elements("Key");
    let mut sorted: Vec<_> = keys.iter().map(|key| s3::query::encode_key(key)).collect();
    let mut plain: Vec<_> = keys.to_vec();
    plain.sort_unstable();
    sorted.clear();
    sorted.extend(plain.iter().map(|key| s3::query::encode_key(key)));
    assert_eq!(listed, sorted);

    let too_long = format!("/bucket/{}", "k".repeat(1025));
    alice
        .put(&too_long, b"")
        .await
        .fails(400, "KeyTooLongError");
    alice.put("/bucket/%ff", b"").await.fails(400, "InvalidURI");
    assert!(!walrus.state().join("objects/up").exists());
}

fn percent(key: &str) -> String {
    key.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn lists_page_and_roll_up() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    for key in ["a", "b/1", "b/2", "b/3", "c/x/1", "c/y", "d"] {
        alice.put(&format!("/bucket/{key}"), b"x").await.ok();
    }

    let all = alice.get("/bucket?max-keys=3").await.ok();
    assert_eq!(all.elements("Key"), ["a", "b/1", "b/2"]);
    assert_eq!(all.element("IsTruncated"), "true");
    let rest = alice.get("/bucket?marker=b%2F2").await.ok();
    assert_eq!(rest.elements("Key"), ["b/3", "c/x/1", "c/y", "d"]);

    // Page by page, with every page size, the rolled-up list is the same.
    for size in 1..=5 {
        let (mut marker, mut seen) = (String::new(), Vec::new());
        loop {
            let target = format!(
                "/bucket?delimiter=%2F&max-keys={size}&marker={}",
                percent(&marker)
            );
            let page = alice.get(&target).await.ok();
            let mut lines = page.elements("Key");
            lines.extend(
                page.elements("CommonPrefixes")
                    .iter()
                    .map(|p| p.replace("<Prefix>", "").replace("</Prefix>", "")),
            );
            lines.sort_unstable();
            assert!(lines.len() <= size);
            seen.extend(lines);
            if page.element("IsTruncated") == "false" {
                break;
            }
            marker = page.element("NextMarker");
        }
        assert_eq!(seen, ["a", "b/", "c/", "d"], "{size}");
    }

    let two = alice
        .get("/bucket?list-type=2&prefix=c%2F&delimiter=%2F")
        .await
        .ok();
    assert_eq!(
        (two.elements("Key"), two.element("KeyCount")),
        (vec!["c/y".to_owned()], "2".to_owned())
    );
    let two = alice.get("/bucket?list-type=2&max-keys=2").await.ok();
    let token = two.element("NextContinuationToken");
    let next = alice
        .get(&format!("/bucket?list-type=2&continuation-token={token}"))
        .await
        .ok();
    assert_eq!(next.elements("Key"), ["b/2", "b/3", "c/x/1", "c/y", "d"]);
    let after = alice
        .get("/bucket?list-type=2&start-after=c%2Fy")
        .await
        .ok();
    assert_eq!(after.elements("Key"), ["d"]);

    let none = alice.get("/bucket?max-keys=0").await.ok();
    assert_eq!(
        (none.elements("Key").len(), none.element("IsTruncated")),
        (0, "false".to_owned())
    );
    alice
        .get("/bucket?max-keys=-1")
        .await
        .fails(400, "InvalidArgument");
}

#[tokio::test]
async fn access_lists_open_and_close() {
    let walrus = Walrus::start().await;
    let (alice, bob, carol) = (
        S3::of(&walrus, ALICE),
        S3::of(&walrus, BOB),
        S3::of(&walrus, CAROL),
    );
    let (nobody, system) = (S3::anonymous(&walrus), S3::of(&walrus, SYSTEM));
    alice.put("/bucket", b"").await.ok();
    alice.put("/bucket/secret", b"s").await.ok();
    alice.put("/bucket/public/a", b"a").await.ok();

    bob.get("/bucket/secret").await.fails(403, "AccessDenied");
    bob.get("/bucket/absent").await.fails(403, "AccessDenied");
    nobody
        .get("/bucket/secret")
        .await
        .fails(403, "AccessDenied");
    let nothing = nobody.get("/").await.ok();
    assert!(nothing.elements("Name").is_empty());
    carol.get("/bucket/secret").await.fails(403, "AccessDenied");
    carol.get("/bucket/public/a").await.ok();
    carol
        .put("/bucket/public/b", b"")
        .await
        .fails(403, "AccessDenied");

    // The cloud's own key reads bundles and nothing else.
    assert_eq!(system.get("/bucket/secret").await.ok().body, "s");
    system
        .put("/bucket/x", b"")
        .await
        .fails(403, "AccessDenied");
    system.get("/bucket").await.fails(403, "AccessDenied");
    system
        .put("/system-bucket", b"")
        .await
        .fails(403, "AccessDenied");

    let open = [("x-amz-acl", "public-read")];
    alice
        .call("PUT", "/bucket/secret?acl", &open, b"")
        .await
        .ok();
    assert_eq!(nobody.get("/bucket/secret").await.ok().body, "s");
    alice.call("PUT", "/bucket?acl", &open, b"").await.ok();
    assert_eq!(nobody.get("/bucket").await.ok().elements("Key").len(), 2);
    nobody.get("/bucket/absent").await.fails(404, "NoSuchKey");
    nobody
        .put("/bucket/w", b"")
        .await
        .fails(403, "AccessDenied");
    bob.get("/bucket?acl").await.fails(403, "AccessDenied");

    // A list goes out, is changed, and comes back, as s3cmd does it.
    let list = alice.get("/bucket/secret?acl").await.ok().text();
    assert!(list.contains("AllUsers") && list.contains("<DisplayName>alice</DisplayName>"));
    let at = list.find("<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"Group\"").unwrap();
    let end = at + list[at..].find("</Grant>").unwrap() + "</Grant>".len();
    let closed = format!("{}{}", &list[..at], &list[end..]);
    alice
        .call("PUT", "/bucket/secret?acl", &[], closed.as_bytes())
        .await
        .ok();
    nobody
        .get("/bucket/secret")
        .await
        .fails(403, "AccessDenied");

    for canned in ["aws-exec-read", "ec2-bundle-read"] {
        alice
            .call("PUT", "/bucket/bundle", &[("x-amz-acl", canned)], b"")
            .await
            .ok();
        assert!(
            alice
                .get("/bucket/bundle?acl")
                .await
                .ok()
                .text()
                .contains("<ID>3030")
        );
    }
    alice
        .call("PUT", "/bucket/x", &[("x-amz-acl", "friendly")], b"")
        .await
        .fails(400, "InvalidArgument");
}

#[tokio::test]
async fn copies_copy_and_replace() {
    let walrus = Walrus::start().await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    alice.put("/bucket", b"").await.ok();
    for size in [10, 100_000] {
        let data = pattern(size, 7);
        alice
            .call("PUT", "/bucket/from%25", &[("x-amz-meta-a", "1")], &data)
            .await
            .ok();
        let copy = alice
            .call(
                "PUT",
                "/bucket/to",
                &[("x-amz-copy-source", "/bucket/from%25")],
                b"",
            )
            .await
            .ok();
        assert_eq!(
            copy.element("ETag"),
            format!("&quot;{}&quot;", md5_hex(&data))
        );
        alice.delete("/bucket/from%25").await.ok();
        let got = alice.get("/bucket/to").await.ok();
        assert!(got.body == data && got.header("x-amz-meta-a") == "1");

        let onto_itself = [("x-amz-copy-source", "bucket/to")];
        alice
            .call("PUT", "/bucket/to", &onto_itself, b"")
            .await
            .fails(400, "InvalidRequest");
        let replace = [
            ("x-amz-copy-source", "bucket/to"),
            ("x-amz-metadata-directive", "REPLACE"),
            ("x-amz-meta-b", "2"),
        ];
        alice.call("PUT", "/bucket/to", &replace, b"").await.ok();
        let got = alice.get("/bucket/to").await.ok();
        assert!(
            got.body == data
                && got.header("x-amz-meta-a").is_empty()
                && got.header("x-amz-meta-b") == "2"
        );
    }
    bob.put("/bobs", b"").await.ok();
    bob.call(
        "PUT",
        "/bobs/x",
        &[("x-amz-copy-source", "/bucket/to")],
        b"",
    )
    .await
    .fails(403, "AccessDenied");
    let stale = [
        ("x-amz-copy-source", "/bucket/to"),
        ("x-amz-copy-source-if-match", "\"no\""),
    ];
    alice
        .call("PUT", "/bucket/x", &stale, b"")
        .await
        .fails(412, "PreconditionFailed");
    alice
        .call("PUT", "/bucket/x", &[("x-amz-copy-source", "")], b"")
        .await
        .fails(400, "InvalidArgument");
}

#[tokio::test]
async fn many_are_deleted_at_once_each_for_itself() {
    use base64::Engine as _;
    use md5::Digest as _;
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    for key in ["a", "b", "c"] {
        alice
            .put(&format!("/bucket/{key}"), key.as_bytes())
            .await
            .ok();
    }
    let body = b"<Delete><Object><Key>a</Key></Object><Object><Key>never-was</Key></Object>\
        <Object><Key>b</Key><ETag>wrong</ETag></Object><Object><Key>c</Key><VersionId>v1</VersionId></Object></Delete>";
    let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(body));
    alice
        .call("POST", "/bucket?delete", &[], body)
        .await
        .fails(400, "InvalidRequest");
    alice
        .call(
            "POST",
            "/bucket?delete",
            &[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
            body,
        )
        .await
        .fails(400, "BadDigest");

    let answer = alice
        .call("POST", "/bucket?delete", &[("content-md5", &md5)], body)
        .await
        .ok();
    assert_eq!(answer.elements("Deleted").len(), 3, "{}", answer.text());
    assert_eq!(answer.elements("Code"), ["PreconditionFailed"]);
    assert_eq!(alice.get("/bucket").await.ok().elements("Key"), ["b", "c"]);
}

#[tokio::test]
async fn a_bucket_may_be_a_host() {
    let walrus = Walrus::start_with(&["s3.domains=[\"s3.example.org\"]"]).await;
    let alice = S3::of(&walrus, ALICE);
    let host = [("host", "my.bucket.s3.example.org:8773")];
    alice.call("PUT", "/", &host, b"").await.ok();
    alice.call("PUT", "/a/b", &host, b"body").await.ok();
    assert_eq!(alice.get("/my.bucket/a/b").await.ok().body, "body");
    assert_eq!(
        alice
            .call("GET", "/?prefix=a", &host, b"")
            .await
            .ok()
            .elements("Key"),
        ["a/b"]
    );
}

#[tokio::test]
async fn what_is_not_served_is_refused_by_name() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    for (method, target, name) in [
        ("GET", "/bucket?replication", "GetBucketReplication"),
        (
            "PUT",
            "/bucket?inventory",
            "PutBucketInventoryConfiguration",
        ),
        ("GET", "/bucket/key?torrent", "GetObjectTorrent"),
        ("POST", "/bucket/key?select", "SelectObjectContent"),
    ] {
        let answer = alice
            .call(method, target, &[], b"")
            .await
            .fails(501, "NotImplemented");
        assert!(
            answer.element("Message").contains(name),
            "{}",
            answer.text()
        );
    }
    let encrypted = [("x-amz-server-side-encryption", "aws:kms:dsse")];
    alice
        .call("PUT", "/bucket/key", &encrypted, b"")
        .await
        .fails(501, "NotImplemented");
    alice.get("/bucket/key").await.fails(404, "NoSuchKey");
    alice
        .call("PATCH", "/bucket/key", &[], b"")
        .await
        .fails(405, "MethodNotAllowed");
}

#[tokio::test]
async fn what_the_cloud_links_stays_when_its_first_name_goes_and_is_the_clouds_alone() {
    use control::{Objects as _, Role, objects::*, rpc::Call};
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    let large = vec![7; 100_000];
    alice.put("/bucket", b"").await.ok();
    alice.put("/bucket/f/small", b"s").await.ok();
    alice.put("/bucket/f/large", &large).await.ok();
    let (clc, call) = (walrus.control_as(Role::Clc, "clc"), Call::new("test"));
    let link = |names: &[&str], to: &str| LinkObjects {
        from_bucket: "bucket".into(),
        from_prefix: "f/".into(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        to_bucket: to.into(),
    };
    let own = "emi-00000001";
    // Twice, as after a restart in its midst.
    for _ in 0..2 {
        clc.link_objects(&call, link(&["small", "large"], own))
            .await
            .unwrap();
    }
    alice.delete("/bucket/f/small").await.ok();
    alice.delete("/bucket/f/large").await.ok();

    let stat = StatObjects {
        principal: Principal {
            account: types::AccountId::system(),
            user: "admin".into(),
        },
        bucket: own.into(),
        keys: vec!["small".into(), "large".into()],
    };
    let sizes: Vec<_> = clc
        .stat_objects(&call, stat)
        .await
        .unwrap()
        .objects
        .into_iter()
        .map(|object| object.size)
        .collect();
    assert_eq!(sizes, [Ok(1), Ok(100_000)]);
    assert_eq!(alice.get(&format!("/{own}/large")).await.status, 403);
    assert_eq!(alice.delete(&format!("/{own}/large")).await.status, 403);

    let code = async |ask| clc.link_objects(&call, ask).await.unwrap_err().code;
    assert_eq!(code(link(&["small"], own)).await, control::Code::NotFound);
    assert_eq!(code(link(&[], "bucket")).await, control::Code::Conflict);
    assert_eq!(code(link(&[], "../x")).await, control::Code::Invalid);
    let drop = |bucket: &str| DropObjects {
        bucket: bucket.into(),
    };
    let of_alice = clc.drop_objects(&call, drop("bucket")).await;
    assert_eq!(of_alice.unwrap_err().code, control::Code::Conflict);
    for _ in 0..2 {
        clc.drop_objects(&call, drop(own)).await.unwrap();
    }
    let status = clc.status(&call, AskObjectsStatus {}).await.unwrap();
    assert_eq!((status.buckets, status.objects), (1, 0));
}

#[tokio::test]
async fn the_cloud_reads_in_somebodys_name_and_nobody_else_may_ask() {
    use control::{Objects as _, Role, objects::*, rpc::Call};
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    alice.put("/bucket/manifest.xml", b"<manifest/>").await.ok();

    let as_user = |account: &str| Principal {
        account: account.parse().unwrap(),
        user: "admin".into(),
    };
    let read = |account: &str, key: &str, bytes_max| ReadObject {
        principal: as_user(account),
        bucket: "bucket".into(),
        key: key.into(),
        bytes_max,
    };
    let clc = walrus.control_as(Role::Clc, "clc");
    let call = Call::new("test");
    let got = clc
        .read_object(&call, read("111111111111", "manifest.xml", 100))
        .await
        .unwrap();
    assert_eq!(got.content, "PG1hbmlmZXN0Lz4=");
    let code = async |ask| clc.read_object(&call, ask).await.unwrap_err().code;
    assert_eq!(
        code(read("111111111111", "manifest.xml", 5)).await,
        control::Code::Invalid
    );
    assert_eq!(
        code(read("111111111111", "absent", 5)).await,
        control::Code::NotFound
    );
    assert_eq!(
        code(read("222222222222", "manifest.xml", 100)).await,
        control::Code::Forbidden
    );

    let ask = StatObjects {
        principal: as_user("111111111111"),
        bucket: "bucket".into(),
        keys: vec!["manifest.xml".into(), "absent".into()],
    };
    let stats = clc.stat_objects(&call, ask).await.unwrap().objects;
    assert_eq!(
        (stats[0].size.clone(), stats[1].size.clone()),
        (Ok(11), Err("NoSuchKey".into()))
    );
    let status = clc.status(&call, AskObjectsStatus {}).await.unwrap();
    assert_eq!((status.buckets, status.objects, status.bytes), (1, 1, 11));

    let node = walrus.control_as(Role::Admin, "admin");
    let refused = node.status(&call, AskObjectsStatus {}).await.unwrap_err();
    assert_eq!(refused.code, control::Code::Forbidden);
}
