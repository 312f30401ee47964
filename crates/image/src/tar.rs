//! The tar inside a bundle: a header writer for exactly one member, and a reader that accepts
//! exactly one regular file of exactly the declared size.
//!
//! Member names are read past and never used. Accepted: GNU and ustar headers, pax `size`, GNU long
//! names, and GNU's old sparse format (ours, and that of bundlers before euca2ools 3, which called
//! `tar -S`). The reader is fed chunks and gives back pieces; it copies no file data.

use std::ops::Range;

/// Tar's unit.
pub(crate) const BLOCK: usize = 512;
/// GNU tar pads an archive to whole records of this size.
const RECORD: u64 = 10_240;
/// Headers, long names, sparse maps and padding around the one member.
pub(crate) const SLACK_BYTES: u64 = 4 * 1024 * 1024;
/// The longest pax header or long name that we read.
const MAX_EXTENSION_BYTES: u64 = 64 * 1024;
/// The longest sparse map that is read.
const MAX_SEGMENTS: usize = 100_000;
/// Places of a sparse map in the header, and in each block after it.
const SEGMENTS_IN_HEADER: usize = 4;
const SEGMENTS_IN_BLOCK: usize = 21;

/// Why a tar stream was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// A header is not a tar header, or its checksum is wrong.
    #[error("the archive has a malformed header: {0}")]
    Header(&'static str),
    /// The member is a link, a directory, a device.
    #[error("the archive holds something other than a regular file")]
    NotAFile,
    /// A second member, or bytes after the end.
    #[error("the archive holds more than one file")]
    MoreThanOne,
    /// The member has another size than the manifest says.
    #[error("the archive's file has {found} bytes, the manifest says {declared}")]
    Size {
        /// The manifest's size.
        declared: u64,
        /// The tar header's size.
        found: u64,
    },
    /// The stream ends within the member.
    #[error("the archive is cut short")]
    Truncated,
}

/// The header of an archive whose one member is called `name`, as GNU tar writes it.
pub(crate) fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = unsealed(name, size, b'0');
    seal(&mut block);
    block
}

/// The same of a member of which only the `data` follows, with the map that says where it belongs: as
/// `tar -S` writes it. All but the last stretch are whole blocks.
pub(crate) fn sparse_header(name: &str, size: u64, data: &[Range<u64>]) -> Vec<u8> {
    let stored = data.iter().map(|data| data.end - data.start).sum();
    // The end of the file comes last, for a file that ends in a hole.
    let places = data
        .iter()
        .map(|data| (data.start, data.end - data.start))
        .chain([(size, 0)])
        .collect::<Vec<_>>();
    let (first, more) = places.split_at(places.len().min(SEGMENTS_IN_HEADER));
    let mut block = unsealed(name, stored, b'S');
    put_places(&mut block[386..482], first);
    block[482] = u8::from(!more.is_empty());
    put_size(&mut block[483..495], size);
    seal(&mut block);
    let mut head = block.to_vec();
    let blocks = more.chunks(SEGMENTS_IN_BLOCK);
    let last = blocks.len().saturating_sub(1);
    for (index, places) in blocks.enumerate() {
        let mut block = [0; BLOCK];
        put_places(&mut block[..504], places);
        block[504] = u8::from(index < last);
        head.extend_from_slice(&block);
    }
    head
}

fn put_places(fields: &mut [u8], places: &[(u64, u64)]) {
    for (field, (start, length)) in fields.chunks_exact_mut(24).zip(places) {
        put_size(&mut field[..12], *start);
        put_size(&mut field[12..], *length);
    }
}

