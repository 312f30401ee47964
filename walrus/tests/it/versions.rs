//! Versions against a model: for each key a list of versions, newest last. Whatever is written,
//! deleted, suspended, and however often the index is made anew, both agree.

use bytes::Bytes;
use proptest::prelude::*;
use s3::{
    Acl, BucketName, Key, VersionId,
    conditions::{DeleteConditions, WriteConditions},
    documents::versions::Versioning,
    request::ListVersions,
    settings::{Setting, Settings},
};
use tempfile::TempDir;
use types::{AccountId, Timestamp};
use walrus::engine::{
    Bucket, Change, Done, Engine, Places, Sought, Tuning,
    change::{BucketChange, DeleteChange, PutChange, SameBucket},
    fsck,
    quota::Defaults,
};

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::S3,
    samples,
};

const TUNING: Tuning = Tuning {
    inline_bytes_max: 64,
    segment_bytes: 2048,
    reserve_bytes: 0,
    quotas: Defaults::OPEN,
    events_max: 1000,
};

#[derive(Debug, Clone)]
enum Step {
    Put { key: u8 },
    Delete { key: u8 },
    DeleteVersion { key: u8, which: u8 },
    Enable,
    Suspend,
    List { max: u32, delimited: bool },
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_u8).prop_map(|key| Step::Put { key }),
        2 => (0..5_u8).prop_map(|key| Step::Delete { key }),
        3 => (0..5_u8, 0..6_u8).prop_map(|(key, which)| Step::DeleteVersion { key, which }),
        1 => Just(Step::Enable),
        1 => Just(Step::Suspend),
        2 => (1..5_u32, any::<bool>()).prop_map(|(max, delimited)| Step::List { max, delimited }),
        1 => Just(Step::Rebuild),
    ]
}

const KEYS: [&str; 5] = ["a", "a/1", "a/2", "b", "b/é"];

fn key(number: u8) -> Key {
    Key::parse(KEYS[usize::from(number)]).unwrap()
}

fn name() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

fn same() -> SameBucket {
    SameBucket {
        name: name(),
        id: "1".into(),
    }
}

fn account() -> AccountId {
    "111111111111".parse().unwrap()
}

/// One version: its id, and its bytes unless it is a marker.
type Version = (VersionId, Option<Vec<u8>>);

struct Play {
    folder: TempDir,
    engine: Engine,
    versioning: Option<Versioning>,
    model: [Vec<Version>; 5],
}

impl Play {
    async fn begin() -> Self {
        let folder = TempDir::new().unwrap();
        let engine = Engine::open(&Places::below(folder.path()), TUNING).unwrap();
        let bucket = Bucket {
            name: name(),
            id: "1".into(),
            owner: account(),
            created: Timestamp(0),
            location: None,
            acl: Acl::default(),
            settings: Settings::default(),
        };
        let change = Change::CreateBucket(Box::new(bucket));
        engine.commit(change).await.unwrap();
        Self {
            folder,
            engine,
            versioning: None,
            model: Default::default(),
        }
    }

    async fn put(&mut self, number: u8, data: Vec<u8>) {
        let object = samples::object(name(), key(number), data.len() as u64);
        let put = PutChange {
            bucket: same(),
            object,
            inline: Bytes::from(data.clone()),
            blobs: Vec::new(),
            conditions: WriteConditions::default(),
            unique: rand::random(),
        };
        let done = self.engine.commit(Change::PutObject(Box::new(put))).await;
        let Done::Written(version) = done.unwrap() else {
            panic!("a put writes")
        };
        let enabled = self.versioning == Some(Versioning::Enabled);
        assert_eq!(version.is_some(), enabled);
        self.push(number, version.unwrap_or_default(), Some(data));
    }

    fn push(&mut self, number: u8, version: VersionId, data: Option<Vec<u8>>) {
        let versions = &mut self.model[usize::from(number)];
        versions.retain(|(old, _)| *old != version);
        versions.push((version, data));
    }

