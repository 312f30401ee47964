//! A file on its way to the other store. It is gathered on this host, first in memory, then in a file
//! without a name, until there is a part of it; while two parts are on the wire, a third is gathered.
//! So a request can be sent again as often as it takes, memory has a bound, and the file is there when
//! its last request was acknowledged.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, header};
use s3::xml::{Element, Writer};
use sha2::{Digest as _, Sha256};
use tempfile::{SpooledData, SpooledTempFile};

use super::{
    Shared,
    client::{Ask, Payload},
    garbage::Garbage,
    worker::Begun,
};
use crate::engine::{
    blobs::{BlobId, Syncing, Writing},
    failure::{During, Failure, Result},
};

/// Bytes of a part: equal for all but the last, as some stores want it, and above S3's least 5 MiB.
/// 10,000 of them are 80 GiB, sixteen times the largest body.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Bytes that are gathered in memory; as many as a local file's buffer has.
const MEMORY_BYTES: usize = 256 << 10;
/// Parts of one file on the wire: one is sent while the store puts the other on its disks.
const ON_WIRE_MAX: usize = 2;
/// What one upload takes of this host's disk at most.
pub(super) const SPOOLED_BYTES_MAX: u64 = ((ON_WIRE_MAX + 1) * PART_BYTES) as u64;

/// Bytes that are gathered, and their hash.
struct Spool {
    bytes: SpooledTempFile,
    sha256: Sha256,
    length: usize,
}

impl Spool {
    fn new(shared: &Shared) -> Self {
        Self {
            bytes: tempfile::spooled_tempfile_in(MEMORY_BYTES, &shared.spool),
            sha256: Sha256::new(),
            length: 0,
        }
    }

    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        self.bytes.write_all(data)?;
        self.sha256.update(data);
        self.length += data.len();
        Ok(())
    }

    fn payload(self) -> Payload {
        let sha256 = hex::encode(self.sha256.finalize());
        match self.bytes.into_inner() {
            SpooledData::InMemory(bytes) => Payload::hashed(bytes.into_inner().into(), sha256),
            SpooledData::OnDisk(file) => Payload::file(file, self.length as u64, sha256),
        }
    }
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spool({} bytes)", self.length)
    }
}

/// An upload in parts that the store knows of. It is given up unless it was completed.
#[derive(Debug)]
struct Multipart {
    shared: Arc<Shared>,
    key: String,
    id: String,
    completed: AtomicBool,
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if !self.completed.load(Ordering::Relaxed) {
            let (key, id) = (self.key.clone(), self.id.clone());
            self.shared.garbage.throw(Garbage::Upload { key, id });
        }
    }
}

/// A file being written.
#[derive(Debug)]
pub(super) struct Upload {
    shared: Arc<Shared>,
    key: String,
    spool: Spool,
    /// Bytes of all parts before the spool.
    sent: u64,
    multipart: Option<Arc<Multipart>>,
    on_wire: VecDeque<Begun<String>>,
    etags: Vec<String>,
}

impl Upload {
    pub(super) fn begin(shared: &Arc<Shared>, id: &BlobId) -> Self {
        Self {
            key: shared.key(id),
            spool: Spool::new(shared),
            shared: shared.clone(),
            sent: 0,
            multipart: None,
            on_wire: VecDeque::new(),
            etags: Vec::new(),
        }
    }

    fn multipart(&mut self) -> Result<Arc<Multipart>> {
        if let Some(multipart) = &self.multipart {
            return Ok(multipart.clone());
        }
        let (shared, key) = (self.shared.clone(), self.key.clone());
        let id = self.shared.worker.wait(async move {
            let ask = Ask::new(Method::POST, key).query("uploads");
            let (_, document) = shared.client.document(&ask).await?;
            let read = Element::read(&document, "InitiateMultipartUploadResult");
            let id = read
                .ok()
                .and_then(|read| Some(read.text_of("UploadId")?.to_owned()));
            id.ok_or_else(|| unreadable(&shared, &ask))
        })?;
        let multipart = Arc::new(Multipart {
            shared: self.shared.clone(),
            key: self.key.clone(),
            id,
            completed: AtomicBool::new(false),
        });
        self.multipart = Some(multipart.clone());
        Ok(multipart)
    }