fn unsealed(name: &str, size: u64, kind: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let name = &name.as_bytes()[..name.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    put_size(&mut block[124..136], size);
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar  \0");
    block
}

fn seal(block: &mut [u8; BLOCK]) {
    let sum = checksum(block);
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Zero bytes that follow the member's `stored` bytes after a head of so many: to a whole block, two
/// end blocks, to a record.
pub(crate) fn padding(head: u64, stored: u64) -> u64 {
    let used = head + stored;
    (used.next_multiple_of(BLOCK as u64) + 2 * BLOCK as u64).next_multiple_of(RECORD) - used
}

/// Octal up to 8 GiB; GNU's base 256 beyond.
fn put_size(field: &mut [u8], size: u64) {
    if size < 1 << 33 {
        field.copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        field.fill(0);
        field[0] = 0x80;
        field[4..].copy_from_slice(&size.to_be_bytes());
    }
}

fn checksum(block: &[u8; BLOCK]) -> u32 {
    let fields = block.iter().enumerate();
    fields
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                32
            } else {
                u32::from(*byte)
            }
        })
        .sum()
}

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
fn number(field: &[u8]) -> Option<u64> {
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

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a test runs the tools it compares with
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn untar(archive: &[u8], declared: u64, step: usize) -> Result<Vec<u8>, TarError> {
        let mut reader = Untar::new(declared);
        let mut file = Vec::new();
        for mut chunk in archive.chunks(step) {
            while let Some(piece) = reader.next(&mut chunk)? {
                match piece {
                    Piece::Data(data) => file.extend_from_slice(data),
                    Piece::Zeros(count) => file.resize(file.len() + count as usize, 0),
                }
            }
        }
        reader.finish().map(|()| file)
    }

    fn archive(name: &str, content: &[u8]) -> Vec<u8> {
        let size = content.len() as u64;
        let mut archive = header(name, size).to_vec();
        archive.extend_from_slice(content);
        archive.resize(archive.len() + padding(BLOCK as u64, size) as usize, 0);
        archive
    }

    fn gnu_tar(arguments: &[&str], content: &[u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("image"), content).unwrap();
        let output = Command::new("tar")
            .args(arguments)
            .args([
                "-c",
                "--mode=0644",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mtime=@0",
                "image",
            ])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn our_archive_is_gnu_tars_archive() {
        let content = vec![7; 5000];
        assert_eq!(
            archive("image", &content),
            gnu_tar(&["--format=gnu"], &content)
        );
    }

    #[test]
    fn archives_of_every_accepted_format_are_read() {
        let mut content = vec![0; 300_000];
        content[..3000].fill(1);
        content[200_000..200_700].fill(2);
        for format in ["--format=gnu", "--format=ustar", "--format=pax"] {
            for step in [1, 511, 512, 10_000] {
                assert_eq!(
                    untar(&gnu_tar(&[format], &content), 300_000, step),
                    Ok(content.clone())
                );
            }
        }
    }

    /// An archive of an image's data only, and the image.
    fn sparse(size: u64, data: &[Range<u64>]) -> (Vec<u8>, Vec<u8>) {
        let mut image = vec![0; size as usize];
        let mut archive = sparse_header("image", size, data);
        let head = archive.len() as u64;
        for (index, stretch) in data.iter().enumerate() {
            let stretch = stretch.start as usize..stretch.end as usize;
            image[stretch.clone()].fill(index as u8 | 1);
            archive.extend_from_slice(&image[stretch]);
        }
        let stored = archive.len() as u64 - head;
        archive.resize(archive.len() + padding(head, stored) as usize, 0);
        (archive, image)
    }

    #[test]
    fn others_and_we_read_our_sparse_archives() {
        let at = |n: u64| n * 100_352..n * 100_352 + 4096;
        // By how many places the map has: one block of it, exactly full ones, several, none.
        for (places, end) in [(0, 8192), (1, 5000), (3, 0), (24, 700), (25, 1), (60, 8192)] {
            let data: Vec<Range<u64>> = (1..=places).map(at).collect();
            let size = data.last().map_or(0, |last| last.end) + end;
            let (archive, image) = sparse(size, &data);
            for step in [1, 700, 100_000] {
                assert_eq!(untar(&archive, size, step).unwrap(), image);
            }
            let python = "import sys, tarfile; tar = tarfile.open(mode='r|', fileobj=sys.stdin.buffer); \
                sys.stdout.buffer.write(tar.extractfile(next(iter(tar))).read())";
            for (program, words) in [("tar", ["-xOf", "-"]), ("python3", ["-c", python])] {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("archive");
                std::fs::write(&path, &archive).unwrap();
                let ran = Command::new(program)
                    .args(words)
                    .stdin(std::fs::File::open(&path).unwrap())
                    .output()
                    .unwrap();
                assert!(ran.status.success(), "{program}: {ran:?}");
                assert!(ran.stdout == image, "{program}, {places} places");
            }
        }
    }

    #[test]
    fn a_sparse_member_is_read_with_its_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let file = std::fs::File::create(&path).unwrap();
        let mut expected = vec![0; 4_000_000];
        for index in 0..40 {
            let at = index * 100_000;
            std::os::unix::fs::FileExt::write_all_at(&file, b"data", at as u64).unwrap();
            expected[at..at + 4].copy_from_slice(b"data");
        }
        file.set_len(4_000_000).unwrap();
        let output = Command::new("tar")
            .args(["--format=gnu", "-cS", "image"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(output.stdout.len() < 1_000_000, "tar found no holes");
        for step in [1, 700, 100_000] {
            assert_eq!(untar(&output.stdout, 4_000_000, step).unwrap(), expected);
        }
    }

    #[test]
    fn a_size_beyond_octal_survives() {
        let block = header("big", 1 << 40);
        assert_eq!(number(&block[124..136]), Some(1 << 40));
        assert!(matches!(
            untar(&block, 1 << 40, 512),
            Err(TarError::Truncated)
        ));
    }

    #[test]
    fn anything_but_one_whole_file_of_the_declared_size_is_refused() {
        let good = archive("image", &[1; 2000]);
        assert_eq!(
            untar(&good, 1999, 512),
            Err(TarError::Size {
                declared: 1999,
                found: 2000
            })
        );
        assert_eq!(untar(&good[..1500], 2000, 512), Err(TarError::Truncated));
        assert_eq!(untar(&[], 2000, 512), Err(TarError::Truncated));

        let two = [&good[..2560], &good[..]].concat();
        assert_eq!(untar(&two, 2000, 512), Err(TarError::MoreThanOne));

        let mut broken = good.clone();
        broken[0] ^= 1;
        assert_eq!(
            untar(&broken, 2000, 512),
            Err(TarError::Header("wrong checksum"))
        );
        assert_eq!(
            untar(&[1; 600], 2000, 512),
            Err(TarError::Header("no ustar magic"))
        );

        for kind in *b"123456K" {
            let mut link = header("image", 2000);
            link[156] = kind;
            let sum = checksum(&link);
            link[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            assert_eq!(untar(&link, 2000, 512), Err(TarError::NotAFile));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            edits in proptest::collection::vec((0usize..3072, any::<u8>()), 0..12),
            step in 1usize..2000,
        ) {
            let mut bytes = archive("image", &[1; 2000]);
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            let sum = checksum(bytes[..512].try_into().unwrap());
            bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            let _ = untar(&bytes, 2000, step);
        }
    }
}
