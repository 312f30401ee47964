//! Verifies a body while it streams: its length, its digest, the signature of each chunk and of
//! the trailer. It owns no socket: bytes are put in, payload comes out of the same buffers.
//!
//! Payload is handed on before its chunk is complete, so that memory stays bounded whatever size a
//! client gives its chunks. What came out is *provisional* until [`BodyVerifier::finish`] gives a
//! [`Finished`]; nothing may be published without one.
//!
//! ```text
//! Line(size;chunk-signature) → Data → DataEnd → Line ...      size 0 → Trailer lines → Done
//! ```
//!
//! The rule: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>, and `-trailers`.

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use super::Scope;
use crate::hash::{EMPTY_SHA256, hmac_sha256, same};

/// A chunk's header line: 16 hex digits, the name, 64 hex digits of signature; trailers are
/// checksums, the longest being 88 characters of SHA-512.
const LINE_MAX: usize = 1024;
/// S3 sends one checksum and one signature; nobody sends more than a handful.
const TRAILERS_MAX: usize = 8;

/// What the sender promised about the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing: `UNSIGNED-PAYLOAD`.
    Nothing,
    /// Its SHA-256.
    Sha256([u8; 32]),
    /// `aws-chunked`, each chunk signed (or not), perhaps with a trailer.
    Chunks { seal: Option<Seal>, trailer: bool },
}

/// The chain of signatures that begins with the request's own.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) key: [u8; 32],
    pub(crate) stamp: String,
    pub(crate) scope: Scope,
    pub(crate) previous: String,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl Seal {
    /// The signature over a chunk with this digest, the next link of the chain.
    fn chunk(&self, digest: &str) -> String {
        let Self {
            stamp, previous, ..
        } = self;
        let scope = self.scope.text();
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{previous}\n{EMPTY_SHA256}\n{digest}"
        );
        hex::encode(hmac_sha256(&self.key, text.as_bytes()))
    }

    fn trailer(&self, digest: &str) -> String {
        let Self {
            stamp, previous, ..
        } = self;
        let scope = self.scope.text();
        let text = format!("AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{scope}\n{previous}\n{digest}");
        hex::encode(hmac_sha256(&self.key, text.as_bytes()))
    }
}

/// Why a body does not stand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The framing of `aws-chunked` is broken.
    #[error("the chunked body is malformed: {0}")]
    Malformed(&'static str),
    /// A chunk or the trailer is not signed by who signed the request.
    #[error("the signature of a chunk or of the trailer does not match")]
    SignatureMismatch,
    /// The digest is not the one that was signed.
    #[error("the provided x-amz-content-sha256 does not match what was computed")]
    Sha256Mismatch {
        /// What the header promised, hex.
        promised: String,
        /// What arrived, hex.
        computed: String,
    },
    /// Fewer bytes than announced.
    #[error("the body ended before the announced length")]
    Incomplete,
    /// More bytes than announced.
    #[error("the body is longer than announced")]
    TooLong,
}

/// The proof that a whole body was verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Finished {
    /// Bytes of payload.
    pub length: u64,
    /// The payload's SHA-256, where it was computed on the way.
    pub sha256: Option<[u8; 32]>,
    /// The trailers in the order in which they came, names in lower case; the signature is not
    /// among them.
    pub trailers: Vec<(String, String)>,
}

#[derive(Debug)]
enum State {
    /// The whole body is payload.
    Plain,
    Line,
    Data {
        left: u64,
        is_last: bool,
        signature: Option<String>,
    },
    DataEnd,
    Trailer,
    Done,
}

/// A body being verified.
#[derive(Debug)]
pub struct BodyVerifier {
    promise: Promise,
    state: State,
    line: Vec<u8>,
    /// Of the chunk, or of the whole body.
    hasher: Option<Sha256>,
    length: u64,
    announced: Option<u64>,
    trailers: Vec<(String, String)>,
    trailer_signature: Option<String>,
}

