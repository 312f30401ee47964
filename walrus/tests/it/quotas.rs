//! Quotas: counters that equal a recount whatever is done in whatever order, limits that no race
//! passes, and how an administrator sets them.

use bytes::Bytes;
use control::{
    Code as CallCode, Objects, Role,
    objects::{AskQuotas, QuotaLine, SetQuota},
    rpc::Call,
};
use futures_util::future::join_all;
use proptest::prelude::*;
use s3::{
    Acl, BucketName, Code, Key, VersionId,
    checksum::Checksum,
    conditions::{DeleteConditions, WriteConditions},
    documents::{multipart::NamedPart, versions::Versioning},
    headers::Attributes,
    settings::{Setting, Settings},
};
use tempfile::TempDir;
use types::{
    AccountId, Timestamp,
    quota::{Limit, QuotaOf, Usage},
};
use walrus::engine::{
    Bucket, Change, Done, Engine, Failure, Places, Tuning,
    change::{BucketChange, CompleteChange, DeleteChange, PutChange, QuotaChange, SameBucket},
    facts::{Part, Piece, Upload},
    fsck,
    quota::Defaults,
};

use crate::{
    daemon_process::{ALICE, BOB, Walrus},
    s3_client::{S3, pattern},
    samples,
};

const TUNING: Tuning = Tuning {
    inline_bytes_max: 64,
    segment_bytes: 2048,
    reserve_bytes: 0,
    quotas: Defaults::OPEN,
    events_max: 1000,
};
/// What the account of the model may hold.
const BYTES: u64 = 1_500;
const OBJECTS: u64 = 9;

#[derive(Debug, Clone)]
enum Step {
    /// Several at once, so that they are decided in one group.
    Put {
        bucket: u8,
        first_key: u8,
        sizes: Vec<u16>,
    },
    Delete {
        bucket: u8,
        key: u8,
    },
    /// The first version of a key for good.
    DeleteVersion {
        bucket: u8,
        key: u8,
    },
    Versioning {
        bucket: u8,
        enabled: bool,
    },
    Begin {
        bucket: u8,
        key: u8,
    },
    Part {
        upload: u8,
        number: u32,
        size: u16,
    },
    Complete {
        upload: u8,
        number: u32,
    },
    Abort {
        upload: u8,
    },
    DropBucket {
        bucket: u8,
    },
    Reopen,
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    let (bucket, key, upload) = (0..2_u8, 0..5_u8, 0..4_u8);
    prop_oneof![
        6 => (bucket.clone(), key.clone(), prop::collection::vec(0..200_u16, 1..4))
            .prop_map(|(bucket, first_key, sizes)| Step::Put { bucket, first_key, sizes }),
        3 => (bucket.clone(), key.clone()).prop_map(|(bucket, key)| Step::Delete { bucket, key }),
        2 => (bucket.clone(), key.clone())
            .prop_map(|(bucket, key)| Step::DeleteVersion { bucket, key }),
        1 => (bucket.clone(), any::<bool>())
            .prop_map(|(bucket, enabled)| Step::Versioning { bucket, enabled }),
        2 => (bucket.clone(), key).prop_map(|(bucket, key)| Step::Begin { bucket, key }),
        4 => (upload.clone(), 1..4_u32, 0..400_u16)
            .prop_map(|(upload, number, size)| Step::Part { upload, number, size }),
        2 => (upload.clone(), 1..4_u32)
            .prop_map(|(upload, number)| Step::Complete { upload, number }),
        1 => upload.prop_map(|upload| Step::Abort { upload }),
        1 => bucket.prop_map(|bucket| Step::DropBucket { bucket }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
    ]
}

fn account() -> AccountId {
    "111111111111".parse().unwrap()
}

fn key(number: u8) -> Key {
    Key::parse(&format!("key{number}")).unwrap()
}

fn same(number: u8) -> SameBucket {
    SameBucket {
        name: BucketName::parse(&format!("bucket{number}")).unwrap(),
        id: "1".into(),
    }
}

fn bucket(number: u8) -> Change {
    Change::CreateBucket(Box::new(Bucket {
        name: same(number).name,
        id: "1".into(),
        owner: account(),
        created: Timestamp(0),
        location: None,
        acl: Acl::default(),
        settings: Settings::default(),
    }))
}

fn put(number: u8, at: Key, size: u16) -> Change {
    let object = samples::object(same(number).name, at, u64::from(size));
    Change::PutObject(Box::new(PutChange {
        bucket: same(number),
        object,
        inline: Bytes::from(vec![7; usize::from(size)]),
        blobs: Vec::new(),
        conditions: WriteConditions::default(),
        unique: rand::random(),
    }))
}

fn delete(number: u8, at: Key, version: Option<VersionId>) -> Change {
    Change::DeleteObject(Box::new(DeleteChange {
        bucket: same(number),
        key: at,
        version,
        conditions: DeleteConditions::default(),
        bypass_governance: false,
        owner: account(),
        now: Timestamp(0),
        unique: rand::random(),
    }))
}

fn upload(id: &str, number: u8, at: u8) -> Change {
    let upload = Upload {
        id: id.to_owned(),
        bucket: same(number).name,
        key: key(at),
        owner: account(),
        initiated: Timestamp(0),
        acl: Acl::default(),
        attributes: Attributes::default(),
        checksum: Default::default(),
        tags: Default::default(),
        lock: Default::default(),
        encryption: None,
    };
    Change::CreateUpload(same(number), Box::new(upload))
}

fn part(engine: &Engine, id: &str, bucket: u8, number: u32, size: u16) -> Change {
    let mut sink = engine.new_blob().unwrap();
    sink.write(&vec![3; usize::from(size)]).unwrap();
    let blob = sink.finish().unwrap();
    let part = Part {
        upload_id: id.to_owned(),
        number,
        etag: "00".repeat(16),
        modified: Timestamp(0),
        checksum: None::<Checksum>,
        piece: Piece {
            blob: blob.id().clone(),
            size: u64::from(size),
            salt: None,
            checksum: None,
        },
    };
    Change::PutPart {
        bucket: same(bucket),
        part: Box::new(part),
        blob,
    }
}

fn complete(id: &str, bucket: u8, at: u8, number: u32) -> Change {
    Change::CompleteUpload(Box::new(CompleteChange {
        bucket: same(bucket),
        key: key(at),
        upload_id: id.to_owned(),
        parts: vec![NamedPart {
            number,
            etag: "00".repeat(16),
            checksum: None,
        }],
        checksum: None,
        size: None,
        conditions: WriteConditions::default(),
        now: Timestamp(0),
        unique: rand::random(),
    }))
}

struct Play {
    folder: TempDir,
    engine: Engine,
    /// Bucket and key of each upload.
    uploads: Vec<(u8, u8)>,
}

impl Play {
    async fn begin() -> Self {
        let folder = TempDir::new().unwrap();
        let engine = Engine::open(&Places::below(folder.path()), TUNING).unwrap();
        for number in 0..2 {
            engine.commit(bucket(number)).await.unwrap();
        }
        let limits = QuotaChange {
            bytes: Some(Limit::At(BYTES)),
            objects: Some(Limit::At(OBJECTS)),
            buckets: None,
        };
        let of = QuotaOf::Account(account());
        engine.commit(Change::SetQuota(of, limits)).await.unwrap();
        Self {
            folder,
            engine,
            uploads: Vec::new(),
        }
    }

