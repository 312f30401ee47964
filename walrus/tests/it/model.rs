//! The engine against a model: a map from keys to bytes. Whatever is done in whatever order, with
//! restarts, compaction and rebuilt indexes between, both agree.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use s3::{
    Acl, BucketName, Code, Key,
    conditions::{DeleteConditions, ETags, WriteConditions},
    request::{ListObjects, ListVersion},
    settings::Settings,
};
use tempfile::TempDir;
use types::{AccountId, Timestamp};
use walrus::engine::{
    Body, Bucket, Change, Engine, Failure, Object, Places, Sought, Tuning,
    change::{DeleteChange, PutChange, SameBucket},
    facts::Piece,
    fsck,
    quota::Defaults,
};

use crate::samples;

const TUNING: Tuning = Tuning {
    inline_bytes_max: 64,
    segment_bytes: 4096,
    reserve_bytes: 0,
    quotas: Defaults::OPEN,
    events_max: 1000,
};

#[derive(Debug, Clone)]
enum Step {
    Put {
        key: u8,
        size: u16,
        if_absent: bool,
    },
    Delete {
        key: u8,
    },
    List {
        prefix: u8,
        after: u8,
        delimited: bool,
        max: u32,
    },
    Reopen,
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..24_u8, 0..300_u16, prop::bool::weighted(0.2))
            .prop_map(|(key, size, if_absent)| Step::Put { key, size, if_absent }),
        3 => (0..24_u8).prop_map(|key| Step::Delete { key }),
        2 => (0..6_u8, 0..24_u8, any::<bool>(), 1..8_u32)
            .prop_map(|(prefix, after, delimited, max)| Step::List { prefix, after, delimited, max }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
    ]
}

/// Keys with shared prefixes and odd bytes.
fn key(number: u8) -> Key {
    const HEADS: [&str; 6] = ["", "a/", "a/b/", "..", "é/", "z//"];
    let (head, tail) = (HEADS[usize::from(number) % 6], number / 6);
    Key::parse(&format!("{head}{tail}")).unwrap()
}

fn account() -> AccountId {
    "111111111111".parse().unwrap()
}

fn bucket_name() -> BucketName {
    BucketName::parse("bucket").unwrap()
}

fn same() -> SameBucket {
    SameBucket {
        name: bucket_name(),
        id: "1".into(),
    }
}

async fn put(engine: &Engine, key: Key, data: &[u8], if_absent: bool) -> Result<(), Failure> {
    let (mut blobs, mut inline, mut body) = (vec![], Bytes::new(), Body::Inline);
    if data.len() <= engine.inline_bytes_max() {
        inline = Bytes::copy_from_slice(data);
    } else {
        let mut sink = engine.new_blob()?;
        sink.write(data)?;
        let blob = sink.finish()?;
        body = Body::Pieces(vec![Piece {
            blob: blob.id().clone(),
            size: data.len() as u64,
            salt: None,
            checksum: None,
        }]);
        blobs.push(blob);
    }
    let object = Object {
        body,
        ..samples::object(bucket_name(), key, data.len() as u64)
    };
    let if_none_match = if_absent.then_some(ETags::Any);
    let conditions = WriteConditions {
        if_none_match,
        ..WriteConditions::default()
    };
    let change = PutChange {
        bucket: same(),
        object,
        inline,
        blobs,
        conditions,
        unique: 0,
    };
    engine
        .commit(Change::PutObject(Box::new(change)))
        .await
        .map(|_| ())
}

async fn get(engine: &Engine, key: Key) -> Option<Vec<u8>> {
    let look = engine.look(bucket_name(), key, None).await.unwrap();
    let Sought::Object(found) = look.unwrap().sought else {
        return None;
    };
    if let Some(inline) = found.inline() {
        return Some(inline.to_vec());
    }
    let mut bytes = Vec::new();
    for piece in found.object.body.pieces() {
        bytes.extend_from_slice(
            &engine
                .open_piece(piece)
                .unwrap()
                .read(0..piece.size)
                .unwrap(),
        );
    }
    Some(bytes)
}