impl BodyVerifier {
    /// `announced` is the payload's length as the headers give it: Content-Length, or
    /// `x-amz-decoded-content-length` for a chunked body.
    pub(crate) fn new(promise: Promise, announced: Option<u64>) -> Self {
        let hashes = match &promise {
            Promise::Nothing => false,
            Promise::Sha256(_) => true,
            Promise::Chunks { seal, .. } => seal.is_some(),
        };
        let state = if matches!(promise, Promise::Chunks { .. }) {
            State::Line
        } else {
            State::Plain
        };
        Self {
            promise,
            state,
            line: Vec::new(),
            hasher: hashes.then(Sha256::new),
            length: 0,
            announced,
            trailers: Vec::new(),
            trailer_signature: None,
        }
    }

    /// A body that nobody signed: only its length is checked, and the framing of `aws-chunked` if
    /// that is what `payload`, the value of `x-amz-content-sha256`, announces.
    pub fn unsigned(announced: Option<u64>, payload: Option<&str>) -> Self {
        let promise = match payload {
            Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => Promise::Chunks {
                seal: None,
                trailer: true,
            },
            _ => Promise::Nothing,
        };
        Self::new(promise, announced)
    }

    /// Whether the bytes on the wire are not the payload itself.
    pub fn is_chunked(&self) -> bool {
        matches!(self.promise, Promise::Chunks { .. })
    }