    async fn delete(&mut self, number: u8, version: Option<VersionId>) {
        let delete = DeleteChange {
            bucket: same(),
            key: key(number),
            version: version.clone(),
            conditions: DeleteConditions::default(),
            bypass_governance: false,
            owner: account(),
            now: Timestamp(0),
            unique: rand::random(),
        };
        let change = Change::DeleteObject(Box::new(delete));
        let Done::Deleted(deleted) = self.engine.commit(change).await.unwrap() else {
            panic!("a delete deletes")
        };
        match (version, self.versioning) {
            (None, Some(_)) => {
                assert!(deleted.is_marker);
                self.push(number, deleted.version.unwrap(), None);
            }
            (version, _) => {
                let gone = version.unwrap_or_default();
                self.model[usize::from(number)].retain(|(old, _)| *old != gone);
            }
        }
    }

    async fn set(&mut self, versioning: Versioning) {
        self.versioning = Some(versioning);
        let change = Change::SetBucket(same(), BucketChange::Set(Setting::Versioning(versioning)));
        self.engine.commit(change).await.unwrap();
    }

    async fn rebuild(&mut self) {
        self.engine.close().await;
        let places = Places::below(self.folder.path());
        let report = fsck::check(&places, &|_, _, _| {}).unwrap();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        self.engine = Engine::open(&places, TUNING).unwrap();
    }

    async fn find(&self, number: u8, version: Option<VersionId>) -> Option<Vec<u8>> {
        let look = self.engine.look(name(), key(number), version).await;
        match look.unwrap().unwrap().sought {
            Sought::Object(found) => Some(found.inline().unwrap().to_vec()),
            Sought::Marker(_) | Sought::Nothing => None,
        }
    }

    /// Every line of the list, page after page: key, version, whether it is the newest.
    async fn list(&self, max_keys: u32, delimiter: Option<&str>) -> Vec<(String, String, bool)> {
        let mut list = ListVersions {
            prefix: String::new(),
            delimiter: delimiter.map(str::to_owned),
            key_marker: String::new(),
            version_marker: String::new(),
            max_keys,
            encode: false,
        };
        let mut lines = Vec::new();
        loop {
            let asked = list.clone();
            let view = self
                .engine
                .view(move |view| view.list_versions(&name(), &asked));
            let page = view.await.unwrap();
            assert!(page.versions.len() + page.prefixes.len() <= max_keys as usize);
            let versions = page.versions.into_iter();
            lines.extend(versions.map(|line| {
                let version = line.version.as_str().to_owned();
                (line.key, version, line.is_latest)
            }));
            let prefixes = page.prefixes.into_iter();
            lines.extend(prefixes.map(|prefix| (prefix, String::new(), false)));
            match page.next {
                Some(next) => (list.key_marker, list.version_marker) = next,
                None => return lines,
            }
        }
    }

    fn expected(&self, delimiter: Option<&str>) -> Vec<(String, String, bool)> {
        let mut lines = Vec::new();
        for (key, versions) in KEYS.iter().zip(&self.model) {
            let common = delimiter.and_then(|d| key.find(d).map(|at| &key[..at + d.len()]));
            for (at, (version, _)) in versions.iter().rev().enumerate() {
                lines.push(match common {
                    Some(common) => (common.to_owned(), String::new(), false),
                    None => ((*key).to_owned(), version.as_str().to_owned(), at == 0),
                });
            }
        }
        lines.dedup();
        lines
    }

    async fn step(&mut self, at: usize, step: &Step) {
        match *step {
            Step::Put { key } => self.put(key, vec![at as u8; 3]).await,
            Step::Delete { key } => self.delete(key, None).await,
            Step::DeleteVersion { key, which } => {
                let versions = &self.model[usize::from(key)];
                let version = versions.get(usize::from(which)).map(|(id, _)| id.clone());
                self.delete(key, Some(version.unwrap_or_default())).await;
            }
            Step::Enable => self.set(Versioning::Enabled).await,
            Step::Suspend => self.set(Versioning::Suspended).await,
            Step::List { max, delimited } => {
                let delimiter = delimited.then_some("/");
                let mut seen = self.list(max, delimiter).await;
                let mut expected = self.expected(delimiter);
                seen.sort();
                expected.sort();
                assert_eq!(seen, expected);
            }
            Step::Rebuild => self.rebuild().await,
        }
    }