    /// Puts what is gathered on the wire as the next part.
    fn send_part(&mut self) -> Result<()> {
        let multipart = self.multipart()?;
        if self.on_wire.len() == ON_WIRE_MAX {
            self.land_one()?;
        }
        let spool = std::mem::replace(&mut self.spool, Spool::new(&self.shared));
        self.sent += spool.length as u64;
        let number = self.etags.len() + self.on_wire.len() + 1;
        let query = format!(
            "partNumber={number}&uploadId={}",
            sigv4::encode(multipart.id.as_bytes())
        );
        let ask = Ask::new(Method::PUT, self.key.clone())
            .query(query)
            .payload(spool.payload());
        // The upload is held by its parts, so that it is given up after the last of them.
        let part = async move {
            let shared = &multipart.shared;
            let answer = shared.client.send(&ask).await?;
            let etag = answer.headers().get(header::ETAG);
            let etag = etag.and_then(|etag| etag.to_str().ok());
            etag.map(str::to_owned)
                .ok_or_else(|| unreadable(shared, &ask))
        };
        self.on_wire.push_back(self.shared.worker.begin(part));
        Ok(())
    }

    fn land_one(&mut self) -> Result<()> {
        if let Some(part) = self.on_wire.pop_front() {
            self.etags.push(part.outcome()?);
        }
        Ok(())
    }

    fn put(self) -> Result<()> {
        let ask = Ask::new(Method::PUT, self.key).payload(self.spool.payload());
        let shared = self.shared.clone();
        self.shared.worker.wait(async move {
            shared.client.send(&ask).await?;
            Ok(())
        })
    }

    fn complete(mut self, multipart: &Arc<Multipart>) -> Result<()> {
        if self.spool.length > 0 {
            self.send_part()?;
        }
        while !self.on_wire.is_empty() {
            self.land_one()?;
        }
        let ask = Ask::new(Method::POST, self.key.clone())
            .query(format!(
                "uploadId={}",
                sigv4::encode(multipart.id.as_bytes())
            ))
            .payload(Payload::of(Bytes::from(completion(&self.etags))))
            .limit(super::LONG_LIMIT);
        let (shared, key, length) = (self.shared.clone(), self.key.clone(), self.sent);
        self.shared.worker.wait(async move {
            match shared.client.document(&ask).await {
                Ok(_) => Ok(()),
                // The answer to a first try may have been lost: what it made is there.
                Err(error) if is_not_found(&error) => match shared.length_of(&key).await? {
                    Some(there) if there == length => Ok(()),
                    _ => Err(error),
                },
                Err(error) => Err(error),
            }
        })?;
        multipart.completed.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Writing for Upload {
    fn write(&mut self, data: &[u8]) -> Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            if self.spool.length == PART_BYTES {
                self.send_part()?;
            }
            let room = PART_BYTES - self.spool.length;
            let (now, later) = rest.split_at(rest.len().min(room));
            self.spool
                .write(now)
                .during("write to", &self.shared.spool)?;
            rest = later;
        }
        Ok(())
    }

    fn sync_so_far(&self) -> Result<Syncing> {
        // Parts are on their way as soon as they are whole.
        Ok(Box::new(|| Ok(())))
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        match self.multipart.take() {
            None => self.put(),
            Some(multipart) => {
                self.multipart = Some(multipart.clone());
                self.complete(&multipart)
            }
        }
    }
}

fn completion(etags: &[String]) -> String {
    Writer::document("CompleteMultipartUpload", |document| {
        for (at, etag) in etags.iter().enumerate() {
            document.nest("Part", |part| {
                part.plain("PartNumber", at + 1);
                part.text("ETag", etag);
            });
        }
    })
}

pub(super) fn is_not_found(failure: &Failure) -> bool {
    matches!(failure, Failure::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

pub(super) fn unreadable(shared: &Shared, ask: &Ask) -> Failure {
    Failure::Io {
        what: format!("{} {}", ask.method, shared.client.place(&ask.key)),
        source: std::io::Error::other("the answer cannot be read"),
    }
}
