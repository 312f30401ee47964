//! Websites over HTTP: what a browser sees.

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{Answer, S3},
};

const SITE: &str = "site.s3-website.localhost:8779";

struct Browser(S3);

impl Browser {
    async fn visit(&self, host: &str, path: &str) -> Answer {
        self.0.call("GET", path, &[("host", host)], b"").await
    }

    async fn see(&self, path: &str) -> Answer {
        self.visit(SITE, path).await
    }
}

fn pages(more: &str) -> Vec<u8> {
    format!(
        "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument>{more}\
         </WebsiteConfiguration>"
    )
    .into_bytes()
}

const PUBLIC: &[u8] = br#"{"Statement":{"Effect":"Allow","Principal":"*",
    "Action":["s3:GetObject"],"Resource":"arn:aws:s3:::site/*"}}"#;

async fn start() -> (Walrus, S3, Browser) {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/site", b"").await.ok();
    let browser = Browser(S3::anonymous(&walrus));
    (walrus, alice, browser)
}

#[tokio::test]
async fn a_bucket_is_a_website() {
    let (_walrus, alice, browser) = start().await;
    let missing = alice.get("/site?website").await;
    missing.fails(404, "NoSuchWebsiteConfiguration");
    let page = browser.see("/").await;
    assert_eq!(page.status, 404);
    assert!(page.text().contains("Code: NoSuchWebsiteConfiguration"));
    let error = "<ErrorDocument><Key>oops.html</Key></ErrorDocument>";
    alice.put("/site?website", &pages(error)).await.ok();
    let kept = alice.get("/site?website").await.ok();
    assert_eq!(kept.element("Suffix"), "index.html");

    let html = [("content-type", "text/html")];
    for (key, body) in [
        ("index.html", &b"<h1>home</h1>"[..]),
        ("docs/index.html", b"<h1>docs</h1>"),
        ("oops.html", b"<h1>oops</h1>"),
    ] {
        let target = format!("/site/{key}");
        alice.call("PUT", &target, &html, body).await.ok();
    }
    let page = browser.see("/").await;
    assert_eq!(page.status, 403, "nobody may read it yet");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text().contains("Code: AccessDenied"));

    alice.put("/site?policy", PUBLIC).await.ok();
    let page = browser.see("/").await.ok();
    assert_eq!(page.text(), "<h1>home</h1>");
    assert_eq!(page.header("content-type"), "text/html");
    let head = browser
        .0
        .call("HEAD", "/", &[("host", SITE)], b"")
        .await
        .ok();
    assert_eq!(head.header("content-length"), "13");
    assert_eq!(browser.see("/docs/").await.ok().text(), "<h1>docs</h1>");
    let folder = browser.see("/docs").await;
    assert_eq!(
        (folder.status.as_u16(), folder.header("location")),
        (302, "/docs/")
    );

    let lost = browser.see("/lost").await;
    assert_eq!(
        (lost.status.as_u16(), lost.text().as_str()),
        (403, "<h1>oops</h1>")
    );
    let listable = [("x-amz-acl", "public-read")];
    alice.call("PUT", "/site?acl", &listable, b"").await.ok();
    let lost = browser.see("/lost").await;
    assert_eq!(
        (lost.status.as_u16(), lost.text().as_str()),
        (404, "<h1>oops</h1>")
    );

    let posted = browser.0.call("POST", "/", &[("host", SITE)], b"x").await;
    assert_eq!(
        (posted.status.as_u16(), posted.header("allow")),
        (405, "GET, HEAD")
    );
    let etag = browser.see("/").await.header("etag").to_owned();
    let again = [("host", SITE), ("if-none-match", &etag)];
    assert_eq!(browser.0.call("GET", "/", &again, b"").await.status, 304);
    let nobodys = browser.visit("other.s3-website.localhost", "/").await;
    assert!(nobodys.status == 404 && nobodys.text().contains("Code: NoSuchBucket"));

    assert_eq!(alice.delete("/site?website").await.ok().status, 204);
    assert_eq!(browser.see("/").await.status, 404);
}

#[tokio::test]
async fn visitors_are_sent_where_rules_and_objects_say() {
    let (_walrus, alice, browser) = start().await;
    alice.put("/site?policy", PUBLIC).await.ok();
    let rules = "<RoutingRules><RoutingRule><Condition><KeyPrefixEquals>old/</KeyPrefixEquals>\
        </Condition><Redirect><ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith></Redirect>\
        </RoutingRule><RoutingRule><Condition>\
        <HttpErrorCodeReturnedEquals>403</HttpErrorCodeReturnedEquals></Condition><Redirect>\
        <HostName>elsewhere.example</HostName><Protocol>https</Protocol>\
        <HttpRedirectCode>307</HttpRedirectCode></Redirect></RoutingRule></RoutingRules>";
    alice.put("/site?website", &pages(rules)).await.ok();
    let moved = [("x-amz-website-redirect-location", "/there.html")];
    alice.call("PUT", "/site/here.html", &moved, b"").await.ok();

    let sent = browser.see("/old/a%20b").await;
    let location = format!("http://{SITE}/new/a%20b");
    assert_eq!(
        (sent.status.as_u16(), sent.header("location")),
        (301, location.as_str())
    );
    let sent = browser.see("/lost").await;
    assert_eq!(sent.status, 307);
    assert_eq!(sent.header("location"), "https://elsewhere.example/lost");
    let sent = browser.see("/here.html").await;
    assert_eq!(
        (sent.status.as_u16(), sent.header("location")),
        (301, "/there.html")
    );

    let all = b"<WebsiteConfiguration><RedirectAllRequestsTo><HostName>www.example.org</HostName>\
                </RedirectAllRequestsTo></WebsiteConfiguration>";
    alice.put("/site?website", all).await.ok();
    let sent = browser.see("/a/b").await;
    assert_eq!(sent.header("location"), "http://www.example.org/a/b");
    let nonsense = b"<WebsiteConfiguration/>";
    alice
        .put("/site?website", nonsense)
        .await
        .fails(400, "MalformedXML");
}
