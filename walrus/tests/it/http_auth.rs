//! Who may speak: signatures of every kind that S3 clients make, bodies that are not what was signed
//! or claimed, and a CLC that is away.

use std::{io::Read as _, io::Write as _, net::TcpStream, time::Duration};

use sigv4::sign;

use crate::{
    daemon_process::{ALICE, CAROL, Key, SYSTEM, Walrus, now_ms},
    s3_client::{S3, pattern},
};

const TARGET: sign::Target<'static> = sign::Target {
    region: "any-region",
    service: "s3",
};

fn signer(key: Key) -> sign::Key<'static> {
    sign::Key {
        access_key: key.id,
        secret: key.secret,
        session_token: None,
    }
}

#[tokio::test]
async fn a_wrong_key_and_a_wrong_secret_get_their_codes() {
    let walrus = Walrus::start().await;
    let unknown = Key {
        id: "AKIANOBODYNOBODYNOB2",
        ..ALICE
    };
    S3::of(&walrus, unknown)
        .get("/")
        .await
        .fails(403, "InvalidAccessKeyId");
    let wrong = Key {
        secret: "guessed",
        ..ALICE
    };
    let answer = S3::of(&walrus, wrong)
        .get("/")
        .await
        .fails(403, "SignatureDoesNotMatch");
    assert!(
        answer
            .element("StringToSign")
            .starts_with("AWS4-HMAC-SHA256")
    );
    assert!(answer.element("CanonicalRequest").starts_with("GET"));
}

#[tokio::test]
async fn presigned_and_version_2_requests_are_understood() {
    let walrus = Walrus::start().await;
    let (alice, nobody) = (S3::of(&walrus, ALICE), S3::anonymous(&walrus));
    alice.put("/bucket", b"").await.ok();
    alice.put("/bucket/a%20key", b"body").await.ok();

    let presign = |method, expires_secs, then_ms| {
        let (host, path) = (nobody.host.as_str(), "/bucket/a%20key");
        let ask = sign::Presign {
            headers: &[],
            method,
            host,
            path,
            query: "",
            expires_secs,
        };
        sign::v4_presign(ask, signer(ALICE), TARGET, then_ms)
    };
    assert_eq!(
        nobody.get(&presign("GET", 60, now_ms())).await.ok().body,
        "body"
    );
    nobody
        .get(&presign("GET", 60, now_ms() - 61_000))
        .await
        .fails(403, "AccessDenied");
    nobody
        .get(&presign("GET", 604_801, now_ms()))
        .await
        .fails(400, "AuthorizationQueryParametersError");
    nobody
        .get(&presign("GET", 0, now_ms()))
        .await
        .fails(403, "AccessDenied");
    nobody.put(&presign("PUT", 60, now_ms()), b"new").await.ok();
    nobody
        .put(&presign("GET", 60, now_ms()), b"new")
        .await
        .fails(403, "SignatureDoesNotMatch");

    // euca2ools: the path has the endpoint's prefix, the signature has not, and the zone is -0000.
    for prefix in ["", "/services/objectstorage", "/services/Walrus"] {
        let date = types::Timestamp(now_ms())
            .http_date()
            .replace("GMT", "-0000");
        let target = format!("{prefix}/bucket/a%20key");
        let request = nobody.request("GET", &target, &[("date", &date)], b"");
        let (mut head, body) = request.into_parts();
        sign::v2_s3_header(&mut head, "/bucket/a%20key", signer(ALICE)).unwrap();
        let answer = nobody
            .send(http::Request::from_parts(head, body))
            .await
            .unwrap();
        assert_eq!(answer.ok().body, "new", "{prefix}");
    }
}