/// The list as anybody would write it who had all day.
fn model_list(
    model: &BTreeMap<String, Vec<u8>>,
    prefix: &str,
    after: &str,
    delimiter: Option<&str>,
) -> Vec<String> {
    let rolled = |key: &str| -> String {
        let rest = &key[prefix.len()..];
        match delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len())) {
            Some(end) => key[..prefix.len() + end].to_owned(),
            None => key.to_owned(),
        }
    };
    let marker = if after.starts_with(prefix) {
        rolled(after)
    } else {
        after.to_owned()
    };
    let keys = model
        .keys()
        .filter(|key| key.starts_with(prefix) && key.as_str() > after);
    let mut lines: Vec<String> = keys
        .map(|key| rolled(key))
        .filter(|line| *line != marker)
        .collect();
    lines.dedup();
    lines
}

async fn check_list(engine: &Engine, model: &BTreeMap<String, Vec<u8>>, step: &Step) {
    let Step::List {
        prefix,
        after,
        delimited,
        max,
    } = step
    else {
        return;
    };
    let prefix = ["", "a", "a/", "é/", "z", "q"][usize::from(*prefix)].to_owned();
    let (after, delimiter) = (
        key(*after).as_str().to_owned(),
        delimited.then(|| "/".to_owned()),
    );
    let expect = model_list(model, &prefix, &after, delimiter.as_deref());

    let (mut marker, mut seen) = (after, Vec::new());
    loop {
        let list = ListObjects {
            prefix: prefix.clone(),
            delimiter: delimiter.clone(),
            max_keys: *max,
            encode: false,
            version: ListVersion::V1 {
                marker: marker.clone(),
            },
        };
        let page = engine
            .view(move |view| view.list_objects(&bucket_name(), &list))
            .await
            .unwrap();
        let mut lines: Vec<String> = page.objects.into_iter().map(|line| line.key).collect();
        lines.extend(page.prefixes);
        lines.sort_unstable();
        assert!(lines.len() <= *max as usize);
        seen.extend(lines);
        match page.next {
            Some(next) => marker = next,
            None => break,
        }
    }
    assert_eq!(seen, expect, "{step:?}");
}

