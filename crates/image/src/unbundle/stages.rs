//! The stages of the pipeline, each a plain function over its inlet and outlet.

use std::{fs::File, mem};

use aes::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7, inout::InOutBuf};
use bytes::Bytes;

use super::{
    CHUNK_BYTES, Content, Order, Part, Run, Shape, UnbundleError, Unbundled, bytes_of,
    chunk::{Chunk, Spare},
    gunzip::{BadGzip, Gunzip},
    pipe::{Inlet, Outlet, Stop},
    stage,
};
use crate::{
    blocks,
    digest::{Sha1, Sha1Digest},
    manifest::PART_BYTES,
    mbr,
    recognise::{HEAD_BYTES, recognise},
    sparse::SparseFile,
    tar::{self, Piece, Untar},
};

type Decryptor = cbc::Decryptor<aes::Aes128>;

/// Compares a part with what the manifest says of it.
pub(super) fn check(order: &Order, index: usize, part: &Part) -> Result<(), UnbundleError> {
    if bytes_of(part) > PART_BYTES {
        return Err(UnbundleError::PartTooLarge { index });
    }
    let mut sha1 = Sha1::default();
    part.iter().for_each(|piece| sha1.update(piece));
    let (declared, found) = (order.parts[index], Sha1Digest::from_hasher(sha1));
    match declared == found {
        true => Ok(()),
        false => Err(UnbundleError::PartDigest {
            index,
            declared,
            found,
        }),
    }
}

/// Decrypts. The last block of all has padding, which goes.
pub(super) fn decrypt(
    run: &Run,
    mut parts: Inlet<Part>,
    outlet: Outlet<Bytes>,
    spare: &Spare,
) -> Result<(), Stop> {
    let key = &run.order.key;
    let mut cipher = Decryptor::new(key.key().into(), key.iv().into());
    let mut chunk = Chunk::new(spare);
    while let Some(part) = parts.next()? {
        for piece in part {
            let mut rest = piece.as_ref();
            while !rest.is_empty() {
                // Full, and not the last.
                if chunk.is_full() {
                    let mut full = mem::replace(&mut chunk, Chunk::new(spare));
                    let (blocks, _) = InOutBuf::from(full.content()).into_chunks();
                    cipher.decrypt_blocks_inout(blocks);
                    outlet.send(full.freeze())?;
                }
                chunk.take(&mut rest);
            }
            run.meter.count(stage::DECRYPT, piece.len() as u64);
        }
    }
    let plain = cipher.decrypt_padded::<Pkcs7>(chunk.content());
    let plain = plain.map_err(|_| UnbundleError::Decrypt)?.len();
    chunk.shorten(plain);
    outlet.send(chunk.freeze())?;
    outlet.finish()
}

/// Decompresses, and stops as soon as more comes out than an archive of the declared size can have.
pub(super) fn gunzip(
    run: &Run,
    (mut inlet, used): (Inlet<Bytes>, &Spare),
    outlet: Outlet<Bytes>,
    spare: &Spare,
) -> Result<(), Stop> {
    let declared = run.order.size_bytes;
    let limit = declared.next_multiple_of(tar::BLOCK as u64) + tar::SLACK_BYTES;
    let bad = |error: BadGzip| UnbundleError::Gunzip(error.to_string());
    let (mut gunzip, mut unpacked) = (Gunzip::new(), 0);
    let send = |chunk: Chunk| -> Result<u64, Stop> {
        let length = chunk.filled as u64;
        run.meter.count(stage::GUNZIP, length);
        if length > 0 {
            outlet.send(chunk.freeze())?;
        }
        Ok(length)
    };
    let mut chunk = Chunk::new(spare);
    while let Some(packed) = inlet.next()? {
        let mut rest = packed.as_ref();
        while !rest.is_empty() {
            chunk.filled += gunzip.run(&mut rest, chunk.room()).map_err(bad)?;
            if !rest.is_empty() || chunk.is_full() {
                unpacked += send(mem::replace(&mut chunk, Chunk::new(spare)))?;
            }
            // What fits into the chunk has come out of gzip, but not yet left us.
            if unpacked + chunk.filled as u64 > limit {
                return Err(UnbundleError::TooLong { declared }.into());
            }
        }
        used.give(packed);
    }
    gunzip.finish().map_err(bad)?;
    send(chunk)?;
    outlet.finish()
}

/// Hashes the tar stream on its way, and compares at its end.
pub(super) fn hash(run: &Run, mut inlet: Inlet<Bytes>, outlet: Outlet<Bytes>) -> Result<(), Stop> {
    let order = &run.order;
    let mut sha1 = Sha1::default();
    while let Some(chunk) = inlet.next()? {
        sha1.update(&chunk);
        run.meter.count(stage::HASH, chunk.len() as u64);
        outlet.send(chunk)?;
    }
    let found = Sha1Digest::from_hasher(sha1);
    if found != order.digest {
        return Err(UnbundleError::ImageDigest {
            declared: order.digest,
            found,
        }
        .into());
    }
    outlet.finish()
}

