//! Files as objects of another S3 store, for sites whose large bodies outgrow one machine: Ceph's
//! gateway, or another Walrus. Journal and index stay here; what they promise stays the same.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | where the store is, and the key in its file |
//! | `client` | requests, signed over what they carry, tried again while that may help |
//! | `away` | nobody waits for a store that does not answer |
//! | `upload`, `download` | streams in both directions, in bounded memory |
//! | `garbage` | what nobody needs is deleted in the background |
//! | `owner` | no two of us in one bucket |
//! | `worker` | the threads for all that |
//!
//! A file is there when the store has acknowledged its last request; only then does a fact name it.
//! The store's own promise is its administrator's business: it must acknowledge what it keeps, and show
//! at once what it acknowledged, as S3 does. The checksums in the file are ours, and are verified on
//! each read as they are on a disk.

mod away;
mod client;
mod download;
mod garbage;
mod owner;
mod settings;
mod upload;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, header};
use s3::xml::Element;

use self::{
    client::{Ask, Client, Payload},
    download::Download,
    garbage::{Bin, Garbage},
    owner::{Claim, Step},
    upload::{Upload, is_not_found, unreadable},
    worker::Worker,
};
use super::{BlobId, Blobs, Reading, Writing};
use crate::engine::failure::{During, Failure, Result};

pub use settings::Settings;

/// How long the store may take to put parts together or to copy five gigabytes.
const LONG_LIMIT: Duration = Duration::from_secs(600);
/// The largest object that S3 copies in one request.
const COPY_BYTES_MAX: u64 = 5 << 30;
/// Names of one page of a list.
const PAGE: usize = 1000;

/// The bucket of all files.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    state: PathBuf,
    /// Held while the bucket's mark is looked at.
    claiming: Mutex<()>,
    claimed: AtomicBool,
}

/// What uploads and downloads need.
#[derive(Debug)]
struct Shared {
    // First, so that no request outlives what it needs.
    worker: Worker,
    client: Client,
    prefix: String,
    garbage: Bin,
    /// Where parts are gathered: the folder beside the journal.
    spool: PathBuf,
}

impl Shared {
    fn key(&self, id: &BlobId) -> String {
        format!("{}{}", self.prefix, id.below())
    }

    fn parse_key(&self, key: &str) -> Option<BlobId> {
        BlobId::parse_below(key.strip_prefix(&self.prefix)?)
    }

    /// How long an object is, if it is there.
    async fn length_of(&self, key: &str) -> Result<Option<u64>> {
        let answer = match self.client.send(&Ask::new(Method::HEAD, key)).await {
            Err(error) if is_not_found(&error) => return Ok(None),
            answer => answer?,
        };
        let length = answer.headers().get(header::CONTENT_LENGTH);
        Ok(length.and_then(|length| length.to_str().ok()?.parse().ok()))
    }

    /// One page of a list: a document whose root has that name.
    async fn page(&self, query: String, root: &str) -> Result<Element> {
        let ask = Ask::new(Method::GET, "").query(query);
        let (_, document) = self.client.document(&ask).await?;
        Element::read(&document, root).map_err(|_| unreadable(self, &ask))
    }

