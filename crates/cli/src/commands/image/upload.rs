//! Uploading: parts a few at a time, each compared with what the store says it got, the manifest
//! last, so that a manifest that is there has all its parts.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use image::{digest::Sha1Digest, manifest::Manifest};
use md5::{Digest, Md5};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    bundle::{Part, cannot_read},
    progress::Progress,
};
use crate::{
    Failure, args,
    public::{Answer, Public},
};

/// Uploads at once: enough to keep a gigabit busy; 10 MiB each.
const UPLOADS_MAX: usize = 4;

/// A bundle on disk.
#[derive(Clone)]
pub(super) struct OnDisk {
    pub(super) manifest: Arc<Manifest>,
    pub(super) file_name: String,
    pub(super) text: String,
    folder: std::path::PathBuf,
}

/// Reads and checks the manifest of a bundle.
pub(super) fn read_bundle(file: &Path) -> Result<OnDisk, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| cannot_read(file, error))?;
    let manifest = Manifest::parse(text.as_bytes()).map_err(|error| cannot_read(file, error))?;
    let file_name = file.file_name().and_then(|name| name.to_str());
    let file_name = file_name.ok_or_else(|| cannot_read(file, "its name is not UTF-8"))?;
    Ok(OnDisk {
        manifest: Arc::new(manifest),
        file_name: file_name.to_owned(),
        folder: file.parent().unwrap_or(Path::new(".")).to_owned(),
        text,
    })
}

impl OnDisk {
    /// Reads the parts in order; one that is not what the manifest says stops it. Blocks.
    pub(super) fn read_parts(&self, sender: &mpsc::Sender<Part>) -> Result<(), Failure> {
        for part in &self.manifest.parts {
            let file = self.folder.join(&part.file_name);
            let bytes = std::fs::read(&file).map_err(|error| cannot_read(&file, error))?;
            if Sha1Digest::of(&bytes) != part.digest {
                return Err(cannot_read(&file, "its SHA-1 is not the manifest's"));
            }
            if sender
                .blocking_send((part.file_name.clone(), bytes.into()))
                .is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A bucket, perhaps a prefix in it, and the ACL that objects there get.
pub(super) struct Place {
    public: Public,
    /// `BUCKET` or `BUCKET/PREFIX`.
    folder: String,
    acl: HeaderValue,
    looks_first: bool,
}

impl Place {
    /// Makes the bucket if it is not there.
    pub(super) async fn open(public: &Public, to: &args::To) -> Result<Self, Failure> {
        let folder = to.bucket.trim_matches('/').to_owned();
        let bucket = folder.split('/').next().unwrap_or_default();
        let acl = HeaderValue::from_str(&to.acl)
            .map_err(|_| Failure::Usage(format!("{:?} is no ACL", to.acl)))?;

        let empty = (HeaderMap::new(), Bytes::new());
        let head = public
            .s3(Method::HEAD, bucket, empty.0.clone(), empty.1.clone())
            .await?;
        if head.status == StatusCode::NOT_FOUND {
            let made = public.s3(Method::PUT, bucket, empty.0, empty.1).await?;
            if !made.status.is_success() {
                return Err(made.refusal());
            }
        } else if !head.status.is_success() {
            let why = format!("the bucket {bucket} is not ours to use ({})", head.status);
            return Err(Failure::Forbidden(why));
        }
        Ok(Self {
            public: public.clone(),
            folder,
            acl,
            looks_first: false,
        })
    }

    /// Whether to look for each part before it is sent: it may be there from an earlier try.
    pub(super) fn look_first(self, looks_first: bool) -> Self {
        Self {
            looks_first,
            ..self
        }
    }

    /// Uploads what comes until the sender is done; the first failure ends it.
    pub(super) async fn put_parts(
        &self,
        mut parts: mpsc::Receiver<Part>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut uploads: JoinSet<Result<u64, Failure>> = JoinSet::new();
        loop {
            let is_full = uploads.len() == UPLOADS_MAX;
            tokio::select! {
                part = parts.recv(), if !is_full => match part {
                    Some((name, bytes)) => { uploads.spawn(self.put(&name, bytes)); }
                    None => break,
                },
                Some(done) = uploads.join_next() => progress.uploaded(finished(done)?),
            }
        }
        while let Some(done) = uploads.join_next().await {
            progress.uploaded(finished(done)?);
        }
        Ok(())
    }

    /// Uploads the manifest; gives the location to register.
    pub(super) async fn put_manifest(
        &self,
        file_name: &str,
        text: String,
    ) -> Result<String, Failure> {
        self.put(file_name, text.into()).await?;
        Ok(format!("{}/{file_name}", self.folder))
    }

    fn put(
        &self,
        file_name: &str,
        bytes: Bytes,
    ) -> impl Future<Output = Result<u64, Failure>> + Send + 'static {
        let (public, acl) = (self.public.clone(), self.acl.clone());
        let looks_first = self.looks_first;
        let path = format!("{}/{file_name}", self.folder);
        async move {
            let length = bytes.len() as u64;
            // The entity tag of an object that was put whole is its MD5.
            let etag = hex::encode(Md5::digest(&bytes));
            if looks_first && is_there(&public, &path, &etag).await? {
                return Ok(length);
            }
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-acl", acl);
            let octets = HeaderValue::from_static("application/octet-stream");
            headers.insert(header::CONTENT_TYPE, octets);
            let answer = public.s3(Method::PUT, &path, headers, bytes).await?;
            if !answer.status.is_success() {
                return Err(answer.refusal());
            }
            match said(&answer) {
                Some(said) if said != etag => Err(Failure::failed(
                    path,
                    "the store got other bytes than were sent",
                )),
                _ => Ok(length),
            }
        }
    }
}

/// Whether an object of that entity tag is there.
async fn is_there(public: &Public, path: &str, etag: &str) -> Result<bool, Failure> {
    let head = public
        .s3(Method::HEAD, path, HeaderMap::new(), Bytes::new())
        .await?;
    Ok(head.status.is_success() && said(&head) == Some(etag))
}

/// The entity tag in an answer, without its quotes.
fn said(answer: &Answer) -> Option<&str> {
    let etag = answer.headers.get(header::ETAG)?;
    Some(etag.to_str().ok()?.trim_matches('"'))
}

fn finished(done: Result<Result<u64, Failure>, tokio::task::JoinError>) -> Result<u64, Failure> {
    done.map_err(|error| Failure::failed("uploading", error))?
}
