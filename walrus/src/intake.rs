//! A body on its way to the disk, once, in bounded memory: receiving, digesting, writing and syncing
//! overlap. Small bodies never leave memory.

use bytes::{Bytes, BytesMut};
use s3::{Code, Error, checksum::Algorithm, headers::BodyClaims};
use tokio::task::JoinHandle;

use crate::{
    body::Source,
    digests::{Digests, Verified},
    engine::{
        Admitted, Engine, Failure, Result,
        blobs::{BlobSink, NewBlob},
        facts::{Body, Piece},
    },
    lanes::Lane,
    seal::{DataKey, Sealer},
};

/// The largest body of one PUT (S3 user guide, "Uploading objects").
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// What is gathered before it is handed on by each of the first bodies; twice this is in memory.
pub const WIDE_BYTES: usize = 1 << 20;
/// Bodies at once in large pieces: 48 MiB in all.
pub const WIDE_LANES: usize = 24;
/// Bodies beyond those, in small pieces: 64 MiB in all.
pub const NARROW_LANES: usize = 512;
/// What is written before the disk is asked to begin: at the end little is left to wait for.
const SYNC_BYTES: usize = 8 << 20;

/// A body that is verified and on disk, or small.
#[derive(Debug)]
pub struct Taken {
    /// Its digests.
    pub verified: Verified,
    /// Its size in bytes.
    pub size: u64,
    /// The bytes, if they are to be inline.
    pub inline: Bytes,
    /// The file, if they are not.
    pub blob: Option<NewBlob>,
    /// The salt of the file, if it is sealed.
    pub salt: Option<String>,
}

impl Taken {
    /// What the object's fact says.
    pub fn body(&self) -> Body {
        match &self.blob {
            None => Body::Inline,
            Some(blob) => Body::Pieces(vec![Piece {
                blob: blob.id().clone(),
                size: self.size,
                salt: self.salt.clone(),
                checksum: None,
            }]),
        }
    }
}

/// How long a body says that it is. Whoever pipes does not know yet: S3 refuses that, other stores do
/// not.
pub fn announced(claims: &BodyClaims) -> Result<u64> {
    match claims.length() {
        Err(_) if claims.is_chunked => Ok(0),
        length => Ok(length?),
    }
}

/// Refuses by its head a body that cannot be taken, before any of it is read.
pub fn admit(engine: &Engine, body: &impl Source) -> Result<Admitted> {
    let length = announced(body.claims())?;
    if length > PUT_BYTES_MAX {
        return Err(too_large());
    }
    engine.admit(length)
}

fn too_large() -> Failure {
    let error = Error::from(Code::EntityTooLarge);
    error
        .with("MaxSizeAllowed", PUT_BYTES_MAX.to_string())
        .into()
}

/// How a body is taken in.
#[derive(Debug, Default)]
pub struct Manner<'a> {
    /// The checksum that is kept with it, if an upload has one.
    pub plan: Option<Algorithm>,
    /// Even a small one lies in a file, as parts do.
    pub to_file: bool,
    /// What it is sealed under, and the salt of a small one.
    pub seal: Option<(&'a DataKey, &'a str)>,
}

/// Takes a body in.
pub async fn take_in(engine: &Engine, body: &mut impl Source, manner: Manner<'_>) -> Result<Taken> {
    let Manner {
        plan,
        to_file,
        seal,
    } = manner;
    let _room = admit(engine, body)?;
    let mut digests = Digests::for_object(body.claims(), plan);
    let inline_max = if to_file {
        0
    } else {
        engine.inline_bytes_max()
    };

    let mut small = BytesMut::new();
    while let Some(payload) = body.next().await? {
        if small.len() + payload.len() > inline_max {
            return take_large(engine, body, digests, (small.freeze(), payload), seal).await;
        }
        digests.update(&payload);
        small.extend_from_slice(&payload);
    }
    if to_file {
        return take_large(engine, body, digests, Default::default(), seal).await;
    }
    let (plain, verified) = (small.freeze(), body.finish(digests).await?);
    let size = plain.len() as u64;
    let inline = match seal {
        None => plain,
        Some((key, salt)) => Bytes::from(key.seal(salt, &plain)),
    };
    Ok(Taken {
        verified,
        size,
        inline,
        blob: None,
        salt: None,
    })
}

/// Work that one thread does on piece after piece.
type Work<T> = JoinHandle<Result<T>>;

