//! What goes from stage to stage: memory of one size, which the last to need it gives back. Fresh memory
//! would have to be zeroed, gigabytes of it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use super::CHUNK_BYTES;

/// Chunks that are done with, and may be filled again. What came last goes first: the processor still
/// has it in its cache. There are no more of them than were under way at once.
#[derive(Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<BytesMut>>>);

impl Spare {
    /// Takes a chunk back.
    pub(super) fn give(&self, chunk: Bytes) {
        if let Ok(buffer) = chunk.try_into_mut()
            && buffer.len() == CHUNK_BYTES
        {
            let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            spare.push(buffer);
        }
    }

    fn take(&self) -> Option<BytesMut> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop()
    }
}

/// A chunk being filled.
pub(super) struct Chunk {
    buffer: BytesMut,
    pub(super) filled: usize,
}

impl Chunk {
    pub(super) fn new(spare: &Spare) -> Self {
        let buffer = spare.take();
        Self {
            buffer: buffer.unwrap_or_else(|| BytesMut::zeroed(CHUNK_BYTES)),
            filled: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.filled == CHUNK_BYTES
    }

    /// Where the next bytes go.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Takes what fits.
    pub(super) fn take(&mut self, from: &mut &[u8]) {
        let (now, later) = from.split_at(from.len().min(CHUNK_BYTES - self.filled));
        self.room()[..now.len()].copy_from_slice(now);
        self.filled += now.len();
        *from = later;
    }

    /// What is in it.
    pub(super) fn content(&mut self) -> &mut [u8] {
        &mut self.buffer[..self.filled]
    }

    /// Leaves off what is behind the first so many bytes.
    pub(super) fn shorten(&mut self, to: usize) {
        self.filled = self.filled.min(to);
    }

    /// As the next stage gets it.
    pub(super) fn freeze(mut self) -> Bytes {
        self.buffer.truncate(self.filled);
        self.buffer.freeze()
    }
}
