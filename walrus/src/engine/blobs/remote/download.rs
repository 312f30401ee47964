//! A file being read from the other store. Its end is fetched when it is opened; a small file is
//! there then. Whoever reads on gets a stream of it: each time they come for what follows, more of it
//! is asked for at once, so that little is asked for in vain and a long read costs few requests. A
//! stream that is cut off goes on where it was.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{
    Shared,
    client::{ANSWER_LIMIT, Ask},
    upload::unreadable,
};
use crate::engine::{
    blobs::{BLOCK_BYTES, BlobId, Reading},
    failure::{Failure, Result},
};

/// The end of a file that is fetched with its first request: a small file, or the checksums of two
/// gigabytes.
const TAIL_BYTES: u64 = 128 << 10;
/// What is asked for at once at most.
const WINDOW_BYTES_MAX: u64 = 32 << 20;
/// Each time somebody comes for what follows, so many times more is asked for.
const WINDOW_GROWTH: u64 = 4;
/// Streams that are cut off without having given anything.
const CUTS_MAX: u32 = 3;

/// A file open for reading.
#[derive(Debug)]
pub(super) struct Download {
    shared: Arc<Shared>,
    key: String,
    length: u64,
    tail: Bytes,
    stream: Mutex<Stream>,
}

/// Where a read stands.
#[derive(Debug, Default)]
struct Stream {
    /// The next byte that comes.
    at: u64,
    /// Where the answer that is being read ends.
    end: u64,
    body: Option<Incoming>,
    /// What came and was not asked for yet.
    ahead: Bytes,
    /// The last block that was given: whoever reads sealed blocks begins a little before its end.
    last: Bytes,
    window: u64,
}

impl Download {
    pub(super) fn open(shared: &Arc<Shared>, id: &BlobId) -> Result<Self> {
        let (ours, key) = (shared.clone(), shared.key(id));
        let ask =
            Ask::new(Method::GET, key.clone()).header("range", format!("bytes=-{TAIL_BYTES}"));
        let (length, tail) = shared.worker.wait(async move {
            let (head, tail) = ours.client.bytes(&ask).await?;
            // A file that is shorter may come whole.
            let length = total(&head).unwrap_or(tail.len() as u64);
            if (tail.len() as u64) < length.min(TAIL_BYTES) {
                return Err(unreadable(&ours, &ask));
            }
            Ok((length, tail))
        })?;
        Ok(Self {
            shared: shared.clone(),
            key,
            length,
            tail,
            stream: Mutex::default(),
        })
    }

    /// What lies in the end that is there.
    fn of_tail(&self, range: &Range<u64>) -> Option<Bytes> {
        let first = range
            .start
            .checked_sub(self.length - self.tail.len() as u64)?;
        let first = usize::try_from(first).ok()?;
        let size = usize::try_from(range.end - range.start).ok()?;
        (first + size <= self.tail.len()).then(|| self.tail.slice(first..first + size))
    }
}

impl Reading for Download {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes> {
        if let Some(bytes) = self.of_tail(&range) {
            return Ok(bytes);
        }
        // After a panic the stream is where it was, or begins anew: both are right.
        let mut held = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = std::mem::take(&mut *held);
        let source = Source {
            shared: self.shared.clone(),
            key: self.key.clone(),
            length: self.length,
        };
        let (stream, bytes) = self.shared.worker.wait(source.read(stream, range))?;
        *held = stream;
        Ok(bytes)
    }

    fn place(&self) -> String {
        self.shared.client.place(&self.key)
    }
}

/// What streams are made from.
struct Source {
    shared: Arc<Shared>,
    key: String,
    length: u64,
}

