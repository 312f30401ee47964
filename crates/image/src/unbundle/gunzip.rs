//! Gzip's frame around deflate (RFC 1952), fed chunks: one member after the other, as gunzip reads
//! them. A member that says how long it is, as ours do ([`member`]), is gathered and inflated in one
//! go by libdeflate; any other as it comes, by zlib-rs. The frame is ours, for its checksum is then
//! made with the processor's own carry-less multiplication: at four gibibytes of image that is a second.

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;

use crate::member::{self, MEMBER_BYTES_MAX, PIECE_BYTES, TRAILER_BYTES};

/// Flags of a member's header: what follows its fixed part.
const HCRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;
/// Gzip's checksum.
const CRC: crc_fast::CrcAlgorithm = crc_fast::CrcAlgorithm::Crc32IsoHdlc;
const FIXED_BYTES: usize = 10;
/// A header with its extra field, name and comment: nobody writes one of a kilobyte.
const HEADER_BYTES_MAX: usize = 128 * 1024;

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadGzip {
    #[error("it is not gzip")]
    NotGzip,
    #[error("the deflate stream is damaged")]
    Deflate,
    #[error("the checksum is not that of what came out")]
    Checksum,
    #[error("a member is not as long as it says")]
    Length,
    #[error("it ends in the middle")]
    Truncated,
}

/// The reader.
pub(crate) struct Gunzip {
    inflate: Decompress,
    crc: crc_fast::Digest,
    state: State,
    members: u64,
    in_one_go: Decompressor,
    /// What has come of a member that is inflated in one go.
    gathered: Vec<u8>,
}

