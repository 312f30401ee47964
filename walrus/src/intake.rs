//! A body on its way to the disk, once, in bounded memory: while one piece is digested and written
//! on a thread of its own, the next is received. Small bodies never leave memory.

use bytes::{Bytes, BytesMut};
use s3::{Code, Error, checksum::Algorithm};
use tokio::task::JoinHandle;

use crate::{
    body::RequestBody,
    digests::{Digests, Verified},
    engine::{
        Admitted, Engine, Failure, Result,
        blobs::{BlobSink, NewBlob},
        facts::{Body, Piece},
    },
};

/// The largest body of one PUT (S3 user guide, "Uploading objects").
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// What is gathered before it is handed to the writing thread; twice this is in memory.
const STEP_BYTES: usize = 1 << 20;

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
}

impl Taken {
    /// What the object's fact says.
    pub fn body(&self) -> Body {
        match &self.blob {
            None => Body::Inline,
            Some(blob) => Body::Pieces(vec![Piece {
                blob: blob.id().clone(),
                size: self.size,
            }]),
        }
    }
}

/// Refuses by its head a body that cannot be taken, before any of it is read.
pub fn admit(engine: &Engine, body: &RequestBody) -> Result<Admitted> {
    let length = body.claims().length()?;
    if length > PUT_BYTES_MAX {
        let error = Error::from(Code::EntityTooLarge);
        return Err(error
            .with("MaxSizeAllowed", PUT_BYTES_MAX.to_string())
            .into());
    }
    engine.admit(length)
}

/// Takes a body in. `to_file`: even a small one lies in a file, as parts do.
pub async fn take_in(
    engine: &Engine,
    body: &mut RequestBody,
    plan: Option<Algorithm>,
    to_file: bool,
) -> Result<Taken> {
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
            let first = [small.freeze(), payload].into();
            return take_large(engine, body, digests, first).await;
        }
        digests.update(&payload);
        small.extend_from_slice(&payload);
    }
    if to_file {
        return take_large(engine, body, digests, Vec::new()).await;
    }
    let (inline, verified) = (small.freeze(), body.finish(digests)?);
    Ok(Taken {
        verified,
        size: inline.len() as u64,
        inline,
        blob: None,
    })
}

/// A file being written, with the digests of what was handed to it.
struct Writing {
    sink: BlobSink,
    digests: Digests,
}

impl Writing {
    fn write(mut self, data: Vec<Bytes>, fresh: usize) -> Result<Self> {
        for (at, bytes) in data.iter().enumerate() {
            if at >= fresh {
                self.digests.update(bytes);
            }
            self.sink.write(bytes)?;
        }
        Ok(self)
    }
}

/// One thread writes while the next piece is gathered.
struct Pump {
    running: JoinHandle<Result<Writing>>,
    gathered: Vec<Bytes>,
    bytes: usize,
}

impl Pump {
    fn start(writing: Writing, data: Vec<Bytes>, fresh: usize) -> Self {
        let running = tokio::task::spawn_blocking(move || writing.write(data, fresh));
        Self {
            running,
            gathered: Vec::new(),
            bytes: 0,
        }
    }

    async fn written(running: JoinHandle<Result<Writing>>) -> Result<Writing> {
        running
            .await
            .map_err(|error| Failure::Stopped(error.to_string()))?
    }

    async fn push(mut self, data: Bytes) -> Result<Self> {
        self.bytes += data.len();
        self.gathered.push(data);
        if self.bytes < STEP_BYTES {
            return Ok(self);
        }
        let writing = Self::written(self.running).await?;
        Ok(Self::start(writing, self.gathered, 0))
    }

    async fn end(self) -> Result<Writing> {
        let writing = Self::written(self.running).await?;
        Self::written(tokio::task::spawn_blocking(move || {
            writing.write(self.gathered, 0)
        }))
        .await
    }
}

/// `first` begins with what is digested already.
async fn take_large(
    engine: &Engine,
    body: &mut RequestBody,
    digests: Digests,
    first: Vec<Bytes>,
) -> Result<Taken> {
    let sink = engine.new_blob()?;
    let mut pump = Pump::start(Writing { sink, digests }, first, 1);
    while let Some(payload) = body.next().await? {
        pump = pump.push(payload).await?;
    }
    let Writing { sink, digests } = pump.end().await?;
    let verified = body.finish(digests)?;

    let size = sink.size();
    let finished = tokio::task::spawn_blocking(move || sink.finish()).await;
    let blob = finished.map_err(|error| Failure::Stopped(error.to_string()))??;
    Ok(Taken {
        verified,
        size,
        inline: Bytes::new(),
        blob: Some(blob),
    })
}
