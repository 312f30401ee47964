//! The reader: fed chunks, it gives back pieces and copies no file data.
//!
//! Member names are read past and never used. Accepted: GNU and ustar headers, pax `size`, GNU long
//! names, and GNU's old sparse format (ours, and that of bundlers before euca2ools 3, which called
//! `tar -S`).

use super::{BLOCK, TarError, checksum};

/// The longest pax header or long name that we read.
const MAX_EXTENSION_BYTES: u64 = 64 * 1024;
/// The longest sparse map that is read.
const MAX_SEGMENTS: usize = 100_000;

/// What the member holds next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes of the file.
    Data(&'a [u8]),
    /// A hole of a sparse member.
    Zeros(u64),
}

/// The reader: feed it chunks through [`Untar::next`], then [`Untar::finish`].
#[derive(Debug)]
pub(crate) struct Untar {
    declared: u64,
    pax_size: Option<u64>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Collecting the next header.
    Header(Vec<u8>),
    /// Collecting a pax header or skipping a long name; `padded` bytes of archive in all.
    Extension {
        pax: bool,
        length: u64,
        padded: u64,
        text: Vec<u8>,
    },
    /// Collecting a further block of a sparse map.
    SparseMap { block: Vec<u8>, member: Member },
    /// Within the file.
    Body(Member),
    /// Between the file and the end blocks.
    Padding(u64),
    /// Only zeros may follow.
    End,
}

/// Where the file's bytes go: segments in order; `at` is the position in the file.
#[derive(Debug, Default)]
struct Member {
    real_size: u64,
    stored: u64,
    at: u64,
    segments: Vec<(u64, u64)>,
    current: usize,
}

impl Untar {
    /// A reader for an archive whose file has `declared` bytes.
    pub(crate) fn new(declared: u64) -> Self {
        Self {
            declared,
            pax_size: None,
            state: State::Header(Vec::new()),
        }
    }

    /// Takes bytes off the front of `chunk` up to the next piece; `None` when the chunk is used up.
    pub(crate) fn next<'a>(&mut self, chunk: &mut &'a [u8]) -> Result<Option<Piece<'a>>, TarError> {
        loop {
            if let State::Body(member) = &mut self.state {
                if let Some(hole) = member.hole() {
                    return Ok(Some(Piece::Zeros(hole)));
                }
                let left = member.left_in_segment();
                if left == 0 {
                    self.state = State::Padding(padding_to_block(member.stored));
                    continue;
                }
                if chunk.is_empty() {
                    return Ok(None);
                }
                let data = take(chunk, left);
                member.advance(data.len() as u64);
                return Ok(Some(Piece::Data(data)));
            }
            if chunk.is_empty() {
                return Ok(None);
            }
            self.skip(chunk)?;
        }
    }

    /// All states but the body: they give no piece.
    fn skip(&mut self, chunk: &mut &[u8]) -> Result<(), TarError> {
        match &mut self.state {
            State::Header(block) => {
                if let Some(block) = fill_block(block, chunk) {
                    self.state = self.read_header(&block)?;
                }
            }
            State::Extension {
                pax,
                length,
                padded,
                text,
            } => {
                let bytes = take(chunk, *padded);
                *padded -= bytes.len() as u64;
                text.extend_from_slice(bytes);
                if *padded == 0 {
                    text.truncate(*length as usize);
                    if *pax {
                        self.pax_size = pax_size(text)?.or(self.pax_size);
                    }
                    self.state = State::Header(Vec::new());
                }
            }
            State::SparseMap { block, member } => {
                if let Some(block) = fill_block(block, chunk) {
                    let mut member = std::mem::take(member);
                    member.add_segments(&block[..504])?;
                    self.state = sparse_state(member, block[504])?;
                }
            }
            State::Padding(left) => {
                *left -= take(chunk, *left).len() as u64;
                if *left == 0 {
                    self.state = State::End;
                }
            }
            State::End => match chunk.iter().all(|byte| *byte == 0) {
                true => *chunk = &[],
                false => return Err(TarError::MoreThanOne),
            },
            State::Body(_) => {}
        }
        Ok(())
    }

    fn read_header(&mut self, block: &[u8; BLOCK]) -> Result<State, TarError> {
        if &block[257..262] != b"ustar" {
            return Err(TarError::Header("no ustar magic"));
        }
        if number(&block[148..156]) != Some(u64::from(checksum(block))) {
            return Err(TarError::Header("wrong checksum"));
        }
        let stored = number(&block[124..136]).ok_or(TarError::Header("unreadable size"))?;
        match block[156] {
            b'x' | b'g' | b'L' if stored > MAX_EXTENSION_BYTES => {
                Err(TarError::Header("an extension is too long"))
            }
            kind @ (b'x' | b'g' | b'L') => Ok(State::Extension {
                pax: kind == b'x',
                length: stored,
                padded: stored + padding_to_block(stored),
                text: Vec::new(),
            }),
            b'0' | 0 => {
                let size = self.check_size(self.pax_size.unwrap_or(stored))?;
                let segments = vec![(0, size)];
                Ok(State::Body(Member {
                    real_size: size,
                    stored: size,
                    segments,
                    ..Member::default()
                }))
            }
            b'S' => {
                let real = number(&block[483..495]).ok_or(TarError::Header("unreadable size"))?;
                let real_size = self.check_size(real)?;
                let mut member = Member {
                    real_size,
                    stored,
                    ..Member::default()
                };
                member.add_segments(&block[386..482])?;
                sparse_state(member, block[482])
            }
            _ => Err(TarError::NotAFile),
        }
    }

    fn check_size(&self, found: u64) -> Result<u64, TarError> {
        match found == self.declared {
            true => Ok(found),
            false => Err(TarError::Size {
                declared: self.declared,
                found,
            }),
        }
    }

    /// The stream ended: was the file whole?
    pub(crate) fn finish(self) -> Result<(), TarError> {
        match self.state {
            State::End | State::Padding(0) => Ok(()),
            _ => Err(TarError::Truncated),
        }
    }
}