#[tokio::test]
async fn a_presigned_header_must_be_there_as_it_was_signed() {
    let walrus = Walrus::start().await;
    let (alice, nobody) = (S3::of(&walrus, ALICE), S3::anonymous(&walrus));
    alice.put("/bucket", b"").await.ok();
    let ask = sign::Presign {
        method: "PUT",
        host: &nobody.host,
        path: "/bucket/part",
        query: "",
        headers: &[("x-amz-acl", "ec2-bundle-read")],
        expires_secs: 60,
    };
    let target = sign::v4_presign(ask, signer(ALICE), TARGET, now_ms());
    for (headers, status) in [
        (&[("x-amz-acl", "public-read")][..], 403),
        (&[][..], 403),
        (&[("x-amz-acl", "ec2-bundle-read")][..], 200),
    ] {
        let request = nobody.request("PUT", &target, headers, b"part");
        let answer = nobody.send(request).await.unwrap();
        assert_eq!(answer.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn version_2_can_be_switched_off() {
    let walrus = Walrus::start_with(&["s3.signature_v2=false"]).await;
    let nobody = S3::anonymous(&walrus);
    let date = types::Timestamp(now_ms()).http_date();
    let (mut head, body) = nobody
        .request("GET", "/", &[("date", &date)], b"")
        .into_parts();
    sign::v2_s3_header(&mut head, "/", signer(ALICE)).unwrap();
    let answer = nobody
        .send(http::Request::from_parts(head, body))
        .await
        .unwrap();
    answer.fails(400, "InvalidRequest");
}

#[tokio::test]
async fn a_body_that_is_not_what_was_claimed_leaves_nothing() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    for size in [10, 100_000] {
        let data = pattern(size, 5);
        let zero_md5 = [("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")];
        alice
            .call("PUT", "/bucket/key", &zero_md5, &data)
            .await
            .fails(400, "BadDigest");
        let no_md5 = [("content-md5", "short")];
        alice
            .call("PUT", "/bucket/key", &no_md5, &data)
            .await
            .fails(400, "InvalidDigest");
        for (name, value) in [
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-checksum-crc32c", "AAAAAA=="),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
            ("x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            (
                "x-amz-checksum-sha256",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ),
        ] {
            alice
                .call("PUT", "/bucket/key", &[(name, value)], &data)
                .await
                .fails(400, "BadDigest");
        }
        // Another body than the one that was signed.
        let request = alice.request("PUT", "/bucket/key", &[], &data);
        let (head, _) = request.into_parts();
        let other = bytes::Bytes::from(pattern(size, 6));
        let answer = alice
            .send(http::Request::from_parts(head, other.into()))
            .await
            .unwrap();
        answer.fails(400, "XAmzContentSHA256Mismatch");
    }
    alice.get("/bucket/key").await.fails(404, "NoSuchKey");
    assert_eq!(walrus.blob_files().await, 0);
}

/// What SDKs send over TLS today: chunks, and a checksum behind them.
fn trailed(data: &[u8], checksum: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in data.chunks(65_536) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n").as_bytes());
    body
}

#[tokio::test]
async fn chunked_bodies_with_trailers_are_unwrapped_and_checked() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    let data = pattern(200_000, 9);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &data) as u32;
    use base64::Engine as _;
    let right = base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes());

    let put = async |checksum: &str, length: &str| {
        let headers = [
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", length),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let (mut head, _) = alice
            .request("PUT", "/bucket/key", &headers, b"")
            .into_parts();
        let payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
        head.headers.remove("authorization");
        head.headers.remove("content-length");
        sign::v4_header(&mut head, signer(ALICE), TARGET, payload, now_ms()).unwrap();
        let body = bytes::Bytes::from(trailed(&data, checksum));
        alice
            .send(http::Request::from_parts(head, body.into()))
            .await
            .unwrap()
    };
    put("AAAAAA==", "200000").await.fails(400, "BadDigest");
    put(&right, "200001").await.fails(400, "IncompleteBody");
    alice.get("/bucket/key").await.fails(404, "NoSuchKey");
    put(&right, "200000").await.ok();

    // Nobody in particular sends the same, unsigned.
    alice
        .call(
            "PUT",
            "/bucket?acl",
            &[("x-amz-acl", "public-read-write")],
            b"",
        )
        .await
        .ok();
    let length = trailed(&data, &right).len().to_string();
    let headers = [
        ("content-encoding", "aws-chunked"),
        ("content-length", length.as_str()),
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "200000"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let mut unsigned = http::Request::put(format!("http://{}/bucket/unsigned", walrus.s3));
    for (name, value) in headers {
        unsigned = unsigned.header(name, value);
    }
    let body = bytes::Bytes::from(trailed(&data, &right));
    alice
        .send(unsigned.body(body.into()).unwrap())
        .await
        .unwrap()
        .ok();
    assert!(alice.get("/bucket/unsigned").await.ok().body == data);

    let mode = [("x-amz-checksum-mode", "ENABLED")];
    let got = alice.call("GET", "/bucket/key", &mode, b"").await.ok();
    assert!(got.body == data);
    assert_eq!(got.header("x-amz-checksum-crc32"), right);
    assert_eq!(got.header("content-encoding"), "");
}

/// Sends bytes as they are and reads what comes within a second.
fn raw(walrus: &Walrus, text: &str) -> String {
    let mut stream = TcpStream::connect(walrus.s3).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = stream.read(&mut buffer) {
        if n == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn nobody_is_asked_for_a_body_before_he_may_send_it() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();

    let head = |signature: &str| {
        format!(
            "PUT /bucket/key HTTP/1.1\r\nhost: {}\r\ncontent-length: 5\r\nexpect: 100-continue\r\n{signature}\r\n",
            walrus.s3
        )
    };
    let refused = raw(&walrus, &head(""));
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");

    let date = types::Timestamp(now_ms()).http_date();
    let nobody = S3::anonymous(&walrus);
    let (mut parts, _) = nobody
        .request("PUT", "/bucket/key", &[("date", &date)], b"")
        .into_parts();
    sign::v2_s3_header(&mut parts, "/bucket/key", signer(ALICE)).unwrap();
    let authorization = parts.headers["authorization"].to_str().unwrap();
    let signed = format!("date: {date}\r\nauthorization: {authorization}\r\n");
    let asked = raw(&walrus, &head(&signed));
    assert!(asked.starts_with("HTTP/1.1 100 Continue"), "{asked}");

    // A connection that is cut in the middle of a body leaves nothing.
    alice.get("/bucket/key").await.fails(404, "NoSuchKey");
    let put = |length: &str| {
        let host = walrus.s3;
        let head = format!("PUT /bucket/key HTTP/1.1\r\nhost: {host}\r\n{length}{signed}\r\n");
        raw(&walrus, &format!("{head}5\r\npiped\r\n0\r\n\r\n"))
    };
    let no_length = put("");
    assert!(no_length.contains("MissingContentLength"), "{no_length}");
    let piped = put("transfer-encoding: chunked\r\n");
    assert!(piped.starts_with("HTTP/1.1 200"), "{piped}");
    assert_eq!(alice.get("/bucket/key").await.ok().body, "piped");
}

#[tokio::test]
async fn a_refused_upload_without_expect_still_reads_its_refusal() {
    let walrus = Walrus::start().await;
    let nobody = S3::anonymous(&walrus);
    let part = vec![0; 10 << 20];
    nobody
        .put("/bucket/part", &part)
        .await
        .fails(404, "NoSuchBucket");
}

#[tokio::test]
async fn identities_outlive_the_cloud_controller() {
    let mut walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    walrus.lose_cloud();
    alice.put("/bucket/key", b"x").await.ok();
    walrus.kill();
    walrus.run().await;
    assert_eq!(alice.get("/bucket/key").await.ok().body, "x");
    assert!(walrus.stop(), "SIGTERM ends it well");
}

#[tokio::test]
async fn a_full_disk_refuses_early_and_says_so() {
    let walrus = Walrus::start_with(&["storage.reserve_mib=1000000000"]).await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    alice
        .put("/bucket/key", b"x")
        .await
        .fails(507, "InsufficientStorage");
    alice.delete("/bucket").await.ok();
}

#[tokio::test]
async fn who_may_write_may_not_yet_say_who_reads_it() {
    let walrus = Walrus::start().await;
    let (alice, carol) = (S3::of(&walrus, ALICE), S3::of(&walrus, CAROL));
    alice.put("/bucket", b"").await.ok();
    alice.put("/bucket/public/a", b"a").await.ok();
    let open = ("x-amz-acl", "public-read");
    let from = ("x-amz-copy-source", "/bucket/public/a");

    for (method, target, more) in [
        ("PUT", "/bucket/drop/a", None),
        ("PUT", "/bucket/drop/b", Some(from)),
        ("POST", "/bucket/drop/c?uploads", None),
        ("PUT", "/carols", None),
    ] {
        let plain: Vec<_> = more.into_iter().collect();
        let opening: Vec<_> = more.into_iter().chain([open]).collect();
        carol
            .call(method, target, &opening, b"")
            .await
            .fails(403, "AccessDenied");
        carol.call(method, target, &plain, b"").await.ok();
    }
    // Whoever may everything may that, too.
    alice.call("PUT", "/bucket/open", &[open], b"").await.ok();
    alice.call("PUT", "/open", &[open], b"").await.ok();
}

#[tokio::test]
async fn the_address_of_a_client_is_what_the_front_door_says_and_nobody_else() {
    let walrus = Walrus::start().await;
    let (alice, carol) = (S3::of(&walrus, ALICE), S3::of(&walrus, CAROL));
    alice.put("/bucket", b"").await.ok();
    alice.put("/bucket/office/a", b"a").await.ok();

    let target = "/bucket/office/a";
    let tls = "TLSv1_3 TLS13_AES_256_GCM_SHA384";
    let get_from = async |address, by| carol.get_vouched(target, address, tls, by).await;
    get_from("198.51.100.7", SYSTEM).await.ok();
    get_from("198.51.101.7", SYSTEM)
        .await
        .fails(403, "AccessDenied");
    // Her own word, and one by a key that nobody has.
    for by in [
        CAROL,
        Key {
            secret: "x",
            ..SYSTEM
        },
    ] {
        get_from("198.51.100.7", by)
            .await
            .fails(403, "AccessDenied");
    }
    carol.get(target).await.fails(403, "AccessDenied");
}