    fn upload(&self, which: u8) -> Option<(String, u8, u8)> {
        let which = self.uploads.len().checked_sub(1 + usize::from(which))?;
        let (bucket, at) = self.uploads[which];
        Some((format!("u{which}"), bucket, at))
    }

    /// What is refused is refused for a reason that this test makes.
    async fn make(&self, changes: Vec<Change>) {
        for done in self.engine.commit_all(changes).await {
            match done {
                Ok(_) => {}
                Err(Failure::Refused(error)) => assert!(
                    [Code::QuotaExceeded, Code::NoSuchUpload, Code::InvalidPart]
                        .contains(&error.code),
                    "{error}"
                ),
                Err(failure) => panic!("{failure}"),
            }
        }
    }

    async fn play(&mut self, step: &Step) {
        match step {
            Step::Put {
                bucket,
                first_key,
                sizes,
            } => {
                let puts = sizes.iter().zip(*first_key..);
                let puts = puts.map(|(size, at)| put(*bucket, key(at % 5), *size));
                self.make(puts.collect()).await;
            }
            Step::Delete { bucket, key: at } => {
                self.make(vec![delete(*bucket, key(*at), None)]).await;
            }
            Step::DeleteVersion { bucket, key: at } => {
                let (name, at) = (same(*bucket).name, key(*at));
                let keys = self
                    .engine
                    .view(move |view| view.versions_by_key(&name, None, 1000));
                let keys = keys.await.unwrap();
                let versions = keys.iter().find(|versions| versions[0].key == at);
                if let Some(first) = versions.and_then(|versions| versions.last()) {
                    let version = Some(first.version.clone());
                    self.make(vec![delete(*bucket, at, version)]).await;
                }
            }
            Step::Versioning { bucket, enabled } => {
                let versioning = match enabled {
                    true => Versioning::Enabled,
                    false => Versioning::Suspended,
                };
                let setting = BucketChange::Set(Setting::Versioning(versioning));
                self.make(vec![Change::SetBucket(same(*bucket), setting)])
                    .await;
            }
            Step::Begin { bucket, key } => {
                let id = format!("u{}", self.uploads.len());
                self.uploads.push((*bucket, *key));
                self.make(vec![upload(&id, *bucket, *key)]).await;
            }
            Step::Part {
                upload,
                number,
                size,
            } => {
                if let Some((id, bucket, _)) = self.upload(*upload) {
                    let part = part(&self.engine, &id, bucket, *number, *size);
                    self.make(vec![part]).await;
                }
            }
            Step::Complete { upload, number } => {
                if let Some((id, bucket, at)) = self.upload(*upload) {
                    self.make(vec![complete(&id, bucket, at, *number)]).await;
                }
            }
            Step::Abort { upload } => {
                if let Some((upload_id, bucket, at)) = self.upload(*upload) {
                    let (bucket, key) = (same(bucket), key(at));
                    let abort = Change::AbortUpload {
                        bucket,
                        key,
                        upload_id,
                    };
                    self.make(vec![abort]).await;
                }
            }
            Step::DropBucket { bucket: number } => self.drop_bucket(*number).await,
            Step::Reopen | Step::Rebuild => {
                self.engine.close().await;
                let places = Places::below(self.folder.path());
                if matches!(step, Step::Rebuild) {
                    let report = fsck::check(&places, &|_, _, _| {}).unwrap();
                    assert!(report.damage.is_empty(), "{:?}", report.damage);
                }
                self.engine = Engine::open(&places, TUNING).unwrap();
            }
        }
    }