enum State {
    /// Collecting a header, or its fields so far.
    Header(Vec<u8>),
    /// Inflating as it comes.
    Body,
    /// Gathering so many bytes: the rest of a member that says how long it is.
    Whole(usize),
    /// Collecting the checksum and the length.
    Trailer(Vec<u8>),
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            crc: crc(),
            state: State::Header(Vec::new()),
            members: 0,
            in_one_go: Decompressor::new(),
            gathered: Vec::new(),
        }
    }

    /// Takes from `input` and fills `output`, and returns how much was written. What is left of the
    /// input then wants a new `output`, of at least [`PIECE_BYTES`].
    pub(crate) fn run(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, BadGzip> {
        let mut written = 0;
        while written < output.len() && !input.is_empty() {
            match &mut self.state {
                State::Header(bytes) => {
                    if let Some(body) = header(bytes, input)? {
                        self.state = body;
                    }
                }
                State::Whole(_) if output.len() - written < PIECE_BYTES => break,
                State::Whole(length) => {
                    let length = *length;
                    written += self.whole(input, length, &mut output[written..])?;
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

    /// Takes what `length` bytes of a member still miss; inflates them when they are there.
    fn whole(
        &mut self,
        input: &mut &[u8],
        length: usize,
        output: &mut [u8],
    ) -> Result<usize, BadGzip> {
        let come = take(input, (length - self.gathered.len()).min(input.len()));
        if come.len() == length {
            return self.inflate_whole(come, output);
        }
        self.gathered.extend_from_slice(come);
        if self.gathered.len() < length {
            return Ok(0);
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        let written = self.inflate_whole(&gathered, output)?;
        gathered.clear();
        self.gathered = gathered;
        Ok(written)
    }

    fn inflate_whole(&mut self, rest: &[u8], output: &mut [u8]) -> Result<usize, BadGzip> {
        let (deflate, trailer) = rest.split_at(rest.len() - TRAILER_BYTES);
        let (crc, length) = words(trailer);
        let output = output.get_mut(..length as usize).ok_or(BadGzip::Length)?;
        let made = self.in_one_go.deflate_decompress(deflate, output);
        if made.map_err(|_| BadGzip::Deflate)? != output.len()
            || crc_fast::checksum(CRC, output) as u32 != crc
        {
            return Err(BadGzip::Checksum);
        }
        self.members += 1;
        self.state = State::Header(Vec::new());
        Ok(output.len())
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
        let found = (self.crc.finalize() as u32, self.inflate.total_out() as u32);
        if words(bytes) != found {
            return Err(BadGzip::Checksum);
        }
        self.members += 1;
        self.inflate.reset(false);
        self.crc = crc();
        self.state = State::Header(Vec::new());
        Ok(())
    }

    /// The input has ended: was it whole?
    pub(crate) fn finish(&self) -> Result<(), BadGzip> {
        match &self.state {
            State::Header(bytes) if bytes.is_empty() && self.members > 0 => Ok(()),
            State::Header(_) | State::Body | State::Whole(_) | State::Trailer(_) => {
                Err(BadGzip::Truncated)
            }
        }
    }
}

fn crc() -> crc_fast::Digest {
    crc_fast::Digest::new(CRC)
}

/// A trailer's checksum and length.
fn words(trailer: &[u8]) -> (u32, u32) {
    let word = |at: usize| {
        u32::from_le_bytes([
            trailer[at],
            trailer[at + 1],
            trailer[at + 2],
            trailer[at + 3],
        ])
    };
    (word(0), word(4))
}

/// Takes a header off the input, of which `had` came before, and says how to read what follows it;
/// `None` if there is more of it to come.
fn header(had: &mut Vec<u8>, input: &mut &[u8]) -> Result<Option<State>, BadGzip> {
    let before = had.len();
    let come = &input[..input.len().min(HEADER_BYTES_MAX - before)];
    // Most come whole, and are read where they lie.
    if before == 0
        && let Some(header) = whole_header(come)?
    {
        take(input, header.length);
        return Ok(Some(header.body()));
    }
    had.extend_from_slice(come);
    let header = whole_header(had)?;
    let length = header.as_ref().map_or(had.len(), |header| header.length);
    take(input, length - before);
    match header {
        None if had.len() == HEADER_BYTES_MAX => Err(BadGzip::NotGzip),
        header => Ok(header.map(|header| header.body())),
    }
}

/// A header that has come whole.
struct Header<'a> {
    length: usize,
    /// Empty if it has none.
    extra: &'a [u8],
}

impl Header<'_> {
    /// How to read what follows.
    fn body(&self) -> State {
        let length = member::announced(self.extra);
        let rest = length.and_then(|length| length.checked_sub(self.length));
        match rest.filter(|rest| (TRAILER_BYTES..=MEMBER_BYTES_MAX).contains(rest)) {
            Some(rest) => State::Whole(rest),
            None => State::Body,
        }
    }
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(length);
    *input = rest;
    taken
}

/// The header that these bytes begin with, once all that its flags promise is there.
fn whole_header(bytes: &[u8]) -> Result<Option<Header<'_>>, BadGzip> {
    let magic = [0x1f, 0x8b, 8];
    if bytes
        .iter()
        .zip(magic)
        .any(|(byte, wanted)| *byte != wanted)
    {
        return Err(BadGzip::NotGzip);
    }
    let Some((fixed, mut rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    let (flags, mut extra) = (fixed[3], &[][..]);
    if flags & RESERVED != 0 {
        return Err(BadGzip::NotGzip);
    }
    if flags & EXTRA != 0 {
        let Some((length, after)) = rest.split_first_chunk::<2>() else {
            return Ok(None);
        };
        match after.split_at_checked(usize::from(u16::from_le_bytes(*length))) {
            Some(found) => (extra, rest) = found,
            None => return Ok(None),
        }
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            match rest.iter().position(|byte| *byte == 0) {
                Some(end) => rest = &rest[end + 1..],
                None => return Ok(None),
            }
        }
    }
    if flags & HCRC != 0 {
        match rest.split_at_checked(2) {
            Some((_, after)) => rest = after,
            None => return Ok(None),
        }
    }
    Ok(Some(Header {
        length: bytes.len() - rest.len(),
        extra,
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;
    use crate::member::Packer;

    fn gunzip(mut input: &[u8], step: usize) -> Result<Vec<u8>, BadGzip> {
        let (mut gunzip, mut all, mut output) = (Gunzip::new(), Vec::new(), vec![0; PIECE_BYTES]);
        while !input.is_empty() {
            let (mut chunk, rest) = input.split_at(step.min(input.len()));
            input = rest;
            while !chunk.is_empty() {
                let written = gunzip.run(&mut chunk, &mut output)?;
                all.extend_from_slice(&output[..written]);
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

    fn announced(piece: &[u8]) -> Vec<u8> {
        let mut member = Vec::new();
        Packer::new().pack(piece, &mut member);
        member
    }

    #[test]
    fn members_of_either_kind_follow_each_other() {
        let pieces = [
            vec![5; PIECE_BYTES],
            vec![],
            vec![6; 70_000],
            vec![7; PIECE_BYTES],
        ];
        let stream = [
            announced(&pieces[0]),
            announced(&pieces[1]),
            member(&pieces[2], GzBuilder::new()),
            announced(&pieces[3]),
            announced(&pieces[2]),
            announced(&pieces[2]),
        ]
        .concat();
        let whole = [pieces.concat(), pieces[2].clone(), pieces[2].clone()].concat();
        for step in [1, 21, 300, 100_000] {
            assert!(gunzip(&stream, step).unwrap() == whole, "{step}");
        }
    }

    #[test]
    fn a_member_that_lies_about_itself_is_told() {
        let whole = announced(&[3; 3000]);
        let lying = |at: usize, value: u32| {
            let mut stream = whole.clone();
            stream[at..at + 4].copy_from_slice(&value.to_le_bytes());
            gunzip(&stream, 100)
        };
        let end = whole.len();
        assert_eq!(lying(16, end as u32 + 1), Err(BadGzip::Truncated));
        assert!(lying(16, end as u32 - 1).is_err());
        assert_eq!(lying(end - 4, 3001), Err(BadGzip::Checksum));
        assert_eq!(lying(end - 4, 2999), Err(BadGzip::Deflate));
        assert_eq!(lying(end - 4, PIECE_BYTES as u32 + 1), Err(BadGzip::Length));
        // A length that is none of ours says nothing: the member is read as it comes.
        for length in [0, 27, u32::MAX] {
            assert_eq!(lying(16, length).unwrap(), [3; 3000], "{length}");
        }
        for cut in 0..end {
            assert_eq!(gunzip(&whole[..cut], 100), Err(BadGzip::Truncated), "{cut}");
        }
    }

    #[test]
    fn a_header_has_a_bound_however_it_comes() {
        let named = |length: usize| {
            let fixed = [0x1f, 0x8b, 8, NAME, 0, 0, 0, 0, 0, 255];
            let content = member(b"content", GzBuilder::new());
            let name = vec![b'n'; length - FIXED_BYTES - 1];
            [&fixed[..], &name, &[0], &content[FIXED_BYTES..]].concat()
        };
        for step in [999, HEADER_BYTES_MAX - 1, usize::MAX] {
            assert_eq!(
                gunzip(&named(HEADER_BYTES_MAX), step).unwrap(),
                b"content",
                "{step}"
            );
            let beyond = gunzip(&named(HEADER_BYTES_MAX + 1), step);
            assert_eq!(beyond, Err(BadGzip::NotGzip), "{step}");
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
            let mut stream = [gzip.finish().unwrap(), announced(&content)].concat();
            prop_assert_eq!(gunzip(&stream, step).unwrap(), content.repeat(2));
            let length = stream.len();
            for (at, byte) in edits {
                stream[at % length] = byte;
            }
            let _ = gunzip(&stream, step);
        }
    }
}