    async fn list(&self) -> Result<Vec<BlobId>> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let query = format!(
                "list-type=2&max-keys={PAGE}&prefix={}{after}",
                sigv4::encode(self.prefix.as_bytes())
            );
            let page = self.page(query, "ListBucketResult").await?;
            let keys = page.all("Contents").filter_map(|line| line.text_of("Key"));
            found.extend(keys.filter_map(|key| self.parse_key(key)));
            match page
                .text_of("NextContinuationToken")
                .filter(|_| is_truncated(&page))
            {
                Some(token) => {
                    after = format!("&continuation-token={}", sigv4::encode(token.as_bytes()));
                }
                None => return Ok(found),
            }
        }
    }

    /// Uploads that were begun and not ended: the file's name, key and upload id.
    async fn uploads(&self) -> Result<Vec<(BlobId, String, String)>> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let query = format!(
                "uploads&max-uploads={PAGE}&prefix={}{after}",
                sigv4::encode(self.prefix.as_bytes())
            );
            let page = self.page(query, "ListMultipartUploadsResult").await?;
            for line in page.all("Upload") {
                let (key, id) = (line.text_of("Key"), line.text_of("UploadId"));
                if let (Some(key), Some(id)) = (key, id)
                    && let Some(blob) = self.parse_key(key)
                {
                    found.push((blob, key.to_owned(), id.to_owned()));
                }
            }
            let next = |name| {
                page.text_of(name)
                    .map(|text| sigv4::encode(text.as_bytes()))
            };
            match next("NextKeyMarker").zip(next("NextUploadIdMarker")) {
                Some((key, id)) if is_truncated(&page) => {
                    after = format!("&key-marker={key}&upload-id-marker={id}");
                }
                _ => return Ok(found),
            }
        }
    }

    fn mark(&self) -> String {
        format!("{}{}", self.prefix, owner::MARK)
    }

    async fn read_mark(&self) -> Result<Option<String>> {
        match self.client.bytes(&Ask::new(Method::GET, self.mark())).await {
            Ok((_, bytes)) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write_mark(&self, name: String) -> Result<()> {
        let ask = Ask::new(Method::PUT, self.mark()).payload(Payload::of(name));
        self.client.send(&ask).await.map(drop)
    }
}

fn is_truncated(page: &Element) -> bool {
    page.text_of("IsTruncated") == Some("true")
}

impl Remote {
    /// Opens the bucket. One that does not answer now is waited for by those who need it; one that is
    /// somebody else's is refused.
    pub(super) fn open(settings: &Settings, state: &Path) -> Result<Self> {
        let unusable = |why: String| Failure::Io {
            what: "open the store of large objects".to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, why),
        };
        let client = Client::new(settings).map_err(unusable)?;
        let (garbage, emptying) = Bin::new();
        let shared = Arc::new(Shared {
            worker: Worker::start()?,
            client,
            prefix: settings.prefix.clone(),
            garbage,
            spool: state.to_owned(),
        });
        emptying.start(&shared, &shared.worker);
        let remote = Self {
            shared,
            state: state.to_owned(),
            claiming: Mutex::new(()),
            claimed: AtomicBool::new(false),
        };
        match remote.claim() {
            Err(Failure::Away(why)) => tracing::warn!(why, "the store of large objects is away"),
            claimed => claimed?,
        }
        Ok(remote)
    }

    fn run<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Shared>) -> F,
    ) -> Result<T> {
        self.shared.worker.wait(work(self.shared.clone()))
    }

    /// Makes sure that the bucket is ours, before anything in it is written or deleted.
    fn claim(&self) -> Result<()> {
        if self.claimed.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.claiming.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.state.join(owner::FILE);
        let write = |claim: &Claim| {
            let written = daemon::files::publish(&file, claim.text().as_bytes());
            written.map_err(std::io::Error::from).during("write", &file)
        };
        loop {
            let claim = match std::fs::read_to_string(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                text => Claim::parse(&text.during("read", &file)?),
            };
            let mark = self.run(|shared| async move { shared.read_mark().await })?;
            let step = owner::decide(claim.as_ref(), mark.as_deref());
            match (step.map_err(|why| self.not_ours(&why))?, claim) {
                (Step::Begin, _) => break,
                (Step::Mark, Some(Claim { name, .. })) => {
                    self.run(|shared| async move { shared.write_mark(name).await })?;
                }
                (Step::Note, Some(claim)) => write(&Claim {
                    is_marked: true,
                    ..claim
                })?,
                (Step::Mint | Step::Mark | Step::Note, _) => write(&Claim::mint())?,
            }
        }
        self.claimed.store(true, Ordering::Release);
        Ok(())
    }

    fn not_ours(&self, why: &str) -> Failure {
        Failure::Io {
            what: format!("use the bucket {}", self.shared.client.place("")),
            source: std::io::Error::new(std::io::ErrorKind::PermissionDenied, why),
        }
    }
}

impl Blobs for Remote {
    fn create(&self, id: &BlobId) -> Result<Box<dyn Writing>> {
        self.claim()?;
        Ok(Box::new(Upload::begin(&self.shared, id)))
    }

    fn open(&self, id: &BlobId) -> Result<Box<dyn Reading>> {
        Ok(Box::new(Download::open(&self.shared, id)?))
    }

    fn copy(&self, from: &BlobId, to: &BlobId) -> Result<bool> {
        self.claim()?;
        let (from, to) = (self.shared.key(from), self.shared.key(to));
        self.run(|shared| async move {
            let length = shared.length_of(&from).await?;
            if length.is_none_or(|length| length > COPY_BYTES_MAX) {
                // Whoever reads it says what is wrong with it.
                return Ok(false);
            }
            let source = format!("/{}/{from}", shared.client.bucket());
            let ask = Ask::new(Method::PUT, to)
                .header("x-amz-copy-source", sigv4::encode_path(source.as_bytes()))
                .limit(LONG_LIMIT);
            shared.client.document(&ask).await?;
            Ok(true)
        })
    }

    fn list(&self) -> Result<Vec<BlobId>> {
        self.run(|shared| async move { shared.list().await })
    }

    fn remove(&self, id: &BlobId) -> Result<()> {
        self.discard(id);
        Ok(())
    }

    fn discard(&self, id: &BlobId) {
        // Nothing of ours can be in a bucket that was not ours yet.
        if self.claimed.load(Ordering::Acquire) {
            self.shared
                .garbage
                .throw(Garbage::Object(self.shared.key(id)));
        }
    }

    fn is_there(&self, _: &BlobId) -> Option<bool> {
        None
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    fn local_bytes(&self, body: u64) -> u64 {
        body.min(upload::SPOOLED_BYTES_MAX)
    }

    fn sweep_unfinished(&self, is_new: &dyn Fn(&BlobId) -> bool) -> Result<usize> {
        self.claim()?;
        let uploads = self.run(|shared| async move { shared.uploads().await })?;
        let old = uploads.into_iter().filter(|(blob, ..)| !is_new(blob));
        let thrown = old.map(|(_, key, id)| {
            self.shared.garbage.throw(Garbage::Upload { key, id });
        });
        Ok(thrown.count())
    }

    fn probe(&self) -> Result<()> {
        self.claim()?;
        self.run(|shared| async move { shared.read_mark().await.map(drop) })
    }

    fn settle(&self, limit: Duration) {
        self.shared.garbage.until_empty(limit);
    }
}
