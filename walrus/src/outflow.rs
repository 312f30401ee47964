//! An object on its way out: which bytes, and a stream of them that reads one piece ahead. The
//! first piece is read and checked before the answer begins, so that damage found there is an error
//! with a name; damage found later cuts the connection.

use std::ops::Range;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures_util::stream;
use s3::{Code, Error, request::GetObject};
use tokio::task::JoinHandle;

use crate::{
    answer::{self, AnswerBody, StreamError},
    engine::{Engine, Failure, Found, Object, Result, blobs::BlobReader, facts::Piece},
    lanes::Lane,
    seal::{DataKey, Opener},
};

/// What is read at once by each of the first readers; twice this is in memory for each.
pub const WIDE_BYTES: usize = 512 << 10;
/// Readers at once in large pieces: 32 MiB in all.
pub const WIDE_LANES: usize = 32;
/// Readers beyond those, in pieces of one block: 64 MiB in all.
pub const NARROW_LANES: usize = 1024;

/// Which bytes of an object are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// From, and up to but not including.
    pub bytes: Range<u64>,
    /// Whether the answer is 206.
    pub is_part: bool,
}

impl Span {
    /// What a GET asks for.
    pub fn of(object: &Object, get: &GetObject) -> s3::Result<Self> {
        if let Some(number) = get.part_number {
            return Self::of_part(object, number);
        }
        match get.range {
            None => Ok(Self {
                bytes: 0..object.size,
                is_part: false,
            }),
            Some(range) => Ok(Self {
                bytes: range.of(object.size)?,
                is_part: true,
            }),
        }
    }

    fn of_part(object: &Object, number: u32) -> s3::Result<Self> {
        let pieces = object.body.pieces();
        if pieces.len() <= 1 && number == 1 {
            return Ok(Self {
                bytes: 0..object.size,
                is_part: object.size > 0,
            });
        }
        let at = number as usize - 1;
        let piece = pieces.get(at).ok_or_else(|| {
            Error::from(Code::InvalidPartNumber)
                .with("PartNumberRequested", number.to_string())
                .with("ActualPartCount", pieces.len().max(1).to_string())
        })?;
        let start = pieces[..at].iter().map(|piece| piece.size).sum();
        Ok(Self {
            bytes: start..start + piece.size,
            is_part: true,
        })
    }
}

/// Metadata as it can stand in a header: other letters than ASCII's by RFC 2047, as S3 has it.
pub fn header_text(value: &str) -> String {
    if value
        .bytes()
        .all(|byte| (0x20..0x7f).contains(&byte) || byte == b'\t')
    {
        value.to_owned()
    } else {
        format!("=?UTF-8?B?{}?=", BASE64.encode(value))
    }
}

/// What is still to be read: pieces in reverse, and the file that is open.
#[derive(Debug)]
pub struct Reading {
    engine: Engine,
    /// Its files stay while this lives.
    _found: Found,
    left: Vec<(Piece, Range<u64>)>,
    open: Option<Open>,
    /// What the files are sealed under.
    key: Option<DataKey>,
    /// Bytes that are there already: those of a body in the journal.
    ready: Option<Bytes>,
    lane: Lane,
}

/// A file that is being read.
#[derive(Debug)]
struct Open {
    reader: BlobReader,
    opener: Option<Opener>,
    /// Plain bytes in it.
    size: u64,
    /// Plain bytes that are still to be read.
    range: Range<u64>,
}

impl Open {
    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        match &self.opener {
            None => self.reader.read(range),
            Some(opener) => {
                let sealed = self.reader.read(Opener::sealed_range(&range, self.size))?;
                Ok(Bytes::from(opener.open(&range, &sealed)?))
            }
        }
    }
}

impl Reading {
    /// Some bytes of an object.
    pub fn begin(
        engine: Engine,
        found: Found,
        key: Option<DataKey>,
        bytes: &Range<u64>,
        lane: Lane,
    ) -> Result<Self> {
        let ready = inline_bytes(&found, key.as_ref(), bytes)?;
        let mut left = Vec::new();
        let mut start = 0;
        for piece in found.object.body.pieces() {
            let end = start + piece.size;
            let (from, to) = (bytes.start.max(start), bytes.end.min(end));
            if from < to {
                left.push((piece.clone(), from - start..to - start));
            }
            start = end;
        }
        left.reverse();
        Ok(Self {
            engine,
            _found: found,
            left,
            open: None,
            key,
            ready,
            lane,
        })
    }

