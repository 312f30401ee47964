//! `mallee s3`: buckets of another store are copied into the cloud's, or into any other, and compared.
//!
//! An object is read once and written once, its MD5 taken on the way and held against what both stores
//! say. What is there already is not copied again, so a run that was broken off is simply run again.

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::BodyExt;
use indicatif::{ProgressBar, ProgressStyle};
use md5::{Digest, Md5};
use serde::Serialize;

use crate::{
    Failure,
    args::{self, CopyBucket, S3},
    commands::quota,
    environment,
    object_store::{Credentials, Listed, ObjectStore, StoreBody},
    output::Output,
};

/// Above this an object is copied in parts: what fails is copied again by the part.
const WHOLE_BYTES_MAX: u64 = 64 << 20;
/// Parts of an upload at most (S3 user guide).
const PARTS_MAX: u64 = 10_000;
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);
/// Where an object that was uploaded in parts remembers the entity tag that it had at its source.
const SOURCE_ETAG: HeaderName = HeaderName::from_static("x-amz-meta-source-etag");
/// Headers that belong to an object.
const KEPT: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
];

/// Runs one of the commands.
pub async fn run(admin: &args::Admin, output: Output, ask: S3) -> Result<(), Failure> {
    let said = match ask {
        S3::Import(of) => between(of)?.import().await?,
        S3::Verify(ask) => between(ask.of)?.verify(ask.read).await?,
        S3::Quota(ask) => return quota::run(admin, output, ask).await,
    };
    output.print(&said, || said.text())?;
    match said.differing.len() {
        0 => Ok(()),
        count => Err(Failure::Broken(format!("{count} objects differ"))),
    }
}

fn between(of: CopyBucket) -> Result<Between, Failure> {
    Ok(Between {
        from: store("SOURCE", of.from)?,
        to: store("AWS", of.to)?,
        to_bucket: of.to_bucket.unwrap_or_else(|| of.bucket.clone()),
        from_bucket: of.bucket,
        prefix: of.prefix,
        jobs: of.jobs.max(1),
    })
}

/// A store whose key stands in the environment: a secret on a command line is everybody's.
fn store(whose: &str, url: Option<String>) -> Result<ObjectStore, Failure> {
    let variable = |name: &str| format!("{whose}_{name}");
    let need = |name: &str, what: &str| environment::need(&[&variable(name)], what);
    let url = match url {
        Some(url) => url,
        None => need("ENDPOINT_URL", "the address of a store")?,
    };
    let region = environment::get(variable("DEFAULT_REGION"));
    let credentials = Credentials {
        access_key: need("ACCESS_KEY_ID", "an access key")?,
        secret: need("SECRET_ACCESS_KEY", "a secret key")?,
        session_token: environment::get(variable("SESSION_TOKEN")),
    };
    ObjectStore::new(&url, region.as_deref().unwrap_or("us-east-1"), credentials)
}

/// Two buckets.
#[derive(Clone)]
pub struct Between {
    /// The store that is read.
    pub from: ObjectStore,
    /// The bucket in it.
    pub from_bucket: String,
    /// The store that is written.
    pub to: ObjectStore,
    /// The bucket in it.
    pub to_bucket: String,
    /// Only keys that begin so.
    pub prefix: String,
    /// Objects at once.
    pub jobs: usize,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Said {
    /// Objects at the source.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that were copied.
    pub copied: u64,
    /// Objects that were there and equal.
    pub same: u64,
    /// Keys that are missing or other than at the source.
    pub differing: Vec<String>,
}

impl Said {
    fn text(&self) -> String {
        let Self {
            objects,
            bytes,
            copied,
            same,
            differing,
        } = self;
        let lines: String = differing
            .iter()
            .map(|key| format!("DIFFERS  {key:?}\n"))
            .collect();
        format!(
            "{lines}{objects} objects, {bytes} bytes: {copied} copied, {same} there and equal\n"
        )
    }
}

/// What is done with each object.
#[derive(Clone, Copy)]
enum Work {
    Copy,
    Compare { reads: bool },
}

/// What became of one object.
enum Outcome {
    Copied,
    Same,
    Differs,
}

impl Between {
    /// Copies what is not there yet.
    pub async fn import(&self) -> Result<Said, Failure> {
        self.to.make_bucket(&self.to_bucket).await?;
        self.each(Work::Copy).await
    }

    /// Compares sizes and entity tags; with `reads`, every byte.
    pub async fn verify(&self, reads: bool) -> Result<Said, Failure> {
        self.each(Work::Compare { reads }).await
    }