    /// Everything in it, the bucket in the same group, and a new one of that name.
    async fn drop_bucket(&self, number: u8) {
        let name = same(number).name;
        let keys = self
            .engine
            .view(move |view| view.versions_by_key(&name, None, 1000));
        let versions = keys.await.unwrap().into_iter().flatten();
        let mut changes: Vec<_> = versions
            .map(|object| delete(number, object.key, Some(object.version)))
            .collect();
        changes.push(Change::DeleteBucket(same(number)));
        changes.push(bucket(number));
        self.make(changes).await;
    }

    async fn usage(&self) -> Usage {
        let looked = self.engine.view(|view| {
            view.check_totals()?;
            let of = |number| view.usage_of_bucket(&same(number).name);
            let (first, second) = (of(0)?, of(1)?);
            let all = view.usage_of_account(&account())?;
            assert_eq!(all.bytes, first.bytes + second.bytes);
            assert_eq!(all.objects, first.objects + second.objects);
            Ok(all)
        });
        looked.await.unwrap()
    }
}

async fn play(steps: Vec<Step>) {
    let mut play = Play::begin().await;
    let mut before = Usage::default();
    for step in &steps {
        play.play(step).await;
        let after = play.usage().await;
        assert!(after.bytes <= BYTES.max(before.bytes), "{step:?} {after:?}");
        assert!(
            after.objects <= OBJECTS.max(before.objects),
            "{step:?} {after:?}"
        );
        before = after;
    }
    play.drop_bucket(0).await;
    play.drop_bucket(1).await;
    assert_eq!(play.usage().await, Usage::default());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn counters_equal_a_recount_and_never_pass_the_limit(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

#[tokio::test]
async fn of_writers_in_one_group_only_those_that_fit_are_kept() {
    let play = Play::begin().await;
    let puts =
        (0..30).map(|number| put(number % 2, Key::parse(&format!("k{number}")).unwrap(), 400));
    let done = play.engine.commit_all(puts.collect()).await;
    let kept = done
        .iter()
        .filter(|done| matches!(done, Ok(Done::Written(_))));
    assert_eq!(kept.count(), 3, "1500 bytes hold three times 400");
    let used = play.usage().await;
    assert_eq!((used.bytes, used.objects), (1200, 3));
}

#[tokio::test]
async fn a_counter_that_is_wrong_is_found_and_counted_anew() {
    let play = Play::begin().await;
    play.make(vec![put(0, key(0), 100)]).await;
    play.engine.close().await;
    let index = rusqlite::Connection::open(play.folder.path().join("index.sqlite")).unwrap();
    index
        .execute("UPDATE totals SET bytes = bytes - 1", [])
        .unwrap();
    drop(index);

    let places = Places::below(play.folder.path());
    let engine = Engine::open(&places, TUNING).unwrap();
    let checked = engine.view(|view| view.check()).await.unwrap_err();
    assert!(checked.is_of_index(), "{checked}");
    engine.close().await;
    let engine = Engine::open(&places, TUNING).unwrap();
    engine.view(|view| view.check()).await.unwrap();
    let used = engine.view(|view| view.usage_of_account(&account())).await;
    assert_eq!(used.unwrap().bytes, 100);
}

/// The administrator's side, as the CLC calls it.
pub(crate) struct Admin(control::Client);

impl Admin {
    pub(crate) fn of(walrus: &Walrus) -> Self {
        Self(walrus.control_as(Role::Clc, "clc"))
    }

    pub(crate) async fn set(&self, of: QuotaOf, bytes: Limit, objects: Limit) {
        let ask = SetQuota {
            of,
            bytes: Some(bytes),
            objects: Some(objects),
            buckets: None,
        };
        self.0.set_quota(&Call::new("q"), ask).await.unwrap();
    }

    pub(crate) async fn line(&self, of: QuotaOf) -> QuotaLine {
        let ask = AskQuotas { of: Some(of) };
        let mut told = self.0.quotas(&Call::new("q"), ask).await.unwrap();
        told.quotas.pop().unwrap()
    }
}

pub(crate) fn alices() -> QuotaOf {
    QuotaOf::Account("111111111111".parse().unwrap())
}

pub(crate) fn photos() -> QuotaOf {
    QuotaOf::Bucket("photos".into())
}

#[tokio::test]
async fn racing_puts_do_not_pass_a_quota_and_deletes_give_room_back() {
    let mut walrus = Walrus::start().await;
    let (alice, admin) = (S3::of(&walrus, ALICE), Admin::of(&walrus));
    alice.put("/photos", b"").await.ok();
    alice.put("/others", b"").await.ok();
    admin.set(alices(), Limit::At(50_000), Limit::Default).await;

    let body = pattern(10_000, 1);
    let puts = (0..16).map(|number| {
        let (alice, body) = (alice.clone(), body.clone());
        async move {
            let bucket = ["photos", "others"][number % 2];
            alice.put(&format!("/{bucket}/{number}"), &body).await
        }
    });
    let answers = join_all(puts).await;
    let kept = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(kept, 5);
    for refused in answers.into_iter().filter(|answer| answer.status != 200) {
        let refused = refused.fails(403, "QuotaExceeded");
        assert!(refused.text().contains("50000 bytes"), "{}", refused.text());
    }
    let line = admin.line(alices()).await;
    assert_eq!(
        (line.used.bytes, line.used.objects, line.buckets),
        (50_000, 5, Some(2))
    );

    // It holds after a restart, and with an index that was made anew.
    walrus.kill();
    let (clean, said) = walrus.fsck();
    assert!(clean, "{said}");
    walrus.run().await;
    alice
        .put("/photos/more", b"x")
        .await
        .fails(403, "QuotaExceeded");
    let list = alice.get("/photos?list-type=2").await.ok();
    let some = list.elements("Key").remove(0);
    // A smaller one in its place, then none.
    alice.put(&format!("/photos/{some}"), b"small").await.ok();
    alice.put("/photos/more", b"x").await.ok();
    alice.delete(&format!("/photos/{some}")).await.ok();
    alice.put("/others/large", &body[..9_000]).await.ok();
    alice
        .put("/others/larger", &body)
        .await
        .fails(403, "QuotaExceeded");

    let metrics = crate::s3_client::plain_text(&format!("http://{}/metrics", walrus.admin)).await;
    let line = r#"requests_total{action="PutObject",code="QuotaExceeded"}"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn parts_copies_and_old_versions_count() {
    let walrus = Walrus::start().await;
    let (alice, admin) = (S3::of(&walrus, ALICE), Admin::of(&walrus));
    alice.put("/photos", b"").await.ok();
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    alice.put("/photos?versioning", enabled).await.ok();
    admin.set(photos(), Limit::At(100_000), Limit::At(4)).await;

    let upload = alice
        .call("POST", "/photos/big?uploads", &[], b"")
        .await
        .ok();
    let id = upload.element("UploadId");
    let part = |number: u32| format!("/photos/big?partNumber={number}&uploadId={id}");
    let one = alice.put(&part(1), &pattern(60_000, 1)).await.ok();
    assert_eq!(admin.line(photos()).await.used.bytes, 60_000);
    alice
        .put(&part(2), &pattern(60_000, 2))
        .await
        .fails(403, "QuotaExceeded");
    // The same part again takes the place of the first.
    alice.put(&part(1), &pattern(60_000, 1)).await.ok();
    let named = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        one.header("etag")
    );
    let target = format!("/photos/big?uploadId={id}");
    alice
        .call("POST", &target, &[], named.as_bytes())
        .await
        .ok();
    let used = admin.line(photos()).await.used;
    assert_eq!((used.bytes, used.objects), (60_000, 1));

    // A copy is as large as its source; an old version stays until it is deleted itself.
    let from = [("x-amz-copy-source", "/photos/big")];
    alice
        .call("PUT", "/photos/copy", &from, b"")
        .await
        .fails(403, "QuotaExceeded");
    for _ in 0..3 {
        alice.put("/photos/small", &pattern(10_000, 3)).await.ok();
    }
    alice
        .put("/photos/small", b"")
        .await
        .fails(403, "QuotaExceeded");
    alice.delete("/photos/small").await.ok();
    let used = admin.line(photos()).await.used;
    assert_eq!((used.bytes, used.objects), (90_000, 4));
    let versions = alice.get("/photos?versions&prefix=small").await.ok();
    for version in versions.elements("VersionId") {
        alice
            .delete(&format!("/photos/small?versionId={version}"))
            .await
            .ok();
    }
    let used = admin.line(photos()).await.used;
    assert_eq!((used.bytes, used.objects), (60_000, 1));
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_read() {
    use std::io::{Read as _, Write as _};
    let walrus = Walrus::start_with(&["quota.bucket_mib=1"]).await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/photos", b"").await.ok();
    let acl = [("x-amz-acl", "public-read-write")];
    alice.call("PUT", "/photos?acl", &acl, b"").await.ok();

    let mut stream = std::net::TcpStream::connect(walrus.s3).unwrap();
    let second = std::time::Duration::from_secs(5);
    stream.set_read_timeout(Some(second)).unwrap();
    let head = format!(
        "PUT /photos/big HTTP/1.1\r\nhost: {}\r\ncontent-length: 2000000\r\n\
         x-amz-content-sha256: UNSIGNED-PAYLOAD\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n",
        walrus.s3
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = [0; 2048];
    let read = stream.read(&mut said).unwrap();
    let said = String::from_utf8_lossy(&said[..read]).into_owned();
    assert!(said.starts_with("HTTP/1.1 403"), "{said}");
}

#[tokio::test]
async fn defaults_bind_where_nothing_was_set_and_buckets_are_counted() {
    let walrus = Walrus::start_with(&["quota.account_buckets=2", "quota.bucket_objects=1"]).await;
    let (alice, admin) = (S3::of(&walrus, ALICE), Admin::of(&walrus));
    let bob = S3::of(&walrus, BOB);
    alice.put("/photos", b"").await.ok();
    alice.put("/others", b"").await.ok();
    alice.put("/thirds", b"").await.fails(400, "TooManyBuckets");
    bob.put("/thirds", b"").await.ok();

    alice.put("/photos/a", b"a").await.ok();
    alice.put("/photos/a", b"another").await.ok();
    alice
        .put("/photos/b", b"b")
        .await
        .fails(403, "QuotaExceeded");
    admin.set(photos(), Limit::Default, Limit::None).await;
    alice.put("/photos/b", b"b").await.ok();
    let line = admin.line(photos()).await;
    assert_eq!(
        (line.bounds.objects, line.limits.objects),
        (None, Limit::None)
    );
    admin.set(photos(), Limit::Default, Limit::Default).await;
    alice
        .put("/photos/c", b"c")
        .await
        .fails(403, "QuotaExceeded");

    // A bucket's quota goes with it.
    admin.set(photos(), Limit::At(1), Limit::At(100)).await;
    for key in ["a", "b"] {
        alice.delete(&format!("/photos/{key}")).await.ok();
    }
    alice.delete("/photos").await.ok();
    alice.put("/photos", b"").await.ok();
    alice.put("/photos/a", b"more than one byte").await.ok();

    let absent = AskQuotas {
        of: Some(QuotaOf::Bucket("absent".into())),
    };
    let error = admin.0.quotas(&Call::new("q"), absent).await.unwrap_err();
    assert_eq!(error.code, CallCode::NotFound);
    let all = admin.0.quotas(&Call::new("q"), AskQuotas::default()).await;
    assert_eq!(
        all.unwrap().quotas.len(),
        2,
        "two accounts, no bucket of its own"
    );
}
