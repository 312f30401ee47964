//! Notifications from outside: what happens in a bucket is told to the address that the
//! administrator wrote down, once it answers, and to no other.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use s3::{
    Acl, BucketName, Key,
    documents::notification::Notifications,
    settings::{Setting, Settings},
};
use serde_json::Value;
use tempfile::TempDir;
use types::Timestamp;
use walrus::engine::{
    Bucket, Change, Engine, Places, Tuning,
    change::{BucketChange, PutChange, SameBucket},
    fsck,
    quota::Defaults,
};

use crate::{
    daemon_process::{ALICE, BOB, Walrus},
    s3_client::{S3, plain_text},
    samples,
};

/// An endpoint that keeps what it is sent and answers what it is told to.
#[derive(Clone)]
struct Hook {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    seen: Arc<Mutex<Vec<(http::HeaderMap, Value)>>>,
}

impl Hook {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hook = Self {
            address: listener.local_addr().unwrap(),
            status: Arc::new(AtomicU16::new(200)),
            seen: Arc::default(),
        };
        hook.serve(listener);
        hook
    }

    fn serve(&self, listener: tokio::net::TcpListener) {
        let hook = self.clone();
        let answer = move |headers: http::HeaderMap, body: Bytes| {
            let hook = hook.clone();
            async move {
                let status = hook.status.load(Ordering::SeqCst);
                let message = serde_json::from_slice(&body).unwrap();
                hook.seen.lock().unwrap().push((headers, message));
                let moved = [("location", "/elsewhere")];
                (http::StatusCode::from_u16(status).unwrap(), moved)
            }
        };
        let routes = axum::Router::new().route("/hook", axum::routing::post(answer));
        tokio::spawn(async move { axum::serve(listener, routes).await });
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn messages(&self) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(_, message)| message.clone()).collect()
    }

    /// All records so far, by event and key.
    fn records(&self) -> Vec<Value> {
        let messages = self.messages().into_iter();
        let records = messages.filter_map(|message| message["Records"].as_array().cloned());
        records.flatten().collect()
    }

    fn told(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let records = self.records();
        let pairs = records.iter().map(|record| {
            (
                text(&record["eventName"]),
                text(&record["s3"]["object"]["key"]),
            )
        });
        pairs.collect()
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < until, "{:#?}", self.messages());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn config(&self) -> String {
        format!(
            "notification=[{{name=\"hook\",url=\"http://{}/hook\"}},\
             {{name=\"bobs\",url=\"http://{0}/hook\",accounts=[\"222222222222\"]}}]",
            self.address
        )
    }
}

