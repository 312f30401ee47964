//! A body on its way to the disk, once, in bounded memory: receiving, digesting, writing and syncing
//! overlap. Small bodies never leave memory.

mod step;

use std::mem;

use bytes::{Bytes, BytesMut};
use s3::{Code, Error, checksum::Algorithm, headers::BodyClaims};
use tokio::{
    runtime::Handle,
    task::{self, JoinError, JoinHandle},
};

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
use step::{Room, Step};

/// The largest body of one PUT (S3 user guide, "Uploading objects").
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// Half of what each of the first bodies has in memory.
pub const WIDE_BYTES: usize = 1 << 20;
/// Bodies at once in large pieces: 48 MiB in all.
pub const WIDE_LANES: usize = 24;
/// Bodies beyond those, in small pieces: 64 MiB in all.
pub const NARROW_LANES: usize = 512;
/// What is gathered before it is handed on: a quarter of the above, but no less than this.
const PIECE_BYTES_MIN: usize = 64 << 10;
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

/// A file being written, sealed on its way if it is to be, and put on disk on the side.
struct File {
    sink: BlobSink,
    sealer: Option<Sealer>,
    /// Bytes of the body that are in it.
    size: u64,
    unsynced: usize,
    syncing: Option<JoinHandle<Result<()>>>,
}

impl File {
    fn new(sink: BlobSink, sealer: Option<Sealer>) -> Self {
        Self {
            sink,
            sealer,
            size: 0,
            unsynced: 0,
            syncing: None,
        }
    }

    fn take(&mut self, data: &[Bytes]) -> Result<()> {
        for bytes in data {
            self.size += bytes.len() as u64;
            self.unsynced += bytes.len();
            match &mut self.sealer {
                None => self.sink.write(bytes)?,
                Some(sealer) => self.sink.write(&sealer.push(bytes))?,
            }
        }
        if self.unsynced >= SYNC_BYTES && self.syncing.as_ref().is_none_or(JoinHandle::is_finished)
        {
            self.synced()?;
            self.syncing = Some(task::spawn_blocking(self.sink.sync_so_far()?));
            self.unsynced = 0;
        }
        Ok(())
    }

    /// What the last sync came to. One that failed says so once: whoever syncs again is told that all
    /// is well.
    fn synced(&mut self) -> Result<()> {
        let Some(syncing) = self.syncing.take() else {
            return Ok(());
        };
        Handle::current().block_on(syncing).unwrap_or_else(died)
    }

    fn finish(mut self) -> Result<(NewBlob, u64)> {
        self.synced()?;
        if let Some(sealer) = self.sealer {
            self.sink.write(&sealer.finish())?;
        }
        Ok((self.sink.finish()?, self.size))
    }
}

fn died<T>(error: JoinError) -> Result<T> {
    Err(Failure::Stopped(error.to_string()))
}

fn digest(digests: &mut Digests, data: &[Bytes]) -> Result<()> {
    data.iter().for_each(|bytes| digests.update(bytes));
    Ok(())
}

/// While pieces are digested on one thread, written on another, and what was written before is put on
/// disk on a third, the next piece is gathered.
struct Pump {
    digesting: Step<Digests>,
    writing: Step<File>,
    room: Room,
    gathered: Vec<Bytes>,
    bytes: usize,
    piece_bytes: usize,
    _lane: Lane,
}

impl Pump {
    fn new(file: File, digests: Digests, lane: Lane) -> Self {
        let piece_bytes = (lane.piece_bytes / 4).max(PIECE_BYTES_MIN);
        Self {
            digesting: Step::new(digests, digest),
            writing: Step::new(file, File::take),
            room: Room::new(2 * lane.piece_bytes - piece_bytes),
            gathered: Vec::new(),
            bytes: 0,
            piece_bytes,
            _lane: lane,
        }
    }

    /// Bytes that the digests have already.
    async fn push_digested(&mut self, data: Bytes) -> Result<()> {
        self.writing.push(self.room.piece(vec![data]).await)
    }

    async fn push(&mut self, data: Bytes) -> Result<()> {
        self.bytes += data.len();
        self.gathered.push(data);
        if self.bytes < self.piece_bytes {
            return Ok(());
        }
        self.hand_on().await
    }

    async fn hand_on(&mut self) -> Result<()> {
        self.bytes = 0;
        let piece = self.room.piece(mem::take(&mut self.gathered)).await;
        self.writing.push(piece.clone())?;
        self.digesting.push(piece)
    }

    async fn end(mut self) -> Result<(File, Digests)> {
        self.hand_on().await?;
        let (file, digests) = tokio::join!(self.writing.finish(), self.digesting.finish());
        Ok((file?, digests?))
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
    let sealer = sealer.map(|((key, _), salt)| key.sealer(salt));
    let file = File::new(engine.new_blob()?, sealer);
    let mut pump = Pump::new(file, digests, lane);

    let mut size = (first.len() + next.len()) as u64;
    pump.push_digested(first).await?;
    pump.push(next).await?;
    while let Some(payload) = body.next().await? {
        size += payload.len() as u64;
        if size > PUT_BYTES_MAX {
            return Err(too_large());
        }
        pump.push(payload).await?;
    }
    let (file, digests) = pump.end().await?;
    let verified = body.finish(digests).await?;

    let finish = task::spawn_blocking(move || file.finish());
    let (blob, size) = finish.await.unwrap_or_else(died)?;
    Ok(Taken {
        verified,
        size,
        inline: Bytes::new(),
        blob: Some(blob),
        salt,
    })
}
