//! A request's body as it comes: payload out of frames, verified on the way. Nothing may be kept
//! before [`RequestBody::finish`] has answered.

mod form;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use s3::{Code, Error, Result, headers::BodyClaims};
use sigv4::{BodyError, BodyVerifier, Finished};

use crate::digests::{Digests, Verified};

/// How long a sender may send nothing (S3 answers RequestTimeout after about this).
const IDLE: Duration = Duration::from_secs(60);
/// What is read of a refused body, so that the sender reads the refusal instead of a reset: the
/// parts of a bundle have 10 MiB, and euca2ools sends them without asking.
const DRAIN_BYTES_MAX: u64 = 16 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

pub use form::{FormFile, open_form};

/// What an object's bytes come from: a request's body, or the file in a form.
pub trait Source: Send {
    /// What is claimed about them.
    fn claims(&self) -> &BodyClaims;

    /// The next piece, `None` at the end. Provisional until [`Self::finish`].
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;

    /// Judges the whole: signatures, length, and every digest that was claimed.
    fn finish(&mut self, digests: Digests) -> impl Future<Output = Result<Verified>> + Send;
}

impl Source for RequestBody {
    fn claims(&self) -> &BodyClaims {
        &self.claims
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.next_payload().await
    }

    async fn finish(&mut self, digests: Digests) -> Result<Verified> {
        let finished = self.finished()?;
        digests.verify(&self.claims, &finished.trailers)
    }
}

/// A body, and what is claimed about it.
#[derive(Debug)]
pub struct RequestBody {
    stream: Incoming,
    verifier: Option<BodyVerifier>,
    claims: BodyClaims,
    buffer: Bytes,
    ended: bool,
    ended_at: Option<Instant>,
}

impl RequestBody {
    /// A body that is not read yet.
    pub fn new(stream: Incoming, claims: BodyClaims) -> Self {
        Self {
            stream,
            verifier: None,
            claims,
            buffer: Bytes::new(),
            ended: false,
            ended_at: None,
        }
    }

    /// From now on it may be read.
    pub fn verify_with(&mut self, verifier: BodyVerifier) {
        self.verifier = Some(verifier);
    }

    /// When its last byte came, if it was read to its end.
    pub fn ended_at(&self) -> Option<Instant> {
        self.ended_at
    }

    async fn next_payload(&mut self) -> Result<Option<Bytes>> {
        loop {
            let verifier = self
                .verifier
                .as_mut()
                .expect("a body is read after authentication");
            if let Some(payload) = verifier.take(&mut self.buffer).map_err(told)? {
                return Ok(Some(payload));
            }
            match self.next_frame().await? {
                Some(data) => self.buffer = data,
                None => return Ok(None),
            }
        }
    }

    async fn next_frame(&mut self) -> Result<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(IDLE, self.stream.frame()).await;
            match frame.map_err(|_| Error::from(Code::RequestTimeout))? {
                None => {
                    self.ended = true;
                    self.ended_at = Some(Instant::now());
                    return Ok(None);
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    // Trailers of HTTP itself; S3's travel inside the body.
                    Err(_) => continue,
                },
                Some(Err(_)) => return Err(Code::IncompleteBody.into()),
            }
        }
    }

    /// Judges all but the digests.
    fn finished(&mut self) -> Result<Finished> {
        let verifier = self.verifier.take().expect("a body is finished once");
        verifier.finish().map_err(told)
    }

    /// Reads a document whole.
    pub async fn read_document(&mut self, bytes_max: usize) -> Result<Bytes> {
        let mut digests = Digests::for_document(&self.claims);
        let mut document = BytesMut::new();
        while let Some(payload) = self.next_payload().await? {
            if document.len() + payload.len() > bytes_max {
                return Err(Code::MaxMessageLengthExceeded.into());
            }
            digests.update(&payload);
            document.extend_from_slice(&payload);
        }
        self.finish(digests).await?;
        Ok(document.freeze())
    }

    /// Reads and forgets what is left of a refused body, if it is not too much.
    pub async fn drain(&mut self) {
        let length = self.claims.content_length.unwrap_or(0);
        // Who waits for `100 Continue` has sent nothing.
        if self.ended || self.claims.expects_continue || length > DRAIN_BYTES_MAX {
            return;
        }
        let rest = async { while let Ok(Some(_)) = self.next_frame().await {} };
        let _ = tokio::time::timeout(DRAIN_TIME, rest).await;
    }
}

fn told(error: BodyError) -> Error {
    let text = error.to_string();
    match error {
        BodyError::Malformed(_) => Error::new(Code::InvalidRequest, text),
        BodyError::SignatureMismatch => Error::new(Code::SignatureDoesNotMatch, text),
        BodyError::Sha256Mismatch { promised, computed } => {
            Error::from(Code::XAmzContentSHA256Mismatch)
                .with("ClientComputedContentSHA256", promised)
                .with("S3ComputedContentSHA256", computed)
        }
        BodyError::Incomplete => Code::IncompleteBody.into(),
        BodyError::TooLong => Error::new(Code::InvalidRequest, text),
    }
}