    async fn check(&self) {
        let mut objects = 0;
        for (number, versions) in self.model.iter().enumerate() {
            let number = number as u8;
            let newest = versions.last().and_then(|(_, data)| data.clone());
            assert_eq!(self.find(number, None).await, newest, "{}", key(number));
            for (version, data) in versions {
                assert_eq!(self.find(number, Some(version.clone())).await, *data);
                objects += u64::from(data.is_some());
            }
        }
        assert_eq!(self.engine.totals().await.unwrap().objects, objects);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn versions_agree_with_a_model(steps in prop::collection::vec(step(), 1..100)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut play = Play::begin().await;
            for (at, step) in steps.iter().enumerate() {
                play.step(at, step).await;
            }
            play.check().await;
            play.rebuild().await;
            play.check().await;
        });
    }
}

#[tokio::test]
async fn a_delete_hides_an_object_and_its_marker_can_be_deleted() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    assert!(
        alice
            .put("/bucket/k", b"0")
            .await
            .ok()
            .header("x-amz-version-id")
            .is_empty()
    );
    alice
        .put("/bucket?versioning", &status("Enabled"))
        .await
        .ok();
    let shown = alice.get("/bucket?versioning").await.ok();
    assert_eq!(shown.element("Status"), "Enabled");

    let first = alice.put("/bucket/k", b"1").await.ok();
    let first = first.header("x-amz-version-id").to_owned();
    let gone = alice.delete("/bucket/k").await.ok();
    assert_eq!(gone.header("x-amz-delete-marker"), "true");
    let marker = gone.header("x-amz-version-id").to_owned();
    let hidden = alice.get("/bucket/k").await.fails(404, "NoSuchKey");
    assert_eq!(hidden.header("x-amz-delete-marker"), "true");
    let named = format!("/bucket/k?versionId={marker}");
    alice.get(&named).await.fails(405, "MethodNotAllowed");
    assert!(alice.get("/bucket").await.ok().elements("Key").is_empty());

    let list = alice.get("/bucket?versions").await.ok();
    assert_eq!(list.elements("VersionId"), [&marker, &first, "null"]);
    assert_eq!(list.elements("IsLatest"), ["true", "false", "false"]);
    alice.delete(&named).await.ok();
    assert_eq!(&alice.get("/bucket/k").await.ok().body[..], b"1");
    let old = alice.get("/bucket/k?versionId=null").await.ok();
    assert_eq!(
        (&old.body[..], old.header("x-amz-version-id")),
        (&b"0"[..], "null")
    );
    alice
        .get("/bucket/k?versionId=nonsense")
        .await
        .fails(404, "NoSuchVersion");
    alice.delete("/bucket").await.fails(409, "BucketNotEmpty");
}

#[tokio::test]
async fn a_copy_may_name_the_version_that_it_copies() {
    let walrus = Walrus::start().await;
    let alice = S3::of(&walrus, ALICE);
    alice.put("/bucket", b"").await.ok();
    alice
        .put("/bucket?versioning", &status("Enabled"))
        .await
        .ok();
    let old = alice.put("/bucket/k", b"old").await.ok();
    let old = old.header("x-amz-version-id").to_owned();
    alice.put("/bucket/k", b"new").await.ok();

    let source = format!("/bucket/k?versionId={old}");
    let headers = [("x-amz-copy-source", source.as_str())];
    let copied = alice.call("PUT", "/bucket/k", &headers, b"").await.ok();
    assert_eq!(copied.header("x-amz-copy-source-version-id"), old);
    assert_eq!(&alice.get("/bucket/k").await.ok().body[..], b"old");
    let wrong = [("x-amz-copy-source", "/bucket/k?versionId=abc")];
    alice
        .call("PUT", "/bucket/j", &wrong, b"")
        .await
        .fails(404, "NoSuchVersion");
}

fn status(text: &str) -> Vec<u8> {
    format!("<VersioningConfiguration><Status>{text}</Status></VersioningConfiguration>").into()
}
