//! Gzip's frame around deflate (RFC 1952), fed chunks: one member after the other, as gunzip reads
//! them. The inflating is zlib-rs's; the frame is ours, for its checksum is then made with the
//! processor's own carry-less multiplication: at four gibibytes of image that is a second.

use flate2::{Decompress, FlushDecompress, Status};

/// Flags of a member's header: what follows its fixed part.
const HCRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;
const FIXED_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;
/// A header with its name and comment: nobody writes one of a kilobyte.
const HEADER_BYTES_MAX: usize = 128 * 1024;

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadGzip {
    #[error("it is not gzip")]
    NotGzip,
    #[error("the deflate stream is damaged")]
    Deflate,
    #[error("the checksum is not that of what came out")]
    Checksum,
    #[error("it ends in the middle")]
    Truncated,
}

/// The reader.
pub(super) struct Gunzip {
    inflate: Decompress,
    crc: crc_fast::Digest,
    state: State,
    members: u64,
}

enum State {
    /// Collecting a header, or its fields so far.
    Header(Vec<u8>),
    /// Inflating.
    Body,
    /// Collecting the checksum and the length.
    Trailer(Vec<u8>),
}

impl Gunzip {
    pub(super) fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            crc: crc(),
            state: State::Header(Vec::new()),
            members: 0,
        }
    }

    /// Takes from `input` and fills `output`. Returns how much was written; when that is less than
    /// all of `output`, the input is used up.
    pub(super) fn run(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, BadGzip> {
        let mut written = 0;
        while written < output.len() && !input.is_empty() {
            match &mut self.state {
                State::Header(bytes) => {
                    // A byte at a time past the fixed part: headers are short.
                    let wanted = FIXED_BYTES
                        .saturating_sub(bytes.len())
                        .clamp(1, input.len());
                    bytes.extend_from_slice(take(input, wanted));
                    if header_is_whole(bytes)? {
                        self.state = State::Body;
                    }
                }
                State::Body => written += self.inflate(input, &mut output[written..])?,
                State::Trailer(bytes) => {
                    let wanted = (TRAILER_BYTES - bytes.len()).min(input.len());
                    bytes.extend_from_slice(take(input, wanted));
                    if bytes.len() == TRAILER_BYTES {
                        self.check_trailer()?;
                    }
                }
            }
        }
        Ok(written)
    }

    fn inflate(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, BadGzip> {
        let (read, made) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(input, output, FlushDecompress::None)
            .map_err(|_| BadGzip::Deflate)?;
        let read = (self.inflate.total_in() - read) as usize;
        let made = (self.inflate.total_out() - made) as usize;
        take(input, read);
        self.crc.update(&output[..made]);
        match status {
            Status::StreamEnd => self.state = State::Trailer(Vec::new()),
            Status::BufError if read == 0 && made == 0 => return Err(BadGzip::Deflate),
            Status::Ok | Status::BufError => {}
        }
        Ok(made)
    }

    fn check_trailer(&mut self) -> Result<(), BadGzip> {
        let State::Trailer(bytes) = &self.state else {
            return Ok(());
        };
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let length = self.inflate.total_out() as u32;
        if u64::from(word(0)) != self.crc.finalize() || word(4) != length {
            return Err(BadGzip::Checksum);
        }
        self.members += 1;
        self.inflate.reset(false);
        self.crc = crc();
        self.state = State::Header(Vec::new());
        Ok(())
    }

    /// The input has ended: was it whole?
    pub(super) fn finish(&self) -> Result<(), BadGzip> {
        match &self.state {
            State::Header(bytes) if bytes.is_empty() && self.members > 0 => Ok(()),
            State::Header(_) | State::Body | State::Trailer(_) => Err(BadGzip::Truncated),
        }
    }
}

fn crc() -> crc_fast::Digest {
    crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc)
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(length);
    *input = rest;
    taken
}