async fn until_counted(walrus: &Walrus, line: &str) {
    let url = format!("http://{}/metrics", walrus.admin);
    let until = Instant::now() + Duration::from_secs(20);
    while !plain_text(&url).await.contains(line) {
        assert!(Instant::now() < until, "{line} is not counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn rules(destination: &str, events: &[&str], prefix: &str) -> Vec<u8> {
    let events: String = events
        .iter()
        .map(|event| format!("<Event>{event}</Event>"))
        .collect();
    format!(
        "<NotificationConfiguration><QueueConfiguration><Id>my-rule</Id>\
         <Queue>arn:aws:sqs:mallee-1:111111111111:{destination}</Queue>{events}<Filter><S3Key>\
         <FilterRule><Name>prefix</Name><Value>{prefix}</Value></FilterRule></S3Key></Filter>\
         </QueueConfiguration></NotificationConfiguration>"
    )
    .into_bytes()
}

const ALL: [&str; 2] = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"];

#[tokio::test]
async fn what_happens_is_told_as_s3_tells_it() {
    let hook = Hook::start().await;
    let walrus = Walrus::start_with(&[&hook.config()]).await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/photos", b"").await.ok();
    alice
        .put("/photos?notification", &rules("hook", &ALL, "in/"))
        .await
        .ok();
    hook.until(|hook| hook.messages().len() == 1).await;
    assert_eq!(hook.messages()[0]["Event"], "s3:TestEvent");
    assert_eq!(hook.messages()[0]["Bucket"], "photos");

    let put = alice
        .put("/photos/in/red%20flower.jpg", &[7; 1000])
        .await
        .ok();
    alice.put("/photos/out/a", b"a").await.ok();
    let from = [("x-amz-copy-source", "/photos/in/red%20flower.jpg")];
    alice.call("PUT", "/photos/in/copy", &from, b"").await.ok();
    let id = alice
        .call("POST", "/photos/in/big?uploads", &[], b"")
        .await
        .ok()
        .element("UploadId");
    let part = alice
        .put(
            &format!("/photos/in/big?partNumber=1&uploadId={id}"),
            b"part",
        )
        .await
        .ok();
    let named = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag")
    );
    alice
        .call(
            "POST",
            &format!("/photos/in/big?uploadId={id}"),
            &[],
            named.as_bytes(),
        )
        .await
        .ok();
    alice.delete("/photos/in/copy").await.ok();
    alice.delete("/photos/in/never-was").await.ok();
    // What was refused has not happened.
    let none = [("if-none-match", "*")];
    alice
        .call("PUT", "/photos/in/big", &none, b"")
        .await
        .fails(412, "PreconditionFailed");

    let expect = [
        ("ObjectCreated:Put", "in/red+flower.jpg"),
        ("ObjectCreated:Copy", "in/copy"),
        ("ObjectCreated:CompleteMultipartUpload", "in/big"),
        ("ObjectRemoved:Delete", "in/copy"),
    ];
    let expect = expect.map(|(event, key)| (event.to_owned(), key.to_owned()));
    hook.until(|hook| hook.told().len() >= expect.len()).await;
    assert_eq!(hook.told(), expect);
    let record = &hook.records()[0];
    assert_eq!(record["s3"]["object"]["size"], 1000);
    let etag = record["s3"]["object"]["eTag"].as_str().unwrap();
    assert_eq!(format!("\"{etag}\""), put.header("etag"));
    assert_eq!(record["s3"]["configurationId"], "my-rule");
    assert_eq!(record["userIdentity"]["principalId"], "AWS:111111111111");
    assert_eq!(record["requestParameters"]["sourceIPAddress"], "127.0.0.1");
    assert_eq!(
        record["responseElements"]["x-amz-request-id"],
        put.header("x-amz-request-id")
    );
    assert_eq!(
        record["s3"]["bucket"]["ownerIdentity"]["principalId"],
        hex::encode([b'1'; 32])
    );
    let sequencers: Vec<_> = hook
        .records()
        .iter()
        .map(|record| {
            record["s3"]["object"]["sequencer"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert!(sequencers.is_sorted(), "{sequencers:?}");

    let told = alice.get("/photos?notification").await.ok();
    assert_eq!(
        told.element("Queue"),
        "arn:aws:sqs:mallee-1:111111111111:hook"
    );
    alice
        .put("/photos?notification", b"<NotificationConfiguration/>")
        .await
        .ok();
    alice.put("/photos/in/quiet", b"").await.ok();
    let told = alice.get("/photos?notification").await.ok();
    assert!(
        !told.text().contains("QueueConfiguration"),
        "{}",
        told.text()
    );
    let line = r#"notifications_total{destination="hook",outcome="delivered"} 5"#;
    until_counted(&walrus, line).await;
}

#[tokio::test]
async fn what_a_rule_deletes_is_told_as_expired() {
    let hook = Hook::start().await;
    let walrus = Walrus::start_with(&[&hook.config(), "s3.lifecycle_day_s=1"]).await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/photos", b"").await.ok();
    let events = ["s3:LifecycleExpiration:*", "s3:ObjectRemoved:*"];
    alice
        .put("/photos?notification", &rules("hook", &events, ""))
        .await
        .ok();
    alice.put("/photos/old", b"x").await.ok();
    let expire = b"<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter/><Expiration>\
        <Days>1</Days></Expiration></Rule></LifecycleConfiguration>";
    alice.put("/photos?lifecycle", expire).await.ok();
    hook.until(|hook| hook.told().len() == 1).await;
    assert_eq!(
        hook.told()[0],
        ("LifecycleExpiration:Delete".to_owned(), "old".to_owned())
    );
    assert_eq!(
        hook.records()[0]["userIdentity"]["principalId"],
        "s3.amazonaws.com"
    );
}

#[tokio::test]
async fn a_dead_destination_slows_nobody_and_gets_everything_when_it_lives() {
    let hook = Hook::start().await;
    hook.answers(503);
    let mut walrus = Walrus::start_with(&[&hook.config()]).await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/photos", b"").await.ok();
    alice
        .put("/photos?notification", &rules("hook", &ALL, ""))
        .await
        .ok();
    let begun = Instant::now();
    for number in 0..150 {
        alice.put(&format!("/photos/{number:03}"), b"x").await.ok();
    }
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    hook.until(|hook| !hook.messages().is_empty()).await;

    walrus.kill();
    let (clean, said) = walrus.fsck();
    assert!(clean, "{said}");
    hook.seen.lock().unwrap().clear();
    hook.answers(204);
    walrus.run().await;
    let keys: Vec<String> = (0..150).map(|number| format!("{number:03}")).collect();
    hook.until(|hook| hook.told().len() >= 150).await;
    let told: Vec<String> = hook.told().into_iter().map(|(_, key)| key).collect();
    assert_eq!(told, keys, "in order, once each");
    assert_eq!(hook.messages()[0]["Event"], "s3:TestEvent");
    assert!(hook.messages().len() <= 4, "many events go in one message");
}

#[tokio::test]
async fn a_message_that_is_refused_is_given_up_and_the_others_are_not() {
    let hook = Hook::start().await;
    hook.answers(400);
    let walrus = Walrus::start_with(&[&hook.config()]).await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/photos", b"").await.ok();
    alice
        .put("/photos?notification", &rules("hook", &ALL, ""))
        .await
        .ok();
    alice.put("/photos/refused", b"x").await.ok();
    let line = r#"notifications_total{destination="hook",outcome="refused"} 2"#;
    until_counted(&walrus, line).await;
    hook.answers(200);
    hook.seen.lock().unwrap().clear();
    alice.put("/photos/taken", b"x").await.ok();
    hook.until(|hook| hook.told().len() == 1).await;
    assert_eq!(hook.told()[0].1, "taken");
}

#[tokio::test]
async fn nobody_can_have_walrus_call_what_its_administrator_did_not_name() {
    let (hook, elsewhere) = (Hook::start().await, Hook::start().await);
    let walrus = Walrus::start_with(&[&hook.config()]).await;
    let (alice, bob) = (S3::of(&walrus, ALICE), S3::of(&walrus, BOB));
    alice.put("/photos", b"").await.ok();
    bob.put("/bobs", b"").await.ok();
    let url = format!("http://{}/hook", elsewhere.address);
    for destination in ["unknown", "bobs", "", url.as_str()] {
        let rules = rules(destination, &ALL, "");
        let refused = alice.put("/photos?notification", &rules).await;
        refused.fails(400, "InvalidArgument");
    }
    bob.put("/bobs?notification", &rules("bobs", &ALL, ""))
        .await
        .ok();
    bob.put("/photos?notification", &rules("bobs", &ALL, ""))
        .await
        .fails(403, "AccessDenied");
    alice
        .put(
            "/photos?notification",
            &rules("hook", &["s3:ObjectEaten:*"], ""),
        )
        .await
        .fails(400, "InvalidArgument");
    alice
        .put(
            "/photos?notification",
            &rules("hook", &["s3:Replication:*"], ""),
        )
        .await
        .fails(501, "NotImplemented");

    // A redirection leads nowhere.
    hook.answers(307);
    alice
        .put("/photos?notification", &rules("hook", &ALL, ""))
        .await
        .ok();
    hook.until(|hook| hook.messages().len() >= 3).await;
    assert!(elsewhere.messages().is_empty());
}

fn put(number: u64) -> Change {
    let object = samples::object(same().name, Key::parse(&format!("{number:03}")).unwrap(), 1);
    Change::PutObject(Box::new(PutChange {
        bucket: same(),
        object,
        inline: Bytes::from_static(b"x"),
        blobs: Vec::new(),
        conditions: Default::default(),
        unique: 0,
    }))
}

fn same() -> SameBucket {
    SameBucket {
        name: BucketName::parse("photos").unwrap(),
        id: "1".into(),
    }
}

const TUNING: Tuning = Tuning {
    inline_bytes_max: 64,
    segment_bytes: 2048,
    reserve_bytes: 0,
    quotas: Defaults::OPEN,
    events_max: 50,
};

async fn waiting(engine: &Engine) -> Vec<String> {
    let events = engine
        .view(|view| view.events_for("hook", 1000))
        .await
        .unwrap();
    let keys = events
        .iter()
        .filter_map(|event| Some(event.key.as_ref()?.as_str().to_owned()));
    keys.collect()
}

#[tokio::test]
async fn what_waits_has_a_bound_and_survives_compaction_and_a_new_index() {
    let folder = TempDir::new().unwrap();
    let places = Places::below(folder.path());
    let engine = Engine::open(&places, TUNING).unwrap();
    let text = rules("hook", &["s3:ObjectCreated:*"], "");
    let bucket = Bucket {
        name: same().name,
        id: "1".into(),
        owner: "111111111111".parse().unwrap(),
        created: Timestamp(0),
        location: None,
        acl: Acl::default(),
        settings: Settings::default(),
    };
    engine
        .commit(Change::CreateBucket(Box::new(bucket)))
        .await
        .unwrap();
    let setting = Setting::Notification(Notifications::read(&text).unwrap());
    let change = Change::SetBucket(same(), BucketChange::Set(setting));
    engine.commit(change).await.unwrap();

    // The test event, and 49 more; written again and again, so that old segments are thinned out.
    let puts: Vec<Change> = (0..60).map(put).collect();
    engine.commit_all(puts).await;
    for round in 0..300 {
        engine.commit(put(round % 60)).await.unwrap();
    }
    let expect: Vec<String> = (0..49).map(|number| format!("{number:03}")).collect();
    assert_eq!(waiting(&engine).await, expect);
    assert_eq!(engine.events().borrow().lost, 11 + 300);

    let events = engine
        .view(|view| view.events_for("hook", 10))
        .await
        .unwrap();
    let ids = events.iter().map(|event| event.id).collect();
    let to = "hook".to_owned();
    engine
        .commit(Change::RemoveEvents { to, ids })
        .await
        .unwrap();
    engine.close().await;
    let report = fsck::check(&places, &|_, _, _| {}).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let engine = Engine::open(&places, TUNING).unwrap();
    assert_eq!(waiting(&engine).await, expect[9..]);
    engine.commit(put(7)).await.unwrap();
    let now = waiting(&engine).await;
    assert_eq!((now.len(), now.last().unwrap().as_str()), (41, "007"));
    engine.view(|view| view.check()).await.unwrap();
}