fn work<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Work<T> {
    tokio::task::spawn_blocking(work)
}

async fn done<T>(work: Work<T>) -> Result<T> {
    work.await
        .map_err(|error| Failure::Stopped(error.to_string()))?
}

fn digest(mut digests: Digests, data: Vec<Bytes>) -> Work<Digests> {
    work(move || {
        data.iter().for_each(|bytes| digests.update(bytes));
        Ok(digests)
    })
}

/// A file being written, sealed on its way if it is to be.
struct File {
    sink: BlobSink,
    sealer: Option<Sealer>,
    /// Bytes of the body that are in it.
    size: u64,
}

impl File {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        match &mut self.sealer {
            None => self.sink.write(bytes),
            Some(sealer) => self.sink.write(&sealer.push(bytes)),
        }
    }

    fn finish(mut self) -> Result<(NewBlob, u64)> {
        if let Some(sealer) = self.sealer {
            self.sink.write(&sealer.finish())?;
        }
        Ok((self.sink.finish()?, self.size))
    }
}

fn write(mut file: File, data: Vec<Bytes>) -> Work<File> {
    work(move || {
        data.iter().try_for_each(|bytes| file.write(bytes))?;
        Ok(file)
    })
}

/// While one piece is digested on a thread, written on another, and what was written before is put
/// on disk on a third, the next piece is gathered.
struct Pump {
    digesting: Work<Digests>,
    writing: Work<File>,
    syncing: Option<Work<()>>,
    unsynced: usize,
    gathered: Vec<Bytes>,
    bytes: usize,
    lane: Lane,
}

impl Pump {
    /// `first` is digested already.
    fn start(file: File, digests: Digests, first: Bytes, next: Bytes, lane: Lane) -> Self {
        Self {
            digesting: digest(digests, vec![next.clone()]),
            writing: write(file, vec![first, next]),
            syncing: None,
            unsynced: 0,
            gathered: Vec::new(),
            bytes: 0,
            lane,
        }
    }

    async fn push(mut self, data: Bytes) -> Result<Self> {
        self.bytes += data.len();
        self.gathered.push(data);
        if self.bytes < self.lane.piece_bytes {
            return Ok(self);
        }
        self.hand_on().await
    }

    async fn hand_on(mut self) -> Result<Self> {
        let data = std::mem::take(&mut self.gathered);
        self.digesting = digest(done(self.digesting).await?, data.clone());
        let file = done(self.writing).await?;
        self.unsynced += std::mem::take(&mut self.bytes);
        if self.unsynced >= SYNC_BYTES && self.syncing.as_ref().is_none_or(JoinHandle::is_finished)
        {
            if let Some(before) = self.syncing {
                done(before).await?;
            }
            self.syncing = Some(work(file.sink.sync_so_far()?));
            self.unsynced = 0;
        }
        self.writing = write(file, data);
        Ok(self)
    }

    async fn end(self) -> Result<(File, Digests)> {
        let Self {
            digesting,
            writing,
            syncing,
            ..
        } = self.hand_on().await?;
        let (digests, file) = (done(digesting).await?, done(writing).await?);
        // A sync that failed says so once: whoever asks again is told that all is well.
        if let Some(syncing) = syncing {
            done(syncing).await?;
        }
        Ok((file, digests))
    }
}

async fn take_large(
    engine: &Engine,
    body: &mut impl Source,
    digests: Digests,
    (first, next): (Bytes, Bytes),
    seal: Option<(&DataKey, &str)>,
) -> Result<Taken> {
    let lane = engine.intakes().enter()?;
    let salt = seal.map(|_| DataKey::salt());
    let sealer = seal.zip(salt.as_ref());
    let file = File {
        sink: engine.new_blob()?,
        sealer: sealer.map(|((key, _), salt)| key.sealer(salt)),
        size: 0,
    };
    let mut pump = Pump::start(file, digests, first, next, lane);
    let mut size = 0;
    while let Some(payload) = body.next().await? {
        size += payload.len() as u64;
        if size > PUT_BYTES_MAX {
            return Err(too_large());
        }
        pump = pump.push(payload).await?;
    }
    let (file, digests) = pump.end().await?;
    let verified = body.finish(digests).await?;

    let (blob, size) = done(work(move || file.finish())).await?;
    Ok(Taken {
        verified,
        size,
        inline: Bytes::new(),
        blob: Some(blob),
        salt,
    })
}