    /// Takes payload from the front of `input`. `None` means that all of `input` was used up.
    /// Call it until then, for each buffer that arrives.
    pub fn take(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, BodyError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Plain => {
                    let payload = input.split_to(input.len());
                    return self.payload(payload).map(Some);
                }
                State::Data { left, .. } => {
                    let size = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    *left -= size as u64;
                    let payload = self.payload(input.split_to(size))?;
                    self.end_chunk_if_complete()?;
                    return Ok(Some(payload));
                }
                State::Line | State::DataEnd | State::Trailer => {
                    if let Some(line) = self.read_line(input)? {
                        self.on_line(&line)?;
                    }
                }
                State::Done => return Err(BodyError::Malformed("bytes follow the last chunk")),
            }
        }
        Ok(None)
    }

    /// Says that the body has ended.
    pub fn finish(self) -> Result<Finished, BodyError> {
        // The empty line after the last chunk of an untrailed body says nothing; some leave it out.
        let untrailed = matches!(self.promise, Promise::Chunks { trailer: false, .. });
        match self.state {
            State::Plain | State::Done => {}
            State::Trailer if untrailed && self.line.is_empty() => {}
            _ => return Err(BodyError::Incomplete),
        }
        if self
            .announced
            .is_some_and(|announced| announced != self.length)
        {
            return Err(BodyError::Incomplete);
        }
        let computed: Option<[u8; 32]> = self
            .hasher
            .filter(|_| matches!(self.state, State::Plain))
            .map(|h| h.finalize().into());
        if let (Promise::Sha256(promised), Some(computed)) = (&self.promise, &computed)
            && !same(promised, computed)
        {
            return Err(BodyError::Sha256Mismatch {
                promised: hex::encode(promised),
                computed: hex::encode(computed),
            });
        }
        Ok(Finished {
            length: self.length,
            sha256: computed,
            trailers: self.trailers,
        })
    }

    fn payload(&mut self, payload: Bytes) -> Result<Bytes, BodyError> {
        self.length += payload.len() as u64;
        if self
            .announced
            .is_some_and(|announced| self.length > announced)
        {
            return Err(BodyError::TooLong);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&payload);
        }
        Ok(payload)
    }

    /// Moves bytes into the line buffer up to the newline; gives the line without its ending.
    fn read_line(&mut self, input: &mut Bytes) -> Result<Option<Vec<u8>>, BodyError> {
        let end = input.iter().position(|b| *b == b'\n');
        let size = end.map_or(input.len(), |at| at + 1);
        if self.line.len() + size > LINE_MAX {
            return Err(BodyError::Malformed("a line is too long"));
        }
        self.line.extend_from_slice(&input[..size]);
        input.advance(size);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), BodyError> {
        match self.state {
            State::Line => self.on_chunk_header(line),
            State::DataEnd if line.is_empty() => {
                self.state = State::Line;
                Ok(())
            }
            State::DataEnd => Err(BodyError::Malformed("a chunk is longer than it said")),
            State::Trailer if line.is_empty() => self.end_trailer(),
            State::Trailer => self.on_trailer(line),
            State::Plain | State::Data { .. } | State::Done => {
                Err(BodyError::Malformed("a line where none can be"))
            }
        }
    }

    fn on_chunk_header(&mut self, line: &[u8]) -> Result<(), BodyError> {
        let (left, signature) = parse_chunk_header(line)?;
        self.state = State::Data {
            left,
            is_last: left == 0,
            signature,
        };
        self.end_chunk_if_complete()
    }

    fn end_chunk_if_complete(&mut self) -> Result<(), BodyError> {
        let State::Data {
            left: 0,
            is_last,
            signature,
        } = &mut self.state
        else {
            return Ok(());
        };
        let (is_last, given) = (*is_last, signature.take().unwrap_or_default());

        if let Promise::Chunks {
            seal: Some(seal), ..
        } = &mut self.promise
        {
            let hasher = self.hasher.as_mut().expect("a sealed body is hashed");
            let expected = seal.chunk(&hex::encode(hasher.finalize_reset()));
            if !same(given.as_bytes(), expected.as_bytes()) {
                return Err(BodyError::SignatureMismatch);
            }
            seal.previous = expected;
        }
        self.state = if is_last {
            State::Trailer
        } else {
            State::DataEnd
        };
        Ok(())
    }

    fn on_trailer(&mut self, line: &[u8]) -> Result<(), BodyError> {
        let Promise::Chunks { trailer: true, .. } = self.promise else {
            return Err(BodyError::Malformed("a trailer was not announced"));
        };
        let text = std::str::from_utf8(line).map_err(|_| BodyError::Malformed("a trailer"))?;
        let (name, value) = text
            .split_once(':')
            .ok_or(BodyError::Malformed("a trailer"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if name == "x-amz-trailer-signature" {
            self.trailer_signature = Some(value);
            return Ok(());
        }
        if self.trailers.len() == TRAILERS_MAX {
            return Err(BodyError::Malformed("too many trailers"));
        }
        self.trailers.push((name, value));
        Ok(())
    }

    fn end_trailer(&mut self) -> Result<(), BodyError> {
        if let Promise::Chunks {
            seal: Some(seal),
            trailer: true,
        } = &self.promise
        {
            // AWS's own example has an empty line between the checksum and its signature.
            if self.trailer_signature.is_none() && !self.trailers.is_empty() {
                return Ok(());
            }
            let canonical: String = self
                .trailers
                .iter()
                .map(|(name, value)| format!("{name}:{value}\n"))
                .collect();
            let expected = seal.trailer(&crate::sha256_hex(canonical.as_bytes()));
            let given = self.trailer_signature.as_deref().unwrap_or("");
            if !same(given.as_bytes(), expected.as_bytes()) {
                return Err(BodyError::SignatureMismatch);
            }
        }
        self.state = State::Done;
        Ok(())
    }
}

/// Reads `1a2b;chunk-signature=...`; extensions that are not ours are ignored.
fn parse_chunk_header(line: &[u8]) -> Result<(u64, Option<String>), BodyError> {
    let malformed = BodyError::Malformed("a chunk's header");
    let Ok(text) = std::str::from_utf8(line) else {
        return Err(malformed);
    };
    let mut parts = text.split(';');
    let size = parts.next().unwrap_or("").trim();
    let is_size = (1..=16).contains(&size.len()) && size.bytes().all(|b| b.is_ascii_hexdigit());
    let size = is_size
        .then(|| u64::from_str_radix(size, 16).ok())
        .flatten()
        .ok_or(malformed)?;
    let signature = parts
        .find_map(|p| p.trim().strip_prefix("chunk-signature="))
        .map(str::to_owned);
    Ok((size, signature))
}