impl Source {
    async fn read(self, mut stream: Stream, range: Range<u64>) -> Result<(Stream, Bytes)> {
        let size = usize::try_from(range.end - range.start).expect("pieces fit into memory");
        let mut out = BytesMut::with_capacity(size);
        out.extend_from_slice(&stream.seek(range.start, size));
        let mut cuts = 0;
        while out.len() < size {
            if stream.body.is_none() && stream.ahead.is_empty() {
                self.ask(&mut stream, (size - out.len()) as u64).await?;
            }
            match stream.take(size - out.len()).await {
                Some(bytes) => {
                    out.extend_from_slice(&bytes);
                    cuts = 0;
                }
                None if stream.at == stream.end => {}
                None if cuts < CUTS_MAX => cuts += 1,
                None => {
                    let place = self.shared.client.place(&self.key);
                    return Err(Failure::Away(format!(
                        "{place}: it is cut off at {}",
                        stream.at
                    )));
                }
            }
        }
        let bytes = out.freeze();
        stream.last = bytes.slice(bytes.len().saturating_sub(BLOCK_BYTES)..);
        Ok((stream, bytes))
    }

    /// Asks for what follows: as much as is needed, or more if the last answer was read to its end.
    async fn ask(&self, stream: &mut Stream, needed: u64) -> Result<()> {
        stream.window = (stream.window * WINDOW_GROWTH).clamp(needed, WINDOW_BYTES_MAX.max(needed));
        stream.end = (stream.at + stream.window).min(self.length);
        let range = format!("bytes={}-{}", stream.at, stream.end - 1);
        let ask = Ask::new(Method::GET, self.key.clone()).header("range", range);
        let expected = format!("bytes {}-{}/{}", stream.at, stream.end - 1, self.length);
        let answer = self.shared.client.send(&ask).await?;
        let said = answer.headers().get(header::CONTENT_RANGE);
        if said.is_none_or(|said| said.as_bytes() != expected.as_bytes()) {
            return Err(unreadable(&self.shared, &ask));
        }
        stream.body = Some(answer.into_body());
        Ok(())
    }
}

impl Stream {
    /// Goes to a place; what is there already, of so many bytes that are wanted, is given.
    fn seek(&mut self, start: u64, wanted: usize) -> Bytes {
        let given = self.at - self.ahead.len() as u64;
        let back = given
            .checked_sub(start)
            .and_then(|back| usize::try_from(back).ok());
        let Some(back) = back.filter(|back| *back <= self.last.len() && self.window > 0) else {
            *self = Self::starting(start);
            return Bytes::new();
        };
        let known = self.last.slice(self.last.len() - back..);
        if known.len() > wanted {
            // What follows it is not what comes next; it is asked for again if it is wanted.
            *self = Self::starting(start + wanted as u64);
            return known.slice(..wanted);
        }
        known
    }

    fn starting(at: u64) -> Self {
        Self {
            at,
            end: at,
            ..Self::default()
        }
    }

    /// The next bytes; `None` if the answer is at its end or was cut off.
    async fn take(&mut self, size: usize) -> Option<Bytes> {
        while self.ahead.is_empty() {
            let frame = tokio::time::timeout(ANSWER_LIMIT, self.body.as_mut()?.frame()).await;
            let Ok(Some(Ok(frame))) = frame else {
                self.body = None;
                return None;
            };
            self.ahead = frame.into_data().unwrap_or_default();
            self.at += self.ahead.len() as u64;
        }
        Some(self.ahead.split_to(size.min(self.ahead.len())))
    }
}

/// The length of the whole that `Content-Range` names.
fn total(head: &HeaderMap) -> Option<u64> {
    let range = head.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.rsplit_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream {
            at: 1000,
            end: 2000,
            body: None,
            ahead: Bytes::from_static(b"ahead"),
            last: Bytes::from_static(b"last"),
            window: 1,
        }
    }

    #[test]
    fn a_read_goes_on_begins_a_little_before_its_end_or_begins_anew() {
        // 995 bytes were given, the last four of them are known, and five more came.
        for (start, wanted, known, at) in [
            (995, 10, "", 1000),
            (993, 10, "st", 1000),
            (991, 2, "la", 993),
            (990, 10, "", 990),
            (996, 10, "", 996),
        ] {
            let mut stream = stream();
            assert_eq!(stream.seek(start, wanted), known, "from {start}");
            assert_eq!(stream.at, at, "from {start}");
            assert_eq!(stream.ahead.is_empty(), at != 1000, "from {start}");
        }
        let mut fresh = Stream::default();
        assert!(fresh.seek(0, 10).is_empty() && fresh.at == 0);
    }
}
