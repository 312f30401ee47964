//! A form on the wire, `multipart/form-data` (RFC 7578): its fields are read, its file is streamed.
//! What comes after the file is read and not looked at, as S3 has it.

use std::{ops::RangeInclusive, pin::pin, task::Poll};

use bytes::Bytes;
use futures_util::stream;
use multer::{Field, Multipart};
use s3::{
    Code, Error, Result,
    headers::BodyClaims,
    post::{FIELDS_BYTES_MAX, FILE, Form},
};
use tokio::sync::mpsc;

use super::{RequestBody, Source};
use crate::digests::{Digests, Verified};

/// What is read before the file begins: the fields, with headers and boundaries of their own. The
/// parser keeps what it has not understood yet, so that this is also what it can be made to keep.
const HEAD_BYTES_MAX: usize = 4 * FIELDS_BYTES_MAX;

/// The file of a form, as it comes.
pub struct FormFile<'a> {
    feed: Feed<'a>,
    field: Option<Field<'static>>,
    claims: BodyClaims,
    allowed: RangeInclusive<u64>,
    size: u64,
}

/// Reads a form up to its file.
pub async fn open_form<'a>(
    content_type: &str,
    body: &'a mut RequestBody,
) -> Result<(Form, FormFile<'a>)> {
    let boundary = multer::parse_boundary(content_type).map_err(|_| {
        let why = "Bucket POST must be of the enclosure-type multipart/form-data";
        Error::new(Code::PreconditionFailed, why)
    })?;
    let content_length = Some(body.claims.length()?);
    let (mut feed, mut parts) = Feed::open(boundary, body);

    let mut form = Form::default();
    while let Some(mut field) = feed.drive(parts.next_field()).await? {
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        if name == FILE {
            feed.head_bytes = None;
            let file = FormFile {
                feed,
                field: Some(field),
                claims: BodyClaims {
                    content_length,
                    ..BodyClaims::default()
                },
                allowed: 0..=u64::MAX,
                size: 0,
            };
            return Ok((form, file));
        }
        let value = feed.read_value(&mut field).await?;
        form.push(&name, value)?;
    }
    Err(Code::IncorrectNumberOfFilesInPostRequest.into())
}

/// What the parser is fed with: another piece of the body only when it can do nothing with what it
/// has. Left to itself it would take all that has arrived.
struct Feed<'a> {
    body: &'a mut RequestBody,
    pieces: Option<mpsc::UnboundedSender<Bytes>>,
    /// What it got before the file.
    head_bytes: Option<usize>,
}

impl<'a> Feed<'a> {
    fn open(boundary: String, body: &'a mut RequestBody) -> (Self, Multipart<'static>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let pieces = stream::poll_fn(move |context| receiver.poll_recv(context).map(|p| p.map(Ok)));
        let parts = Multipart::new::<_, Bytes, Error, _>(pieces, boundary);
        let feed = Self {
            body,
            pieces: Some(sender),
            head_bytes: Some(0),
        };
        (feed, parts)
    }

    async fn drive<T>(&mut self, asked: impl Future<Output = multer::Result<T>>) -> Result<T> {
        let mut asked = pin!(asked);
        loop {
            match futures_util::poll!(asked.as_mut()) {
                Poll::Ready(done) => return done.map_err(told),
                Poll::Pending if self.pieces.is_none() => return asked.await.map_err(told),
                Poll::Pending => self.give_more().await?,
            }
        }
    }

    async fn give_more(&mut self) -> Result<()> {
        if self.head_bytes.is_some_and(|read| read > HEAD_BYTES_MAX) {
            return Err(Code::MaxPostPreDataLengthExceededError.into());
        }
        let Some(piece) = self.body.next().await? else {
            self.pieces = None;
            return Ok(());
        };
        if let Some(read) = &mut self.head_bytes {
            *read += piece.len();
        }
        if let Some(pieces) = &self.pieces {
            // The parser has the other end; without it nobody misses the piece.
            let _ = pieces.send(piece);
        }
        Ok(())
    }

    async fn read_value(&mut self, field: &mut Field<'static>) -> Result<String> {
        let mut value = Vec::new();
        while let Some(piece) = self.drive(field.chunk()).await? {
            if value.len() + piece.len() > FIELDS_BYTES_MAX {
                return Err(Code::MaxPostPreDataLengthExceededError.into());
            }
            value.extend_from_slice(&piece);
        }
        String::from_utf8(value).map_err(|_| Code::MalformedPOSTRequest.into())
    }
}

fn told(error: multer::Error) -> Error {
    let why = format!("{} ({error})", Code::MalformedPOSTRequest.message());
    Error::new(Code::MalformedPOSTRequest, why)
}

impl FormFile<'_> {
    /// The file's name on its sender's machine.
    pub fn name(&self) -> Option<&str> {
        self.field.as_ref().and_then(Field::file_name)
    }

    /// How much of it has come.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What the form claims about the file, and how long it may be.
    pub fn expect(&mut self, claims: BodyClaims, allowed: RangeInclusive<u64>) {
        self.claims = BodyClaims {
            // Of the form: the file is a little shorter.
            content_length: self.claims.content_length,
            ..claims
        };
        self.allowed = allowed;
    }

    fn wrong_size(&self, code: Code, name: &'static str, limit: u64) -> Error {
        Error::from(code)
            .with("ProposedSize", self.size.to_string())
            .with(name, limit.to_string())
    }
}

impl Source for FormFile<'_> {
    fn claims(&self) -> &BodyClaims {
        &self.claims
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(field) = &mut self.field else {
            return Ok(None);
        };
        let Some(piece) = self.feed.drive(field.chunk()).await? else {
            self.field = None;
            return Ok(None);
        };
        self.size += piece.len() as u64;
        let most = *self.allowed.end();
        if self.size > most {
            return Err(self.wrong_size(Code::EntityTooLarge, "MaxSizeAllowed", most));
        }
        Ok(Some(piece))
    }

    async fn finish(&mut self, digests: Digests) -> Result<Verified> {
        let least = *self.allowed.start();
        if self.size < least {
            return Err(self.wrong_size(Code::EntityTooSmall, "MinSizeAllowed", least));
        }
        let body = &mut *self.feed.body;
        while body.next().await?.is_some() {}
        body.finished()?;
        digests.verify(&self.claims, &[])
    }
}