/// Whether a header and all that its flags promise is there.
fn header_is_whole(bytes: &[u8]) -> Result<bool, BadGzip> {
    let magic = [0x1f, 0x8b, 8];
    if bytes
        .iter()
        .zip(magic)
        .any(|(byte, wanted)| *byte != wanted)
    {
        return Err(BadGzip::NotGzip);
    }
    if bytes.len() < FIXED_BYTES {
        return Ok(false);
    }
    let flags = bytes[3];
    if flags & RESERVED != 0 || bytes.len() > HEADER_BYTES_MAX {
        return Err(BadGzip::NotGzip);
    }
    let mut rest = &bytes[FIXED_BYTES..];
    if flags & EXTRA != 0 {
        let Some((length, after)) = rest.split_first_chunk::<2>() else {
            return Ok(false);
        };
        match after.get(usize::from(u16::from_le_bytes(*length))..) {
            Some(after) => rest = after,
            None => return Ok(false),
        }
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            match rest.iter().position(|byte| *byte == 0) {
                Some(end) => rest = &rest[end + 1..],
                None => return Ok(false),
            }
        }
    }
    Ok(flags & HCRC == 0 || rest.len() >= 2)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gunzip(mut input: &[u8], step: usize) -> Result<Vec<u8>, BadGzip> {
        let (mut gunzip, mut all, mut output) = (Gunzip::new(), Vec::new(), vec![0; 1000]);
        while !input.is_empty() {
            let (mut chunk, rest) = input.split_at(step.min(input.len()));
            input = rest;
            loop {
                let written = gunzip.run(&mut chunk, &mut output)?;
                all.extend_from_slice(&output[..written]);
                if written < output.len() {
                    break;
                }
            }
        }
        gunzip.finish().map(|()| all)
    }

    fn member(content: &[u8], builder: GzBuilder) -> Vec<u8> {
        let mut gzip = builder.write(Vec::new(), Compression::fast());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn members_with_every_kind_of_header_are_read_one_after_the_other() {
        let full = || {
            GzBuilder::new()
                .filename("a name")
                .comment("words")
                .extra(vec![7; 300])
        };
        let stream = [
            member(b"one ", full()),
            member(b"", GzBuilder::new()),
            member(&[9; 5000], full()),
        ]
        .concat();
        for step in [1, 7, 1000, 100_000] {
            assert_eq!(
                gunzip(&stream, step).unwrap(),
                [b"one ".as_slice(), &[9; 5000]].concat()
            );
        }
    }

    #[test]
    fn damage_of_every_kind_is_told() {
        let whole = member(&[3; 3000], GzBuilder::new());
        let damaged = |at: usize| {
            let mut stream = whole.clone();
            stream[at] ^= 1;
            gunzip(&stream, 100)
        };
        let end = whole.len();
        assert_eq!(damaged(0), Err(BadGzip::NotGzip));
        assert_eq!(damaged(end - 1), Err(BadGzip::Checksum));
        assert_eq!(damaged(end - 5), Err(BadGzip::Checksum));
        for cut in 0..end {
            assert_eq!(gunzip(&whole[..cut], 100), Err(BadGzip::Truncated), "{cut}");
        }
        let and_more = [whole.as_slice(), b"something"].concat();
        assert_eq!(gunzip(&and_more, 100), Err(BadGzip::NotGzip));
    }

    proptest! {
        #[test]
        fn whatever_was_packed_comes_out_and_no_bytes_make_it_panic(
            content in proptest::collection::vec(any::<u8>(), 0..5000),
            edits in proptest::collection::vec((0usize..6000, any::<u8>()), 0..8),
            step in 1usize..3000,
        ) {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
            gzip.write_all(&content).unwrap();
            let mut stream = gzip.finish().unwrap();
            prop_assert_eq!(gunzip(&stream, step).unwrap(), content);
            let length = stream.len();
            for (at, byte) in edits {
                stream[at % length] = byte;
            }
            let _ = gunzip(&stream, step);
        }
    }
}
