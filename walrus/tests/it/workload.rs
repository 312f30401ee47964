//! Writers that keep a journal of their own: PUT, multipart, copy and DELETE of keys that nobody
//! else writes. Whatever happens to Walrus, what it acknowledged must be there and equal; what was
//! sent and never answered may be there or not, but whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use testkit::seed::{self, TestRng};
use tokio::task::JoinHandle;

use crate::{
    daemon_process::{ALICE, Walrus},
    s3_client::{Answer, S3, pattern},
};

const WRITERS: u64 = 6;
/// Keys of each writer: few, so that most writes replace or delete something.
const KEYS: u64 = 5;
/// Inline, inline and compacted away soon, a file, a file of several blocks.
const SIZES: [usize; 4] = [10, 5_000, 20_000, 300_000];
const SOURCE_BYTES: usize = 70_000;

/// What a writer knows of its own key: what was acknowledged last, and what was sent after that and
/// never answered.
#[derive(Clone, Debug, Default)]
struct Known {
    acknowledged: Option<Vec<u8>>,
    in_doubt: Vec<Option<Vec<u8>>>,
}

/// A bucket, its writers, and what they were told.
#[derive(Clone)]
pub(crate) struct Workload {
    journal: Arc<Mutex<BTreeMap<String, Known>>>,
    sizes: &'static [usize],
}

impl Workload {
    /// A new bucket with an object to copy from.
    pub(crate) async fn begin(walrus: &Walrus) -> Self {
        Self::of(walrus, &SIZES).await
    }

    /// The same with bodies of these sizes.
    pub(crate) async fn of(walrus: &Walrus, sizes: &'static [usize]) -> Self {
        let s3 = S3::of(walrus, ALICE);
        s3.put("/bucket", b"").await.ok();
        s3.put("/bucket/source", &pattern(SOURCE_BYTES, 99))
            .await
            .ok();
        let journal = Arc::default();
        Self { journal, sizes }
    }

    /// Sets the writers going; each ends when it gets no answer any more.
    pub(crate) fn write(&self, walrus: &Walrus, seed: u64) -> Vec<JoinHandle<()>> {
        let writer = |writer| {
            let (s3, own) = (S3::of(walrus, ALICE), self.clone());
            tokio::spawn(own.write_on(s3, writer, seed::rng(seed * WRITERS + writer)))
        };
        (0..WRITERS).map(writer).collect()
    }

    async fn write_on(self, s3: S3, writer: u64, mut rng: TestRng) {
        loop {
            let key = format!("writer-{writer}/key-{}", seed::below(&mut rng, KEYS));
            let size = *seed::one_of(&mut rng, self.sizes).unwrap();
            let data = pattern(size, seed::below(&mut rng, 256) as u8);
            let kind = seed::below(&mut rng, 10);
            let body = match kind {
                0 => None,
                1 => Some(pattern(SOURCE_BYTES, 99)),
                _ => Some(data),
            };
            self.doubt(&key, &body);
            let target = format!("/bucket/{key}");
            let done = match (kind, &body) {
                (1, _) => copy(&s3, &target).await,
                (2 | 3, Some(body)) => upload(&s3, &target, body).await,
                (_, Some(body)) => send(&s3, "PUT", &target, body).await,
                (_, None) => send(&s3, "DELETE", &target, b"").await,
            };
            if done.is_none() {
                return;
            }
            self.know(key, body);
        }
    }

    fn doubt(&self, key: &str, body: &Option<Vec<u8>>) {
        let mut journal = self.journal.lock().unwrap();
        let known = journal.entry(key.to_owned()).or_default();
        known.in_doubt.push(body.clone());
    }

    fn know(&self, key: String, acknowledged: Option<Vec<u8>>) {
        let in_doubt = Vec::new();
        let known = Known {
            acknowledged,
            in_doubt,
        };
        self.journal.lock().unwrap().insert(key, known);
    }

    /// Compares every key with what is known of it; what is there is known from now on.
    pub(crate) async fn check(&self, walrus: &Walrus, when: &str) -> usize {
        let s3 = S3::of(walrus, ALICE);
        let source = s3.get("/bucket/source").await.ok();
        assert!(
            source.body == pattern(SOURCE_BYTES, 99),
            "{when}: the source is another one"
        );

        let journal = self.journal.lock().unwrap().clone();
        let mut there_are = BTreeSet::from(["source".to_owned()]);
        let checked = journal.len();
        for (key, mut known) in journal {
            let answer = s3.get(&format!("/bucket/{key}")).await;
            assert!(
                matches!(answer.status.as_u16(), 200 | 404),
                "{when}: {key}: {}",
                answer.text()
            );
            let there = answer.status.is_success().then(|| answer.body.to_vec());
            known.in_doubt.push(known.acknowledged);
            assert!(
                known.in_doubt.contains(&there),
                "{when}: {key} has {:?} bytes, none of what was sent",
                there.as_ref().map(Vec::len),
            );
            there_are.extend(there.is_some().then(|| key.clone()));
            self.know(key, there);
        }
        let listed = s3.get("/bucket").await.ok().elements("Key");
        assert_eq!(
            listed.into_iter().collect::<BTreeSet<_>>(),
            there_are,
            "{when}: the list"
        );
        checked
    }
}

/// The answer if the request was done.
async fn send(s3: &S3, method: &str, target: &str, body: &[u8]) -> Option<Answer> {
    let answer = s3.send(s3.request(method, target, &[], body)).await?;
    answer.status.is_success().then_some(answer)
}

async fn copy(s3: &S3, target: &str) -> Option<Answer> {
    let from = [("x-amz-copy-source", "/bucket/source")];
    let answer = s3.send(s3.request("PUT", target, &from, b"")).await?;
    answer.status.is_success().then_some(answer)
}

/// The same body as an upload of one part.
async fn upload(s3: &S3, target: &str, body: &[u8]) -> Option<Answer> {
    let id = send(s3, "POST", &format!("{target}?uploads"), b"")
        .await?
        .element("UploadId");
    let part = send(
        s3,
        "PUT",
        &format!("{target}?uploadId={id}&partNumber=1"),
        body,
    )
    .await?;
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        part.header("etag")
    );
    send(
        s3,
        "POST",
        &format!("{target}?uploadId={id}"),
        document.as_bytes(),
    )
    .await
}