/// Takes the image out of its archive, and writes it where it belongs.
pub(super) fn write(
    run: &Run,
    (mut inlet, used): (Inlet<Bytes>, &Spare),
    file: File,
) -> Result<Unbundled, Stop> {
    let order = &run.order;
    let mut untar = Untar::new(order.size_bytes);
    let mut image = ImageFile::new(order, file);
    while let Some(chunk) = inlet.next()? {
        let mut rest = chunk.as_ref();
        while let Some(piece) = untar.next(&mut rest).map_err(UnbundleError::from)? {
            image.accept(piece)?;
        }
        run.meter.count(stage::WRITE, chunk.len() as u64);
        used.give(chunk);
    }
    untar.finish().map_err(UnbundleError::from)?;
    Ok(image.finish()?)
}

/// The file being written: its head is collected first, since what it holds decides where it goes.
struct ImageFile {
    shape: Shape,
    size_bytes: u64,
    head: Vec<u8>,
    state: ImageState,
}

enum ImageState {
    Head(File),
    Body {
        content: Content,
        start: u64,
        sparse: Box<SparseFile>,
    },
    Failed,
}

impl ImageFile {
    fn new(order: &Order, file: File) -> Self {
        Self {
            shape: order.shape,
            size_bytes: order.size_bytes,
            head: Vec::new(),
            state: ImageState::Head(file),
        }
    }

    fn accept(&mut self, piece: Piece<'_>) -> Result<(), UnbundleError> {
        match piece {
            Piece::Data(data) => self.data(data),
            Piece::Zeros(count) => self.zeros(count),
        }
    }

    fn data(&mut self, data: &[u8]) -> Result<(), UnbundleError> {
        let rest = self.fill_head(data)?;
        match &mut self.state {
            ImageState::Body { sparse, .. } => sparse.write(rest).map_err(UnbundleError::Write),
            ImageState::Head(_) | ImageState::Failed => Ok(()),
        }
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), UnbundleError> {
        static ZEROS: [u8; CHUNK_BYTES] = [0; CHUNK_BYTES];
        while count > 0 && matches!(self.state, ImageState::Head(_)) {
            let now = count.min((HEAD_BYTES - self.head.len()) as u64);
            self.data(&ZEROS[..now as usize])?;
            count -= now;
        }
        if let ImageState::Body { sparse, .. } = &mut self.state {
            sparse.write_zeros(count).map_err(UnbundleError::Write)?;
        }
        Ok(())
    }

    /// Takes what the head still needs off `data`; when the head is whole, decides and writes it.
    fn fill_head<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8], UnbundleError> {
        if !matches!(self.state, ImageState::Head(_)) {
            return Ok(data);
        }
        let wanted = self.size_bytes.min(HEAD_BYTES as u64) as usize - self.head.len();
        let (head, rest) = data.split_at(data.len().min(wanted));
        self.head.extend_from_slice(head);
        if head.len() == wanted {
            self.begin_body()?;
        }
        Ok(rest)
    }

    fn begin_body(&mut self) -> Result<(), UnbundleError> {
        let ImageState::Head(file) = mem::replace(&mut self.state, ImageState::Failed) else {
            return Ok(());
        };
        let content = match self.shape {
            Shape::Verbatim => Content::Unknown,
            Shape::Disk => recognise(&self.head, self.size_bytes)?,
        };
        let start = match content {
            Content::Partition(_) => {
                mbr::write(self.size_bytes, 0)?;
                mbr::PARTITION_START_BYTES
            }
            Content::Disk(_) | Content::Unknown => 0,
        };
        let mut sparse = SparseFile::new(file, start);
        sparse
            .write(&mem::take(&mut self.head))
            .map_err(UnbundleError::Write)?;
        self.state = ImageState::Body {
            content,
            start,
            sparse: Box::new(sparse),
        };
        Ok(())
    }

    fn finish(self) -> Result<Unbundled, UnbundleError> {
        let ImageState::Body {
            content,
            start,
            sparse,
        } = self.state
        else {
            return Err(UnbundleError::Lost);
        };
        let file_bytes = match content {
            Content::Partition(_) => mbr::disk_bytes(self.size_bytes),
            Content::Disk(_) | Content::Unknown => start + self.size_bytes,
        };
        let finished = sparse.finish(file_bytes).map_err(UnbundleError::Write)?;
        Ok(Unbundled {
            content,
            sha256: blocks::whole(&finished.blocks, file_bytes),
            blocks: finished.blocks,
            file_bytes,
            data_bytes: finished.data_bytes,
        })
    }
}