    async fn each(&self, work: Work) -> Result<Said, Failure> {
        let bar = bar();
        let (mut said, mut running, mut after) = (Said::default(), FuturesUnordered::new(), None);
        loop {
            let page = self
                .from
                .list(&self.from_bucket, &self.prefix, after.as_deref())
                .await?;
            for object in page.objects {
                said.objects += 1;
                said.bytes += object.size;
                bar.set_length(said.bytes);
                running.push(self.one(object, work, &bar));
                if running.len() >= self.jobs
                    && let Some(done) = running.next().await
                {
                    said.take(done?);
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        while let Some(done) = running.next().await {
            said.take(done?);
        }
        bar.finish_and_clear();
        Ok(said)
    }

    async fn one(
        &self,
        object: Listed,
        work: Work,
        bar: &ProgressBar,
    ) -> Result<(String, Outcome), Failure> {
        let outcome = match work {
            Work::Copy => self.copy(&object, bar).await?,
            Work::Compare { reads } => self.compare(&object, reads, bar).await?,
        };
        Ok((object.key, outcome))
    }

    async fn copy(&self, object: &Listed, bar: &ProgressBar) -> Result<Outcome, Failure> {
        if self.is_there(object).await? {
            bar.inc(object.size);
            return Ok(Outcome::Same);
        }
        match object.size <= WHOLE_BYTES_MAX {
            true => again(|| self.copy_whole(object, bar)).await?,
            false => self.copy_parts(object, bar).await?,
        }
        Ok(Outcome::Copied)
    }

    /// Whether the object is at its place already, by size and entity tag.
    async fn is_there(&self, object: &Listed) -> Result<bool, Failure> {
        let Some(head) = self.to.head(&self.to_bucket, &object.key).await? else {
            return Ok(false);
        };
        let text = |name: &HeaderName| head.get(name).and_then(|value| value.to_str().ok());
        let same_size = text(&header::CONTENT_LENGTH) == Some(&object.size.to_string());
        let etag = text(&header::ETAG).map(|etag| etag.trim_matches('"'));
        Ok(same_size && (etag == Some(&object.etag) || text(&SOURCE_ETAG) == Some(&object.etag)))
    }

    async fn copy_whole(&self, object: &Listed, bar: &ProgressBar) -> Result<(), Failure> {
        let (head, body) = self
            .from
            .get(&self.from_bucket, &object.key, HeaderMap::new())
            .await?;
        let headers = kept(&head, object, object.size)?;
        let (body, digest) = digested(body, bar);
        let etag = self
            .to
            .put(&self.to_bucket, &object.key, "", headers, body)
            .await?;
        let read = digest.hex();
        let same_as_source = is_md5(&object.etag).then_some(read == object.etag);
        match etag == read && same_as_source != Some(false) {
            true => Ok(()),
            false => Err(other_bytes(&object.key)),
        }
    }

    async fn copy_parts(&self, object: &Listed, bar: &ProgressBar) -> Result<(), Failure> {
        let head = self.from.head(&self.from_bucket, &object.key).await?;
        let head = head.ok_or_else(|| Failure::NotFound(format!("{:?} is gone", object.key)))?;
        let mut headers = kept(&head, object, 0)?;
        headers.remove(header::CONTENT_LENGTH);
        let upload = self
            .to
            .begin_upload(&self.to_bucket, &object.key, headers)
            .await?;

        let size = WHOLE_BYTES_MAX.max(object.size.div_ceil(PARTS_MAX));
        let mut parts = Vec::new();
        for first in (0..object.size).step_by(usize::try_from(size).unwrap_or(usize::MAX)) {
            let last = object.size.min(first + size) - 1;
            let number = parts.len() + 1;
            let query = format!(
                "partNumber={number}&uploadId={}",
                sigv4::encode(upload.as_bytes())
            );
            parts.push(again(|| self.copy_part(object, &query, first, last, bar)).await?);
        }
        self.to
            .complete_upload(&self.to_bucket, &object.key, &upload, &parts)
            .await
    }

    async fn copy_part(
        &self,
        object: &Listed,
        query: &str,
        first: u64,
        last: u64,
        bar: &ProgressBar,
    ) -> Result<String, Failure> {
        let headers = headers([
            (header::RANGE, format!("bytes={first}-{last}")),
            // All parts of one object, or none.
            (header::IF_MATCH, format!("\"{}\"", object.etag)),
        ])?;
        let (_, body) = self
            .from
            .get(&self.from_bucket, &object.key, headers)
            .await?;
        let (body, digest) = digested(body, bar);
        let length = headers_of_length(last - first + 1)?;
        let etag = self
            .to
            .put(&self.to_bucket, &object.key, query, length, body)
            .await?;
        match etag == digest.hex() {
            true => Ok(etag),
            false => Err(other_bytes(&object.key)),
        }
    }

    async fn compare(
        &self,
        object: &Listed,
        reads: bool,
        bar: &ProgressBar,
    ) -> Result<Outcome, Failure> {
        let same =
            self.is_there(object).await? && (!reads || again(|| self.reads_same(object)).await?);
        bar.inc(object.size);
        Ok(if same {
            Outcome::Same
        } else {
            Outcome::Differs
        })
    }

    async fn reads_same(&self, object: &Listed) -> Result<bool, Failure> {
        let hidden = ProgressBar::hidden();
        let mut digests = Vec::new();
        for (store, bucket) in [(&self.from, &self.from_bucket), (&self.to, &self.to_bucket)] {
            let (_, body) = store.get(bucket, &object.key, HeaderMap::new()).await?;
            let (mut body, digest) = digested(body, &hidden);
            while let Some(frame) = body.frame().await {
                frame.map_err(|error| {
                    Failure::Unreachable(format!("{:?} was cut off: {error}", object.key))
                })?;
            }
            digests.push(digest.hex());
        }
        Ok(digests[0] == digests[1])
    }
}

impl Said {
    fn take(&mut self, (key, outcome): (String, Outcome)) {
        match outcome {
            Outcome::Copied => self.copied += 1,
            Outcome::Same => self.same += 1,
            Outcome::Differs => self.differing.push(key),
        }
    }
}

/// Tries a few times: networks have bad moments, and an import of a day should outlive them.
async fn again<T, F: Future<Output = Result<T, Failure>>>(
    work: impl Fn() -> F,
) -> Result<T, Failure> {
    let mut tried = 1;
    loop {
        match work().await {
            Err(_) if tried < TRIES => tokio::time::sleep(PAUSE * tried).await,
            done => return done,
        }
        tried += 1;
    }
}

/// The MD5 of a body that flows, known when it has flown.
#[derive(Clone, Default)]
struct Flowing(Arc<Mutex<Md5>>);

impl Flowing {
    fn update(&self, data: &[u8]) {
        self.0
            .lock()
            .expect("digesting does not panic")
            .update(data);
    }

    fn hex(&self) -> String {
        let md5 = self.0.lock().expect("digesting does not panic").clone();
        hex::encode(md5.finalize())
    }
}

fn digested(body: StoreBody, bar: &ProgressBar) -> (StoreBody, Flowing) {
    let digest = Flowing::default();
    let (own, bar) = (digest.clone(), bar.clone());
    let body = body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            own.update(data);
            bar.inc(data.len() as u64);
        }
        frame
    });
    (body.boxed_unsync(), digest)
}

fn is_md5(etag: &str) -> bool {
    etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn other_bytes(key: &str) -> Failure {
    Failure::failed(
        format!("copying {key:?}"),
        "the MD5 on the way is not that of both stores",
    )
}

fn headers<const N: usize>(pairs: [(HeaderName, String); N]) -> Result<HeaderMap, Failure> {
    let pairs = pairs
        .into_iter()
        .map(|(name, value)| Ok((name, HeaderValue::from_str(&value)?)));
    let map: Result<HeaderMap, header::InvalidHeaderValue> = pairs.collect();
    map.map_err(|error| Failure::failed("making a request", error))
}

fn headers_of_length(length: u64) -> Result<HeaderMap, Failure> {
    headers([(header::CONTENT_LENGTH, length.to_string())])
}

/// The headers that an object is written with.
fn kept(head: &HeaderMap, object: &Listed, length: u64) -> Result<HeaderMap, Failure> {
    let mut kept = headers_of_length(length)?;
    for (name, value) in head {
        if KEPT.contains(name) || name.as_str().starts_with("x-amz-meta-") {
            kept.insert(name, value.clone());
        }
    }
    if !is_md5(&object.etag) || object.size > WHOLE_BYTES_MAX {
        kept.extend(headers([(SOURCE_ETAG, object.etag.clone())])?);
    }
    Ok(kept)
}

fn bar() -> ProgressBar {
    let style = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(style).expect("the template is ours");
    ProgressBar::new(0).with_style(style)
}