    /// Reads the next bytes; empty at the end.
    pub fn read(mut self) -> Result<(Self, Bytes)> {
        if let Some(ready) = self.ready.take() {
            return Ok((self, ready));
        }
        loop {
            if let Some(open) = &mut self.open {
                if !open.range.is_empty() {
                    let (start, piece) = (open.range.start, self.lane.piece_bytes as u64);
                    let end = open.range.end.min((start / piece + 1) * piece);
                    let bytes = open.read(start..end)?;
                    open.range.start = end;
                    return Ok((self, bytes));
                }
                self.open = None;
            }
            let Some((piece, range)) = self.left.pop() else {
                return Ok((self, Bytes::new()));
            };
            let reader = self.engine.open_piece(&piece)?;
            if reader.size() != piece.stored_size() {
                let what = format!(
                    "{:?} has {} bytes, not {}",
                    piece.blob,
                    reader.size(),
                    piece.stored_size()
                );
                return Err(Failure::Damaged(what));
            }
            let opener = self.key.as_ref().zip(piece.salt.as_ref());
            self.open = Some(Open {
                opener: opener.map(|(key, salt)| key.opener(salt)),
                reader,
                size: piece.size,
                range,
            });
        }
    }

    fn read_ahead(self) -> JoinHandle<Result<(Self, Bytes)>> {
        tokio::task::spawn_blocking(move || self.read())
    }
}

async fn awaited(reading: JoinHandle<Result<(Reading, Bytes)>>) -> Result<(Reading, Bytes)> {
    reading
        .await
        .map_err(|error| Failure::Stopped(error.to_string()))?
}

/// Some bytes of a body in the journal, opened; `None` if the body lies in files.
pub fn inline_bytes(
    found: &Found,
    key: Option<&DataKey>,
    bytes: &Range<u64>,
) -> Result<Option<Bytes>> {
    let Some(inline) = found.inline() else {
        return Ok(None);
    };
    let too_short = || Failure::Damaged("an inline body is too short".to_owned());
    let at = |place: u64| usize::try_from(place).expect("inline bodies are small");
    let (start, end) = (at(bytes.start), at(bytes.end));
    let plain = match (key, &found.object.encryption) {
        (Some(key), Some(sealing)) => {
            let whole = 0..found.object.size;
            Bytes::from(key.opener(&sealing.salt).open(&whole, inline)?)
        }
        _ => inline.clone(),
    };
    plain.get(start..end).ok_or_else(too_short)?;
    Ok(Some(plain.slice(start..end)))
}

/// The body of an answer: some bytes of an object. The object's files stay until the last is sent.
pub async fn send(
    engine: &Engine,
    found: Found,
    key: Option<DataKey>,
    bytes: Range<u64>,
) -> Result<AnswerBody> {
    if let Some(inline) = inline_bytes(&found, key.as_ref(), &bytes)? {
        return Ok(answer::full(inline));
    }
    if bytes.is_empty() {
        return Ok(answer::empty());
    }

    let length = bytes.end - bytes.start;
    let lane = engine.outflows().enter()?;
    let reading = Reading::begin(engine.clone(), found, key, &bytes, lane)?;
    let (reading, first) = awaited(reading.read_ahead()).await?;
    if first.len() as u64 == length {
        return Ok(answer::full(first));
    }
    Ok(answer::streamed(stream::try_unfold(
        Sending::Ready(first, reading),
        Sending::next,
    )))
}

/// The rest of a body: read ahead where there is room for it.
enum Sending {
    Ready(Bytes, Reading),
    Ahead(JoinHandle<Result<(Reading, Bytes)>>),
    Idle(Reading),
}

impl Sending {
    async fn next(self) -> Result<Option<(Bytes, Self)>, StreamError> {
        let (reading, bytes) = match self {
            Self::Ready(bytes, reading) => (reading, bytes),
            Self::Ahead(ahead) => awaited(ahead).await.map_err(cut)?,
            Self::Idle(reading) => awaited(reading.read_ahead()).await.map_err(cut)?,
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        let rest = match reading.lane.reads_ahead() {
            true => Self::Ahead(reading.read_ahead()),
            false => Self::Idle(reading),
        };
        Ok(Some((bytes, rest)))
    }
}

/// What goes wrong amid a body can only be said by cutting it off.
fn cut(failure: Failure) -> StreamError {
    tracing::error!(
        error = daemon::chain(&failure),
        "an object cannot be read to its end"
    );
    failure.into()
}
