//! A key that is revoked, and a CLC that is away: what binds within a second, and what happens when
//! nobody can say any more whether a key still holds.

use std::time::{Duration, Instant};

use crate::{
    daemon_process::{ALICE, BOB, Walrus, now_ms},
    s3_client::{S3, plain_get, plain_text},
};

async fn until<F: AsyncFnMut() -> bool>(limit: Duration, mut holds: F) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < limit, "it does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

#[tokio::test]
async fn a_revocation_binds_within_a_second() {
    let walrus = Walrus::start().await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    alice.put("/photos", b"").await.ok();
    // A poll is waiting by now, as it is nearly all the time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    walrus.revoke(ALICE);
    let refused = until(Duration::from_secs(20), async || {
        alice.get("/photos").await.status == 403
    });
    let took = refused.await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    alice
        .put("/photos/a", b"a")
        .await
        .fails(403, "InvalidAccessKeyId");
    bob.put("/bobs", b"").await.ok();
}

#[tokio::test]
async fn without_the_cloud_keys_serve_for_their_time_and_then_only_read() {
    let mut walrus = Walrus::start_with(&["identity.trusted_s=5"]).await;
    let (alice, nobody) = (S3::of(&walrus, ALICE), S3::anonymous(&walrus));
    let readyz = format!("http://{}/readyz", walrus.admin);
    alice.put("/photos", b"").await.ok();
    alice.put("/photos/a", b"a").await.ok();
    let open = [("x-amz-acl", "public-read-write")];
    alice.call("PUT", "/open", &open, b"").await.ok();

    walrus.lose_cloud();
    // Known keys serve, and who asks is told that it will not go on for ever.
    until(Duration::from_secs(20), async || {
        plain_text(&readyz).await.contains("known keys serve for")
    })
    .await;
    assert_eq!(plain_get(&readyz).await, Some(200));
    alice.put("/photos/b", b"b").await.ok();

    until(Duration::from_secs(20), async || {
        alice.put("/photos/c", b"c").await.status == 503
    })
    .await;
    for (method, target) in [
        ("PUT", "/photos/c"),
        ("DELETE", "/photos/a"),
        ("PUT", "/another"),
        ("POST", "/photos/d?uploads"),
        ("PUT", "/photos?acl"),
    ] {
        let refused = alice.call(method, target, &[], b"").await;
        refused.fails(503, "ServiceUnavailable");
    }
    assert_eq!(alice.get("/photos/a").await.ok().body, "a");
    alice.get("/photos?list-type=2").await.ok();
    // No key is asked for here, so none can have been revoked.
    nobody.put("/open/a", b"a").await.ok();
    until(Duration::from_secs(20), async || {
        plain_text(&readyz).await.contains("known keys only read")
    })
    .await;
    assert_eq!(plain_get(&readyz).await, Some(503));

    // A restart does not begin the time anew.
    walrus.kill();
    walrus.run_unready().await;
    alice
        .put("/photos/c", b"c")
        .await
        .fails(503, "ServiceUnavailable");
    assert_eq!(alice.get("/photos/a").await.ok().body, "a");

    walrus.regain_cloud().await;
    until(Duration::from_secs(20), async || {
        alice.put("/photos/c", b"c").await.status == 200
    })
    .await;
    until(Duration::from_secs(20), async || {
        plain_get(&readyz).await == Some(200)
    })
    .await;
    let text = plain_text(&readyz).await;
    assert!(!text.contains("heard"), "{text}");
}

#[tokio::test]
async fn a_session_that_nobody_knows_is_refused() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/photos", b"").await.ok();
    for away in [false, true] {
        if away {
            walrus.lose_cloud();
        }
        let (mut head, body) = alice.request("GET", "/photos", &[], b"").into_parts();
        head.headers.remove("authorization");
        let key = sigv4::sign::Key {
            access_key: ALICE.id,
            secret: ALICE.secret,
            session_token: Some("a-session-of-nobody"),
        };
        let target = sigv4::sign::Target {
            region: "mallee-1",
            service: "s3",
        };
        let payload = sigv4::sha256_hex(b"");
        sigv4::sign::v4_header(&mut head, key, target, &payload, now_ms()).unwrap();
        let answer = alice
            .send(http::Request::from_parts(head, body))
            .await
            .unwrap();
        answer.fails(400, "InvalidToken");
    }
}