async fn play(steps: Vec<Step>) {
    let folder = TempDir::new().unwrap();
    let mut engine = Engine::open(&Places::below(folder.path()), TUNING).unwrap();
    let bucket = Bucket {
        name: bucket_name(),
        id: "1".into(),
        owner: account(),
        created: Timestamp(0),
        location: None,
        acl: Acl::default(),
        settings: Settings::default(),
    };
    let change = Change::CreateBucket(Box::new(bucket));
    engine.commit(change).await.unwrap();
    let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();

    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Put {
                key: number,
                size,
                if_absent,
            } => {
                let (key, data) = (key(*number), vec![at as u8; usize::from(*size)]);
                let name = key.as_str().to_owned();
                let done = put(&engine, key, &data, *if_absent).await;
                if *if_absent && model.contains_key(&name) {
                    let Err(Failure::Refused(error)) = done else {
                        panic!("it was there")
                    };
                    assert_eq!(error.code, Code::PreconditionFailed);
                } else {
                    done.unwrap();
                    model.insert(name, data);
                }
            }
            Step::Delete { key: number } => {
                let key = key(*number);
                model.remove(key.as_str());
                let delete = DeleteChange {
                    bucket: same(),
                    key,
                    version: None,
                    conditions: DeleteConditions::default(),
                    bypass_governance: false,
                    owner: account(),
                    now: Timestamp(0),
                    unique: 0,
                };
                let change = Change::DeleteObject(Box::new(delete));
                engine.commit(change).await.unwrap();
            }
            Step::List { .. } => check_list(&engine, &model, step).await,
            Step::Reopen | Step::Rebuild => {
                engine.close().await;
                if matches!(step, Step::Rebuild) {
                    let report = fsck::check(&Places::below(folder.path()), &|_, _, _| {}).unwrap();
                    assert!(report.damage.is_empty(), "{:?}", report.damage);
                }
                engine = Engine::open(&Places::below(folder.path()), TUNING).unwrap();
            }
        }
    }

    for number in 0..24 {
        let key = key(number);
        let expect = model.get(key.as_str()).cloned();
        assert_eq!(get(&engine, key.clone()).await, expect, "{key}");
    }
    let totals = engine.totals().await.unwrap();
    let bytes: usize = model.values().map(Vec::len).sum();
    assert_eq!(
        (totals.objects, totals.bytes),
        (model.len() as u64, bytes as u64)
    );
    engine.close().await;
    let report = fsck::check(&Places::below(folder.path()), &|_, _, _| {}).unwrap();
    assert!(report.damage.is_empty());
    assert_eq!(report.totals.objects, model.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn the_engine_agrees_with_a_map(steps in prop::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

fn bucket() -> Change {
    Change::CreateBucket(Box::new(Bucket {
        name: bucket_name(),
        id: "1".into(),
        owner: account(),
        created: Timestamp(0),
        location: None,
        acl: Acl::default(),
        settings: Settings::default(),
    }))
}

/// Writes twenty small objects again and again.
async fn overwrite(engine: &Engine) {
    for round in 0..600_u32 {
        let key = key((round % 20) as u8 + 1);
        put(engine, key, &round.to_le_bytes(), false).await.unwrap();
    }
}

fn journal_bytes(folder: &TempDir) -> u64 {
    let segments = std::fs::read_dir(folder.path().join("journal")).unwrap();
    let lengths = segments.map(|entry| entry.unwrap().metadata().unwrap().len());
    lengths.sum()
}

/// What twenty-one small objects need, while compaction goes on.
const BOUND: u64 = 20 * 4096;

#[tokio::test]
async fn the_journal_does_not_grow_without_bound() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::open(&Places::below(folder.path()), TUNING).unwrap();
    engine.commit(bucket()).await.unwrap();
    put(&engine, key(0), b"stays", false).await.unwrap();
    overwrite(&engine).await;
    assert!(journal_bytes(&folder) < BOUND, "{}", journal_bytes(&folder));
    assert_eq!(get(&engine, key(0)).await.unwrap(), b"stays");

    engine.close().await;
    let report = fsck::check(&Places::below(folder.path()), &|_, _, _| {}).unwrap();
    assert_eq!((report.totals.objects, report.damage.len()), (21, 0));
}

#[tokio::test]
async fn damage_keeps_the_journal_until_it_is_given_up() {
    let folder = TempDir::new().unwrap();
    let places = Places::below(folder.path());
    let engine = Engine::open(&places, TUNING).unwrap();
    engine.commit(bucket()).await.unwrap();
    put(&engine, key(0), b"is lost", false).await.unwrap();
    put(&engine, key(1), b"stays", false).await.unwrap();
    engine.close().await;
    let first = folder.path().join("journal/0000000000000001.seg");
    let mut bytes = std::fs::read(&first).unwrap();
    let at = bytes.windows(7).position(|found| found == b"is lost");
    bytes[at.unwrap()] ^= 1;
    std::fs::write(&first, &bytes).unwrap();
    let fsck = || fsck::check(&places, &|_, _, _| {}).unwrap();
    assert_eq!((fsck().damage.len(), fsck().given_up.len()), (1, 0));

    let engine = Engine::open(&places, TUNING).unwrap();
    overwrite(&engine).await;
    assert!(journal_bytes(&folder) > BOUND, "it may not be thrown away");
    assert_eq!(std::fs::read(&first).unwrap(), bytes);
    engine.close().await;

    fsck::give_up(&places).unwrap();
    assert_eq!((fsck().damage.len(), fsck().given_up.len()), (0, 1));
    let engine = Engine::open(&places, TUNING).unwrap();
    overwrite(&engine).await;
    assert!(journal_bytes(&folder) < BOUND, "{}", journal_bytes(&folder));
    assert!(!first.exists());
    engine.close().await;
    let report = fsck();
    assert_eq!((report.damage.len(), report.given_up.len()), (0, 0));
    assert_eq!(report.totals.objects, 20);
}