impl Member {
    /// The zeros before the next stored byte, if there are any; moves past them.
    fn hole(&mut self) -> Option<u64> {
        while self
            .segments
            .get(self.current)
            .is_some_and(|(start, length)| start + length <= self.at)
        {
            self.current += 1;
        }
        let next = self
            .segments
            .get(self.current)
            .map_or(self.real_size, |(start, _)| *start);
        let hole = next.saturating_sub(self.at);
        self.at += hole;
        (hole > 0).then_some(hole)
    }

    /// Stored bytes that follow at the current position; 0 at the end of the file.
    fn left_in_segment(&self) -> u64 {
        self.segments
            .get(self.current)
            .map_or(0, |(start, length)| start + length - self.at)
    }

    fn advance(&mut self, bytes: u64) {
        self.at += bytes;
    }

    /// Reads entries of 12 + 12 bytes; an empty one ends the list.
    fn add_segments(&mut self, entries: &[u8]) -> Result<(), TarError> {
        const BAD: TarError = TarError::Header("a sparse map that makes no sense");
        for entry in entries.chunks_exact(24) {
            if entry.iter().all(|byte| *byte == 0) {
                break;
            }
            let (start, length) = (
                number(&entry[..12]).ok_or(BAD)?,
                number(&entry[12..]).ok_or(BAD)?,
            );
            let after = self
                .segments
                .last()
                .map_or(0, |(start, length)| start + length);
            let end = start.checked_add(length).ok_or(BAD)?;
            if start < after || end > self.real_size || self.segments.len() == MAX_SEGMENTS {
                return Err(BAD);
            }
            self.segments.push((start, length));
        }
        Ok(())
    }
}

fn sparse_state(member: Member, extended: u8) -> Result<State, TarError> {
    if extended != 0 {
        return Ok(State::SparseMap {
            block: Vec::new(),
            member,
        });
    }
    match member
        .segments
        .iter()
        .map(|(_, length)| length)
        .sum::<u64>()
        == member.stored
    {
        true => Ok(State::Body(member)),
        false => Err(TarError::Header(
            "a sparse map of another size than its data",
        )),
    }
}

fn padding_to_block(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn take<'a>(chunk: &mut &'a [u8], at_most: u64) -> &'a [u8] {
    let length = chunk
        .len()
        .min(usize::try_from(at_most).unwrap_or(usize::MAX));
    let (taken, rest) = chunk.split_at(length);
    *chunk = rest;
    taken
}

fn fill_block(block: &mut Vec<u8>, chunk: &mut &[u8]) -> Option<[u8; BLOCK]> {
    let bytes = take(chunk, (BLOCK - block.len()) as u64);
    block.extend_from_slice(bytes);
    block.as_slice().try_into().ok()
}

/// An octal field ended by space or NUL, or GNU's base 256.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let small = high[0] == 0x80 && high[1..].iter().all(|byte| *byte == 0);
        return small
            .then(|| low.try_into().map(u64::from_be_bytes).ok())
            .flatten();
    }
    let text = std::str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
    match text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        true => u64::from_str_radix(text, 8).ok(),
        false => None,
    }
}

/// The `size` record of a pax header. Its sparse formats are refused: no bundler writes them.
fn pax_size(mut records: &[u8]) -> Result<Option<u64>, TarError> {
    const BAD: TarError = TarError::Header("a malformed pax record");
    let mut size = None;
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
        let length: usize = std::str::from_utf8(&records[..space])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(BAD)?;
        if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
            return Err(BAD);
        }
        let record = std::str::from_utf8(&records[space + 1..length - 1]).map_err(|_| BAD)?;
        match record.split_once('=').ok_or(BAD)? {
            ("size", value) => size = Some(value.parse().map_err(|_| BAD)?),
            (key, _) if key.starts_with("GNU.sparse.") => {
                return Err(TarError::Header("pax sparse formats are not read"));
            }
            _ => {}
        }
        records = &records[length..];
    }
    Ok(size)
}
